"""The share of look-alikes that return under their own id, by each cue alone and by all together.

python -m tests.benchmarks.look_alikes [--seeds N ...] [--light plain|wild] [--cuts] [--every N] [--cues NAME ...]
    [--seconds N] [--json]

The look-alikes differ in pattern only; see `tests.benchmarks.support.look_alikes`. Detections are the truth's boxes, so
that only identities are measured; masks are the segmenter's. A return is right when the object has, for most of the
frames of this visit, the id that it had for most of its last one. Absences are short or long: a track ends after 90
frames out of sight (``lost_after``), and then only the gallery knows it. With ``--cuts`` the camera cuts ten times to
and fro between two views of a wild world instead, and all objects of a view return with it.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.testsrc.truth import Truth
from stages.testsrc.wild.world import WildWorld
from stages.tracking.identity.looks import CUES
from stages.tracking.identity.trust import Floats, Trust
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Clock, Detections, Frame, Motion, Result, Window
from tests.benchmarks.identity import mask_iou, models
from tests.benchmarks.support.look_alikes import ToAndFro, look_alikes, view

HELD_OUT = range(520, 530)
WINDOW = 8
SEEN, GONE, ABSENT = 0.5, 0.1, 30  # visible share of an object in sight and of one out of sight; frames of an absence
LOOKS = 4  # least looks at an object for a visit to count
STEP = 3  # frames from one look at the masks to the next
DETECTED = 0.3  # least visible share of an object whose box is a detection
MATCH = 0.5  # IoU


@dataclass(frozen=True)
class Job:
    seed: int
    wild: bool
    cuts: bool
    every: int
    cues: tuple[str, ...]
    seconds: int


@dataclass
class Return:
    """One return: frames of absence, and whether the object got its own id, the id of another, or a new one."""

    absent: int
    outcome: str


class SomeCues(Trust):
    """Trusts some of the cues only."""

    def __init__(self, cues: Sequence[str]) -> None:
        super().__init__()
        self._chosen = np.array([cue in cues for cue in CUES])

    @property
    def separation(self) -> Floats:
        return super().separation * self._chosen


def windows(world: WildWorld, frames: int, every: int) -> Iterator[tuple[Window, list[Truth]]]:
    """Windows with a keyframe every ``every`` frames and at each cut, and their truth."""
    shown: list[Frame] = []
    truths: list[Truth] = []
    for t in range(frames):
        cut = t > 0 and view(world, t) != view(world, t - 1)
        if shown and (t % every == 0 or cut or len(shown) == WINDOW):
            yield (
                Window(0, tuple(shown), shown[0].index % every == 0 or bool(shown[0].motion and shown[0].motion.cut)),
                truths,
            )
            shown, truths = [], []
        image, truth = world.render(t)
        shown.append(Frame(t, t, Fraction(1, 30), t / 30, Clock.FILE, image, motion=Motion(cut)))
        truths.append(truth)


def measure(job: Job) -> list[Return]:
    _, segmenter = models()
    world = ToAndFro(job.seed) if job.cuts else look_alikes(job.seed, job.wild, job.seconds)
    frames = round(world.length * 30) if job.cuts else job.seconds * 30
    names = list(dict.fromkeys(world.labels))
    prompts = np.array([names.index(label) for label in world.labels])
    tracker = Tracker(segmenter, TrackerOptions())
    tracker._state.trust = SomeCues(job.cues)
    owners: list[list[int | None]] = []  # the id that each object has, by frame
    visible = []
    for window, truths in windows(world, frames, job.every):
        seen = np.flatnonzero(truths[0].visible >= DETECTED)
        boxes = Detections(truths[0].boxes[seen], np.full(len(seen), 0.9, np.float32), prompts[seen])
        for result, truth in zip(tracker.step(window, boxes if window.keyframe else None), truths, strict=True):
            if result.frame.index % STEP == 0:
                owners.append(_owners(result, truth, prompts))
                visible.append(truth.visible)
    return [one for n in range(len(prompts)) for one in _returns(n, np.array(visible), owners, prompts)]


def _owners(result: Result, truth: Truth, prompts: NDArray[np.int64]) -> list[int | None]:
    """The id that each object has on a frame, at the resolution of the tracker's masks."""
    masks = (result.masks > 0).numpy()
    size = masks.shape[:0:-1]
    true = np.array(
        [cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5 for mask in truth.masks]
    )
    iou = mask_iou(true, masks) * (prompts[:, None] == [track.prompt for track in result.tracks])
    ids = [track.id for track in result.tracks]
    return [ids[int(row.argmax())] if len(row) and row.max() >= MATCH else None for row in iou]


def _returns(
    n: int, visible: NDArray[np.float32], owners: list[list[int | None]], prompts: NDArray[np.int64]
) -> Iterator[Return]:
    """The returns of object ``n``."""
    last, visit, absent = Counter[int](), Counter[int](), 0
    known = {track for row in owners for m, track in enumerate(row) if m != n and track is not None}

    def ended() -> Iterator[Return]:
        if last and visit.total() >= LOOKS:
            own, now = last.most_common(1)[0][0], visit.most_common(1)[0][0]
            yield Return(absent, "own" if now == own else "other's" if now in known else "new")

    run = 0
    for t in range(len(visible)):
        if visible[t, n] < GONE:
            run += STEP
            continue
        if run >= ABSENT:
            yield from ended()
            last, visit, absent = (visit if visit.total() >= LOOKS else last), Counter(), run
        run = 0
        if visible[t, n] >= SEEN and owners[t][n] is not None:
            visit[owners[t][n]] += 1
    yield from ended()


def shares(returns: Sequence[Return]) -> dict[str, float]:
    def share(some: Sequence[Return], outcome: str) -> float:
        return sum(one.outcome == outcome for one in some) / max(1, len(some))

    short, long = ([one for one in returns if (one.absent > 90) == ended] for ended in (False, True))
    return {
        "own": share(returns, "own"),
        "short": share(short, "own"),
        "long": share(long, "own"),
        "other's": share(returns, "other's"),
        "new": share(returns, "new"),
        "returns": len(returns),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.look_alikes", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(HELD_OUT))
    parser.add_argument("--light", choices=("plain", "wild"), default="plain")
    parser.add_argument("--cuts", action="store_true", help="ten cuts between two views of a wild world")
    parser.add_argument("--every", type=int, default=10, help="frames between keyframes")
    parser.add_argument("--seconds", type=int, default=20, help="of each world")
    parser.add_argument("--cues", nargs="*", choices=CUES, help="these cues together, instead of the table")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes; one a core")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    variants = {"all": CUES} | {cue: (cue,) for cue in CUES} | {"none (motion alone)": ()}
    if arguments.cues is not None:
        variants = {"as asked": tuple(arguments.cues)}
    context = multiprocessing.get_context("spawn")
    table = {}
    with ProcessPoolExecutor(arguments.jobs, context) as pool:
        running = {
            name: [
                pool.submit(
                    measure,
                    Job(
                        seed, arguments.light == "wild", arguments.cuts, arguments.every, tuple(cues), arguments.seconds
                    ),
                )
                for seed in arguments.seeds
            ]
            for name, cues in variants.items()
        }
        for name, some in running.items():
            table[name] = shares([one for each in some for one in each.result()])
            print(name, table[name], file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps(table))
        return
    print(f"{'':22}" + "".join(f"{name:>10}" for name in next(iter(table.values()))))
    for name, row in table.items():
        print(
            f"{name:22}"
            + "".join(f"{value:10.3f}" if name != "returns" else f"{value:10d}" for name, value in row.items())
        )


if __name__ == "__main__":
    main()
