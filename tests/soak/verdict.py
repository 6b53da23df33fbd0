"""Verdict on a soak test: whether anything grew; and a plot."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tests.soak.sampling import Sample, Soak

LEAST_FRAMES = 20_000  # in a shorter run, the allocator's fluctuation exceeds the allowed growth
MOST_GROWTH = 1024  # bytes of resident memory per frame
WARM_UP = 10_000  # frames, or a fifth of the run


def conclude(samples: Sequence[Sample], soak: Soak, frames: int) -> list[tuple[str, bool]]:
    """Result lines, and whether each is good."""
    after = min(WARM_UP, frames // 5)
    settled = [sample for sample in samples if sample.frames >= after]
    growth = slope(settled)
    lines = [(f"RSS slope after frame {settled[0].frames:,}: {growth:.1f} bytes a frame", growth < MOST_GROWTH)]
    counts: tuple[tuple[str, Callable[[Sample], int]], ...] = (
        ("open files", lambda sample: sample.files),
        ("threads", lambda sample: sample.threads),
        ("track memory, bytes", lambda sample: sample.track_memory),
    )
    for name, count in counts:
        values = [count(sample) for sample in settled]
        flat = min(values) == max(values)
        if soak.live is not None and name == "track memory, bytes":  # the governor changes it
            flat = values[-1] <= max(values[:-1])
        lines.append((f"{name}: {min(values):,} to {max(values):,}", flat))
    last = samples[-1]
    lines.append((f"tracks: {last.started} started, {last.ended} ended, {last.returned} returned", last.ended > 0))
    masks, pictures = soak.messages["masks"], soak.messages["frame"]
    every = (
        masks == pictures == frames if soak.live is None else masks - 1 <= pictures <= masks
    )  # it may connect in between
    complete = every and not soak.holes and not soak.unexplained
    told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(soak.messages.items()))
    lines.append((f"the subscriber got: {told}; {soak.holes} missing", complete))
    if soak.live is not None:
        lines.append((f"dropped: {soak.dropped:,}, and {soak.unexplained} without a word", not soak.unexplained))
    if soak.recorded is not None:
        lines.append((f"recorded: {soak.recorded:,} of {soak.published:,}", soak.recorded == soak.published > 0))
    lines.append((f"exit code: {soak.exit_code}", soak.exit_code == 0))
    return lines


def slope(samples: Sequence[Sample]) -> float:
    """Growth of resident memory in bytes per frame, by least squares."""
    frames, rss = np.array([(sample.frames, sample.rss) for sample in samples], float).T
    return float(np.polyfit(frames, rss, 1)[0])


def plot(samples: Sequence[Sample], path: Path) -> None:
    """Plot resident and track memory, open files and threads against frames."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    memory, counts = figure.subplots(1, 2)
    frames = [sample.frames for sample in samples]
    memory.plot(frames, [sample.rss / 2**20 for sample in samples], marker=".", label="resident")
    memory.plot(frames, [sample.track_memory / 2**20 for sample in samples], marker=".", label="track memory")
    memory.set(title="memory", ylabel="MiB")
    counts.plot(frames, [sample.files for sample in samples], marker=".", label="open files")
    counts.plot(frames, [sample.threads for sample in samples], marker=".", label="threads")
    counts.set(title="files and threads")
    for axes in (memory, counts):
        axes.set(xlabel="frames", ylim=(0, None))
        axes.locator_params(axis="x", nbins=4)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
