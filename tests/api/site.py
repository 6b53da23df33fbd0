"""The HTTP server on a free port, in front of a fake daemon that only stores what requests change."""

import http.client
import itertools
import json
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from daemon.api import Api
from daemon.api.control import (
    NEWEST,
    ChangesView,
    Load,
    MemoryLoad,
    Reloaded,
    SeenFrame,
    StreamLoad,
    StreamView,
)
from daemon.changes.wanted import Difference
from daemon.errors import ConflictError, UnknownNameError
from daemon.events.clips import Clips, Place
from daemon.events.place import NOWHERE
from daemon.events.store import EventStore
from daemon.lane.handover import Handover
from daemon.lane.lease import Lease
from daemon.metrics.registry import Metrics
from daemon.service.snapshots import Snapshots
from daemon.settings.schema import Http, StreamSettings
from daemon.sinks.preview import Picture, Preview
from stages.detection.prompts import Prompt
from stages.errors import ConfigError
from tests.support.program import PATIENCE

WIDTH, HEIGHT = 32, 24
PREVIEW = "/api/streams/gate/preview.mjpeg"
SESSION = "5d0c8a1e-3f52-4b7a-9c11-2e6f8d40b7a3"
FRESH = StreamView(
    "", "", "up", "", True, (), {}, 0, 5, 5, WIDTH, HEIGHT, 25.0, (0.1, 0.2), 0, 0, SESSION, None, None, ()
)


