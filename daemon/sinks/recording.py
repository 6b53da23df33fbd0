"""The sink that records a stream to files."""

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

from daemon.metrics.stream_metrics import StreamMetrics
from daemon.recording.segment_recorder import SegmentRecorder
from daemon.sinks.sink import FrameOutput, Need
from stages.errors import OutputError, one_line
from stages.output.recorder import Recorder
from stages.output.wire import Header, Kind
from stages.types import Frame, StreamEvent

log = logging.getLogger(__name__)


class Recording:
    """Records the frames of one stream, with ``frames`` each of them as a JPEG too. A Sink (see daemon.sinks.sink).

    ``open_recorder`` is given the source's frame rate in Hz and whether it is live; it returns None where nothing is
    recorded. ``open`` and ``skip`` belong to the reader's thread, before it hands on a frame that is to be recorded;
    all else to the writer's.
    """

    def __init__(
        self,
        stream: str,
        open_recorder: Callable[[float, bool], Recorder | SegmentRecorder | None],
        metrics: StreamMetrics,
        frames: bool,
        events: Collection[str] = (),
    ) -> None:
        """``events``: the types of those around which a recording keeps segments."""
        self.next_frame = 0  # index of the first frame that is not recorded yet
        self._stream, self._open_recorder, self._metrics, self._frames = stream, open_recorder, metrics, frames
        self._recorder: Recorder | SegmentRecorder | None = None
        self._opened = False
        self._events = events
        self._last: tuple[int, float] | None = None  # the last frame: its index, and when it was captured
        self._ended = ""  # why the recording has broken off

    @property
    def trouble(self) -> str:
        """Why frames are not recorded now; "" while they are, or none are to be. Any thread may ask."""
        recorder = self._recorder
        return recorder.trouble if isinstance(recorder, SegmentRecorder) else self._ended

    def open(self, rate: float, live: bool) -> bool:
        """Begin the recording, once; True when this call did, and frames are recorded from ``next_frame`` on.

        Raises OutputError when the folder cannot be written.
        """
        if self._opened:
            return False
        self._opened = True
        self._recorder = self._open_recorder(rate, live)
        if self._recorder is None:
            return False
        self.next_frame = self._recorder.next_frame
        return True

    def skip(self, frame: Frame) -> None:
        """Pass over a frame below ``next_frame``. Raises OutputError when the recording is of another source."""
        if isinstance(self._recorder, Recorder):
            self._recorder.skip(frame)

    def need(self) -> Need:
        """The annotated picture while the recording goes on."""
        recorder = self._recorder
        if recorder is None:
            return Need.NOTHING
        if isinstance(recorder, SegmentRecorder) and not recorder.wants(self._last[1] if self._last else None):
            return Need.NOTHING
        return Need.JPEG if self._frames else Need.PICTURE

    def message(self, kind: Kind, header: Header) -> bool:
        """Complete the segment where the source is lost: nobody knows when the next frame comes. Note events.

        Raises OutputError when the recording has ended, whatever the cause.
        """
        if kind is Kind.MASKS:
            self._last = header["frame"], header["captured_at"]
        elif kind is Kind.EVENT and isinstance(self._recorder, SegmentRecorder):
            with self._ending_on_failure():
                self._note(self._recorder, header)
        return True

    def _note(self, recorder: SegmentRecorder, header: Header) -> None:
        if header["type"] in self._events:
            of_last = self._last is not None and header.get("frame") == self._last[0]
            recorder.event(self._last[1] if self._last is not None and of_last else header["published_at"])
        if header["type"] == StreamEvent.SOURCE_DOWN:
            recorder.cut()

    def frame(self, frame: FrameOutput) -> None:
        """Append one frame. Raises OutputError when the recording has ended, whatever the cause."""
        with self._ending_on_failure():
            if self._recorder is not None and frame.picture is not None:
                self._recorder.write(frame.header, frame.picture, frame.jpeg if self._frames else None)

    def finish(self) -> None:
        """Complete the files. Raises OutputError when that fails."""
        with self._ending_on_failure():
            if self._recorder is not None:
                self._recorder.close()

    @contextmanager
    def _ending_on_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            recorder, self._recorder = self._recorder, None
            self._metrics.record_errors.inc()
            self._metrics.record_broken.set(1)
            expected = isinstance(error, OutputError)
            why = error if expected else OutputError(f"cannot record: {one_line(error)}")
            self._ended = one_line(why)
            log.warning(
                "stream %s: %s; the stream goes on without a recording",
                self._stream,
                why,
                extra={"event": "recording_failed"},
            )
            if expected:
                raise
            if recorder is not None:
                with suppress(Exception):  # complete what can be completed
                    recorder.close()
            raise why from error
