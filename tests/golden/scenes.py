"""What the golden messages tell of: frames with awkward masks, events, and states of a stream. No randomness."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from stages.types import Clock, Frame, Label, Result, StreamEvent, Track, TrackChange, TrackState

STREAM, FOREIGN, MOVED = "golden", "Tür-3.北口", "moved"
SESSIONS = {
    STREAM: "5d0c8a1e-3f52-4b7a-9c11-2e6f8d40b7a3",
    FOREIGN: "c2b7e9f4-81d6-4e03-a5b8-7f1d9a60c3e5",
    MOVED: "0e94d2b6-5a18-4c7f-8b23-91f6a7d3e058",
}
ORIGINS = {MOVED: {"fence": 2**40 + 7, "predecessor": "7b1f3c95-e2a4-4d60-9f8e-c05d6b472a19"}}  # of streams of a fleet
PROMPTS = ("car", "Person without helmet", 'rote Tür 🚪, 赤い "ドア" \\ /')

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """One frame and the masks on it, bool (N, H, W)."""

    name: str
    result: Result
    masks: Mask
    encoding: Literal["rle", "counts"]
    stream: str = STREAM


def small_masks(height: int, width: int) -> dict[str, Mask]:
    """Every mask that a decoder may get wrong; on a narrow picture some of them are equal."""
    masks = {name: np.zeros((height, width), bool) for name in ("empty", "full", "first", "last", "inner")}
    masks["full"][:] = True
    masks["first"][0, 0] = True
    masks["last"][-1, -1] = True
    masks["inner"][height // 2, width // 2] = True
    rows, columns = np.mgrid[:height, :width]
    masks["first-column"], masks["last-column"] = columns == 0, columns == width - 1
    masks["first-row"], masks["last-row"] = rows == 0, rows == height - 1
    masks["checkered"] = (rows + columns) % 2 == 1
    masks["hole"] = ~masks["inner"]
    return masks


def large_masks() -> dict[str, Mask]:
    """Shapes on 1280x720, whose runs need several characters each and fall as well as rise."""
    rows, columns = np.mgrid[:720, :1280]
    masks = {name: mask for name, mask in small_masks(720, 1280).items() if name != "checkered"}
    masks["disc"] = (rows - 360) ** 2 + (columns - 640) ** 2 < 300**2
    masks["ring"] = masks["disc"] & ((rows - 360) ** 2 + (columns - 640) ** 2 >= 250**2)
    masks["stripes"] = (rows + 2 * columns) % 97 < 31
    masks["two-parts"] = (np.abs(rows - 100) < 40) & ((np.abs(columns - 200) < 90) | (np.abs(columns - 1100) < 5))
    return masks


def scenes() -> Iterator[Scene]:
    """The frames, in the order in which they are published."""
    sizes = {"odd": (5, 7), "one-wide": (9, 1), "one-high": (1, 9), "one-pixel": (1, 1), "even": (4, 6)}
    pictures = {name: small_masks(*size) for name, size in sizes.items()} | {"1280x720": large_masks()}
    index = 0
    for name, masks in pictures.items():
        shapes = np.stack(list(masks.values()))
        for encoding in ("rle", "counts"):
            yield Scene(f"{name}-{encoding}", _result(index, _tracks(shapes), shapes), shapes, encoding)
            index += 1
    nothing = np.zeros((0, 8, 12), bool)
    yield Scene("no-objects", _result(index, (), nothing), nothing, "rle")
    yield _foreign()
    yield _moved()


def _tracks(shapes: Mask) -> tuple[Track, ...]:
    """An object for each mask; the one of an empty mask is hidden."""
    states = [TrackState.TRACKED if mask.any() else TrackState.OCCLUDED for mask in shapes]
    return tuple(Track(n, n % 2, 0, 0, state, score=0.62, presence=0.99) for n, state in enumerate(states, 1))


def _result(index: int, tracks: tuple[Track, ...], masks: Mask) -> Result:
    """Frame ``index`` of a file."""
    picture = np.zeros((*masks.shape[1:], 3), np.uint8)
    frame = Frame(index, 512 * index, Fraction(1, 15360), index / 30, Clock.FILE, picture)
    return Result(frame, 0, index == 0, tracks, torch.empty(0))


def _foreign() -> Scene:
    """A camera's frame with all that is rare in a header: other scripts, null, losses, classes, an object by hand."""
    masks = np.zeros((3, 12, 16), bool)
    masks[0, 2:5, 3:9], masks[1, 6:, 10:], masks[2, ::2, ::3] = True, True, True
    tracks = (
        Track(4, 2, 3, 30, TrackState.NEW, score=0.30006, presence=0.5),
        Track(5, None, 31, 31, TrackState.TRACKED, score=1.0, presence=1.0),
        Track(4_000_000_000, 1, 3, 30, TrackState.TRACKED, score=0.0, presence=0.00004),
    )
    picture = np.zeros((12, 16, 3), np.uint8)
    frame = Frame(2**33, None, Fraction(1001, 30000), 1795459200.1234567, Clock.RTCP, picture, dropped_before=17)
    classes = (Label("Öffnung, offen", 0.98, id=5), Label("jour", 0.5))
    return Scene("foreign", Result(frame, 3, True, tracks, torch.empty(0), classes=classes), masks, "rle", FOREIGN)


