"""One run of the real daemon with live streams, measured by a subscriber."""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from daemon.metrics.stream_metrics import DROP_REASONS
from stages.testsrc.world import ShapesWorld
from tests.support.measured import MeasuredProgram, Scrape, subscriber

GRACE = 30.0  # timeout in seconds for the last frames to be published


@dataclass(frozen=True, slots=True)
class Asked:
    """Settings that all runs have in common."""

    fps: float
    size: str  # WIDTHxHEIGHT
    segmenter: str  # as for maskcast run
    device: str
    window: int
    every: int
    warm_up: float  # seconds that do not count, after all streams have published a frame


@dataclass(frozen=True, slots=True)
class Arrival:
    """One received masks message."""

    stream: str
    captured_at: float  # Unix seconds
    latency: float  # seconds from capture to publication
    dropped: int  # frames dropped before it


@dataclass(frozen=True, slots=True)
class Run:
    """The result of a run; frames captured in the ``seconds`` after ``began`` count."""

    streams: int
    fps: float  # of each source
    began: float
    seconds: float
    arrivals: tuple[Arrival, ...]
    drops: dict[str, int]  # frames, by reason; "subscriber": messages that the subscriber lost
    governor_step: int  # maximum over the streams, at the end

    def within(self, start: float, end: float) -> "Run":
        """The part from ``start`` to ``end`` seconds after ``began``; drops and governor step are of the whole run."""
        first, last = self.began + start, self.began + end
        arrivals = tuple(one for one in self.arrivals if first <= one.captured_at < last)
        return Run(self.streams, self.fps, first, end - start, arrivals, self.drops, self.governor_step)

    @property
    def published(self) -> float:
        """Frames published over frames captured."""
        return len(self.arrivals) / (self.streams * self.fps * self.seconds)

    @property
    def worst(self) -> float:
        """Minimum of ``published`` over the streams."""
        counts = Counter(one.stream for one in self.arrivals)
        return min(counts[name] for name in names(self.streams)) / (self.fps * self.seconds)

    @property
    def dropped(self) -> int:
        """Dropped frames according to the headers."""
        return sum(one.dropped for one in self.arrivals)

    @property
    def latencies(self) -> tuple[float, float, float]:
        """p50, p95 and p99 in seconds; NaN when no message arrived."""
        values = [one.latency for one in self.arrivals] or [float("nan")]
        p50, p95, p99 = np.percentile(values, (50, 95, 99))
        return float(p50), float(p95), float(p99)


def names(streams: int) -> list[str]:
    return [f"camera-{number}" for number in range(1, streams + 1)]


def run_live(asked: Asked, streams: int, seconds: float) -> Run:
    """Run the daemon with that number of live test sources and measure it for ``seconds`` seconds."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "maskcast.toml"
        config.write_text("".join(_stream(asked, number, name) for number, name in enumerate(names(streams))))
        models = ("--detector", "embedded", "--segmenter", asked.segmenter, "--device", asked.device)
        pace = ("--window", str(asked.window), "--every", str(asked.every))
        with (
            closing(MeasuredProgram("--config", str(config), *models, *pace)) as program,
            subscriber(program, *(f"v1/{name}/masks" for name in names(streams))) as messages,
        ):
            headers = _headers(messages)
            _until_all_have_begun(headers, streams, asked.warm_up)
            before, began = program.scrape(), time.time()
            seen = list(_until(headers, began + seconds))
            after = program.scrape()
            seen += _stragglers(headers, streams, began + seconds)
            steps = [int(after.sum("governor_step", stream=name)) for name in names(streams)]
    drops = _drops(before, after) | {"subscriber": _missed(seen)}
    return Run(streams, asked.fps, began, seconds, tuple(_arrivals(seen, began, seconds)), drops, max(steps))


def _stream(asked: Asked, seed: int, name: str) -> str:
    source = f"testsrc://shapes?seed={seed}&live=1&fps={asked.fps:g}&size={asked.size}"
    prompts = list(dict.fromkeys(ShapesWorld(seed).labels))
    return f"[[streams]]\nname = {name!r}\nsource = {source!r}\nprompts = {prompts}\n"


def _headers(messages: Iterator[list[bytes]]) -> Iterator[dict]:
    for _, header in messages:
        yield json.loads(header)


def _until_all_have_begun(headers: Iterator[dict], streams: int, warm_up: float) -> None:
    silent = set(names(streams))
    began = None
    for header in headers:
        silent.discard(header["stream"])
        if not silent:
            began = began or time.monotonic()
            if time.monotonic() - began >= warm_up:
                return


def _until(headers: Iterator[dict], end: float) -> Iterator[dict]:
    """The headers that arrive before ``end``, in Unix seconds."""
    for header in headers:
        yield header
        if time.time() >= end:
            return


def _stragglers(headers: Iterator[dict], streams: int, end: float) -> Iterator[dict]:
    """Further headers, until each stream has published a frame that was captured after ``end``."""
    going = set(names(streams))
    for header in _until(headers, end + GRACE):
        yield header
        if header["captured_at"] >= end:
            going.discard(header["stream"])
        if not going:
            return


def _missed(seen: Sequence[dict]) -> int:
    """Number of lost messages, from the gaps in ``seq``."""
    following: dict[str, int] = {}
    missed = 0
    for header in seen:
        missed += header["seq"] - following.get(header["stream"], header["seq"])
        following[header["stream"]] = header["seq"] + 1
    return missed


def _arrivals(seen: Sequence[dict], began: float, seconds: float) -> Iterator[Arrival]:
    """The frames that were captured in the ``seconds`` after ``began``."""
    for header in seen:
        captured_at = header["captured_at"]
        if began <= captured_at < began + seconds:
            late = header["published_at"] - captured_at
            yield Arrival(header["stream"], captured_at, late, header["dropped_before"])


def _drops(before: Scrape, after: Scrape) -> dict[str, int]:
    def total(scrape: Scrape, reason: str) -> int:
        return int(scrape.sum("frames_dropped_total", reason=reason))

    return {reason: total(after, reason) - total(before, reason) for reason in DROP_REASONS}


def slices(run: Run, parts: int) -> Sequence[Run]:
    """The run cut into equal spans of time."""
    length = run.seconds / parts
    return [run.within(part * length, (part + 1) * length) for part in range(parts)]
