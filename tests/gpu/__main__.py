"""Tests and measurements on a machine with an NVIDIA GPU, in one run of bounded time.

python -m tests.gpu [--minutes 8] [--out gpu-report] [--only STEP ...] [--device cpu]

Correctness comes first, then the measurements, the most important ones first. Each step is a process with a time limit
of its own; it writes its log into ``--out`` while it runs, and ``summary.md`` there is written again after each step.
A step that the packages or the machine do not allow is skipped, with the reason. ``--device cpu`` tries the steps
themselves on a machine without a GPU, with small pictures and models; its figures mean nothing.

The exit code is 0 when no step failed and every correctness step ran, 1 otherwise, and 2 for wrong usage or without a
GPU.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.gpu.plan import plan
from tests.gpu.report import Report
from tests.gpu.step import ROOT, Asked, Outcome, State, Step, preload, run

LEAST = 3.0  # seconds; with less left a step is not started
MACHINE = Step("machine", "tests.gpu.machine:describe", 120)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="time for the whole run (default 8)")
    parser.add_argument("--out", type=Path, default=Path("gpu-report"), metavar="DIR", help="for logs and summary.md")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="steps whose names contain one of these")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: try the steps, in small")
    asked = parser.parse_args(arguments)
    if not 0 < asked.minutes < 1440:
        parser.error(f"--minutes {asked.minutes:g}: give a number above 0 and below 1440")
    asked.steps = plan(asked.device)
    if asked.only:
        asked.steps = [step for step in asked.steps if any(part.lower() in step.name.lower() for part in asked.only)]
    if not asked.steps:
        names = ", ".join(step.name for step in plan(asked.device))
        parser.error(f"--only {' '.join(asked.only)}: no step has such a name; there are: {names}")
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {asked.out}: {error.strerror}; name a folder that can be written")
    return asked


def run_all(steps: Sequence[Step], asked: Asked, report: Report, deadline: float) -> list[Outcome]:
    """Run the steps in order until ``deadline`` (monotonic seconds); the rest is noted as not run."""
    outcomes: list[Outcome] = []
    for step in steps:
        left = deadline - time.monotonic()
        if left < LEAST:
            outcome = Outcome(step, State.NOT_RUN)
        else:
            report.write(outcomes, running=step)
            outcome = run(step, asked, min(step.limit, left), report.folder / step.file)
        outcomes.append(outcome)
        report.write(outcomes)
        print(f"{step.name}: {outcome.state}{f' ({outcome.reason})' if outcome.reason else ''}", flush=True)
        if step is MACHINE and outcome.state is not State.OK:
            break
    return outcomes


def main() -> int:
    began, arguments = time.monotonic(), parse()
    steps = [MACHINE, *arguments.steps]
    report = Report(arguments.out, f"python -m tests.gpu {' '.join(sys.argv[1:])}".strip(), steps)
    os.environ["PYTHONUNBUFFERED"] = "1"
    if arguments.device == "cpu":
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # the cores are shared with the programs that steps start
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    preload("tests.gpu.preload")
    with tempfile.TemporaryDirectory(prefix="maskcast-gpu-") as scratch:
        asked = Asked(arguments.device, arguments.device == "cpu", scratch)
        outcomes = run_all(steps, asked, report, began + 60 * arguments.minutes)
    if outcomes[0].state is State.SKIPPED:
        print(f"tests.gpu: error: {outcomes[0].reason}", file=sys.stderr)
        return 2
    print((arguments.out / "summary.md").read_text())
    return int(any(outcome.fails_the_run for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
