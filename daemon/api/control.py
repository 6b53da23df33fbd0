"""Interface between HTTP and the running daemon: the `Control` protocol and the plain values that it returns.

Every method of `Control` may be called from any thread. They raise UnknownNameError for an unknown stream or track,
ConfigError for invalid arguments, and BusyError when the engine does not answer in time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from daemon.changes.wanted import Difference
from daemon.events.clips import Clips
from daemon.events.store import EventStore
from daemon.settings.schema import StreamSettings
from daemon.sinks.preview import Preview
from stages.detection.prompts import Prompt
from stages.output.wire import Header


@dataclass(frozen=True, slots=True)
class StreamView:
    """Current state of a stream."""

    name: str
    source: str  # without user, password, path or query
    state: str  # loading, connecting, up, retrying, ended, failed
    reason: str  # why it is not up; "" while it is up
    live: bool
    prompts: tuple[str, ...]  # current prompts, as the user wrote them
    thresholds: dict[str, float]  # lowest score of a detection, by prompt
    epoch: int
    frame: int | None  # index of the last published frame; None before the first
    pts: int | None  # its time stamp
    width: int
    height: int
    fps: float  # published frames per second, last 10 s
    latency: tuple[float, float] | None  # seconds, median and 95th percentile of the last frames
    drops: int  # frames lost since the start
    governor_step: int
    session: str
    predecessor: str | None  # the session that it continues
    fence: int | None  # under which it is published; None: it needs no lease
    tracks: tuple[Header, ...]  # as in `daemon.stream.snapshot.Snapshot`
    not_recorded: str = ""  # why its frames are not recorded now; "" while they are, or none are to be


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """The frame that a person saw when pointing at it."""

    frame: int | None = None  # its index; None: the one that was tracked last
    session: str | None = None  # None: whatever it is now


NEWEST = SeenFrame()


@dataclass(frozen=True, slots=True)
class StreamLoad:
    """What a stream costs now (see daemon.limits.busy_time)."""

    name: str
    seconds: float  # of the engine's time in the last 30 s
    share: float  # of the engine's time, 0 to 1
    fps: float  # published frames per second, last 10 s
    memory: int  # bytes that the memory budget reserves for it; 0 before its first window
    waiting: int  # frames that wait for the engine


@dataclass(frozen=True, slots=True)
class MemoryLoad:
    """Bytes; zero while the models are being loaded."""

    used: int
    budget: int


@dataclass(frozen=True, slots=True)
class Load:
    """What the daemon has to do now."""

    streams: tuple[StreamLoad, ...]
    share: float  # of the engine's time that the streams take together, 0 to 1
    memory: MemoryLoad
    draining: bool


@dataclass(frozen=True, slots=True)
class ChangesView:
    """What was changed over HTTP and is not as the configuration has it."""

    kept: bool  # also after a restart
    problem: str  # why not; "" where it is
    changes: list[Difference]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a configuration that was read again has changed: names of streams, and keys that need a restart."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    restart: list[str]  # dotted, as models.detector
    failed: dict[str, str]  # streams that do not do as the configuration says, and why


class Control(Protocol):
    """The running service as HTTP sees it."""

    def not_ready(self) -> str | None:
        """Why the daemon is not ready; None when it is."""
        ...

    def views(self) -> list[StreamView]: ...

    def view(self, stream: str) -> StreamView: ...

    def preview(self, stream: str) -> Preview: ...

    def events(self) -> EventStore:
        """Raises UnknownNameError where no events are kept."""
        ...

    def clips(self) -> Clips: ...

    def load(self) -> Load: ...

    def drain(self) -> int:
        """Take no more streams and end once none is left; returns how many there are."""
        ...

    def renew_lease(self, stream: str, fence: int, until: float) -> None:
        """See daemon.lane.lease.Lease.renew. Never waits: the event loop calls it."""
        ...

    def snapshot(self, stream: str, full: bool) -> bytes:
        """The state of a stream between two windows. Raises ConflictError when it tracks nothing."""
        ...

    def keep_snapshot(self, data: bytes) -> str:
        """Keep a snapshot for a stream that is about to be added; returns its id. Raises SnapshotError."""
        ...

    def open_source(self, settings: StreamSettings) -> str:
        """Open the live source of a stream that is about to be added; returns its id once the first frame has come.

        Raises SourceError when none comes, ConfigError for a source that is not live.
        """
        ...

    def add(
        self,
        settings: StreamSettings,
        *,
        fence: int | None = None,
        predecessor: str | None = None,
        snapshot: str | None = None,
        opened: str | None = None,
    ) -> object:
        """Start one more stream.

        With a ``fence`` it is published only while it has a lease. Its tracker starts from ``snapshot``, the id of one
        that was kept; its ``predecessor`` is the session of that, unless another is named. Its first frames come from
        ``opened``, the id of an opened source, where that still delivers. Raises ConflictError when its name is taken
        or no stream is taken any more, SnapshotError for a snapshot of another model or version.
        """
        ...

    def remove(self, name: str) -> None:
        """End and remove a stream, once the frames already read are published. Takes seconds."""
        ...

    def set_prompts(self, stream: str, prompts: Sequence[Prompt]) -> None:
        """Detect ``prompts`` from the next keyframe on; tracks of prompts that are kept go on."""
        ...

    def changes(self) -> ChangesView: ...

    def take_back(self, stream: str | None) -> None:
        """Run a stream, or all, as the configuration has it. Raises UnknownNameError where nothing was changed."""
        ...

    def reload(self) -> Reloaded:
        """Read the configuration again and apply it. Raises ConfigError where it is broken; then nothing changes."""
        ...

    def add_object(
        self,
        stream: str,
        prompt: str | None,
        *,
        box: NDArray[np.float32] | None = None,
        points: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
        mask: NDArray[np.bool_] | None = None,
        seen: SeenFrame = NEWEST,
    ) -> tuple[int, bool]:
        """Start a track (see stages.tracking.tracker.Tracker.add); returns its id, and whether it is new.

        ``prompt``: one of the stream's prompts, or None. With a ``seen`` frame the prompt counts there and the object
        is carried to the present; points on an object that was tracked there give the id of its track. Raises
        ConflictError for a frame that is not kept any more.
        """
        ...

    def refine_object(
        self,
        stream: str,
        track: int,
        points: NDArray[np.float32],
        labels: NDArray[np.int64],
        seen: SeenFrame = NEWEST,
    ) -> None:
        """Correct a track's mask (see stages.tracking.tracker.Tracker.refine), on the ``seen`` frame if there is one.

        Raises ConflictError as `add_object` does.
        """
        ...

    def remove_object(self, stream: str, track: int) -> None:
        """End a track."""
        ...
