"""The log of the daemon: one line a message in a file that outlives rotation and full disks."""

import json
import logging
import re
import signal
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from daemon.__main__ import main
from daemon.cli import log, progress
from daemon.service.service import Service
from stages.errors import ConfigError
from tests.support.program import PATIENCE, Program, get, wait_until

STREAMS = ("camera", "film", "over")
LIVE = "testsrc://shapes?live=1&size=96x96"
STARTED = ("looking for", " s after the start: ", "ERROR stream missing")  # in no fixed order
SECONDS = r"\d+\.\d s"
READY = re.compile(
    rf"INFO ready {SECONDS} after the start: imports {SECONDS}, detector {SECONDS}, segmenter {SECONDS}, "
    rf"classifier {SECONDS}, other {SECONDS}\n"
)
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (DEBUG|INFO|WARNING|ERROR|CRITICAL) \S.*")


@pytest.fixture
def daemon_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """A logger of the daemon's; what the test sets up is taken down."""
    root, ours = logging.getLogger(), logging.getLogger("daemon")
    before, level, our_level = root.handlers[:], root.level, ours.level
    yield logging.getLogger("daemon.test")
    logging.captureWarnings(False)
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level), ours.setLevel(our_level)


class Rotated:
    """A daemon whose log is renamed while it runs, as logrotate does it; then it is told, and later stopped."""

    def __init__(self, folder: Path) -> None:
        self.log, self.old = folder / "maskcast.log", folder / "maskcast.log.1"
        program = Program(LIVE, str(folder / "missing.mp4"), "--prompt", "red circle", "--log", str(self.log))
        try:
            wait_until(lambda: self.log.exists() and all(text in self.log.read_text() for text in STARTED))
            self.log.rename(self.old)
            program.process.send_signal(signal.SIGHUP)
            wait_until(self.log.exists)
            self.kept = self.old.read_text()
            program.process.send_signal(signal.SIGTERM)
            self.code, self.out, self.wrong = program.end()
        finally:
            program.process.kill()


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> Rotated:
    return Rotated(tmp_path_factory.mktemp("log"))


@pytest.mark.process
def test_every_line_has_a_time_a_level_and_a_text(rotated):
    for file in (rotated.old, rotated.log):
        lines = file.read_text().splitlines()
        assert lines
        assert all(LINE.fullmatch(line) for line in lines), lines


@pytest.mark.process
def test_the_log_tells_of_streams_models_and_errors(rotated):
    told = rotated.old.read_text()
    assert f"INFO shapes: {LIVE}, looking for: red circle\n" in told
    assert READY.search(told), told
    assert re.search(r"ERROR stream missing: cannot open .*missing\.mp4", told)


@pytest.mark.process
def test_after_a_hangup_new_lines_go_to_a_new_file_and_none_to_the_old_one(rotated):
    first, *_, last = rotated.log.read_text().splitlines()
    assert first.endswith("INFO the log file was opened again")
    assert last.endswith("INFO stopped, exit code 1")
    assert rotated.old.read_text() == rotated.kept
    assert "opened again" not in rotated.kept


@pytest.mark.process
def test_errors_are_on_stderr_too_and_nothing_else_is(rotated):
    [line] = rotated.wrong
    assert line.startswith("maskcast: error: stream missing: cannot open ")
    assert rotated.code == 1


@pytest.mark.process
def test_a_stream_that_never_started_is_not_announced(rotated):
    assert "shapes: testsrc" in rotated.out
    assert "missing" not in rotated.out


@pytest.mark.process
def test_without_a_log_a_hangup_changes_nothing(tmp_path):
    """The camera is recorded into one file, without segments."""
    record = ("--record", str(tmp_path))
    program = Program(LIVE, "--prompt", "red circle", *record, MASKCAST_RECORD__SEGMENT="")
    lines = tmp_path / "shapes.masks.jsonl"
    wait_until(lambda: lines.exists() and lines.read_text())
    program.process.send_signal(signal.SIGHUP)
    before = lines.read_text().count("\n")
    wait_until(lambda: lines.read_text().count("\n") > before + 30 or program.process.poll() is not None)
    assert program.process.poll() is None, "the hangup ended it"
    program.process.send_signal(signal.SIGTERM)
    assert program.end()[0] == 0


@pytest.mark.process
def test_a_log_on_a_full_disk_is_one_warning_and_stops_nothing():
    program = Program("testsrc://shapes?frames=5&size=64x64", "--prompt", "red circle", "--log", "/dev/full")
    code, out, wrong = program.end()
    warning = "maskcast: warning: cannot write the log /dev/full: [Errno 28] No space left on device"
    assert (code, wrong) == (0, [warning])
    assert "shapes: 5 frames" in out


@pytest.mark.process
def test_a_log_that_cannot_be_opened_is_one_line_and_exit_code_2(tmp_path):
    file = tmp_path / "missing" / "maskcast.log"
    program = Program("testsrc://shapes?frames=5", "--prompt", "red circle", "--log", str(file))
    expected = f"maskcast: error: --log {file}: No such file or directory; choose a file that can be written"
    assert program.end() == (2, "", [expected])


