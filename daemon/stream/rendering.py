"""Draws what is known of a stream's frames onto them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from daemon.sinks.sink import Need
from stages.output.masks import Masks
from stages.types import Image, Label, Result


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The annotated picture and its JPEG, where they were needed, and the seconds that they took."""

    picture: Image | None = None
    jpeg: bytes | None = None
    seconds: float = 0.0


class Renderer:
    """Draws the frames of one stream. ``prompts`` are its prompts as written, by number; the list may grow."""

    def __init__(self, jpeg_quality: int, prompts: Sequence[str]) -> None:
        self._jpeg_quality, self._prompts = jpeg_quality, prompts
        self._epoch = 0
        self._classes: Sequence[Label] = ()  # the latest, drawn until there are new ones

    def draw(self, result: Result, masks: Masks, need: Need) -> Drawn:
        """Draw a frame with its masks as far as it is needed."""
        if result.epoch != self._epoch:
            self._epoch, self._classes = result.epoch, ()
        if result.classes is not None:
            self._classes = result.classes
        if need is Need.NOTHING:
            return Drawn()
        # supervision and what it imports: most daemons of which masks alone are read never need it
        from stages.output.annotate import annotate, encode_jpeg

        started = time.perf_counter()
        picture = annotate(result.frame.image, masks, result.tracks, self._prompts, self._classes)
        jpeg = encode_jpeg(picture, self._jpeg_quality) if need is Need.JPEG else None
        return Drawn(picture, jpeg, time.perf_counter() - started)
