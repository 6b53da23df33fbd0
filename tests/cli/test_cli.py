"""The command line: one program, helpful and fast, and whatever goes wrong is one line on stderr."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from daemon import __main__ as program
from daemon.commands import watch
from tests.cli.in_process import PROGRESS, error_here
from tests.support.program import PATIENCE

pytestmark = pytest.mark.process  # most of these tests

EMBEDDED = ("--detector", "embedded", "--segmenter", "embedded", "--device", "cpu")
FREE = ("--publish", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0")
SHAPES = "testsrc://shapes?frames=4&size=128x128"
NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # refuses every connection: no test downloads a model


def maskcast(*arguments: str, before: Sequence[str] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real program, ``before`` being put before the command."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MASKCAST_")}
    command = [*before, sys.executable, "-m", "daemon", *arguments]
    everything = {**clean, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=everything, timeout=PATIENCE, check=False)


def error_of(*arguments: str, code: int, before: Sequence[str] = (), **environment: str) -> str:
    """The one line on stderr of a command that ends with ``code``; what tells of progress does not count."""
    done = maskcast(*arguments, before=before, **environment)
    lines = [line for line in done.stderr.splitlines() if not PROGRESS.match(line)]
    assert (done.returncode, len(lines)) == (code, 1), done.stderr
    assert lines[0].startswith("maskcast: error: ")
    return lines[0].removeprefix("maskcast: error: ")


@pytest.fixture
def port() -> Iterator[int]:
    """A TCP port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_help_names_every_command() -> None:
    out = maskcast("--help").stdout
    assert all(f"  {name} " in out for name in ("demo", "run", "image", "watch", "check", "models"))


@pytest.mark.parametrize("command", program.COMMANDS)
def test_help_of_every_command_has_an_example(command: str) -> None:
    done = maskcast(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"\nexamples:\n  maskcast {command}" in done.stdout


@pytest.mark.parametrize("command", [[], *([name] for name in program.COMMANDS)])
def test_help_imports_no_model_library(command: list[str]) -> None:
    script = (
        "import sys\nfrom daemon.__main__ import main\n"
        f"try: main({[*command, '--help']!r})\nexcept SystemExit: print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "'argparse'" in done.stderr
    for heavy in ("torch", "transformers", "cv2", "sam2", "supervision"):
        assert f"'{heavy}'" not in done.stderr


def test_version_is_shown() -> None:
    done = maskcast("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("maskcast ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "required: COMMAND; see maskcast --help"),
        (["rum"], "; did you mean run?; see maskcast --help"),
        (["run", "--every", "often"], "argument --every: invalid int value: 'often'; see maskcast run --help"),
        (["run", "--evry", "3"], "unrecognized arguments: --evry; did you mean --every?; see maskcast run --help"),
        (["image", "a.png"], "required: --prompt"),
        (["models"], "required: action"),
        (["run"], "name a SOURCE"),
        (["run", "--prompt", "person"], "--prompt needs a SOURCE"),
        (["run", "a.mp4"], 'stream "a" has no prompts'),
        (["run", "a.mp4", "--prompt", " . "], "names nothing"),
        (["run", "a.mp4", "--prompt", "car", "--every", "0"], "command line: detection.every = 0 should be greater"),
        (
            ["run", "a.mp4", "--prompt", "car", "--tiles", "0"],
            'command line: detection.tiles = "0" must be "off", "auto" or',
        ),
        (
            ["run", "a.mp4", "--prompt", "car", "--publish", "5555"],
            'publish.endpoint = "5555" must be "tcp://HOST:PORT"',
        ),
        (["run", "a.mp4", "--prompt", "car", "--http", "0.0.0.0:80"], "needs a token"),
        (["run", "a.mp4", "--prompt", "car", "--publish", "tcp://*:80"], "needs keys"),
        (["run", "a.mp4", "--prompt", "car", "--frames"], "has no folder; set record.dir (--record DIR)"),
        (["run", "--config", "missing.toml"], "missing.toml: no such file"),
        (["image", "a.png", "--prompt", ","], "names nothing"),
        (["image", "--prompt", "car"], "name a PATH of a picture"),
        (["image", "--prompt", "a.png"], "say what to look for: --prompt person"),
        (["run", "--prompt", "a.mp4"], 'stream "a" has no prompts'),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], expected: str) -> None:
    assert expected in error_of(*arguments, code=2)


