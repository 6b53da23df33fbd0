"""Shows how a training comes along, on stderr: a bar on a terminal, a line every ten seconds elsewhere."""

import sys
import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from trainer.counting import LINE_EVERY
from trainer.training.training import Training

LOOK_EVERY = 0.25  # seconds; each look waits for the GPU


class Shown:
    """What a process that is not the first of many says: nothing."""

    def step(self, training: Training) -> None:
        """Called after each step."""

    def say(self, line: str) -> None:
        """Called with what is worth keeping on the screen."""

    def close(self) -> None:
        """Nothing is left on the screen."""


class Steps(Shown):
    """Loss, accuracy, learning rate, pictures a second and the time left."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = _bar(console) if console.is_terminal else None
        self._task: TaskID | None = None
        self._began = self._looked = time.monotonic()
        self._first: int | None = None  # steps that were done before this process began

    def step(self, training: Training) -> None:
        now = time.monotonic()
        done = training.epoch * training.steps + training.step
        if self._first is None:
            self._first, self._began = done, now
        if now - self._looked < (LINE_EVERY if self._bar is None else LOOK_EVERY):
            return
        self._looked = now
        rate = (done - self._first) / max(now - self._began, 1e-9)  # steps a second, validation included
        line = describe(training, rate)
        if self._bar is None:
            print(f"maskcast: {line}", file=sys.stderr, flush=True)
            return
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("training", total=training.recipe.epochs * training.steps, state="")
        self._bar.update(self._task, completed=done, state=line)

    def say(self, line: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.console.print(f"maskcast: {line}", markup=False, highlight=False)
        else:
            print(f"maskcast: {line}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def describe(training: Training, rate: float) -> str:
    """One line of where a training is; ``rate`` in steps a second, 0 when not known."""
    loss, accuracy = training.measured()
    left = training.recipe.epochs * training.steps - training.epoch * training.steps - training.step
    line = (
        f"epoch {training.epoch + 1}/{training.recipe.epochs} step {training.step}/{training.steps}: loss {loss:.3f}, "
        f"accuracy {accuracy:.1%}, learning rate {training.lr:.2e}"
    )
    if not rate:
        return line
    return f"{line}, {rate * training.batch:.0f} images/s, {timedelta(seconds=round(left / rate))} left"


def _bar(console: Console) -> Progress:
    columns = (BarColumn(bar_width=20), TextColumn("{task.fields[state]}"))
    return Progress(*columns, console=console, transient=True, refresh_per_second=4)
