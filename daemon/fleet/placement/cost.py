"""What a stream costs a worker, learned from the loads that daemons report (`GET /api/load`)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from statistics import fmean
from typing import Any, NamedTuple

SETTLE = 30.0  # seconds that a stream runs before its load is learned: the span that a daemon's report looks back on
SMOOTH = 60.0  # seconds, the time constant of a stream's own cost
SEEN = 256  # reports after which the newest still moves the mean of a class by 1/256
FPS = 25.0  # of a stream that has not told its rate
PRIOR_SECONDS = 0.004  # of the engine's time for a picture, until something was learned
PRIOR_MEMORY = 1 << 30  # bytes of a stream, until something was learned


class Cost(NamedTuple):
    """``share`` of an engine's time (1 is a whole engine), ``memory`` in bytes."""

    share: float
    memory: int


class StreamLoad(NamedTuple):
    """One stream in a daemon's report: ``share`` of the engine's time (0..1), ``fps`` and bytes of ``memory``."""

    name: str
    share: float
    fps: float
    memory: int


@dataclass(frozen=True)
class Load:
    """A daemon's report: its ``streams``, and bytes of memory ``used`` by all of it, out of ``budget``."""

    streams: tuple[StreamLoad, ...]
    used: int
    budget: int

    @cached_property
    def memory(self) -> dict[str, int]:
        """Bytes, by stream."""
        return {stream.name: stream.memory for stream in self.streams}

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> "Load":
        """The answer of ``GET /api/load``."""
        streams = (StreamLoad(one["name"], one["share"], one["fps"], one["memory"]) for one in answer["streams"])
        return cls(tuple(streams), answer["memory"]["used"], answer["memory"]["budget"])


@dataclass(frozen=True, slots=True)
class Work:
    """What the cost of a stream that never ran is expected by. ``size`` is (width, height).

    ``rate`` is the pictures a second that its source gives; both are None while unknown. ``model`` names the
    configuration that matters for the cost, such as the segmenter and the number of objects.
    """

    model: str = ""
    size: tuple[int, int] | None = None
    rate: float | None = None


@dataclass(slots=True)
class _Own:
    """What one stream costs: ``seconds`` of an engine of ``kind`` for a picture, and ``memory`` in bytes."""

    kind: str
    seconds: float
    fps: float
    memory: int
    at: float


@dataclass(slots=True)
class _Class:
    """The mean of all streams with one kind of worker, model and octave of the picture's area."""

    kind: str
    model: str
    octave: int
    seconds: float = 0.0
    memory: float = 0.0
    seen: int = 0


class Costs:
    """Expected costs of streams. It has no clock of its own: ``now`` is in seconds, of any clock that does not jump.

    A stream's cost is the engine's time for one picture, times its source's rate: so a stream that an overloaded engine
    slows down keeps its full cost. The time for a picture is the stream's own, smoothed over a minute; of a stream that
    never ran the mean of its class (kind of worker, model, octave of its area), of the nearest class, or a prior. On
    another kind of worker a stream's own time is scaled as its classes are.

    `state` is plain values for JSON, which `Costs` takes again. One thread calls.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        state = state or {"streams": {}, "classes": []}
        self._own = {name: _Own(**{**values, "at": -math.inf}) for name, values in state["streams"].items()}
        classes = [_Class(**values) for values in state["classes"]]
        self._classes = {(one.kind, one.model, one.octave): one for one in classes}

    def state(self) -> dict[str, Any]:
        """Everything learned, without times: those of another process's clock mean nothing."""
        streams = {name: {key: v for key, v in asdict(own).items() if key != "at"} for name, own in self._own.items()}
        return {"streams": streams, "classes": [asdict(one) for one in self._classes.values()]}

    def learn(self, work: Work, kind: str, load: StreamLoad, now: float) -> None:
        """Take in one stream's part of a report; ``kind`` is its worker's. Call it for streams that ran for `SETTLE`.

        A stream without pictures (its camera is away) teaches nothing: room is kept for its return.
        """
        if not (load.fps > 0 and load.share > 0):
            return
        seconds = load.share / load.fps
        own = self._own.get(load.name)
        if own is None or own.kind != kind:
            self._own[load.name] = _Own(kind, seconds, load.fps, load.memory, now)
        else:
            part = 1 - math.exp((own.at - now) / SMOOTH)
            own.seconds += part * (seconds - own.seconds)
            own.fps += part * (load.fps - own.fps)
            own.memory, own.at = load.memory, now
        key = (kind, work.model, _octave(work.size))
        mean = self._classes.get(key)
        if mean is None:
            mean = self._classes[key] = _Class(*key)
        mean.seen = min(mean.seen + 1, SEEN)
        mean.seconds += (seconds - mean.seconds) / mean.seen
        mean.memory += (load.memory - mean.memory) / mean.seen

    def expect(self, name: str, work: Work, kind: str) -> Cost:
        """The cost of a stream on a worker of ``kind``."""
        own = self._own.get(name)
        if own is None:
            mean = self._class(work, kind)
            return Cost(mean.seconds * (work.rate or FPS), int(mean.memory))
        seconds = own.seconds
        if own.kind != kind:
            seconds *= self._class(work, kind).seconds / self._class(work, own.kind).seconds
        return Cost(seconds * (work.rate or own.fps), own.memory)

    def _class(self, work: Work, kind: str) -> _Class:
        octave = _octave(work.size)
        if found := self._classes.get((kind, work.model, octave)):
            return found
        same = [one for one in self._classes.values() if one.model == work.model]
        here = [one for one in same if one.kind == kind]
        if here:
            return min(here, key=lambda one: (abs(one.octave - octave), one.octave))
        return _mean_of(one for one in same if one.octave == octave) or _mean_of(same) or _PRIOR


_PRIOR = _Class("", "", 0, PRIOR_SECONDS, PRIOR_MEMORY, 1)


def _mean_of(classes: Iterable[_Class]) -> _Class | None:
    found = list(classes)
    if not found:
        return None
    return _Class("", "", 0, fmean(one.seconds for one in found), fmean(one.memory for one in found), 1)


@lru_cache
def _octave(size: tuple[int, int] | None) -> int:
    """The power of two nearest to the number of pixels; of 1280 x 720 where the size is unknown."""
    width, height = size or (1280, 720)
    return round(math.log2(max(1, width * height)))
