"""The summary of a run, written again after each step: what a run that was cut has found stands in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from tests.gpu.step import Outcome, State, Step, told


@dataclass
class Report:
    """``summary.md`` in ``folder``, beside a log for each step."""

    folder: Path
    command: str
    steps: Sequence[Step]

    def write(self, outcomes: Sequence[Outcome], running: Step | None = None) -> None:
        """Replace the summary; a reader never sees half of one."""
        lines = ["# Tests and measurements on a GPU", "", f"    {self.command}", ""]
        lines += ["| step | result | seconds | log |", "|---|---|---|---|", *map(_row, outcomes)]
        done = len(outcomes)
        if running is not None:
            lines.append(f"| {running.name} | running | | {running.file} |")
            done += 1
        lines += [f"| {step.name} | to come | | |" for step in self.steps[done:]]
        for step in [outcome.step for outcome in outcomes] + ([running] if running else []):
            if found := told(self.folder / step.file):
                lines += ["", f"## {step.name}", "", *_apart(found)]
        partial = self.folder / "summary.md.part"
        partial.write_text("\n".join(lines) + "\n")
        partial.replace(self.folder / "summary.md")


def _row(outcome: Outcome) -> str:
    result = f"{outcome.state}: {outcome.reason}" if outcome.reason else str(outcome.state)
    ran = outcome.state is not State.NOT_RUN
    more = f"{outcome.seconds:.0f} | {outcome.step.file}" if ran else "|"
    return f"| {outcome.step.name} | {result.replace('|', '/')} | {more} |"


def _apart(lines: Sequence[str]) -> list[str]:
    """With an empty line wherever a table begins or ends, as markdown wants it."""
    apart: list[str] = []
    for line, following in zip_longest(lines, lines[1:], fillvalue=""):
        begins = following.startswith(("|--", "| --"))
        if apart and (begins or apart[-1].startswith("|") != line.startswith("|")):
            apart.append("")
        apart.append(line)
    return apart