def test_unknown_setting_in_file_or_environment_is_named_with_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "maskcast.toml"
    file.write_text("[detection]\nevry = 3\n")
    expected = "unknown setting detection.evry; did you mean detection.every?"
    assert error_of("run", "--config", str(file), code=2) == f"{file}:2: {expected}"
    assert error_of("run", code=2, MASKCAST_CONFIG=str(file)) == f"{file}:2: {expected}"
    assert "did you mean MASKCAST_DETECTION__EVERY" in error_of("run", code=2, MASKCAST_DETECTION__EVRY="3")


def test_every_flag_reaches_its_setting(tmp_path: Path) -> None:
    from argparse import ArgumentParser

    from daemon.cli import flags

    parser = ArgumentParser()
    flags.add_settings_flags(parser)
    given = {
        "--detector": "a", "--segmenter": "b", "--classifier": "", "--device": "cuda:1", "--precision": "float32",
        "--window": "2", "--every": "3", "--box-threshold": "0.4", "--text-threshold": "0.5", "--tiles": "6",
        "--publish": "tcp://localhost:1", "--http": "localhost:2",
    }  # fmt: skip
    assert list(given) == [flag.flag for flag in flags.FLAGS]
    settings = flags.load_settings(parser.parse_args([word for pair in given.items() for word in pair]))
    for flag in flags.FLAGS:
        section, key = flag.setting.split(".")
        assert str(getattr(getattr(settings, section), key)) == given[flag.flag]


def test_unexpected_error_is_one_line_and_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> int:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(watch, "run", fail)
    assert program.main(["watch"]) == 1
    line = "maskcast: error: unexpected RuntimeError: two lines"
    assert capsys.readouterr().err == f"{line}; run again with --debug for the traceback\n"
    assert program.main(["watch", "--debug"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith(f"{line}\n")


def test_interrupt_ends_quietly_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "run", interrupted)
    assert program.main(["watch"]) == 130
    assert capsys.readouterr().err == ""


def test_reader_that_goes_away_ends_the_program_quietly() -> None:
    command = [sys.executable, "-m", "daemon", "models", "list", *EMBEDDED[:4]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert (process.wait(PATIENCE), err) == (141, "")


def test_source_that_does_not_exist_is_an_error(capsys: pytest.CaptureFixture[str], bare_machine: None) -> None:
    error = error_here(capsys, "run", "missing.mp4", "--prompt", "red circle", *EMBEDDED, *FREE, code=1)
    assert error.startswith("stream missing: cannot open missing.mp4: no such file")


@pytest.mark.parametrize("flag", ["--publish", "--http"])
def test_port_in_use_is_an_error_that_names_it(
    flag: str, port: int, capsys: pytest.CaptureFixture[str], bare_machine: None
) -> None:
    address = {"--publish": "tcp://127.0.0.1:0", "--http": "127.0.0.1:0"}
    address[flag] = address[flag].removesuffix("0") + str(port)
    flags = [word for pair in address.items() for word in pair]
    error = error_here(capsys, "run", SHAPES, "--prompt", "red circle", *EMBEDDED, *flags, code=1)
    assert str(port) in error
    assert "in use" in error


def test_record_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    record = ("--record", str(tmp_path / "file" / "out"))
    error = error_of("run", SHAPES, "--prompt", "red circle", *EMBEDDED, *FREE, *record, code=1)
    assert str(tmp_path / "file") in error


def test_model_that_cannot_be_had_is_an_error_that_names_it() -> None:
    model = ("--detector", "nobody/no-such-model")
    error = error_of("run", SHAPES, "--prompt", "red circle", *EMBEDDED, *FREE, *model, code=1, **NO_HUB)
    assert "nobody/no-such-model" in error