@dataclass
class MemoryControl:
    """A fake control: stores streams and objects in memory, and refuses what the tracker would refuse."""

    reason: str | None = None
    streams: dict[str, StreamView] = field(default_factory=dict)
    added: list[StreamSettings] = field(default_factory=list)
    objects: list[tuple[str, Any]] = field(default_factory=list)
    points: list[tuple[Any, Any]] = field(default_factory=list)
    seen: list[SeenFrame] = field(default_factory=list)  # of objects and points
    previews: dict[str, Preview] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    snapshots: Snapshots = field(default_factory=Snapshots)
    store: EventStore | None = None
    kept_clips: Clips = field(default_factory=lambda: Clips(Place(None, 5.0, 10.0)))
    draining: bool = False
    taken_back: set[str] = field(default_factory=set)
    broken: str = ""  # why the configuration cannot be read
    before: Callable[[], object] = lambda: None  # called before a read, in the reading thread
    before_change: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def not_ready(self) -> str | None:
        return self.reason

    def views(self) -> list[StreamView]:
        self.before()
        return list(self.streams.values())

    def view(self, stream: str) -> StreamView:
        self.before()
        if stream not in self.streams:
            raise UnknownNameError(f'no stream is named "{stream}"; there are: {", ".join(self.streams) or "none"}')
        return self.streams[stream]

    def preview(self, stream: str) -> Preview:
        self.view(stream)
        return self.previews[stream]

    def events(self) -> EventStore:
        if self.store is None:
            raise UnknownNameError(NOWHERE)
        return self.store

    def clips(self) -> Clips:
        return self.kept_clips

    def load(self) -> Load:
        self.before()
        streams = tuple(StreamLoad(name, 3.0, 0.1, view.fps, 4096, 2) for name, view in self.streams.items())
        return Load(streams, 0.1, MemoryLoad(4096, 65536), self.draining)

    def drain(self) -> int:
        self.draining = True
        return len(self.streams)

    def renew_lease(self, stream: str, fence: int, until: float) -> None:
        if stream not in self.leases:
            raise UnknownNameError(f'no stream is named "{stream}"')
        self.leases[stream].renew(fence, until)

    def snapshot(self, stream: str, full: bool) -> bytes:
        self.view(stream)
        return Handover(SESSION, (HEIGHT, WIDTH, 3), ("red circle",), b"whole" if full else b"small").pack()

    def keep_snapshot(self, data: bytes) -> str:
        return self.snapshots.keep(data)

    def open_source(self, settings: StreamSettings) -> str:
        self.before()
        return SESSION

    def add(
        self,
        settings: StreamSettings,
        *,
        fence: int | None = None,
        predecessor: str | None = None,
        snapshot: str | None = None,
        opened: str | None = None,
    ) -> None:
        if snapshot is not None:
            with self.snapshots.taken(snapshot) as handover:
                self.add(settings, fence=fence, predecessor=predecessor or handover.session)
            return
        with self._lock:
            if settings.name in self.streams:
                raise ConflictError(f'a stream is already named "{settings.name}"')
            if self.draining:
                raise ConflictError("the daemon is draining")
            self.added.append(settings)
            prompts = tuple(prompt.written for prompt in settings.prompts)
            view = replace(FRESH, name=settings.name, source="testsrc://shapes", prompts=prompts)
            self.streams[settings.name] = replace(view, fence=fence, predecessor=predecessor)
            self.leases[settings.name] = Lease(fence)
            preview = self.previews[settings.name] = Preview()
            preview.annotated.show(Picture(b"\xff\xd8 a picture \xff\xd9"))
            preview.finish()

    def remove(self, name: str) -> None:
        self.before_change()
        self.view(name)
        with self._lock:
            self.streams.pop(name, None)

    def set_prompts(self, stream: str, prompts: Sequence[Prompt]) -> None:
        self._change(stream, prompts=tuple(prompt.written for prompt in prompts))

    def changes(self) -> ChangesView:
        self.before()
        names = self.streams.keys() - self.taken_back
        return ChangesView(True, "", [Difference(name, "added", None, {"prompts": []}) for name in sorted(names)])

    def take_back(self, stream: str | None) -> None:
        self.before_change()
        if stream is not None:
            self.view(stream)
        self.taken_back |= self.streams.keys() if stream is None else {stream}

    def reload(self) -> Reloaded:
        self.before_change()
        if self.broken:
            raise ConfigError(self.broken)
        return Reloaded(["yard"], [], ["gate"], ["models.detector"], {"roof": "no room"})

    def add_object(
        self,
        stream: str,
        prompt: str | None,
        *,
        box: Any = None,
        points: Any = None,
        mask: Any = None,
        seen: SeenFrame = NEWEST,
    ) -> tuple[int, bool]:
        self.seen.append(seen)
        view = self.view(stream)
        if prompt is not None and prompt not in view.prompts:
            raise ConfigError(f'stream "{stream}" does not look for that')
        if box is not None:
            assert box.dtype == np.float32
            if not (box[:2] < box[2:]).all():
                raise ConfigError("add: a box has 4 numbers, x0 < x1 and y0 < y1")
            self._check(box.reshape(2, 2))
        if points is not None:
            self._check(points[0])
        if mask is not None and not mask.any():
            raise ConfigError("add: the mask has no pixel; mark those of the object")
        if seen.frame is not None and points is not None and view.tracks:
            return view.tracks[0]["id"], False
        self.objects.append((stream, next(given for given in (box, points, mask) if given is not None)))
        track = next(self._ids)
        shown = {"id": track, "prompt": prompt, "score": 1.0, "presence": 1.0, "state": "new"}
        self._change(stream, tracks=(*view.tracks, {**shown, "box": [0.0, 0.0, 1.0, 1.0], "area": 1, "age": 0.0}))
        return track, True

    def refine_object(self, stream: str, track: int, points: Any, labels: Any, seen: SeenFrame = NEWEST) -> None:
        self.seen.append(seen)
        self._find(stream, track)
        self._check(points)
        self.points.append((points, labels))

    def remove_object(self, stream: str, track: int) -> None:
        self._find(stream, track)
        self._change(stream, tracks=tuple(t for t in self.streams[stream].tracks if t["id"] != track))

    def _change(self, stream: str, **changes: Any) -> None:
        view = self.view(stream)
        with self._lock:
            self.streams[stream] = replace(view, **changes)

    def _find(self, stream: str, track: int) -> None:
        if track not in [t["id"] for t in self.view(stream).tracks]:
            raise UnknownNameError(f"no track {track}")

    def _check(self, places: Any) -> None:
        assert places.dtype == np.float32
        if not ((places >= 0) & (places <= (WIDTH, HEIGHT))).all():
            raise ConfigError(f"{places.tolist()} lies outside the picture of {WIDTH} x {HEIGHT} pixels")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The error message of a refusal; fails unless the answer is one line in the format of all errors."""
        assert self.headers["content-type"] == "application/json"
        assert self.json.keys() == {"error"}
        line: str = self.json["error"]
        assert line == " ".join(line.split())
        assert line
        return line


def bearer(token: str) -> dict[str, str]:
    """The Authorization header, with ``token`` in UTF-8."""
    return {"Authorization": f"Bearer {token}".encode().decode("latin-1")}


class Site:
    """The server with its control and metrics."""

    def __init__(self, control: Any = None, **http_settings: Any) -> None:
        self.metrics = Metrics()
        self.control = control or MemoryControl()
        settings = Http(**{"listen": "127.0.0.1:0", **http_settings})
        self.api = Api(settings, self.metrics.registry, self.control)
        self.token = settings.token
        self.port = int(self.api.url.rpartition(":")[2])

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request on its own connection; ``body`` is sent as JSON unless it is bytes."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent = {"Content-Type": "application/json", **sent}
        connection = http.client.HTTPConnection(urlsplit(self.api.url).hostname or "", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def add(self, name: str = "gate", **more: Any) -> None:
        """Start a stream over HTTP."""
        asked = {"name": name, "source": "testsrc://shapes", "prompts": ["red circle"], **more}
        assert self.ask("POST", "/api/streams", asked, **bearer(self.token)).status == 201

    def say(self, sent: bytes) -> socket.socket:
        """A client that has sent ``sent`` and keeps its connection open."""
        client = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        client.sendall(sent)
        return client

    def watch(self) -> socket.socket:
        """A client that has requested the MJPEG preview of "gate"."""
        return self.say(f"GET {PREVIEW} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.api.close()
