"""The daemon with keys, and ``maskcast watch``, as processes: who has a key sees every frame, others learn why not."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

import pytest
import zmq

from daemon.__main__ import main
from daemon.cli.subscriber_keys import set_curve_keys
from stages.errors import ConfigError
from stages.output.curve_keys import new_server
from stages.output.publisher import Publisher
from tests.output import zmtp
from tests.output.keys import Keys, eventually
from tests.support.program import PATIENCE, Program, get, lines_of, wait_until

pytestmark = pytest.mark.process  # most of these tests

FRAMES = 30


class Watch:
    """``maskcast watch`` as a process, without the hint that it gives where messages are slow to come."""

    HINT = "yet; does `maskcast run` publish there?\n"

    def __init__(self, endpoint: str, *arguments: object) -> None:
        command = [sys.executable, "-m", "daemon", "watch", endpoint, *map(str, arguments)]
        self._out = TemporaryFile("w+")  # noqa: SIM115 -- a pipe that nobody reads would hold it up
        self.process = subprocess.Popen(command, stdout=self._out, stderr=subprocess.PIPE, text=True)

    def complaint(self) -> str:
        """Its next line on stderr."""
        assert self.process.stderr is not None
        return next((line for line in self.process.stderr if not line.endswith(self.HINT)), "")

    def end(self) -> tuple[int, str, str]:
        """Exit code, stdout and the rest of stderr."""
        _, err = self.process.communicate(timeout=PATIENCE)
        with self._out:
            self._out.seek(0)
            complaints = [line for line in err.splitlines(keepends=True) if not line.endswith(self.HINT)]
            return self.process.returncode, self._out.read(), "".join(complaints)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def publisher(keys: Keys) -> Iterator[Publisher]:
    publisher = Publisher("tcp://127.0.0.1:0", curve_dir=keys.folder)
    yield publisher
    publisher.close()


def of(keys: Keys, name: str) -> tuple[object, ...]:
    """The flags of the client ``name``."""
    return "--key", keys.root / f"{name}.key_secret", "--server", keys.folder / "server.key"


def refused(metrics: str) -> float:
    [line] = [line for line in get(metrics)[1].splitlines() if line.startswith("maskcast_subscribers_refused_total ")]
    return float(line.split()[1])


def test_the_daemon_s_stream_reaches_a_client_whole_whatever_strangers_do(keys: Keys, tmp_path: Path) -> None:
    begun = time.monotonic()
    program = Program(
        *(f"testsrc://shapes?seed=4&frames={FRAMES}", "--prompt", "red circle", "--record", str(tmp_path / "out")),
        MASKCAST_PUBLISH__CURVE_DIR=str(keys.folder),
        MASKCAST_PUBLISH__WAIT_FOR="1",
        MASKCAST_PUBLISH__WHEN_FULL="wait",
    )
    endpoint, metrics = program.address("masks"), program.address("metrics")
    without = Watch(endpoint, "--json")
    assert f"{endpoint} does not let us in: does it want keys?" in without.complaint()
    wait_until(lambda: refused(metrics) > 0)
    strangers = [zmtp.connect(endpoint) for _ in range(20)]
    for number, stranger in enumerate(strangers):
        with suppress(ConnectionError):
            stranger.sendall(zmtp.greeting() + zmtp.ready() if number % 2 else b"\xff\x00nonsense" * number)
    keys.client("gate")
    known = Watch(endpoint, "--json", "--count", FRAMES, *of(keys, "gate"))
    code, _, wrong = program.end()
    assert code == 0
    assert any("subscribers were refused" in line for line in wrong)
    assert any(
        f"nobody may subscribe yet: maskcast keys new --client NAME --dir {keys.folder}" in line for line in wrong
    )
    assert len(wrong) <= 2 + (time.monotonic() - begun) // 10, "at most one line in ten seconds"
    without.process.send_signal(signal.SIGINT)
    code, out, err = known.end()
    assert (code, err) == (0, "")
    headers = [json.loads(line) for line in out.splitlines()]
    masks = [header for header in headers if header["schema"] == "maskcast/v1/masks"]
    assert masks == lines_of(tmp_path / "out" / "shapes.masks.jsonl")
    assert [header["seq"] for header in masks] == list(range(FRAMES))
    assert without.end()[1] == ""


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda keys: (keys.folder / "server.key_secret").chmod(0o644), "chmod 600 {}/server.key_secret"),
        (lambda keys: (keys.folder / "server.key_secret").unlink(), "make keys with: maskcast keys new --dir {}"),
        (lambda keys: (keys.folder / "server.key_secret").write_text("?"), "{}/server.key_secret: not a CURVE key"),
        (lambda keys: keys.folder.rename(keys.root / "away"), "{}: no such folder of CURVE keys"),
    ],
)  # fmt: skip
def test_the_daemon_does_not_start_with_keys_that_are_not_as_they_should_be(keys: Keys, damage, expected: str) -> None:
    damage(keys)
    source = ("testsrc://shapes?frames=1", "--prompt", "red circle")
    code, _, wrong = Program(*source, MASKCAST_PUBLISH__CURVE_DIR=str(keys.folder)).end()
    assert code == 2
    assert len(wrong) == 1
    assert wrong[0].startswith("maskcast: error: ")
    assert expected.format(keys.folder) in wrong[0]


def test_watch_ends_with_one_line_when_its_key_is_not_among_the_clients(publisher: Publisher, keys: Keys) -> None:
    keys.client("gate")
    keys.remove("gate")
    code, out, err = Watch(publisher.endpoint, *of(keys, "gate")).end()
    file = keys.root / "gate.key_secret"
    assert (code, out) == (2, "")
    assert err == (
        f"maskcast: error: {publisher.endpoint} refuses the key in {file}: its public half must stand in the daemon's "
        "folder, as clients/NAME.key\n"
    )


def test_watch_says_when_the_daemon_s_key_is_another_one(publisher: Publisher, keys: Keys, tmp_path: Path) -> None:
    keys.client("gate")
    new_server(tmp_path / "other")
    watch = Watch(publisher.endpoint, *of(keys, "gate")[:3], tmp_path / "other" / "server.key")
    line = watch.complaint()
    watch.process.send_signal(signal.SIGINT)
    assert "does not let us in: is --server the server.key of this daemon" in line
    assert watch.end() == (0, "", "")


def test_watch_with_keys_gets_in_again_after_the_daemon_was_started_again(keys: Keys) -> None:
    keys.client("gate")
    publisher = Publisher("tcp://127.0.0.1:0", curve_dir=keys.folder)
    watch = Watch(publisher.endpoint, *of(keys, "gate"))
    assert eventually(lambda: publisher.subscribers == 1)
    publisher.close()
    publisher = Publisher(publisher.endpoint, curve_dir=keys.folder)
    assert eventually(lambda: publisher.subscribers == 1)
    watch.process.send_signal(signal.SIGINT)
    assert watch.end()[:2] == (0, "")
    publisher.close()


@pytest.mark.parametrize(
    ("key", "server", "expected"),
    [
        ("gate.key_secret", None, r"give --server server\.key, the daemon's, too"),
        (None, "keys/server.key", r"give --key NAME\.key_secret, its own, too"),
        ("keys/clients/gate.key", "keys/server.key", r"gate\.key: holds no secret key; name the file that"),
        ("missing", "keys/server.key", "missing: no such file or directory; name the file that maskcast keys new"),
        ("gate.key_secret", "missing", r"missing: no such file or directory; name the daemon's server\.key"),
        ("gate.key_secret", "keys", r"keys: not a file; name the daemon's server\.key"),
    ],
)
def test_keys_that_watch_cannot_use_are_one_line(
    publisher: Publisher, keys: Keys, key: str | None, server: str | None, expected: str
) -> None:
    keys.client("gate")
    paths = [name and keys.root / name for name in (key, server)]
    with zmq.Context() as context, context.socket(zmq.SUB) as socket, pytest.raises(ConfigError, match=expected):
        set_curve_keys(socket, *paths)


def test_a_subscriber_s_secret_that_others_may_read_is_refused(keys: Keys) -> None:
    keys.client("gate")
    (keys.root / "gate.key_secret").chmod(0o644)
    code, _, err = Watch("tcp://127.0.0.1:9", *of(keys, "gate")).end()
    assert code == 2
    assert f"chmod 600 {keys.root / 'gate.key_secret'}" in err


@pytest.mark.usefixtures("bare_machine")
def test_check_looks_at_the_keys(keys: Keys, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ports = "[http]\nlisten = '127.0.0.1:0'\n[publish]\nendpoint = 'tcp://127.0.0.1:0'"
    file.write_text(f"{ports}\ncurve_dir = '{keys.folder}'\n")
    models = ["--detector", "embedded", "--segmenter", "embedded", "--device", "cpu"]

    def finding() -> tuple[bool, str]:
        main(["check", "--config", str(file), "--json", *models])
        findings = json.loads(capsys.readouterr().out)["findings"]
        [found] = [(finding["ok"], finding["detail"]) for finding in findings if finding["subject"] == "curve_dir"]
        return found

    assert finding() == (
        False,
        f"{file}:5: {keys.folder} has no client that may subscribe; maskcast keys new --client NAME makes one",
    )
    keys.client("gate")
    assert finding() == (True, f"{keys.folder} has the daemon's keys and 1 client")
    broken = keys.folder / "clients" / "broken.key"
    broken.write_text("nonsense")
    assert finding() == (False, f"{file}:5: {broken}: not a CURVE key file; make it again or remove it")
    secret = keys.folder / "server.key_secret"
    secret.chmod(0o644)
    assert finding() == (
        False,
        f"{file}:5: {secret}: others than its owner may read this secret key: chmod 600 {secret}",
    )
