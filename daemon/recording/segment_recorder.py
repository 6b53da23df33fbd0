"""Records a live stream in segments for as long as it runs: where that is not possible now, it goes on later."""

import logging
import math
import time
from collections.abc import Callable

from daemon.metrics.stream_metrics import StreamMetrics
from daemon.recording.folder import LEAST_SEGMENT, Folder, Policy
from stages.errors import ConfigError, OutputError, WireError, one_line
from stages.output.recorder import cannot_record
from stages.output.wire import Header
from stages.recording.around_events import AroundEvents
from stages.recording.segment import Segment
from stages.recording.segment_writer import SegmentWriter
from stages.types import Image

SHORT, LONG = 1.0, 60.0  # seconds until a recording that paused is tried again: at first, and where it fails each time
ENOUGH = 2  # times what is to stay free must be free before it goes on

log = logging.getLogger(__name__)


class SegmentRecorder:
    """Writes the segments of ``stream`` into ``folder``; ``tell`` is called with a line when it pauses and goes on.

    ``rate`` in Hz; ``length`` of a segment in seconds; with ``frames`` annotated frames are kept as JPEG files too. All
    calls come from one thread, but ``trouble`` may be read by any. Raises OutputError when it cannot begin.
    """

    def __init__(
        self,
        folder: Folder,
        stream: str,
        rate: float,
        length: float,
        frames: bool,
        policy: Policy,
        metrics: StreamMetrics,
        tell: Callable[[str], None],
        around: AroundEvents | None = None,
    ) -> None:
        """``around``: only segments near events are kept."""
        self.trouble = ""  # why it pauses; "" while it records
        self.folder, self._stream, self._metrics, self._tell = folder, stream, metrics, tell
        self._last_bytes = LEAST_SEGMENT // 2  # of the last segment
        self._missed = 0  # frames of a pause
        self._paused = self._next_try = 0.0  # monotonic seconds
        self._pause = SHORT
        self._around: AroundEvents | None = None  # nobody knows of events near what an earlier run left: it stays
        folder.join(stream, policy)
        try:
            self._writer = SegmentWriter(folder.path, stream, rate, length, frames, self._closed)
        except OutputError:
            folder.leave(stream)
            raise
        self._around = around
        metrics.record_free.set_function(lambda: folder.free)
        metrics.record_until_full.set_function(lambda: folder.seconds_until_full)

    @property
    def next_frame(self) -> int:
        """The first number of a frame that is free."""
        return self._writer.next_frame

    def event(self, at: float) -> None:
        """An event around which segments are kept, in Unix seconds."""
        if self._around is not None:
            self._around.event(at)

    def wants(self, now: float | None = None) -> bool:
        """Whether the next frame is to be given to ``write``; asked once before each.

        ``now``: when the last frame was captured, in Unix seconds, where that is known. In a pause, too, what is far
        from all events goes: it may make the room that is missing.
        """
        if self.trouble and now is not None:
            self._remove_far(now)
        if self.trouble and (time.monotonic() < self._next_try or not self.folder.has_room(ENOUGH)):
            self._missed += 1
            return False
        return True

    def write(self, header: Header, annotated: Image, jpeg: bytes | None = None) -> None:
        """Append one frame, as SegmentWriter.write does; a failure is told, and costs what cannot be written."""
        try:
            self._write(header, annotated, jpeg)
        except OutputError as error:
            # the segment ended with what is whole; what was deleted by hand, or makes room, is no reason to pause
            if not self.folder.make_room():
                self._fail(error)
                return
            try:
                self._write(header, annotated, jpeg)
            except OutputError as again:
                self._fail(again)
                return
            if not self.trouble:
                self._say(f"{one_line(error)}; the recording goes on in another file")
        if self.trouble:
            self._resume()
        self._remove_far(header["captured_at"])

    def cut(self) -> None:
        """Complete the segment: the next frame begins another one."""
        try:
            self._writer.cut()
        except OutputError as error:
            self._fail(error)

    def close(self) -> None:
        """Complete the last segment. Raises OutputError where the recording ends in a pause."""
        try:
            self._writer.close()
        finally:
            self._remove_far(math.inf)
            self.folder.leave(self._stream)
        if self.trouble:
            raise OutputError(self.trouble)

    def _write(self, header: Header, annotated: Image, jpeg: bytes | None) -> None:
        try:
            most = self.folder.most_bytes
            if most is not None and self._writer.written >= most:
                self._writer.cut()
            if self._writer.video is None:
                self.folder.lock.hold()
                likely = 2 * self._last_bytes
                self.folder.make_room(likely if most is None else min(most, likely))
            self._writer.write(header, annotated, jpeg)
        except (OutputError, WireError):
            raise
        except OSError as error:
            raise cannot_record(self.folder.path, error) from error
        except Exception as error:
            text = one_line(error)
            raise OutputError(text if isinstance(error, ConfigError) else f"cannot record: {text}") from error
        if self._writer.video is not None:
            self.folder.writes(self._stream, self._writer.video, self._writer.written)

    def _closed(self, segment: Segment) -> None:
        self._metrics.record_segments.inc()
        self.folder.closed(segment)
        self._last_bytes = segment.bytes
        if self._around is not None:
            self._around.complete(segment)

    def _remove_far(self, now: float) -> None:
        """Remove the segments of which it is clear ``now`` that no event is near."""
        if self._around is not None:
            for segment in self._around.far(now, writing=self._writer.video is not None):
                self.folder.remove(segment)

    def _fail(self, error: OutputError) -> None:
        now, paused = time.monotonic(), bool(self.trouble)
        if not paused:
            lasted = now - self._paused
            self._pause = SHORT if lasted > LONG else min(LONG, 2 * self._pause)
            self._paused, self._missed = now, 0
        else:
            self._pause = min(LONG, 2 * self._pause)
        self.trouble = one_line(error)
        self._missed += 1
        self._next_try = now + self._pause
        self._metrics.record_broken.set(1)
        if not paused:
            self._metrics.record_errors.inc()
            self._say(f"{self.trouble}; the recording pauses and goes on by itself")

    def _resume(self) -> None:
        self.trouble = ""
        self._metrics.record_broken.set(0)
        now = time.monotonic()
        self._say(f"the recording goes on after {now - self._paused:.0f} s; {self._missed} frames are missing")
        self._paused = now

    def _say(self, text: str) -> None:
        log.warning("stream %s: %s", self._stream, text)
        self._tell(text)
