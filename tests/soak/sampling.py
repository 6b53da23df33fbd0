"""Runs the daemon under test and samples its memory, files, threads and tracks."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stages.testsrc.world import ShapesWorld
from tests.support.measured import MeasuredProgram, subscriber

SEED = 11
RSS_EVERY = 5  # frames; does not divide the window length, so that readings fall on different frames of a window
LOST_AFTER = 30  # frames; objects of the test source are absent for 20 to 75 frames
MODELS = ("--detector", "embedded", "--segmenter", "embedded", "--device", "cpu")
LOSSLESS = {"MASKCAST_PUBLISH__WHEN_FULL": "wait", "MASKCAST_PUBLISH__WAIT_FOR": "1"}


@dataclass(frozen=True, slots=True)
class Sample:
    """Resources of the daemon after ``frames`` frames."""

    frames: int
    seconds: float  # time of their publication
    rss: int  # bytes; median since the previous sample, because it rises and falls with every window
    files: int
    threads: int
    track_memory: int  # bytes
    started: int  # tracks so far
    ended: int
    returned: int


class Soak:
    """One run; the counts are complete when ``samples`` has ended.

    ``live``: frame rate in Hz of a camera, instead of a file. ``record``: also record, into a temporary folder.
    """

    def __init__(self, frames: int, live: float | None = None, record: bool = False) -> None:
        self.messages: Counter[str] = Counter()  # by kind
        self.holes = 0  # masks messages that the subscriber did not get
        self.published = 0  # masks messages, including those before the subscriber connected
        self.dropped = self.unexplained = 0  # frames without masks: reported in dropped_before, and not reported
        self.recorded: int | None = None  # lines of the recording
        self.exit_code: int | None = None
        self.live = live
        self._frames, self._record = frames, record

    def samples(self, count: int) -> Iterator[Sample]:
        """``count`` samples in equal steps; none at the end of the run, when threads already exit."""
        names = ", ".join(dict.fromkeys(ShapesWorld(SEED).labels))
        source = f"testsrc://shapes?seed={SEED}&"
        source += f"live=1&fps={self.live:g}" if self.live else f"frames={self._frames}"
        asked = ("--prompt", names, *MODELS)
        settings = {**LOSSLESS, "MASKCAST_TRACKING__LOST_AFTER": str(LOST_AFTER), "OMP_NUM_THREADS": "1"}
        with (
            TemporaryDirectory(prefix="soak-") as folder,
            closing(MeasuredProgram(source, *asked, *self._recording(folder), **settings)) as program,
            subscriber(program, "") as messages,
        ):
            step = self._frames / (count + 1)
            due, resident, taken = step, [], 0
            for done, header in self._masks(program, messages):
                if done % RSS_EVERY == 0 or not resident:
                    resident.append(program.process.memory_info().rss)
                if done >= due and taken < count:
                    taken += 1
                    yield _sample(program, done, header["published_at"], int(np.median(resident)))
                    due, resident = step * (done // step + 1), []
            self.exit_code = program.wait()
            if self._record:
                files = (*Path(folder).glob("*.masks.jsonl"), *Path(folder).glob("shapes/*/*.masks.jsonl"))
                self.recorded = sum(file.read_bytes().count(b"\n") for file in files)

    def _recording(self, folder: str) -> tuple[str, ...]:
        return ("--record", folder) if self._record else ()

    def _masks(self, program: MeasuredProgram, messages: Iterator[list[bytes]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """(frames so far, header of their last masks message), until the source ends. Counts messages of all kinds.

        A camera is stopped after its frames, counted from the first received one, because it starts before the
        subscriber connects.
        """
        stopped = False
        before, first = (None, None) if self.live else ({"seq": -1, "frame": -1}, 0)
        for topic, text, *_ in messages:
            kind, header = topic.decode().rpartition("/")[2], json.loads(text)
            self.messages[kind] += 1
            if kind == "masks":
                if before is not None:
                    self._compare(before, header)
                before, self.published = header, header["seq"] + 1
                first = header["frame"] if first is None else first
                done = header["frame"] - first + 1
                yield done, header
                if self.live and done >= self._frames and not stopped:
                    program.process.terminate()
                    stopped = True
            elif header.get("type") == "source_down":
                return

    def _compare(self, before: dict[str, Any], header: dict[str, Any]) -> None:
        self.holes += header["seq"] - before["seq"] - 1
        self.dropped += header["dropped_before"]
        self.unexplained += header["frame"] - before["frame"] - 1 - header["dropped_before"]


def _sample(program: MeasuredProgram, frames: int, seconds: float, rss: int) -> Sample:
    held = rss, program.process.num_fds(), program.process.num_threads()
    scrape = program.scrape()
    tracks = (scrape.sum(f"tracks_{what}_total") for what in ("started", "ended", "returned"))
    return Sample(frames, seconds, *held, int(scrape.sum("track_memory_bytes")), *(int(count) for count in tracks))
