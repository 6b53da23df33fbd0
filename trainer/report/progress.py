"""Progress of a training on stderr: a bar on a terminal, else a line every ten seconds."""

import sys
import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from trainer.progress_bar import LINE_EVERY
from trainer.training.training import Training

UPDATE_EVERY = 0.25  # seconds; each update waits for the GPU


class TrainingProgress:
    """Shows nothing: the progress of all processes but the main one."""

    def step(self, training: Training) -> None:
        """Show the state after a step."""

    def say(self, line: str) -> None:
        """Print a line that stays on the screen."""

    def close(self) -> None:
        """Remove the bar from the screen."""


class ConsoleProgress(TrainingProgress):
    """Shows loss, accuracy, learning rate, images per second and the remaining time."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = _bar(console) if console.is_terminal else None
        self._task: TaskID | None = None
        self._started = self._updated = time.monotonic()
        self._first_step: int | None = None  # greater than 0 in a resumed training

    def step(self, training: Training) -> None:
        now = time.monotonic()
        done = training.epoch * training.steps + training.step
        if self._first_step is None:
            self._first_step, self._started = done, now
        if now - self._updated < (LINE_EVERY if self._bar is None else UPDATE_EVERY):
            return
        self._updated = now
        rate = (done - self._first_step) / max(now - self._started, 1e-9)  # steps per second, with validation
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
    """One line about the state of a training; ``rate`` in steps per second, 0 when unknown."""
    loss, accuracy = training.metrics()
    remaining = training.recipe.epochs * training.steps - training.epoch * training.steps - training.step
    line = (
        f"epoch {training.epoch + 1}/{training.recipe.epochs} step {training.step}/{training.steps}: loss {loss:.3f}, "
        f"accuracy {accuracy:.1%}, learning rate {training.lr:.2e}"
    )
    if not rate:
        return line
    return f"{line}, {rate * training.batch:.0f} images/s, {timedelta(seconds=round(remaining / rate))} left"


def _bar(console: Console) -> Progress:
    columns = (BarColumn(bar_width=20), TextColumn("{task.fields[state]}"))
    return Progress(*columns, console=console, transient=True, refresh_per_second=4)
