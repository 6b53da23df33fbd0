"""The daemon under test, and what it holds as its frames go by."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.testsrc import ShapesWorld
from tests.measured import MeasuredProgram, subscriber

SEED = 11
RSS_EVERY = 5  # frames; not a whole part of a window, so that each reading meets another moment of it
LOST_AFTER = 30  # frames; objects of the test source leave for 20 to 75
MODELS = ("--detector", "embedded", "--segmenter", "embedded", "--device", "cpu")
LOSSLESS = {"MASKCAST_PUBLISH__WHEN_FULL": "wait", "MASKCAST_PUBLISH__WAIT_FOR": "1"}


@dataclass(frozen=True, slots=True)
class Sample:
    """What the daemon holds once the subscriber has ``frames`` frames."""

    frames: int
    seconds: float  # at which they were published
    rss: int  # bytes; the median since the sample before, as it rises and falls with every window
    files: int
    threads: int
    track_memory: int  # bytes
    started: int  # tracks, so far
    ended: int
    returned: int


class Soak:
    """One run; ``samples`` are taken as it goes, the counts are complete when it has ended."""

    def __init__(self, frames: int) -> None:
        self.messages: Counter[str] = Counter()  # by kind
        self.holes = 0  # masks that the subscriber did not get
        self.exit_code: int | None = None
        self._frames = frames

    def samples(self, count: int) -> Iterator[Sample]:
        """``count`` samples, in equal steps; none at the very end, when threads already leave."""
        names = ", ".join(dict.fromkeys(ShapesWorld(SEED).labels))
        source = f"testsrc://shapes?seed={SEED}&frames={self._frames}"
        settings = {**LOSSLESS, "MASKCAST_TRACKING__LOST_AFTER": str(LOST_AFTER), "OMP_NUM_THREADS": "1"}
        with (
            closing(MeasuredProgram(source, "--prompt", names, *MODELS, **settings)) as program,
            subscriber(program, "") as messages,
        ):
            step = self._frames / (count + 1)
            due, resident = step, []
            for header in self._masks(messages):
                done = header["frame"] + 1
                if done % RSS_EVERY == 0:
                    resident.append(program.process.memory_info().rss)
                if done >= due and due < self._frames:
                    yield _sample(program, done, header["published_at"], int(np.median(resident)))
                    due, resident = due + step, []
            self.exit_code = program.wait()

    def _masks(self, messages: Iterator[list[bytes]]) -> Iterator[dict[str, Any]]:
        """Every header of masks until the source has ended; messages of all kinds are counted."""
        seq = 0
        for topic, text, *_ in messages:
            kind, header = topic.decode().rpartition("/")[2], json.loads(text)
            self.messages[kind] += 1
            if kind == "masks":
                self.holes += header["seq"] - seq
                seq = header["seq"] + 1
                yield header
            elif header.get("type") == "source_down":
                return


def _sample(program: MeasuredProgram, frames: int, seconds: float, rss: int) -> Sample:
    held = rss, program.process.num_fds(), program.process.num_threads()
    scrape = program.scrape()
    tracks = (scrape.sum(f"tracks_{what}_total") for what in ("started", "ended", "returned"))
    return Sample(frames, seconds, *held, int(scrape.sum("track_memory_bytes")), *(int(count) for count in tracks))
