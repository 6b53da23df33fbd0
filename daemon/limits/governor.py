"""Reduces a stream's work, step by step, while the machine cannot keep up with it or runs out of memory."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from daemon.settings.schema import Tracking
from stages.plural import plural

Pressure = Literal["overload", "memory"]

SETTLE = 5.0  # seconds until a step takes effect: what waits was late before it
QUIET = 30.0  # seconds without pressure before a step is taken back; sooner pressure counts as caused by that
LONGEST = 960.0  # seconds, the most that QUIET is doubled to

_WHY = {"overload": "overloaded", "memory": "short of memory"}
_SAYS = {
    "window": "windows of {now} {things} instead of {then}",
    "scale": "pictures at {now:.0%} of the model's input size instead of {then:.0%}",
    "max_objects": "at most {now} {things} instead of {then}",
}


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the ladder: a setting, the factor that it is multiplied by, and the pressures that this relieves."""

    key: str
    factor: float
    relieves: tuple[Pressure, ...]


LADDER = (
    Rung("window", 1 / 2, ("memory",)),
    Rung("scale", 1 / 2, ("overload", "memory")),
    Rung("max_objects", 1 / 2, ("overload", "memory")),
)

SCALES = (1.0, math.prod(rung.factor for rung in LADDER if rung.key == "scale"))  # all that `Governor.scale` can be


class Governor:
    """The reduced settings of one stream. It has no clock of its own: ``now`` is monotonic seconds.

    Under pressure it takes the first step of the ladder that relieves it; after a quiet time it takes one back:

    1. windows of half the frames: fewer frames in flight. It costs a little speed, so it does not relieve overload.
    2. pictures of half the model's input size: a quarter of the work of encoding and attention, and of the objects'
       memory. Masks are coarser; tracks continue, prompted again.
    3. half the objects: surplus tracks end for good. It is the last step, since it alone loses identities, and since it
       does not help where there are few objects.

    Keyframes need no step: under overload they are as rare as `every` allows (daemon.limits.detection_budget).

    A step that would change nothing (windows of one frame) is left out. The quiet time doubles each time that pressure
    follows soon after a step was taken back, so that a stream at its limit does not oscillate. One thread steps, any
    may read.
    """

    def __init__(self, tracking: Tracking) -> None:
        self._normal = {
            "window": float(tracking.window),
            "max_objects": float(tracking.max_objects),
            "scale": 1.0,
        }
        self._ladder = [rung for rung in LADDER if rung.key == "scale" or self._normal[rung.key] > 1]
        self._taken: tuple[Rung, ...] = ()  # replaced as a whole, since other threads read it
        self._quiet = QUIET
        self._stepped_at = self._pressed_at = self._climbed_at = float("-inf")

    @property
    def step(self) -> int:
        """Number of steps taken."""
        return len(self._taken)

    @property
    def steps(self) -> int:
        """Number of steps that can be taken."""
        return len(self._ladder)

    @property
    def window(self) -> int:
        """Frames."""
        return int(self._value("window"))

    @property
    def max_objects(self) -> int:
        return int(self._value("max_objects"))

    @property
    def scale(self) -> float:
        """The side of the segmenter's input, as a share of the model's own."""
        return self._value("scale")

    def pressed(self, reason: Pressure, now: float) -> str | None:
        """Take a step and describe it; None when no step is left, or the last one has not taken effect yet.

        Want of memory does not wait: the current window is lost already.
        """
        self._pressed_at = now
        if reason == "overload" and now - self._stepped_at < SETTLE:
            return None
        rung = next((rung for rung in self._left() if reason in rung.relieves), None)
        if rung is None:
            return None
        if self._climbed_at > self._stepped_at:  # the first step since then
            soon = now - self._climbed_at < QUIET
            self._quiet = min(2 * self._quiet, LONGEST) if soon else QUIET
        self._stepped_at = now
        return self._take((*self._taken, rung), rung.key, _WHY[reason])

    def rested(self, now: float) -> str | None:
        """Take back the last step and describe it; None when there is none, or the quiet was too short."""
        if not self._taken or now - max(self._pressed_at, self._stepped_at, self._climbed_at) < self._quiet:
            return None
        self._climbed_at = now
        return self._take(self._taken[:-1], self._taken[-1].key, f"quiet for {self._quiet:.0f} s")

    def _left(self) -> list[Rung]:
        """The steps not taken yet, in order."""
        return list((Counter(self._ladder) - Counter(self._taken)).elements())

    def _take(self, rungs: tuple[Rung, ...], key: str, why: str) -> str:
        then = self._value(key)
        self._taken = rungs
        values = {"now": self._value(key), "then": then}
        shown = values if key == "scale" else {name: int(value) for name, value in values.items()}
        things = plural(self._value(key), "frame" if key == "window" else "object")
        return f"{why}: {_SAYS[key].format(**shown, things=things)} (step {self.step} of {self.steps})"

    def _value(self, key: str) -> float:
        value = self._normal[key]
        for rung in self._taken:
            if rung.key == key:
                value *= rung.factor
        return value
