"""When one stream gets its keyframes: between two limits, by need and by what it may spend."""

import math
from collections.abc import Iterable

from stages.keyframes.activity import Activity
from stages.types import Frame, Result, Window
from stages.windows import join_windows

WORTH = 4.0  # expected changes times frames that have passed, from which on a keyframe is worth its time
SAVED = 2.0  # keyframes that a stream without clock can save up
ROUNDING = 1e-6  # keyframes


class KeyframePace:
    """Counts the tracked frames since a stream's last keyframe, and says how much the next one is needed.

    Limits are frames from one keyframe to the next: not below ``least``, not above ``every``. Between them it goes by
    `need`. A stream that is not timed, as a file, decides only on every ``least``-th frame and on cuts, and saves up
    ``share`` of a keyframe with each frame; so neither speed nor window lengths change where its keyframes are.

    The need is the expected number of changes times the number of frames that have passed. With changes at even rates a
    number of keyframes brings most where all streams have theirs at the same need: the time from one to the next then
    falls with the square root of the rate.
    """

    def __init__(self, every: int, least: int, share: float) -> None:
        self._every, self._least, self._share = every, least, share
        self._waited = 0  # frames from the last keyframe to the next frame
        self._saved = SAVED
        self._activity = Activity()
        self._since_cut = every  # frames from the last cut to the next frame
        self._new_scene = False  # there was a cut since the last keyframe

    @property
    def must(self) -> bool:
        """The next frame is a keyframe, whatever it costs."""
        return self._waited >= self._every

    def may(self, frame: Frame | None, timed: bool) -> bool:
        """Whether the next frame may be a keyframe, if it is needed; ``frame``: that one, if it is there.

        ``timed``: the stream's keyframes are paid for with time and not from what it has saved up.
        """
        if self._share == 0 or self._waited < self._least:
            return False
        decided = self._waited % self._least == 0 or (frame is not None and self._opens(frame, 0))
        return timed or (decided and self._saved > 1 - ROUNDING)

    def need(self, frame: Frame | None = None) -> float:
        """How much a keyframe on the next frame is needed; from 1 on it is worth its time.

        ``frame``: the next one, if it is there. A cut is worth any time, but not a series of them.
        """
        if self._new_scene or (frame is not None and self._opens(frame, 0)):
            return math.inf
        return self._activity.expected(self._waited) * self._waited / WORTH

    def room(self, most: int, keyframe: bool, timed: bool) -> int:
        """Frames, at most ``most``, of a window that ends before the next frame on which may be decided.

        ``keyframe``: it starts with one. ``timed``: it is decided whenever a window is taken up.
        """
        waited = 0 if keyframe else self._waited
        end = self._every
        if not timed and self._share > 0:
            end = min(end, (waited // self._least + 1) * self._least)
        return max(1, min(most, end - waited))

    def join(self, window: Window, following: Window, most: int, keyframe: bool) -> Window | None:
        """As `join_windows`, but a cut on which there may be a keyframe starts a window.

        ``keyframe``: the next window, whose beginning ``window`` is, starts with one.
        """
        frame, waited = following.frames[0], len(window.frames) + (0 if keyframe else self._waited)
        if self._share > 0 and waited >= self._least and self._opens(frame, len(window.frames)):
            return None
        return join_windows(window, following, most)

    def begin(self, window: Window) -> None:
        """Count a window that is run now."""
        if window.keyframe:
            self._waited, self._new_scene = 0, False
            self._saved = max(-SAVED, self._saved - 1)
        for number, frame in enumerate(window.frames):
            if self._opens(frame, 0) and not (window.keyframe and number == 0):
                self._new_scene = True
            self._since_cut = 1 if frame.cut else min(self._every, self._since_cut + 1)
        self._waited += len(window.frames)
        self._saved = min(SAVED, self._saved + self._share * len(window.frames))

    def observe(self, results: Iterable[Result]) -> None:
        """The results of that window."""
        for result in results:
            self._activity.observe(result)

    def _opens(self, frame: Frame, ahead: int) -> bool:
        """Whether a frame, ``ahead`` frames after the next one, opens a scene: a cut, and the first for a while."""
        return frame.cut and self._since_cut + ahead >= self._every
