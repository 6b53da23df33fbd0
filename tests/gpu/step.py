"""One step of the run: a function in a process of its own, with a time limit, and a log that grows line by line.

The processes are forked from one that has imported torch and the models' packages, which takes ten seconds, and has not
touched the GPU.
"""

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
SKIPPED = 3  # exit code of a step that cannot run on this machine; its last line says why
STACKS_BEFORE = 2.0  # seconds before its limit at which a step writes its threads' stacks

_processes = multiprocessing.get_context("forkserver")


class State(StrEnum):
    """How a step ended."""

    OK = "ok"
    FAILED = "FAILED"
    KILLED = "KILLED at its limit"
    SKIPPED = "skipped"
    NOT_RUN = "not run: no time left"


class Skipped(Exception):  # noqa: N818 - not an error
    """A step cannot run on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What all steps of a run are told. ``scratch``: a folder for checkpoints and clips that steps share."""

    device: str
    small: bool  # a trial of the steps themselves: small pictures and models, few frames
    scratch: str


@dataclass(frozen=True, slots=True)
class Step:
    """``function``: "module:name", called with the run's `Asked` and ``arguments``."""

    name: str
    function: str
    limit: float  # seconds
    correctness: bool = False  # the run fails when the step does not succeed
    arguments: dict[str, object] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Name of its log."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.name.lower()).split()) + ".log"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended. ``reason``: the last line of its log where it failed or was skipped."""

    step: Step
    state: State
    seconds: float = 0.0
    reason: str = ""

    @property
    def fails_the_run(self) -> bool:
        """The step failed, or it is one of correctness and had no time to end."""
        unproven = self.step.correctness and self.state in (State.KILLED, State.NOT_RUN)
        return unproven or self.state is State.FAILED


def preload(*modules: str) -> None:
    """Import these modules once for all steps; call it before the first step."""
    _processes.set_forkserver_preload(list(modules))


def run(step: Step, asked: Asked, limit: float, log: Path) -> Outcome:
    """Run a step for at most ``limit`` seconds; all processes that it started are killed at its end.

    The step's output goes straight into ``log``, so that it is there whatever happens to this process.
    """
    log.write_bytes(b"")
    began = time.monotonic()
    process = _processes.Process(target=_run_here, args=(step, asked, limit, log))
    process.start()
    try:
        process.join(limit)
        code = process.exitcode
    finally:
        process.kill()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
    state = State.KILLED if code is None else {0: State.OK, SKIPPED: State.SKIPPED}.get(code, State.FAILED)
    reason = "" if state in (State.OK, State.KILLED) else _last_line(log)
    if code is not None and code < 0:
        reason = f"ended by {signal.Signals(-code).name}; {reason}"
    return Outcome(step, state, time.monotonic() - began, reason)


def _run_here(step: Step, asked: Asked, limit: float, log: Path) -> None:
    """What the step's process does."""
    os.setpgid(0, 0)
    with log.open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    faulthandler.enable()
    if limit > STACKS_BEFORE:
        faulthandler.dump_traceback_later(limit - STACKS_BEFORE)
    module, _, name = step.function.partition(":")
    try:
        getattr(import_module(module), name)(asked, **step.arguments)
    except Skipped as reason:
        print(reason, flush=True)
        sys.exit(SKIPPED)


def _end_with_the_run() -> None:
    """When the process that runs the steps has died, end this one and all that it started."""
    run = multiprocessing.parent_process()
    assert run is not None
    run.join()
    os.killpg(0, signal.SIGKILL)


def told(log: Path) -> Sequence[str]:
    """What a step's log has for the summary: rows of tables and lines that begin with a dash."""
    if not log.exists():
        return []
    return [line for line in log.read_text(errors="replace").splitlines() if line.startswith(("| ", "|--", "- "))]


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
