"""What HTTP may ask of the running service: views, streams, prompts, objects."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from daemon.api.control import StreamView
from daemon.engine import interactive
from daemon.service.service import Service
from daemon.settings.schema import StreamSettings
from daemon.sinks.preview import Preview
from daemon.stream.stream import Stream
from stages.detection.prompts import Prompt
from stages.errors import ConfigError, one_line

MOST_STREAMS = 64  # with that many none is added: each has threads, files and metrics of its own
MOST_PASSES = 8  # of the detector for one keyframe of one stream, while others wait


class Controller:
    """Implements `daemon.api.control.Control`; its docstrings hold. Each call runs in the thread that it needs."""

    def __init__(self, service: Service) -> None:
        self._service, self._engine = service, service.engine

    def not_ready(self) -> str | None:
        return self._service.not_ready()

    def views(self) -> list[StreamView]:
        return [self._view(stream) for stream in self._service.streams.values()]

    def view(self, stream: str) -> StreamView:
        return self._view(self._service.find(stream))

    def preview(self, stream: str) -> Preview:
        return self._service.find(stream).preview

    def add(self, settings: StreamSettings) -> None:
        if len(self._service.streams) >= MOST_STREAMS:
            raise ConfigError(f"there are {MOST_STREAMS} streams already; remove one, or run a second daemon")
        if self._service.models_loaded:
            self._check(settings.prompts)
        self._service.add(settings)
        self._service.stay()

    def remove(self, name: str) -> None:
        self._service.find(name)
        self._service.stay()  # before, or the daemon might end when nothing else runs
        self._service.remove(name)

    def set_prompts(self, stream: str, prompts: Sequence[Prompt]) -> None:
        prompt_set = self._service.find(stream).lane.prompt_set
        self._check(prompts)
        prompt_set.ask(prompts)

    def add_object(
        self,
        stream: str,
        prompt: str | None,
        *,
        box: NDArray[np.float32] | None = None,
        points: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> int:
        lane = self._service.find(stream).lane
        return self._engine.ask_stream(lane, lambda state: interactive.add(state, prompt, box, points, mask))

    def refine_object(self, stream: str, track: int, points: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        lane = self._service.find(stream).lane
        self._engine.ask_stream(lane, lambda state: interactive.refine(state, track, points, labels))

    def remove_object(self, stream: str, track: int) -> None:
        lane = self._service.find(stream).lane
        self._engine.ask_stream(lane, lambda state: interactive.remove(state, track))

    def _check(self, prompts: Sequence[Prompt]) -> None:
        """Raises ConfigError for too many prompts, and for one that the detector cannot read."""
        passes = self._engine.ask(lambda models: models.detector.passes(prompts))
        if passes > MOST_PASSES:
            most = f"the detector would run {passes} times at each keyframe, at most {MOST_PASSES}"
            raise ConfigError(f"{len(prompts)} prompts are too many: {most}; give fewer or shorter ones")

    def _view(self, stream: Stream) -> StreamView:
        last, metrics = stream.snapshot, stream.metrics
        state, reason = self._state(stream)
        return StreamView(
            name=stream.name,
            source=stream.source,
            state=state,
            reason=reason,
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
