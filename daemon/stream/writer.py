"""What leaves a stream, in order and from one thread: masks, annotated frames, events, status, the recording."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.lane.outcome import Outcome
from daemon.lane.prompt_set import PromptSet
from daemon.metrics.stream_metrics import BY_HAND, StreamMetrics
from daemon.settings.schema import StreamSettings
from daemon.stream.latency import Latency
from daemon.stream.rendering import Drawn, Renderer
from daemon.stream.snapshot import Snapshot, TrackAges
from stages.errors import OutputError, one_line
from stages.output import wire
from stages.output.publisher import Publisher
from stages.output.recorder import Recorder
from stages.output.rle import full_masks
from stages.output.wire import Header, Kind
from stages.types import Result, StreamEvent, TrackChange, TrackEvent

STATUS_EVERY = 5.0  # seconds

log = logging.getLogger(__name__)

Observer = Callable[[Result, NDArray[np.bool_]], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """A frame whose masks have left, and what is still to be made of it."""

    result: Result
    header: Header
    masks: NDArray[np.bool_]
    drawn: Drawn
    seconds: float  # that it took so far


@dataclass(frozen=True, slots=True)
class Identity:
    """What every header of a stream says, and what its status tells."""

    stream: str
    session: str
    models: Mapping[str, str]  # names by role


class Writer:
    """Writes the outcomes of one stream, whose ``settings`` are resolved.

    Not thread-safe: all calls come from the writer thread. ``snapshot`` and ``preview`` are for any thread.
    ``thresholds`` tells the least score of a detection, by prompt.
    ``seq`` counts each kind by itself, so that whoever subscribes to one kind sees every hole; an annotated frame
    carries the ``seq`` of its masks.
    """

    def __init__(
        self,
        identity: Identity,
        settings: StreamSettings,
        prompt_set: PromptSet,
        publisher: Publisher,
        metrics: StreamMetrics,
        thresholds: Callable[[], Mapping[str, float]],
        observe: Observer | None = None,
    ) -> None:
        self.recorder: Recorder | None = None
        self.failure: OutputError | None = None  # why the recording has ended before the stream
        self.hurry = threading.Event()  # once set, no subscriber is waited for
        self._identity, self._settings, self._publisher, self._metrics = identity, settings, publisher, metrics
        self._prompt_set, self._thresholds, self._observe = prompt_set, thresholds, observe
        self._renderer = Renderer(settings, publisher, prompt_set.written)
        self.preview = self._renderer.preview
        self.snapshot = Snapshot()
        self._ages = TrackAges()
        self._seq: Counter[Kind] = Counter()
        self._epoch = 0
        self._tracks = 0
        self._lost = 0  # frames lost since the last result
        self._down = False  # the last that was told of the source is that it is down
        self.latency = Latency()
        self._started = self._last_status = time.monotonic()

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
        self._metrics.seen(())
        self._tracks = 0
        self.preview.close()
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
            self._epoch = result.epoch
            height, width = result.frame.image.shape[:2]
            self.event(StreamEvent.EPOCH, f"the picture is now {width}x{height}", frame=result.frame.index)
        masks = full_masks(result)
        drawn = self._renderer.draw(result, masks, self.recorder is not None)
        header = wire.masks_header(
            result,
            masks,
            stream=self._identity.stream,
            session=self._identity.session,
            seq=self._seq[Kind.MASKS],
            prompts=self._prompt_set.written,
            published_at=time.time(),
            encoding=self._settings.publish.mask_encoding,
        )
        self._send(Kind.MASKS, header)
        self._seq[Kind.MASKS] += 1
        self._lost = 0
        self._metrics.published(self.latency.of(result.frame))
        return _Sent(result, header, masks, drawn, time.perf_counter() - started)

    def _follow(self, sent: _Sent) -> None:
        """What comes after the masks; whatever fails here costs itself only."""
        started, result = time.perf_counter(), sent.result
        picture, jpeg = sent.drawn.picture, sent.drawn.jpeg
        try:
            if jpeg is not None and self._settings.publish.frames:
                about = {key: sent.header[key] for key in ("stream", "session", "seq")}
                self._send(Kind.FRAME, wire.frame_header(result, published_at=time.time(), **about), jpeg)
            with self._recording(result.frame.index) as recorder:
                if recorder is not None and picture is not None:
                    recorder.write(sent.header, picture, jpeg if self._settings.record.frames else None)
            self._count(sent)
            if self._observe is not None:
                self._observe(result, sent.masks)
            spent = sent.seconds + time.perf_counter() - started
            self._metrics.observe({"publish": spent - sent.drawn.seconds, "annotate": sent.drawn.seconds})
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

    def _count(self, sent: _Sent) -> None:
        objects, pixels = sent.header["objects"], sent.header["width"] * sent.header["height"]
        self._metrics.seen((thing["prompt"] or BY_HAND, thing["state"], thing["area"] / pixels) for thing in objects)
        self._tracks = len(objects)
        self.snapshot = self._ages.look(sent.header)

    def _track_event(self, event: TrackEvent) -> None:
        prompt = None if event.prompt is None else self._prompt_set.written[event.prompt]
        self._metrics.track_event(event, prompt or BY_HAND)
        self.event(event.change, event.reason, frame=event.frame, track=event.track, prompt=prompt)

    def _status(self, now: float) -> None:
        header = wire.status_header(
            **self._envelope(Kind.STATUS),
            prompts=self._prompt_set.texts,
            tracks=self._tracks,
            fps=self._metrics.fps(),
            drops=self._metrics.drops,
            models=self._identity.models,
            thresholds=dict(self._thresholds()),
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
