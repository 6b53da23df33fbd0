"""``python -m tests.gpu``: steps have limits, logs are written at once, and the summary tells of what was cut."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.gpu.__main__ import run_all
from tests.gpu.report import Report
from tests.gpu.step import ROOT, Asked, Outcome, Skipped, State, Step
from tests.support.program import PATIENCE, wait_until

pytestmark = pytest.mark.process

SMALL = Asked("cpu", True, "")


# steps; their processes import them from here


def succeeds(asked: Asked, said: str) -> None:
    print(f"not for the summary\n- {said} on {asked.device}\n| a | b |\n|---|---|\n| 1 | 2 |\n| c |\n|---|\n| 3 |")


def fails(asked: Asked) -> None:
    print("| before | it |")
    raise ValueError("no such mask")


def cannot_run(asked: Asked) -> None:
    raise Skipped("no tape drive")


def dies(asked: Asked) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(asked: Asked) -> None:
    """It starts a program that hangs too, and neither heeds SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleeper = subprocess.Popen([sys.executable, "-c", "import signal; signal.pthread_sigmask(0, [15]); signal.pause()"])
    print(f"- processes {os.getpid()} {sleeper.pid}")
    signal.pause()


def step(function: str, limit: float = PATIENCE, correctness: bool = True, **arguments: object) -> Step:
    return Step(f"step that {function}", f"{__name__}:{function}", limit, correctness, arguments)


def run(folder: Path, *steps: Step, seconds: float = PATIENCE) -> tuple[list[Outcome], str]:
    """The outcomes and the summary."""
    report = Report(folder, "python -m tests.gpu", steps)
    outcomes = run_all(steps, SMALL, report, time.monotonic() + seconds)
    return outcomes, (folder / "summary.md").read_text()


def processes_of(log: Path) -> list[int]:
    """The processes that the hanging step names in its log."""
    wait_until(lambda: log.exists() and "processes" in log.read_text(), "the step's first line")
    return [int(word) for word in log.read_text().splitlines()[0].split()[2:]]


def gone(process: int) -> bool:
    return not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE


def test_a_step_that_hangs_is_killed_with_all_it_started_and_the_next_one_runs(tmp_path):
    """Its log has what it printed and, from shortly before the end, where it hung."""
    outcomes, summary = run(tmp_path, step("hangs", limit=10), step("succeeds", said="fine"))
    assert [outcome.state for outcome in outcomes] == [State.KILLED, State.OK]
    log = tmp_path / "step-that-hangs.log"
    processes = processes_of(log)
    assert len(processes) == 2
    wait_until(lambda: all(map(gone, processes)), "the end of the processes")
    assert "in hangs" in log.read_text()
    assert "| step that hangs | KILLED at its limit | 10 | step-that-hangs.log |" in summary
    assert f"- processes {processes[0]} {processes[1]}" in summary


def test_a_run_that_is_killed_leaves_logs_a_summary_and_no_process(tmp_path):
    command = f"from {__name__} import *; run(Path({str(tmp_path)!r}), step('succeeds', said='fine'), step('hangs'))"
    whole_run = subprocess.Popen([sys.executable, "-c", command], cwd=ROOT)
    processes = processes_of(tmp_path / "step-that-hangs.log")
    whole_run.kill()
    whole_run.wait()
    wait_until(lambda: all(map(gone, processes)), "the end of the processes")
    summary = (tmp_path / "summary.md").read_text()
    assert "| step that succeeds | ok |" in summary
    assert "- fine on cpu" in summary
    assert "| step that hangs | running | | step-that-hangs.log |" in summary


def test_the_summary_has_tables_and_lines_with_a_dash_of_every_step(tmp_path):
    _, summary = run(tmp_path, step("succeeds", said="fine"))
    assert summary.endswith(
        "## step that succeeds\n\n- fine on cpu\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n| c |\n|---|\n| 3 |\n"
    )


@pytest.mark.parametrize(
    ("function", "correctness", "state", "reason", "fails_the_run"),
    [
        ("fails", True, State.FAILED, "ValueError: no such mask", True),
        ("fails", False, State.FAILED, "ValueError: no such mask", True),
        ("dies", False, State.FAILED, "ended by SIGSEGV", True),
        ("cannot_run", True, State.SKIPPED, "no tape drive", False),
    ],
)
def test_a_step_that_fails_makes_the_run_fail_and_one_that_cannot_run_does_not(
    tmp_path, function, correctness, state, reason, fails_the_run
):
    [outcome], summary = run(tmp_path, step(function, correctness=correctness))
    assert (outcome.state, outcome.fails_the_run) == (state, fails_the_run)
    assert reason in outcome.reason
    assert reason in summary


@pytest.mark.parametrize(("correctness", "fails_the_run"), [(True, True), (False, False)])
def test_steps_for_which_no_time_is_left_are_listed(tmp_path, correctness, fails_the_run):
    """A run that has not shown what is right has failed; one that has measured less has not."""
    [outcome], summary = run(tmp_path, step("succeeds", correctness=correctness, said="fine"), seconds=1)
    assert outcome.fails_the_run is fails_the_run
    assert "| step that succeeds | not run: no time left | | |" in summary


def test_the_command_runs_steps_and_says_when_there_is_no_gpu(tmp_path):
    """Exit code 0 of a trial on a CPU, 2 with one line where a GPU is missing or the usage is wrong."""
    without_gpu = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

    def command(*arguments: str) -> "subprocess.Popen[str]":
        asked = [sys.executable, "-m", "tests.gpu", "--out", str(tmp_path / str(len(arguments))), *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(asked, stdout=pipe, stderr=pipe, text=True, env=without_gpu, cwd=ROOT)

    trial = command("--device", "cpu", "--only", "bfloat16", "OUT OF", "--minutes", str(PATIENCE / 60))
    bare, wrong, nothing = command(), command("--minutes", "0"), command("--only", "no such step", "--minutes", "1")
    out, _ = trial.communicate(timeout=PATIENCE)
    assert trial.returncode == 0
    assert "bfloat16 against float32: ok\nout of memory: skipped (for a GPU's memory)\n" in out
    assert "- mask IoU over 88 object-frames: mean 0.99" in out
    for process, said in [
        (bare, "tests.gpu: error: torch sees no CUDA device: check the driver"),
        (wrong, "error: --minutes 0: give a number above 0"),
        (nothing, "error: --only no such step: no step has such a name; there are: tests marked gpu,"),
    ]:
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2
        assert said in err.splitlines()[-1]
