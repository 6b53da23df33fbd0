"""How much changes in a stream, and so how much a look at it by the detector is expected to bring."""

import math

import cv2
import numpy as np

from stages.types import Result, TrackChange, TrackState

MEMORY = 150.0  # frames after which a change counts for 1 / e
FIRST_CHANGES, FIRST_FRAMES = 1.2, 60.0  # what a stream begins with: neither busy nor quiet
FIRST_YIELD, FIRST_HINTS = 0.3, 4.0  # changes that a hint announces, and the number of hints that say so at first
UNSURE = 0.7  # a presence that falls below it is a hint
RESIZED = 1.6  # a mask that grows or shrinks by this factor from one frame to the next is a hint
CORRECTED = 1.25  # a mask that a keyframe makes larger or smaller by this factor was wrong
UNEXPLAINED = 2  # cells in which something moves that is no track's, at least
MOTION_HINTS = 0.3  # hints that they are worth, each time that motion is looked at
MOST_HINTS, LONGEST = 30.0, 300  # hints and frames since a keyframe; a stream without prompts has no further one


class Activity:
    """Estimates the changes that the next keyframe will find: new, returned, lost and corrected tracks.

    They come at the rate at which the last keyframes found them. To that come hints from the frames since: what the
    tracker doubts (presence that falls, masks that jump in size or meet, tracks that are hidden or not confirmed), and
    what moves outside all masks. How many changes a hint announces is learned, so that leaves in the wind cost a few
    looks and not more. The state is some numbers and the last frame's tracks; it is fed frame after frame.
    """

    def __init__(self) -> None:
        self._changes, self._frames = FIRST_CHANGES, FIRST_FRAMES
        self._announced, self._hinted = FIRST_YIELD * FIRST_HINTS, FIRST_HINTS
        self._hints = 0.0  # since the last keyframe
        self._since = 0  # frames since then
        self._looked = False  # there was a keyframe: on the first one all is new, which says nothing
        self._last: dict[int, tuple[float, float, TrackState]] = {}  # presence, area and state by track id
        self._meeting = 0  # cells with several tracks on the last frame

    @property
    def rate(self) -> float:
        """Changes a frame that keyframes find."""
        return self._changes / self._frames

    def expected(self, frames: int) -> float:
        """Changes that a keyframe would find now, ``frames`` after the last one."""
        return self.rate * frames + self._announced / self._hinted * self._hints

    def observe(self, result: Result) -> None:
        """The next frame's result, in order."""
        pixels = math.prod(result.logits.shape[1:])  # of a mask: areas are shares, since masks may change their size
        now = {
            track.id: (track.presence, area / pixels, track.state)
            for track, area in zip(result.tracks, result.areas, strict=True)
        }
        if self._looked and result.detections is not None:
            self._learn(self._found(result, now))
        elif self._looked:
            self._hints = min(MOST_HINTS, self._hints + self._doubts(result, now) + self._unexplained(result))
        self._looked |= result.detections is not None
        self._since = min(self._since + self._looked, LONGEST)
        self._last = now
        self._meeting = 0 if result.coverage is None else int((result.coverage > 1).sum())

    def _found(self, result: Result, now: dict[int, tuple[float, float, TrackState]]) -> float:
        """The changes that a keyframe has found. A new track that is not confirmed later takes its own back."""
        count = 0.0
        for event in result.events:
            if event.change is TrackChange.ENDED:
                count += -1 if self._state(event.track) is TrackState.NEW else 1
            elif event.change is not TrackChange.OCCLUDED:
                count += 1
        corrected = [track for track in now.keys() & self._last if self._resized(track, now, CORRECTED)]
        return count + len(corrected)

    def _learn(self, changes: float) -> None:
        """Take in what a keyframe has found, and forget what is long past."""
        kept = math.exp(-self._since / MEMORY)
        self._changes = max(0.0, self._changes * kept + changes)
        self._frames = self._frames * kept + self._since
        kept = math.exp(-self._since / (2 * MEMORY))
        self._hinted = max(1.0, self._hinted * kept) + self._hints
        self._announced = self._announced * kept + min(max(0.0, changes), self._hints)
        self._hints, self._since = 0.0, 0

    def _doubts(self, result: Result, now: dict[int, tuple[float, float, TrackState]]) -> float:
        """Hints of the tracker, each counted on the frame on which it begins."""
        hidden = sum(event.change in (TrackChange.OCCLUDED, TrackChange.RETURNED) for event in result.events)
        known = now.keys() & self._last
        unsure = sum(now[track][0] < UNSURE <= self._last[track][0] for track in known)
        resized = sum(self._resized(track, now, RESIZED) for track in known)
        meets = result.coverage is not None and int((result.coverage > 1).sum()) > self._meeting == 0
        return float(hidden + unsure + resized + meets)

    def _resized(self, track: int, now: dict[int, tuple[float, float, TrackState]], factor: float) -> bool:
        before, area = self._last[track][1], now[track][1]
        return min(before, area) > 0 and not 1 / factor <= area / before <= factor

    def _unexplained(self, result: Result) -> float:
        """Hints from motion outside all masks and the cells around them."""
        motion = result.frame.motion
        if motion is None or motion.moving is None or not motion.moving.any():
            return 0.0
        if result.coverage is None:
            return 0.0
        covered = cv2.dilate((result.coverage > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        return MOTION_HINTS * float((motion.moving & ~covered).sum() >= UNEXPLAINED)

    def _state(self, track: int) -> TrackState | None:
        return self._last[track][2] if track in self._last else None
