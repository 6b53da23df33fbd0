"""What leaves a stream, in order and from one thread: masks, annotated frames, events, status, the recording."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.metrics import StreamMetrics
from daemon.outcome import Outcome
from daemon.settings import StreamSettings
from stages import wire
from stages.annotate import annotate, encode_jpeg
from stages.errors import OutputError, one_line
from stages.publish import Publisher
from stages.record import Recorder
from stages.rle import full_masks
from stages.types import Clock, Frame, Image, Label, Result, TrackChange, TrackEvent
from stages.wire import Header, Kind, StreamEvent

STATUS_EVERY = 5.0  # seconds

log = logging.getLogger(__name__)

Observer = Callable[[Result, NDArray[np.bool_]], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """A frame whose masks have left, and what is still to be made of it."""

    result: Result
    header: Header
    masks: NDArray[np.bool_]
    drawn: tuple[Image | None, bytes | None, float]  # as by Writer._draw
    seconds: float  # that it took so far


@dataclass(frozen=True, slots=True)
class Identity:
    """What every header of a stream says, and what its status tells."""

    stream: str
    session: str
    prompts: Sequence[str]  # as written
    models: Mapping[str, str]  # names by role


class Writer:
    """Writes the outcomes of one stream, whose ``settings`` are resolved.

    Not thread-safe: all calls but ``decoded`` come from the writer thread. ``thresholds`` tells the least score of a
    detection, by prompt.
    ``seq`` counts each kind by itself, so that whoever subscribes to one kind sees every hole; an annotated frame
    carries the ``seq`` of its masks.
    """

    def __init__(
        self,
        identity: Identity,
        settings: StreamSettings,
        publisher: Publisher,
        metrics: StreamMetrics,
        thresholds: Callable[[], Sequence[float]],
        observe: Observer | None = None,
    ) -> None:
        self.recorder: Recorder | None = None
        self.failure: OutputError | None = None  # why the recording has ended before the stream
        self.hurry = threading.Event()  # once set, no subscriber is waited for
        self._identity, self._settings, self._publisher, self._metrics = identity, settings, publisher, metrics
        self._thresholds, self._observe = thresholds, observe
        self._frame_topic = wire.topic(identity.stream, Kind.FRAME).encode()
        self._seq: Counter[Kind] = Counter()
        self._epoch = 0
        self._tracks = 0
        self._classes: Sequence[Label] = ()  # those last told: they stay on the picture until there are others
        self._lost = 0  # frames lost since the last result
        self._down = False  # the last that was told of the source is that it is down
        self._decoded_at: deque[tuple[int, float]] = deque()  # frame index, monotonic seconds
        self._started = self._last_status = time.monotonic()

    def decoded(self, frame: Frame) -> None:
        """Note when a frame of a file was decoded; its clock does not tell. Called by the reader thread."""
        if frame.clock is Clock.FILE:
            self._decoded_at.append((frame.index, time.monotonic()))

    def write(self, outcome: Outcome) -> None:
        """Publish and record. What goes wrong is told; it costs one frame or, where it is the disk, the recording."""
        for notice in outcome.notices:
            self._notice(notice.event, notice.reason)
        for event in outcome.lost_events:
            self._track_event(event)
        self._lost += outcome.lost_frames
        for result in outcome.results:
            try:
                sent = self._send_masks(result)
            except Exception as error:
                # what happened is told all the same, and the next frame says that this one is missing
                sent = None
                self._lost += 1 + result.frame.dropped_before
                self._metrics.drop("error", 1)
                self.event(StreamEvent.ERROR, one_line(error))
            for event in result.events:
                self._track_event(event)
            if sent is not None:
                self._follow(sent)

    def event(self, event: TrackChange | StreamEvent, reason: str, **about: Any) -> None:
        """Tell what happened; ``about`` names the frame, track and prompt."""
        header = wire.event_header(event, reason, **self._envelope(Kind.EVENT), **about)
        self._send(Kind.EVENT, header)

    def status_when_due(self) -> None:
        """For late joiners, every five seconds."""
        now = time.monotonic()
        if now - self._last_status >= STATUS_EVERY:
            self._last_status = now
            self._status(now)

    def close(self, reason: str) -> None:
        """Finish the recording and say that the source is down."""
        with self._recording() as recorder:
            if recorder is not None:
                recorder.close()
        for gauge in self._metrics.tracks.values():
            gauge.set(0)
        self._tracks = 0
        self._notice(StreamEvent.SOURCE_DOWN, reason)
        self._status(time.monotonic())

    def _notice(self, event: StreamEvent, reason: str) -> None:
        """Tell what happened to the stream itself; that a source is down only once."""
        if event is StreamEvent.SOURCE_DOWN and self._down:
            return
        if event in (StreamEvent.SOURCE_UP, StreamEvent.SOURCE_DOWN):
            self._down = event is StreamEvent.SOURCE_DOWN
        self.event(event, reason)

    def _send_masks(self, result: Result) -> _Sent:
        """Whatever fails before the masks have left has cost the frame."""
        started = time.perf_counter()
        if self._lost:
            frame = replace(result.frame, dropped_before=result.frame.dropped_before + self._lost)
            result = replace(result, frame=frame)
        if result.epoch != self._epoch:
            self._epoch, self._classes = result.epoch, ()
            height, width = result.frame.image.shape[:2]
            self.event(StreamEvent.EPOCH, f"the picture is now {width}x{height}", frame=result.frame.index)
        if result.classes is not None:
            self._classes = result.classes
        masks = full_masks(result)
        drawn = self._draw(result, masks)
        header = wire.masks_header(
            result,
            masks,
            stream=self._identity.stream,
            session=self._identity.session,
            seq=self._seq[Kind.MASKS],
            prompts=self._identity.prompts,
            published_at=time.time(),
            encoding=self._settings.publish.mask_encoding,
        )
        self._send(Kind.MASKS, header)
        self._seq[Kind.MASKS] += 1
        self._lost = 0
        self._metrics.published(self._latency(result.frame))
        return _Sent(result, header, masks, drawn, time.perf_counter() - started)

    def _follow(self, sent: _Sent) -> None:
        """What comes after the masks; whatever fails here costs itself only."""
        started, result = time.perf_counter(), sent.result
        picture, jpeg, drawing = sent.drawn
        try:
            if jpeg is not None and self._settings.publish.frames:
                about = {key: sent.header[key] for key in ("stream", "session", "seq")}
                self._send(Kind.FRAME, wire.frame_header(result, published_at=time.time(), **about), jpeg)
            with self._recording(result.frame.index) as recorder:
                if recorder is not None and picture is not None:
                    recorder.write(sent.header, picture, jpeg if self._settings.record.frames else None)
            self._count(result)
            if self._observe is not None:
                self._observe(result, sent.masks)
            spent = sent.seconds + time.perf_counter() - started
            self._metrics.observe({"publish": spent - drawing, "annotate": drawing})
        except Exception as error:
            self.event(StreamEvent.ERROR, one_line(error), frame=result.frame.index)

    @contextmanager
    def _recording(self, frame: int | None = None) -> Iterator[Recorder | None]:
        """The recorder, if there is one. When it fails the recording has ended, and the stream goes on."""
        recorder = self.recorder
        try:
            yield recorder
        except Exception as error:
            self.recorder = None
            if recorder is not None and not isinstance(error, OutputError):
                with suppress(Exception):  # nobody expected it to fail: let it finish what it can
                    recorder.close()
            why = error if isinstance(error, OutputError) else OutputError(f"cannot record: {one_line(error)}")
            self.failure = self.failure or why
            self._metrics.record_errors.inc()
            log.warning("stream %s: %s; the stream goes on without a recording", self._identity.stream, why)
            self.event(StreamEvent.ERROR, one_line(why), frame=frame)

    def _draw(self, result: Result, masks: NDArray[np.bool_]) -> tuple[Image | None, bytes | None, float]:
        """The annotated picture and its JPEG, each only if someone needs it, and the seconds that it took."""
        published = self._settings.publish.frames and self._publisher.wants(self._frame_topic)
        if not published and self.recorder is None:
            return None, None, 0.0
        started = time.perf_counter()
        picture = annotate(result.frame.image, masks, result.tracks, self._identity.prompts, self._classes)
        saved = self.recorder is not None and self._settings.record.frames
        jpeg = encode_jpeg(picture, self._settings.publish.jpeg_quality) if published or saved else None
        return picture, jpeg, time.perf_counter() - started

    def _count(self, result: Result) -> None:
        alive = Counter(track.prompt for track in result.tracks)
        for number, prompt in enumerate(self._identity.prompts):
            self._metrics.tracks[prompt].set(alive[number])
        self._tracks = len(result.tracks)

    def _latency(self, frame: Frame) -> float:
        """Seconds from capture, for files from decoding, until now."""
        if frame.clock is not Clock.FILE:
            return max(0.0, time.time() - frame.captured_at)
        index, decoded_at = -1, time.monotonic()
        while self._decoded_at and index < frame.index:
            index, decoded_at = self._decoded_at.popleft()
        return time.monotonic() - decoded_at

    def _track_event(self, event: TrackEvent) -> None:
        self._metrics.track_event(event)
        prompt = None if event.prompt is None else self._identity.prompts[event.prompt]
        self.event(event.change, event.reason, frame=event.frame, track=event.track, prompt=prompt)

    def _status(self, now: float) -> None:
        header = wire.status_header(
            **self._envelope(Kind.STATUS),
            prompts=self._identity.prompts,
            tracks=self._tracks,
            fps=self._metrics.fps(),
            drops=self._metrics.drops,
            models=self._identity.models,
            thresholds=dict(zip(self._identity.prompts, self._thresholds(), strict=True)),
            uptime=now - self._started,
        )
        self._send(Kind.STATUS, header)

    def _envelope(self, kind: Kind) -> dict[str, Any]:
        return {
            "stream": self._identity.stream,
            "session": self._identity.session,
            "epoch": self._epoch,
            "seq": self._next(kind),
            "published_at": time.time(),
        }

    def _next(self, kind: Kind) -> int:
        self._seq[kind] += 1
        return self._seq[kind] - 1

    def _send(self, kind: Kind, header: Header, blob: bytes | None = None) -> None:
        parts = wire.pack(wire.topic(self._identity.stream, kind), header, blob)
        self._metrics.bytes[kind].inc(sum(map(len, parts)))
        if not self._publisher.send(parts, self.hurry):
            self._metrics.publish_dropped.inc()
