"""Detects on keyframes, where it pays on those of several streams at once."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from daemon.engine.stream_state import KeyframeRequest, StreamState
from daemon.limits.out_of_memory import free_memory_of, is_out_of_memory
from stages.detection.auto_threshold import FLOOR
from stages.detection.base import Detector
from stages.detection.prompts import Prompt
from stages.detection.tiles import detect_in_tiles
from stages.errors import one_line
from stages.types import Detections, Image

log = logging.getLogger(__name__)


class KeyframeDetector:
    """Detects on a stream's keyframe, and in the same call on those that other streams are to detect on next.

    ``waiting`` gives the streams whose next window starts with a keyframe, each with this picture. Their detections
    stay with the streams until their windows run, and are used if picture, prompts and thresholds are still the same.
    At most ``detector.together`` pictures, or tiles of pictures, are one call; a call that fails is made again with the
    stream's own picture alone, and after one that lacked memory all are, and tiles too. ``spent`` is told the seconds
    that each call took for live streams. The engine's thread owns it.
    """

    def __init__(
        self,
        detector: Detector,
        waiting: Callable[[], Sequence[tuple[StreamState, Image]]],
        spent: Callable[[float], None],
    ) -> None:
        self._detector, self._waiting, self._spent = detector, waiting, spent
        self._together = detector.together

    def detect(self, stream: StreamState, image: Image) -> tuple[Detections, float]:
        """The detections on a keyframe, for the prompts that the stream looks for now, and the seconds they took.

        Boxes are those above the configured thresholds, or all from `FLOOR` on for automatic ones. Raises what the
        detector does.
        """
        request = _request(stream, stream.lane.prompt_set.prompts, image)
        ahead, stream.ahead = stream.ahead, None
        if ahead is None or not ahead.is_same(request):
            ahead = self._shared(stream, request) or self._alone(request)
        assert ahead.detections is not None
        return ahead.detections, ahead.seconds

    def _shared(self, stream: StreamState, request: KeyframeRequest) -> KeyframeRequest | None:
        """The answer to ``request`` from one call with those of other streams; None where there is no such call."""
        others = self._others(stream, request) if self._together > 1 else []
        if not others:
            return None
        try:
            mine, *theirs = self._run([request, *(other for _, other in others)])
        except Exception as error:
            log.debug("detecting on %d keyframes together failed", 1 + len(others), exc_info=True)
            if is_out_of_memory(error):
                self._one_at_a_time(error)
            free_memory_of(error)
            return None
        for (other, _), answer in zip(others, theirs, strict=True):
            other.ahead = answer
            other.lane.busy.add(answer.seconds)
        stream.lane.busy.add(-sum(answer.seconds for answer in theirs))  # the engine adds the whole call to it
        return mine

    def _alone(self, request: KeyframeRequest) -> KeyframeRequest:
        """The answer to ``request`` alone, tile by tile where there was too little memory for several tiles."""
        try:
            return self._run([request])[0]
        except Exception as error:
            if request.tiles == "off" or self._together == 1 or not is_out_of_memory(error):
                raise
            self._one_at_a_time(error)
            free_memory_of(error)
        return self._run([request])[0]

    def _one_at_a_time(self, error: Exception) -> None:
        self._together = 1
        log.warning(
            "detecting on one keyframe at a time from now on: %s", one_line(error), extra={"event": "out_of_memory"}
        )

    def _others(self, stream: StreamState, request: KeyframeRequest) -> list[tuple[StreamState, KeyframeRequest]]:
        """The requests of other streams that can be one call with ``request`` and are not answered yet."""
        found = []
        for other, image in self._waiting():
            theirs = _request(other, other.lane.prompt_set.asked, image)
            answered = other.ahead is not None and other.ahead.is_same(theirs)
            if other is not stream and not answered and theirs.together_with(request):
                found.append((other, theirs))
        return found[: self._together - 1]

    def _run(self, requests: Sequence[KeyframeRequest]) -> list[KeyframeRequest]:
        """The requests, which can be one call, with their answers. Each is charged an equal share of the time."""
        started, first = time.perf_counter(), requests[0]
        images = [each.image for each in requests]
        asked = first.prompts, first.thresholds, first.tiles
        found = detect_in_tiles(self._detector, images, *asked, self._together)
        seconds = (time.perf_counter() - started) / len(requests)
        self._spent(seconds * sum(each.live for each in requests))
        return [replace(each, detections=one, seconds=seconds) for each, one in zip(requests, found, strict=True)]


def _request(stream: StreamState, prompts: tuple[Prompt, ...], image: Image) -> KeyframeRequest:
    detection = stream.detection
    thresholds = (FLOOR, FLOOR) if stream.auto else (detection.box_threshold, detection.text_threshold)
    return KeyframeRequest(image, prompts, thresholds, detection.tiles, stream.lane.live)
