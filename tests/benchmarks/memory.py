"""Memory against frames: the tracker and upstream's video predictor on the same stream, each in its own process.

python -m tests.benchmarks.memory [--frames N] [--every-report N] [--objects N] [--plot FILE.png] [--json]
python -m tests.benchmarks.memory --ours-only --frames 100000

The embedded model runs on the test source, whose objects leave and return. The tracker gets the true boxes every 30
frames, as from a detector, and ends tracks that are lost for 30 frames; upstream is prompted on the first frame. The
frames are a loop that is rendered once, so that only the memory of tracking can grow. ``held`` counts tensors: the
tracker's nbytes, upstream's frames and its outputs per object. With ``--ours-only`` the exit code is 1 when the bytes
held at frame 1,000 and at the end differ, or when resident memory grows by 1,024 bytes per frame or more after frame
1,000.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import zip_longest
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
import torch
from matplotlib.figure import Figure

from stages.sam2.load import EMBEDDED, load_segmenter
from stages.testsrc.truth import Truth
from stages.testsrc.world import ShapesWorld
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Clock, Detections, Frame, Image, Window
from tests.benchmarks.support.streams import UpstreamStream, held_bytes, load_upstream

LOOP, EVERY, LOST_AFTER = 600, 30, 30  # frames
WINDOW = 10  # divides the other lengths: with windows of different lengths, memory would vary between samples
SETTLED = 1000  # frames after which memory must not grow
MOST_GROWTH = 1024  # bytes per frame
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory of a process after ``frame`` tracked frames, in bytes."""

    frame: int
    held: int
    rss: int
    frames_held: int = 0  # images; part of ``held``
    tracks: tuple[int, int, int] = (0, 0, 0)  # started, ended, returned so far


Scene = list[tuple[Image, Detections]]


def draw_scene(objects: int, frames: int) -> Scene:
    """The frames of the loop, with the detections of a perfect detector."""
    world = ShapesWorld(0, objects=objects)
    names = {label: number for number, label in enumerate(dict.fromkeys(world.labels))}
    drawn = (world.render(t) for t in range(min(LOOP, frames)))
    return [(image, _found(truth, names)) for image, truth in drawn]


def _found(truth: Truth, names: dict[str, int]) -> Detections:
    seen = np.flatnonzero(truth.visible > 0.3)
    prompts = np.array([names[label] for label in truth.labels], np.int64)
    return Detections(truth.boxes[seen], np.full(len(seen), 0.9, np.float32), prompts[seen])


def _windows(scene: Scene, frames: int, report: int) -> Iterator[tuple[Window, bool]]:
    """The stream's windows, each with whether to take a sample after it."""

    due, longest = report, min(WINDOW, report)
    for start in range(0, frames, EVERY):
        for first in range(start, min(start + EVERY, frames), longest):
            done = min(first + longest, start + EVERY, frames)
            shown = tuple(
                Frame(t, t, Fraction(1, 30), t / 30, Clock.FILE, scene[t % len(scene)][0]) for t in range(first, done)
            )
            yield Window(0, shown, first == start), done >= due or done == frames
            due += report * (done >= due)


def track_ours(objects: int, frames: int, report: int, out: Connection) -> None:
    """Send a Sample every ``report`` frames."""
    torch.set_num_threads(1)
    scene, process, changes = draw_scene(objects, frames), psutil.Process(), Counter()
    tracker = Tracker(load_segmenter("embedded", CPU, torch.float32), TrackerOptions(lost_after=LOST_AFTER))
    for window, wanted in _windows(scene, frames, report):
        found = scene[window.frames[0].index % len(scene)][1] if window.keyframe else None
        for result in tracker.step(window, found):
            changes.update(event.change.value for event in result.events)
        if wanted:
            done = window.frames[-1].index + 1
            tracks = tuple(changes[f"track_{change}"] for change in ("started", "ended", "returned"))
            out.send(Sample(done, tracker.nbytes, process.memory_info().rss, tracks=tracks))


def track_upstream(objects: int, frames: int, report: int, out: Connection) -> None:
    """Send a Sample every ``report`` frames."""
    torch.set_num_threads(1)
    scene, process = draw_scene(objects, frames), psutil.Process()
    model = load_upstream(EMBEDDED / "segmenter.yaml", EMBEDDED / "segmenter.pt", CPU, torch.float32)
    first, found = scene[0]
    stream = UpstreamStream(model.network, first, found.boxes, torch.float32)
    for window, wanted in _windows(scene, frames, report):
        images = [frame.image for frame in window.frames if frame.index]  # the first one is there already
        if images:
            stream.step(images)
        if wanted:
            pictures, rest = held_bytes(stream.state)
            done = window.frames[-1].index + 1
            out.send(Sample(done, pictures + rest, process.memory_info().rss, frames_held=pictures))


