"""What HTTP may ask of the running service: views, streams, prompts, objects."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

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
from daemon.engine import interactive
from daemon.engine.interactive import Journey, Placed
from daemon.engine.stream_state import StreamState
from daemon.errors import ConflictError, UnknownNameError
from daemon.events.clips import Clips
from daemon.events.place import NOWHERE
from daemon.events.store import EventStore
from daemon.lane.handover import Handover, Learned, Origin
from daemon.service.reconfigure import check_prompts, reload, take_back
from daemon.service.service import Service
from daemon.service.snapshots import Snapshots
from daemon.settings.schema import StreamSettings
from daemon.sinks.preview import Preview
from daemon.stream.stream import Stream
from stages.detection.prompts import Prompt
from stages.errors import ConfigError, one_line

MOST_STREAMS = 64  # with that many none is added: each has threads, files and metrics of its own


class Controller:
    """Implements `daemon.api.control.Control`; its docstrings hold. Each call runs in the thread that it needs."""

    def __init__(self, service: Service) -> None:
        self._service, self._engine = service, service.engine
        self._configuration = service.configuration
        self._snapshots = Snapshots()

    def not_ready(self) -> str | None:
        return self._service.not_ready()

    def views(self) -> list[StreamView]:
        return [self._view(stream) for stream in self._service.streams.values()]

    def view(self, stream: str) -> StreamView:
        return self._view(self._service.find(stream))

    def preview(self, stream: str) -> Preview:
        return self._service.find(stream).preview

    def events(self) -> EventStore:
        if self._service.events is None:
            raise UnknownNameError(NOWHERE)
        return self._service.events

    def clips(self) -> Clips:
        return self._service.clips

    def load(self) -> Load:
        memory = self._engine.memory()
        streams = tuple(
            StreamLoad(
                name=stream.name,
                seconds=stream.lane.busy.seconds,
                share=stream.lane.busy.share,
                fps=stream.metrics.fps(),
                memory=memory.streams.get(stream.name, 0),
                waiting=stream.frames_waiting,
            )
            for stream in self._service.streams.values()
        )
        share = min(1.0, sum(stream.share for stream in streams))
        return Load(streams, share, MemoryLoad(memory.used, memory.budget), self._service.draining)

    def drain(self) -> int:
        self._service.drain()
        return len(self._service.streams)

    def renew_lease(self, stream: str, fence: int, until: float) -> None:
        self._service.find(stream).lane.lease.renew(fence, until)

    def snapshot(self, stream: str, full: bool) -> bytes:
        found = self._service.find(stream)

        def take(state: StreamState) -> Handover:
            tracker, prompt_set, learned = state.started_tracker(), state.lane.prompt_set, None
            if state.auto is not None:
                looked_for = [prompt.written for prompt in prompt_set.prompts]
                learned = Learned(prompts=looked_for, state=state.auto.state_dict())
            about = found.identity.session, found.snapshot.picture, tuple(prompt_set.written)
            return Handover(*about, tracker.snapshot(full), learned, full)

        try:
            handover = self._engine.ask_stream(found.lane, take)
        except ConfigError as error:  # no first window yet, or it has ended
            raise ConflictError(str(error)) from None
        return handover.pack()

    def keep_snapshot(self, data: bytes) -> str:
        return self._snapshots.keep(data)

    def open_source(self, settings: StreamSettings) -> str:
        return self._service.open_source(settings)

    def add(
        self,
        settings: StreamSettings,
        *,
        fence: int | None = None,
        predecessor: str | None = None,
        snapshot: str | None = None,
        opened: str | None = None,
    ) -> None:
        self._service.check_room(settings.name)
        if len(self._service.streams) >= MOST_STREAMS:
            raise ConfigError(f"there are {MOST_STREAMS} streams already; remove one, or run a second daemon")
        if self._service.models_loaded:
            check_prompts(self._service, settings.prompts)
        origin = Origin(fence, predecessor)
        placed = fence is not None or predecessor is not None or snapshot is not None
        with ExitStack() as stack:
            if snapshot is not None:
                handover = stack.enter_context(self._snapshots.taken(snapshot))
                origin = replace(origin, predecessor=predecessor or handover.session, handover=handover)
            if opened is not None:
                source = self._service.opened_sources.take(opened)
                origin = replace(origin, source=source)
            if placed:  # by a program that will place it again
                self._service.add(settings, origin)
            else:
                with self._configuration.lock:
                    wanted = self._configuration.wanted.with_stream(settings)
                    self._service.add(settings, origin)
                    self._configuration.put(wanted)
        self._service.stay()

    def remove(self, name: str) -> None:
        stream = self._service.find(name)
        self._service.stay()  # before, or the daemon might end when nothing else runs
        if not stream.placed:
            with self._configuration.lock:
                self._configuration.put(self._configuration.wanted.without_stream(name))
        self._service.remove(name)

    def set_prompts(self, stream: str, prompts: Sequence[Prompt]) -> None:
        self._service.find(stream)
        check_prompts(self._service, prompts)
        with self._configuration.lock:
            found = self._service.find(stream)  # again: it may have been started anew since
            if found.placed:
                found.lane.prompt_set.ask(prompts)
                return
            wanted = self._configuration.wanted.with_prompts(stream, tuple(prompts))
            found.lane.prompt_set.ask(prompts)
            self._configuration.put(wanted)

    def changes(self) -> ChangesView:
        configuration = self._configuration
        return ChangesView(not configuration.problem, configuration.problem, configuration.wanted.differences)

    def take_back(self, stream: str | None) -> None:
        take_back(self._service, stream)

    def reload(self) -> Reloaded:
        return reload(self._service)

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
        found, frame = self._seen(stream, seen), seen.frame
        if frame is None:
            track = self._engine.ask_stream(found.lane, lambda state: interactive.add(state, prompt, box, points, mask))
            return track, True
        given = prompt, box, points, mask
        return self._carry(found, lambda state: interactive.add_seen(state, frame, *given))

    def refine_object(
        self,
        stream: str,
        track: int,
        points: NDArray[np.float32],
        labels: NDArray[np.int64],
        seen: SeenFrame = NEWEST,
    ) -> None:
        found, frame = self._seen(stream, seen), seen.frame
        if frame is None:
            self._engine.ask_stream(found.lane, lambda state: interactive.refine(state, track, (points, labels)))
        else:
            self._carry(found, lambda state: interactive.refine_seen(state, frame, track, (points, labels)))

    def remove_object(self, stream: str, track: int) -> None:
        lane = self._service.find(stream).lane
        self._engine.ask_stream(lane, lambda state: interactive.remove(state, track))

    def _seen(self, stream: str, seen: SeenFrame) -> Stream:
        """The stream. Raises ConflictError when somebody saw it in another session."""
        found = self._service.find(stream)
        if seen.session not in (None, found.identity.session):
            raise ConflictError(f"stream {stream} is in another session now: look at its picture again")
        return found

    def _carry(self, stream: Stream, begin: Callable[[StreamState], Placed | Journey]) -> Placed:
        """What ``begin`` has begun on a frame that was seen, brought to the present.

        Windows of all streams run between two slices of it.
        """
        with stream.lane.trail.one_at_a_time():
            reached: Placed | Journey | None = self._engine.ask_stream(stream.lane, begin)
            journey = reached
            while isinstance(journey, Journey) and not isinstance(reached, Placed):
                reached = self._engine.ask_stream(stream.lane, partial(interactive.advance, journey=journey))
        assert isinstance(reached, Placed)
        return reached

    def _view(self, stream: Stream) -> StreamView:
        last, metrics = stream.snapshot, stream.metrics
        state, reason = self._state(stream)
        return StreamView(
            name=stream.name,
            source=stream.source,
            state=state,
            reason=reason,
            not_recorded=stream.not_recorded,
            live=stream.live,
            prompts=stream.lane.prompt_set.texts,
            thresholds=stream.lane.thresholds,
            epoch=last.epoch,
            frame=last.frame,
            pts=last.pts,
            width=last.width,
            height=last.height,
            fps=metrics.fps(),
            latency=metrics.recent_latency(),
            drops=metrics.drops,
            governor_step=stream.lane.governor.step,
            session=stream.identity.session,
            predecessor=stream.identity.predecessor,
            fence=stream.lane.lease.fence,
            tracks=() if stream.ended else last.tracks,
        )

    def _state(self, stream: Stream) -> tuple[str, str]:
        """The state of a stream, and the reason where it is not up."""
        if stream.error is not None:
            return "failed", one_line(stream.error)
        if stream.ended:
            return "ended", "stopped" if stream.stopped else "the source has ended"
        if not self._service.models_loaded:
            return "loading", "the models are being loaded"
        if stream.up:
            return "up", ""
        return ("retrying", stream.trouble) if stream.trouble else ("connecting", "no frame has come yet")
