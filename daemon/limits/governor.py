"""What a stream gives up, step by step, while the machine cannot keep up with it or runs out of memory."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from daemon.settings.schema import Detection, Tracking

Pressure = Literal["overload", "memory"]

SETTLE = 5.0  # seconds until a step shows: what waits was cut before it
QUIET = 30.0  # seconds without pressure before a step is taken back, and so soon is pressure put down to the climb
LONGEST = 960.0  # seconds that it may come to

_WHY = {"overload": "overloaded", "memory": "short of memory"}
_SAYS = {
    "every": "keyframes every {now} frames instead of {then}",
    "window": "windows of {now} frames instead of {then}",
    "scale": "pictures at {now:.0%} of the model's input size instead of {then:.0%}",
    "max_objects": "at most {now} objects instead of {then}",
}


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the ladder: a value that is multiplied, and what that is good for."""

    key: str
    factor: float
    relieves: tuple[Pressure, ...]


LADDER = (
    Rung("every", 2, ("overload",)),
    Rung("every", 2, ("overload",)),
    Rung("window", 1 / 2, ("memory",)),
    Rung("scale", 1 / 2, ("overload", "memory")),
    Rung("max_objects", 1 / 2, ("overload", "memory")),
)


class Governor:
    """The pace of one stream, pure: ``now`` is monotonic seconds, and nothing happens by itself.

    Under pressure it takes the first step of the ladder that relieves it, and after quiet it takes the last one back:

    1., 2. keyframes half as often, twice: the detector runs less. Objects are found later; masks stay as they are.
    3. windows of half the frames: less memory in flight. Nothing is lost but a little speed, so it is no help against
       overload.
    4. pictures of half the input size: a quarter of the work of encoding and attending, and of the memory of objects.
       Masks are coarser; tracks live on, prompted again.
    5. half the objects: tracks that have no place any more end, which no climb brings back. It is the last, since it
       alone loses identities, and since it is no help where there are few objects.

    A step that would change nothing (windows of one frame) is left out. The quiet that a climb takes doubles each time
    that pressure follows a climb soon, so that a stream at its limit does not see-saw; pressure later than that is a
    new one, and quiet is short again. One thread steps, any may read.
    """

    def __init__(self, detection: Detection, tracking: Tracking) -> None:
        self._normal = {
            "every": float(detection.every),
            "window": float(tracking.window),
            "max_objects": float(tracking.max_objects),
            "scale": 1.0,
        }
        self._ladder = [rung for rung in LADDER if rung.factor > 1 or rung.key == "scale" or self._normal[rung.key] > 1]
        self._taken: tuple[Rung, ...] = ()  # replaced as a whole: others read it meanwhile
        self._quiet = QUIET
        self._stepped_at = self._pressed_at = self._climbed_at = float("-inf")

    @property
    def step(self) -> int:
        """Steps down from what is configured."""
        return len(self._taken)

    @property
    def steps(self) -> int:
        """All there are."""
        return len(self._ladder)

    @property
    def window(self) -> int:
        """Frames."""
        return int(self._value("window"))

    @property
    def every(self) -> int:
        """Frames between keyframes."""
        return int(self._value("every"))

    @property
    def max_objects(self) -> int:
        return int(self._value("max_objects"))

    @property
    def scale(self) -> float:
        """The side of the segmenter's input, as a share of the model's own."""
        return self._value("scale")

    def pressed(self, reason: Pressure, now: float) -> str | None:
        """Step down, and say how; None where there is no step left for it, or the last one has yet to show.

        A shortage of memory does not wait: the window at hand is lost already.
        """
        self._pressed_at = now
        if reason == "overload" and now - self._stepped_at < SETTLE:
            return None
        rung = next((rung for rung in self._left() if reason in rung.relieves), None)
        if rung is None:
            return None
        if self._climbed_at > self._stepped_at:  # the first step since
            soon = now - self._climbed_at < QUIET
            self._quiet = min(2 * self._quiet, LONGEST) if soon else QUIET
        self._stepped_at = now
        return self._take((*self._taken, rung), rung.key, _WHY[reason])

    def rested(self, now: float) -> str | None:
        """Take back the last step, and say so; None where there is none, or it has not been quiet for long enough."""
        if not self._taken or now - max(self._pressed_at, self._stepped_at, self._climbed_at) < self._quiet:
            return None
        self._climbed_at = now
        return self._take(self._taken[:-1], self._taken[-1].key, f"quiet for {self._quiet:.0f} s")

    def _left(self) -> list[Rung]:
        """The steps that are not taken, in order."""
        return list((Counter(self._ladder) - Counter(self._taken)).elements())

    def _take(self, rungs: tuple[Rung, ...], key: str, why: str) -> str:
        then = self._value(key)
        self._taken = rungs
        values = {"now": self._value(key), "then": then}
        shown = values if key == "scale" else {name: int(value) for name, value in values.items()}
        return f"{why}: {_SAYS[key].format(**shown)} (step {self.step} of {self.steps})"

    def _value(self, key: str) -> float:
        value = self._normal[key]
        for rung in self._taken:
            if rung.key == key:
                value *= rung.factor
        return value
