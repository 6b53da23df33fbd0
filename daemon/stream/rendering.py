"""Draws a stream's frames, each only if someone needs it: a subscriber, the recording, or whoever looks over HTTP."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.settings.schema import StreamSettings
from daemon.sinks.preview import Preview
from stages.output import wire
from stages.output.annotate import annotate, encode_jpeg
from stages.output.publisher import Publisher
from stages.output.wire import Kind
from stages.types import Image, Label, Result


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The annotated picture and its JPEG, where they were needed, and the seconds that it took."""

    picture: Image | None = None
    jpeg: bytes | None = None
    seconds: float = 0.0


class Renderer:
    """Of one stream, whose ``settings`` are resolved; ``prompts`` are their texts by number, and may grow."""

    def __init__(self, settings: StreamSettings, publisher: Publisher, prompts: Sequence[str]) -> None:
        self.preview = Preview()
        self._settings, self._publisher, self._prompts = settings, publisher, prompts
        self._topic = wire.topic(settings.name, Kind.FRAME).encode()
        self._epoch = 0
        self._classes: Sequence[Label] = ()  # those last told: they stay on the picture until there are others

    def draw(self, result: Result, masks: NDArray[np.bool_], recorded: bool) -> Drawn:
        """A frame and its masks, (N, H, W); ``recorded``: there is a recording."""
        if result.epoch != self._epoch:
            self._epoch, self._classes = result.epoch, ()
        if result.classes is not None:
            self._classes = result.classes
        published = self._settings.publish.frames and self._publisher.wants(self._topic)
        shown = self.preview.due
        if not (published or recorded or shown):
            return Drawn()
        started = time.perf_counter()
        picture = annotate(result.frame.image, masks, result.tracks, self._prompts, self._classes)
        saved = recorded and self._settings.record.frames
        jpeg = encode_jpeg(picture, self._settings.publish.jpeg_quality) if published or saved or shown else None
        if shown and jpeg is not None:
            self.preview.show(jpeg)
        return Drawn(picture, jpeg, time.perf_counter() - started)
