"""The built-in test source: ``testsrc://shapes?seed=0&frames=240&size=256x256&fps=30&objects=4&live=1``.

``hard=1`` shows a hard world, ``wild=1`` a wild one.

A live one with ``since=1795459200`` shows a world that began at that Unix time, so that all who open it see the same.
"""

import math
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from urllib.parse import parse_qsl, urlsplit

from stages.errors import ConfigError
from stages.source.timing.timestamps import LiveClock
from stages.testsrc.open_world import Kind, open_world
from stages.types import Clock, Frame

_VALUES = {
    "seed": (r"\d{1,18}", "a whole number"),
    "frames": (r"[1-9]\d{0,11}", "a whole number from 1; leave it out for an endless source"),
    "size": (r"[1-9]\d{1,3}x[1-9]\d{1,3}", "WIDTHxHEIGHT, each from 10 to 9999"),
    "fps": (r"\d{1,3}(\.\d{1,6})?", "a number above 0 and below 1000"),
    "objects": (r"\d{1,2}", "a whole number from 0 to 99"),
    "live": (r"[01]", "0 or 1"),
    "hard": (r"[01]", "0 or 1"),
    "wild": (r"[01]", "0 or 1"),
    "since": (r"\d{1,12}(\.\d{1,6})?", "Unix seconds"),
}


@dataclass(frozen=True, slots=True)
class _Options:
    """The parsed URL."""

    seed: int
    frames: int | None
    width: int
    height: int
    fps: Fraction
    objects: int | None
    live: bool
    kind: Kind
    since: float | None


class ShapesSource:
    """A world of the test source as a Source (see stages.source.source).

    With ``live=1`` it acts like a camera: it runs in real time and drops frames that are not read in time.
    """

    decode_errors = 0
    decoder = "software"

    def __init__(self, url: str) -> None:
        """Raises ConfigError for an unknown key, invalid or contrary values, and a hard world with too few objects."""
        self._options = options = _parse(url)
        self._world = open_world(
            options.kind, options.seed, options.width, options.height, options.objects, float(options.fps)
        )
        self.live = self._options.live
        self.rate = float(self._options.fps)
        self.frames_expected = self._options.frames
        self.patience = 2 / self.rate
        self._closed = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """The rendered frames, endless if the URL has no ``frames``; ``index`` and ``pts`` count the world's frames.

        With ``since`` only ``pts`` does, and ``index`` counts from 0.
        ``captured_at`` is the time since the start. When live it is Unix time; dropped frames then leave a gap in
        ``index``, which ``dropped_before`` of the next frame counts.
        """
        return self._live_frames() if self.live else self._all_frames()

    def close(self) -> None:
        """End ``frames``, also while it waits for the next frame."""
        self._closed.set()

    def _has(self, index: int) -> bool:
        return not self._closed.is_set() and (self._options.frames is None or index < self._options.frames)

    def _all_frames(self) -> Iterator[Frame]:
        fps, index = self._options.fps, 0
        while self._has(index):
            yield Frame(index, index, 1 / fps, float(index / fps), Clock.FILE, self._world.render(index)[0])
            index += 1

    def _live_frames(self) -> Iterator[Frame]:
        fps, clock, expected = self._options.fps, LiveClock(), 0
        began, first = time.monotonic(), 0
        if self._options.since is not None:
            age = time.time() - self._options.since
            began, first = began - age, max(0, math.ceil(age * fps))
        while True:
            index = max(expected, int((time.monotonic() - began) * fps) - first)
            shown = first + index  # frame of the world
            if not self._has(shown) or self._closed.wait(float(shown / fps) - (time.monotonic() - began)):
                return
            captured_at = clock.seconds(shown, 1 / fps, time.monotonic(), time.time())
            image = self._world.render(shown)[0]
            yield Frame(index, shown, 1 / fps, captured_at, Clock.ARRIVAL, image, index - expected)
            expected = index + 1


def _parse(url: str) -> _Options:
    parts = urlsplit(url)
    if parts.netloc + parts.path.rstrip("/") != "shapes":
        raise ConfigError(f"unknown test source in {url}: the only one is testsrc://shapes")
    given = parse_qsl(parts.query, keep_blank_values=True)
    for key, value in given:
        if key not in _VALUES:
            raise ConfigError(f"unknown key {key!r} in {url}: use {', '.join(_VALUES)}")
        pattern, meaning = _VALUES[key]
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ConfigError(f"{key}={value} in {url} makes no sense: give {meaning}")
    values = {"seed": "0", "size": "256x256", "fps": "30", "live": "0", "hard": "0", "wild": "0", **dict(given)}
    fps = Fraction(values["fps"])
    if not fps:
        raise ConfigError(f"fps=0 in {url} makes no sense: give {_VALUES['fps'][1]}")
    width, height = (int(side) for side in values["size"].split("x"))
    frames = int(values["frames"]) if "frames" in values else None
    objects = int(values["objects"]) if "objects" in values else None
    live, hard, wild = (values[key] == "1" for key in ("live", "hard", "wild"))
    if hard and wild:
        raise ConfigError(f"hard=1 and wild=1 in {url}: a world is one of the two; leave one out")
    kind: Kind = "wild" if wild else "hard" if hard else "plain"
    since = float(values["since"]) if "since" in values else None
    if since is not None and not live:
        raise ConfigError(f"since={values['since']} in {url} makes no sense: only live=1 has a clock")
    return _Options(int(values["seed"]), frames, width, height, fps, objects, live, kind, since)