def _moved() -> Scene:
    """The first frame of a stream that goes on in another session, with the object that it had."""
    masks = np.zeros((1, 12, 16), bool)
    masks[0, 4:9, 2:7] = True
    tracks = (Track(12, 0, -3, 0, TrackState.TRACKED, score=0.71, presence=0.98),)
    return Scene("moved", _result(0, tracks, masks), masks, "rle", MOVED)


def events() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Stream, then what ``wire.event_header`` takes, for every type of event."""
    of_track = {"frame": 30, "track": 4, "prompt": PROMPTS[2]}
    for change in TrackChange:
        yield FOREIGN, change, {"event": change, "reason": "weil es so ist: 見えない", **of_track}
    by_hand = {"frame": 31, "track": 5, "prompt": None}
    yield FOREIGN, "track_started-by-hand", {"event": TrackChange.STARTED, "reason": "added by hand", **by_hand}
    reasons = {
        StreamEvent.SOURCE_UP: "the camera is back",
        StreamEvent.SOURCE_DOWN: "connection refused",
        StreamEvent.EPOCH: "the picture is now 1280x720",
        StreamEvent.GOVERNOR: "keyframes every 60 frames",
        StreamEvent.ERROR: "frame 13: scores are not numbers",
    }
    for event, reason in reasons.items():
        about = {"frame": 12} if event in (StreamEvent.EPOCH, StreamEvent.ERROR) else {}
        yield STREAM, event, {"event": event, "reason": reason, **about}
    yield MOVED, "source_up-moved", {"event": StreamEvent.SOURCE_UP, "reason": "opened"}


def states() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Stream, then what ``wire.status_header`` takes: a busy stream, one that has not begun, and one that has moved."""
    models = {"detector": "IDEA-Research/grounding-dino-tiny", "segmenter": "embedded", "classifier": ""}
    thresholds = dict.fromkeys(PROMPTS, 0.3)
    busy = {"tracks": 3, "fps": 29.97, "drops": 12, "uptime": 86400.25}
    yield FOREIGN, "busy", {"prompts": PROMPTS, "thresholds": thresholds, "models": models, **busy}
    idle = {"tracks": 0, "fps": 0.0, "drops": 0, "uptime": 0.0}
    yield STREAM, "idle", {"prompts": (), "thresholds": {}, "models": models, **idle}
    moved = {"tracks": 1, "fps": 24.9, "drops": 3, "uptime": 5.0}
    yield MOVED, "moved", {"prompts": PROMPTS[:1], "thresholds": {PROMPTS[0]: 0.3}, "models": models, **moved}
