"""Standard streams that are closed, full or read by nobody cost messages only, never the work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.program import PATIENCE, lines_of

pytestmark = pytest.mark.process

FRAMES = 3
EMBEDDED = ("--detector", "embedded", "--segmenter", "embedded", "--device", "cpu")
FREE = ("--publish", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0")
SHAPES = f"testsrc://shapes?frames={FRAMES}&size=64x64"
# says after the work what the three descriptors are, in the file named by argv[1]
DESCRIPTORS = """
import os, sys
from daemon import __main__ as program
run = program.main
def main(*_):
    code = run(sys.argv[2:])
    with open(sys.argv[1], "w") as file:
        file.write(" ".join(os.readlink(f"/proc/self/fd/{number}") for number in range(3)))
    return code
program.main = main
program.program()
"""


def start(folder: Path, redirection: str, *arguments: str) -> "subprocess.Popen[str]":
    """The program, by a shell with ``redirection``; whatever of stderr that leaves goes to ``folder/err``."""
    folder.mkdir()
    command = [sys.executable, "-c", DESCRIPTORS, str(folder / "descriptors"), *arguments]
    return subprocess.Popen(
        ["bash", "-c", f'"$@" 2>"$0" {redirection}', str(folder / "err"), *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    )


def test_daemon_does_its_work_whatever_becomes_of_its_messages(tmp_path: Path) -> None:
    redirections = {
        "stdin and stdout closed": "<&- >&-",
        "all closed": "<&- >&- 2>&-",
        "full disk": ">/dev/full",
        "reader that has gone": "| true",
    }
    started = {}
    for name, redirection in redirections.items():
        record = ("--record", str(tmp_path / name / "out"))
        run = ("run", SHAPES, "--prompt", "red circle", *record, *EMBEDDED, *FREE)
        started[name] = start(tmp_path / name, f"{redirection}; exit ${{PIPESTATUS[0]}}", *run)
    for name, process in started.items():
        code, err = process.wait(PATIENCE), (tmp_path / name / "err").read_text()
        progress = re.compile(r"maskcast: (loading the models|shapes: \d+ frames?, .*)")  # after ten seconds
        assert (code, [line for line in err.splitlines() if not progress.fullmatch(line)]) == (0, []), name
        assert len(lines_of(tmp_path / name / "out" / "shapes.masks.jsonl")) == FRAMES
    null = "/dev/null"
    assert (tmp_path / "all closed" / "descriptors").read_text().split() == [null, null, null]
    assert (tmp_path / "stdin and stdout closed" / "descriptors").read_text().split()[:2] == [null, null]


@pytest.mark.parametrize("arguments", [("models", "list", *EMBEDDED[:4]), ("models", "list", "--json", *EMBEDDED[:4])])
def test_product_that_cannot_be_written_is_an_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    process = start(tmp_path / "out", ">/dev/full", *arguments)
    assert process.wait(PATIENCE) == 1
    line = "maskcast: error: cannot write to standard output: No space left on device; send it elsewhere\n"
    assert (tmp_path / "out" / "err").read_text() == line


def test_reader_of_the_help_may_go_away(tmp_path: Path) -> None:
    process = start(tmp_path / "out", "| true; exit ${PIPESTATUS[0]}", "run", "--help")
    assert process.wait(PATIENCE) == 0
    assert (tmp_path / "out" / "err").read_text() == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_text_that_stdout_cannot_encode_is_escaped(encoding: str) -> None:
    """Names of the wide world in a terminal of another, and a file's name that is not UTF-8."""
    name = b"\xe6\x97\xa5\xe6\x9c\xac-\xe9"
    command = [sys.executable, "-m", "daemon", "models", "list", "--classifier", name, *EMBEDDED[:4]]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (1, b"")  # the model is missing, which is no failure of printing
    shown = b"\xe6\x97\xa5\xe6\x9c\xac" if encoding == "utf-8" else b"\\u65e5\\u672c"
    assert shown + b"-\\udce9" in done.stdout
