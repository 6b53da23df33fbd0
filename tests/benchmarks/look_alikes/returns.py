"""Returns of look-alikes, and under which id: of one world, tracked with some of the cues."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.keyframes.motion import MotionWatch
from stages.testsrc.truth import Truth
from stages.testsrc.wild.world import WildWorld
from stages.tracking.identity.looks import CUES
from stages.tracking.identity.trust import Floats, Trust
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Detections, Frame, Result, Window
from tests.benchmarks.identity import mask_iou, models
from tests.benchmarks.look_alikes.worlds import ToAndFro, look_alikes
from tests.benchmarks.support.engine_run import frame_of

WINDOW = 8
SEEN, GONE, ABSENT = 0.5, 0.1, 30  # visible share of an object in sight and of one out of sight; frames of an absence
LOOKS = 4  # least looks at an object for a visit to count
STEP = 3  # frames from one look at the masks to the next
DETECTED = 0.3  # least visible share of an object whose box is a detection
MATCH = 0.5  # IoU


@dataclass(frozen=True)
class Job:
    """One world, and the cues that are trusted."""

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
    """Windows with a keyframe every ``every`` frames and at each cut that is seen, and their truth."""
    watch, shown, truths = MotionWatch(), list[Frame](), list[Truth]()
    for t in range(frames):
        image, truth = world.render(t)
        frame = replace(frame_of(image, t), motion=watch.look(image))
        if shown and (_is_keyframe(frame, every) or len(shown) == WINDOW):
            yield Window(0, tuple(shown), _is_keyframe(shown[0], every)), truths
            shown, truths = [], []
        shown.append(frame)
        truths.append(truth)


def _is_keyframe(frame: Frame, every: int) -> bool:
    return frame.index % every == 0 or frame.cut


def measure(job: Job) -> list[Return]:
    """The returns of all objects of one world."""
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
    return [one for n in range(len(prompts)) for one in returns_of(n, np.array(visible), owners)]


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


def returns_of(n: int, visible: NDArray[np.float32], owners: list[list[int | None]]) -> Iterator[Return]:
    """The returns of object ``n``; visible shares (T, N) and the id of each object, at T looks."""
    last, visit, absent = Counter[int](), Counter[int](), 0
    others, known = set[int](), set[int]()  # ids that others have had so far, and before this visit

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
            last, absent = (visit, run) if visit.total() >= LOOKS else (last, absent + run)
            visit, known = Counter(), set(others)
        run = 0
        if visible[t, n] >= SEEN and owners[t][n] is not None:
            visit[owners[t][n]] += 1
        others |= {track for m, track in enumerate(owners[t]) if m != n and track is not None}
    yield from ended()


def shares(returns: Sequence[Return]) -> dict[str, float]:
    """The share of each outcome; of ``own`` also after short and after long absences."""

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
