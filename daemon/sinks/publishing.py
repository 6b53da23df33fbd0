"""The sink that publishes a stream over ZeroMQ."""

import threading
import time
from typing import Any

from daemon.errors import LeaseError
from daemon.lane.lease import Lease
from daemon.metrics.stream_metrics import StreamMetrics
from daemon.sinks.sink import FrameOutput, Need
from stages.output import wire
from stages.output.publisher import Publisher
from stages.output.wire import Header, Kind


class Publishing:
    """Sends all messages of ``stream`` and, with ``frames``, its annotated frames. A Sink (see daemon.sinks.sink).

    Nothing is sent while ``lease`` does not hold. Once ``hurry`` is set, by any thread, no message waits for a slow
    subscriber.
    """

    def __init__(
        self,
        stream: str,
        publisher: Publisher,
        metrics: StreamMetrics,
        frames: bool,
        hurry: threading.Event,
        lease: Lease,
    ) -> None:
        self._stream, self._publisher, self._metrics = stream, publisher, metrics
        self._frames, self._hurry, self._lease = frames, hurry, lease
        self._frame_topic = wire.topic(stream, Kind.FRAME).encode()

    def need(self) -> Need:
        """A JPEG while somebody subscribes to annotated frames."""
        wanted = self._frames and self._lease.holds and self._publisher.wants(self._frame_topic)
        return Need.JPEG if wanted else Need.NOTHING

    def message(self, kind: Kind, header: Header) -> bool:
        """Publish one message; False when the lease does not hold. Raises WireError for what JSON cannot hold."""
        return self._send(kind, header)

    def frame(self, frame: FrameOutput) -> None:
        """Publish the annotated frame, if it was drawn, with the ``seq`` of its masks."""
        if not self._frames or frame.jpeg is None:
            return
        same: dict[str, Any] = {
            key: frame.header.get(key) for key in ("stream", "session", "seq", "fence", "predecessor")
        }
        self._send(Kind.FRAME, wire.frame_header(frame.result, published_at=time.time(), **same), frame.jpeg)

    def finish(self) -> None:
        """Nothing: the publisher is shared by all streams and closed by the service."""

    def _send(self, kind: Kind, header: Header, blob: bytes | None = None) -> bool:
        parts = wire.pack(wire.topic(self._stream, kind), header, blob)
        try:
            reached_all = self._publisher.send(parts, self._hurry, self._lease.check)
        except LeaseError:
            return False
        self._metrics.bytes[kind].inc(sum(map(len, parts)))
        if not reached_all:
            self._metrics.publish_dropped.inc()
        return True