def test_a_message_of_many_lines_is_one_line(daemon_log, tmp_path):
    log.set_up(False, tmp_path / "log")
    daemon_log.info("two\nlines")
    [line] = (tmp_path / "log").read_text().splitlines()
    assert line.endswith(" INFO two lines")


def test_a_folder_that_goes_costs_lines_and_one_warning_until_it_is_back(daemon_log, tmp_path, capsys):
    folder = tmp_path / "logs"
    folder.mkdir()
    file = log.set_up(False, folder / "log")
    assert file is not None
    folder.rename(tmp_path / "gone")
    file.reopen()
    daemon_log.info("lost")
    folder.mkdir()
    daemon_log.info("kept")
    assert capsys.readouterr().err.count("\n") == 1
    assert [line.split()[-1] for line in (folder / "log").read_text().splitlines()] == ["kept"]


def test_what_is_appended_leaves_older_lines_alone(daemon_log, tmp_path):
    (tmp_path / "log").write_text("older\n")
    log.set_up(False, tmp_path / "log")
    daemon_log.warning("newer")
    assert [line.split()[-1] for line in (tmp_path / "log").read_text().splitlines()] == ["older", "newer"]


def test_without_a_log_only_warnings_and_errors_are_shown(daemon_log, capsys):
    log.set_up(False)
    daemon_log.info("usual")
    daemon_log.warning("odd")
    daemon_log.error("wrong")
    assert capsys.readouterr().err == "maskcast: warning: odd\nmaskcast: error: wrong\n"


def test_a_message_of_many_lines_is_one_line_on_stderr_too(daemon_log, capsys):
    log.set_up(debug=False)
    daemon_log.warning("GET %s", "/api\nmaskcast: error: forged")
    assert capsys.readouterr().err == "maskcast: warning: GET /api maskcast: error: forged\n"


def test_a_folder_is_no_log(tmp_path):
    with pytest.raises(ConfigError, match="Is a directory"):
        log.LogFile(tmp_path)


def test_json_has_the_stream_the_event_and_the_text_of_a_message(daemon_log, capsys, tmp_path):
    log.set_up(debug=False, path=tmp_path / "log", kind="json", level="debug")
    daemon_log.error("stream %s: gone:\n%s", "gate", "日本", extra={"event": "source_down"})
    try:
        raise ValueError("odd")
    except ValueError:
        daemon_log.debug("failed", exc_info=True)
    first, second = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert json.loads(capsys.readouterr().err) == first, "stderr has errors only"
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    assert first == {"level": "error", "stream": "gate", "event": "source_down", "text": "gone: 日本"}
    assert (second["stream"], second["event"], second["text"]) == (None, None, "failed")
    assert second["traceback"].endswith("ValueError: odd")


def test_the_level_is_the_least_that_is_logged(daemon_log, capsys):
    log.set_up(debug=False, level="error")
    daemon_log.warning("odd")
    log.set_up(debug=False, level="info")
    daemon_log.info("usual")
    daemon_log.debug("detail")
    assert capsys.readouterr().err == "maskcast: info: usual\n"


def test_only_streams_that_end_have_a_line_every_ten_seconds(daemon_log, monkeypatch, capsys):
    log.set_up(debug=False)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    monkeypatch.setattr(progress, "report", lambda stream: f"{stream.name}: 5 frames")
    streams = [SimpleNamespace(name=name, live=name == "camera", ended=name == "over") for name in STREAMS]
    service = SimpleNamespace(models_loaded=True, streams={stream.name: stream for stream in streams})
    progress.ProgressLines().tick(cast(Service, service))
    assert capsys.readouterr().err == "maskcast: film: 5 frames\n"


@pytest.mark.process
def test_a_daemon_says_all_in_json_and_goes_on_when_nobody_reads_it_any_more():
    """When it is stopped its exit code is that of a daemon that was well."""
    program = Program(LIVE, "--prompt", "red circle", "--log-format", "json", "--log-level", "info", "--stay")
    try:
        api = program.address("metrics").removesuffix("/metrics")
        assert program.process.stderr is not None
        said = [json.loads(program.process.stderr.readline())]
        while said[-1]["event"] != "source_up":
            said.append(json.loads(program.process.stderr.readline()))
        assert all(list(line) == ["time", "level", "stream", "event", "text"] for line in said)
        assert said[-1]["stream"] == "shapes"
        program.process.stderr.close()
        gone = urllib.request.Request(f"{api}/api/streams/shapes", method="DELETE")
        urllib.request.urlopen(gone, timeout=PATIENCE).close()  # which is logged
        assert get(f"{api}/metrics")[0] == 200
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(PATIENCE) == 0
    finally:
        program.process.kill()


def test_why_the_program_ends_is_json_too(bare_machine, daemon_log, capsys):
    wrong = ("--log-format", "json", "--log-level", "loud")
    assert main(["run", LIVE, "--prompt", "red circle", *wrong]) == 2
    assert json.loads(capsys.readouterr().err)["text"].startswith('command line: log.level = "loud" should be ')
    assert main(["run", LIVE, "--prompt", "red circle", "--log-format", "xml"]) == 2
    assert capsys.readouterr().err.startswith('maskcast: error: command line: log.format = "xml" should be ')
