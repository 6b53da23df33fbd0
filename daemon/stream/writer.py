"""Sends what leaves a stream to its sinks, in order: masks, events, status, annotated frames."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from daemon.lane.lane import Lane
from daemon.lane.outcome import Outcome
from daemon.metrics.stream_metrics import BY_HAND
from daemon.sinks.sink import FrameOutput, Need, Sink
from daemon.stream.latency import Latency
from daemon.stream.rendering import Renderer
from daemon.stream.snapshot import Snapshot, TrackAges
from stages.errors import OutputError, one_line
from stages.output import wire
from stages.output.masks import full_masks
from stages.output.wire import Header, Kind
from stages.types import Result, StreamEvent, TrackChange, TrackEvent

STATUS_EVERY = 5.0  # seconds

Observer = Callable[[Result, NDArray[np.bool_]], None]


@dataclass(frozen=True, slots=True)
class Identity:
    """What the headers of a stream say of it."""

    stream: str
    session: str
    models: Mapping[str, str]  # names by role
    mask_encoding: Literal["rle", "counts"] = "rle"
    predecessor: str | None = None  # the session that this one continues


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """A frame whose masks have been sent, and how long that took."""

    output: FrameOutput
    seconds: float
    drawing: float  # seconds of them


class Writer:
    """Numbers the outcomes of one stream and sends them to all its sinks.

    All calls come from the writer thread; ``identity``, ``snapshot`` and ``failure`` may be read by any. ``seq`` counts
    each kind of message by itself, so that a subscriber of one kind sees every hole; an annotated frame has the ``seq``
    of its masks. What is not published for want of a lease leaves a hole, too, and is recorded and shown all the same.
    ``observe`` is called with each published result and its masks, bool (N, H, W).
    """

    def __init__(
        self,
        identity: Identity,
        lane: Lane,
        renderer: Renderer,
        sinks: Sequence[Sink],
        latency: Latency,
        observe: Observer | None = None,
    ) -> None:
        self.failure: OutputError | None = None  # why a sink has failed
        self.snapshot = Snapshot()
        self.identity, self._lane, self._metrics, self._prompts = identity, lane, lane.metrics, lane.prompt_set
        self._renderer, self._sinks, self._latency, self._observe = renderer, list(sinks), latency, observe
        self._ages = TrackAges()
        self._seq: Counter[Kind] = Counter()
        self._epoch = 0
        self._size: tuple[int, int] | None = None  # width and height of the last picture
        self._tracks = 0
        self._lost = 0  # frames lost since the last result
        self._down = False  # the last source event said that the source is down
        self._started = self._last_status = time.monotonic()

    def write(self, outcome: Outcome) -> None:
        """Send one outcome. An error costs one frame at most, or the sink that it comes from; it is an event."""
        for notice in outcome.notices:
            self._notice(notice.event, notice.reason)
        for event in outcome.lost_events:
            self._track_event(event)
        self._lost += outcome.lost_frames
        for result in outcome.results:
            sent: _Sent | None = None
            try:
                sent = self._send_masks(result)
            except Exception as error:
                # its events are sent all the same, and the next frame counts this one as dropped
                self._lost += 1 + result.frame.dropped_before
                self._metrics.drop("error", 1)
                self._event(StreamEvent.ERROR, one_line(error))
            for event in result.events:
                self._track_event(event)
            if sent is not None:
                self._send_frame(sent)

    def status_when_due(self) -> None:
        """Send a status every five seconds, for late subscribers."""
        now = time.monotonic()
        if now - self._last_status >= STATUS_EVERY:
            self._last_status = now
            self._status(now)

    def close(self, reason: str) -> None:
        """Finish the sinks, then tell them that the source is down."""
        for sink in tuple(self._sinks):
            with self._may_fail(sink):
                sink.finish()
        self._metrics.count_tracks(())
        self._tracks = 0
        self._notice(StreamEvent.SOURCE_DOWN, reason)
        self._status(time.monotonic())

    def _send_masks(self, result: Result) -> _Sent:
        """Send a frame's masks message. An error costs the frame."""
        started = time.perf_counter()
        if self._lost:
            frame = replace(result.frame, dropped_before=result.frame.dropped_before + self._lost)
            result = replace(result, frame=frame)
        height, width = result.frame.image.shape[:2]
        if result.epoch != self._epoch:
            self._epoch = result.epoch
            same = (width, height) == self._size
            how = (
                f"opened again, the picture is {width}x{height} as before"
                if same
                else f"the picture is now {width}x{height}"
            )
            self._event(StreamEvent.EPOCH, how, frame=result.frame.index)
        self._size = width, height
        masks = full_masks(result)
        drawn = self._renderer.draw(result, masks, max((sink.need() for sink in self._sinks), default=Need.NOTHING))
        header = wire.masks_header(
            result,
            masks,
            stream=self.identity.stream,
            session=self.identity.session,
            seq=self._seq[Kind.MASKS],
            prompts=self._prompts.written,
            published_at=time.time(),
            encoding=self.identity.mask_encoding,
            fence=self._lane.lease.fence,
            predecessor=self.identity.predecessor,
        )
        published = self._send(Kind.MASKS, header)
        self._seq[Kind.MASKS] += 1
        self._lost = 0
        if published:
            self._metrics.published(self._latency.of(result.frame))
        else:
            self._metrics.drop("lease", 1)
        output = FrameOutput(result, header, masks, drawn.picture, drawn.jpeg)
        return _Sent(output, time.perf_counter() - started, drawn.seconds)

    def _send_frame(self, sent: _Sent) -> None:
        """Send what follows a frame's masks. An error costs what it hits, never the frame."""
        started, output = time.perf_counter(), sent.output
        frame = output.result.frame.index
        try:
            for sink in tuple(self._sinks):
                with self._may_fail(sink, frame):
                    sink.frame(output)
            self._count(output.header)
            if self._observe is not None:
                self._observe(output.result, output.masks.full())
            spent = sent.seconds + time.perf_counter() - started
            self._metrics.observe({"publish": spent - sent.drawing, "annotate": sent.drawing})
        except Exception as error:
            self._event(StreamEvent.ERROR, one_line(error), frame=frame)

    def _count(self, header: Header) -> None:
        objects, pixels = header["objects"], header["width"] * header["height"]
        self._metrics.count_tracks(
            (entry["prompt"] or BY_HAND, entry["state"], entry["area"] / pixels) for entry in objects
        )
        self._tracks = len(objects)
        self.snapshot = self._ages.snapshot(header)

    def _notice(self, event: StreamEvent, reason: str) -> None:
        """Send an event of the stream itself; of several source_down in a row only the first."""
        if event is StreamEvent.SOURCE_DOWN and self._down:
            return
        if event in (StreamEvent.SOURCE_UP, StreamEvent.SOURCE_DOWN):
            self._down = event is StreamEvent.SOURCE_DOWN
        self._event(event, reason)

    def _track_event(self, event: TrackEvent) -> None:
        prompt = None if event.prompt is None else self._prompts.written[event.prompt]
        self._metrics.track_event(event, prompt or BY_HAND)
        self._event(event.change, event.reason, frame=event.frame, track=event.track, prompt=prompt)

    def _event(self, event: TrackChange | StreamEvent, reason: str, **about: Any) -> None:
        """Send an event; ``about`` names the frame, track and prompt."""
        self._send(Kind.EVENT, wire.event_header(event, reason, **self._envelope(Kind.EVENT), **about))

    def _status(self, now: float) -> None:
        header = wire.status_header(
            **self._envelope(Kind.STATUS),
            prompts=self._prompts.texts,
            tracks=self._tracks,
            fps=self._metrics.fps(),
            drops=self._metrics.drops,
            models=self.identity.models,
            thresholds=self._lane.thresholds,
            uptime=now - self._started,
        )
        self._send(Kind.STATUS, header)

    def _envelope(self, kind: Kind) -> dict[str, Any]:
        self._seq[kind] += 1
        return {
            "stream": self.identity.stream,
            "session": self.identity.session,
            "epoch": self._epoch,
            "seq": self._seq[kind] - 1,
            "published_at": time.time(),
            "fence": self._lane.lease.fence,
            "predecessor": self.identity.predecessor,
        }

    def _send(self, kind: Kind, header: Header) -> bool:
        """Give a message to all sinks; False when one of them may not publish it now."""
        published = True
        for sink in tuple(self._sinks):
            with self._may_fail(sink):
                published = sink.message(kind, header) and published
        return published

    @contextmanager
    def _may_fail(self, sink: Sink, frame: int | None = None) -> Iterator[None]:
        """Drop a sink that raises OutputError, and tell the others."""
        try:
            yield
        except OutputError as error:
            # a sink may fail a second time while the error event of another one is sent
            self._sinks = [other for other in self._sinks if other is not sink]
            self.failure = self.failure or error
            self._event(StreamEvent.ERROR, one_line(error), frame=frame)