def samples(work: Callable[..., None], *arguments: int) -> Iterator[Sample]:
    """The samples that ``work`` sends from its own process."""
    context = multiprocessing.get_context("spawn")  # a forked process would inherit this one's memory
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(*arguments, sender), daemon=True)
    process.start()
    sender.close()
    try:
        while True:
            yield receiver.recv()
    except EOFError:
        process.join()
    if process.exitcode:
        sys.exit(f"memory: {work.__name__} ended with exit code {process.exitcode}; its traceback is above")


def slope(measured: list[Sample], what: str, after: int) -> float:
    """Growth in bytes per frame, by least squares over the samples from frame ``after`` on."""
    settled = [(one.frame, getattr(one, what)) for one in measured if one.frame >= after]
    frames, values = np.array(settled, float).T
    return float(np.polyfit(frames, values, 1)[0])


def row(ours: Sample, theirs: Sample | None) -> str:
    """A line of a markdown table."""
    line = [f"{ours.frame:,}", f"{ours.held:,}", f"{ours.rss / 2**20:.1f}", "/".join(map(str, ours.tracks))]
    if theirs is not None:
        line += [f"{theirs.frames_held:,}", f"{theirs.held - theirs.frames_held:,}", f"{theirs.rss / 2**20:.1f}"]
        line += [f"{theirs.held / ours.held:.2f}", f"{theirs.rss / ours.rss:.2f}"]
    return "| " + " | ".join(line) + " |"


def plot(ours: list[Sample], theirs: list[Sample], path: Path) -> None:
    """Plot bytes held, and the increase of resident memory since the first sample, against frames."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("held", "rss"), strict=True):
        for name, measured in (("tracker", ours), ("upstream", theirs)):
            base = measured[0].rss if what == "rss" and measured else 0
            mebibytes = [(getattr(one, what) - base) / 2**20 for one in measured]
            axes.plot([one.frame for one in measured], mebibytes, marker=".", label=name)
        title = "bytes held in tensors" if what == "held" else "resident memory since the first sample"
        axes.set(title=title, xlabel="frames", ylabel="MiB")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--every-report", type=int, metavar="N", help="frames between samples; default a hundredth")
    parser.add_argument("--objects", type=int, default=4)
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.every_report = arguments.every_report or max(50, arguments.frames // 100)
    if arguments.frames < 3 * arguments.every_report:
        parser.error("--frames must be at least three times --every-report, for a slope")
    return arguments


def main() -> None:
    arguments = parse()
    given = arguments.objects, arguments.frames, arguments.every_report
    ours: list[Sample] = []
    theirs: list[Sample] = []
    if not arguments.json:
        heads = ["frames", "tracker held", "RSS MiB", "started/ended/returned"]
        more = ["upstream's frames", "its outputs", "RSS MiB", "held / tracker's", "RSS / tracker's"]
        heads += [] if arguments.ours_only else more
        print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    others = iter(()) if arguments.ours_only else samples(track_upstream, *given)
    for mine, other in zip_longest(samples(track_ours, *given), others):
        ours.append(mine)
        theirs += [] if other is None else [other]
        if not arguments.json:
            print(row(mine, other), flush=True)
    after = min(SETTLED, arguments.frames // 3)
    report = conclude(ours, theirs, after)
    print(json.dumps(report) if arguments.json else "\n" + "\n".join(f"{k}: {v}" for k, v in report["figures"].items()))
    if arguments.plot:
        plot(ours, theirs, arguments.plot)
    sys.exit(arguments.ours_only and not report["bounded"])


def conclude(ours: list[Sample], theirs: list[Sample], after: int) -> dict:
    """The report: figures, samples, and whether the tracker's memory was bounded."""
    settled, last = next(one for one in ours if one.frame >= after), ours[-1]
    growth = slope(ours, "rss", after)
    figures = {
        f"tracker held at frame {settled.frame}": settled.held,
        f"tracker held at frame {last.frame}": last.held,
        "tracker RSS slope, bytes a frame": round(growth, 1),
    }
    ratios = {"tracker held, last / settled": last.held / settled.held}
    if theirs:
        figures["upstream held slope, bytes a frame"] = round(slope(theirs, "held", after), 1)
        figures["upstream RSS slope, bytes a frame"] = round(slope(theirs, "rss", after), 1)
        ratios["held at the end, upstream / tracker"] = theirs[-1].held / last.held
        ratios["RSS at the end, upstream / tracker"] = theirs[-1].rss / last.rss
    return {
        "cores": os.cpu_count(),
        "settled_after": settled.frame,
        "bounded": settled.held == last.held and growth < MOST_GROWTH,
        "figures": figures | {name: round(ratio, 4) for name, ratio in ratios.items()},
        "ours": [asdict(one) for one in ours],
        "upstream": [asdict(one) for one in theirs],
    }


if __name__ == "__main__":
    main()
