"""Capture times: presentation timestamps (PTS) to seconds.

Both clocks take the frames of one connection in order; their times never decrease.
"""

import math
from collections import deque
from fractions import Fraction
from operator import itemgetter

from av.format import ContainerFormat, Flags

_LONGEST_GAP = 10.0  # seconds; where jumps are allowed, a longer step ahead is one; the ffmpeg program does the same
_RESTART_SECONDS = 1.0  # a longer step back starts a new count
_REORDERED_FRAMES = 3  # in a format that allows jumps, already a step back of more frames does
_SEGMENTED = ("hls", "dash")
_COUNTED = ("avi", "rawvideo", "yuv4mpegpipe")  # their time stamps are numbers of frames, times a nominal rate
_MEMORY_SECONDS = 10.0  # that the offset of a live stream is remembered; longer than a stall of its connection
_SEGMENT_MEMORY = 30.0  # the same where frames come in segments: longer than one
_DRIFT = 0.0005  # seconds per second by which a camera's clock may be slow; crystals stay within a fifth of it
_LEAST_RISE = 0.02  # seconds in half of the memory by which the offset must rise to measure the drift; jitter is less
_MAX_DELAY_SECONDS = 10  # more than the delay of a stalled connection that recovers
_CLOCK_STEP_SECONDS = 0.1  # a smaller difference is the time between reading the two clocks


def has_clock(container_format: ContainerFormat) -> bool:
    """Whether the format's time stamps come from a clock.

    FFmpeg makes up the others from a nominal rate, mostly 25 Hz: for pictures one after another, as in MJPEG over HTTP,
    and for bare H.264. https://github.com/mpv-player/mpv/pull/5422
    """
    name = container_format.name
    made_up = Flags(container_format.flags) & Flags.no_timestamps
    return not (made_up or name.endswith("_pipe") or name in _COUNTED)


def has_jumps(container_format: ContainerFormat) -> bool:
    """Whether the format allows its time stamps to jump, as MPEG-TS does."""
    return bool(Flags(container_format.flags) & Flags.ts_discont)


def in_segments(container_format: ContainerFormat) -> bool:
    """Whether frames come in segments of several seconds: HLS and DASH."""
    return bool(set(container_format.name.split(",")) & set(_SEGMENTED))


class FileClock:
    """PTS to seconds since the first frame."""

    def __init__(self, rate: float, jumps: bool = False) -> None:
        """``rate``: nominal frames per second, for frames without a PTS. ``jumps``: the format allows them (has_jumps).

        Where the PTS jump, the count goes on one frame interval after the latest frame.
        """
        self._frame_seconds = 1 / Fraction(rate)
        self._longest_gap = _LONGEST_GAP if jumps else math.inf
        reordered = float(_REORDERED_FRAMES * self._frame_seconds)
        self._longest_step_back = min(reordered, _RESTART_SECONDS) if jumps else _RESTART_SECONDS
        self._origin: Fraction | None = None
        self._latest: Fraction | None = None

    def seconds(self, pts: int | None, time_base: Fraction) -> float:
        """Time of the frame; one frame interval after the latest frame where ``pts`` is None or jumps."""
        latest = Fraction(0) if self._latest is None else self._latest
        now = latest if self._latest is None else latest + self._frame_seconds
        if pts is not None:
            presented = pts * time_base
            # a short step back is a frame out of order; a long one is a restart, as in concatenated recordings
            if self._origin is None or self._jumped(presented - self._origin - latest):
                self._origin = presented - now
            now = max(presented - self._origin, latest)
        self._latest = now
        return float(now)

    def _jumped(self, step: Fraction) -> bool:
        return -step > self._longest_step_back or step > self._longest_gap


class LiveClock:
    """PTS and arrival to Unix seconds: spaced as the PTS are, with the delay of the least delayed packet.

    The time of a frame is its PTS plus an offset: the smallest difference of arrival and PTS in the last seconds.
    Network jitter and stalls are thus removed. The difference rises steadily where the camera's clock is slow: the rise
    is measured, and the offset follows. Where PTS step back (wrap or restart) or fall far behind arrival, a new offset
    starts; a step ahead only gives a smaller offset. A frame without a PTS gets its arrival time. No time is later than
    the arrival.

    Arrival is read from the monotonic clock; the wall clock only gives its origin. When the wall clock is set ahead,
    times follow. When it is set back, times continue without a step, because they must not decrease, until the wall
    clock has caught up or the source is opened again.
    """

    def __init__(self, rate: float = 25.0, segments: bool = False) -> None:
        """``segments``: frames come in segments, a new one after the one before, also where its PTS start anew.

        ``rate``: nominal frames per second.
        """
        self._frame_seconds = 1 / rate
        self._segments = segments
        self._memory = _SEGMENT_MEMORY if segments else _MEMORY_SECONDS
        self._wall_offset: float | None = None  # wall clock minus monotonic clock
        self._least: deque[tuple[float, float]] = deque()  # arrival and least offset (arrival minus PTS) of each second
        self._drift = _DRIFT
        self._first: float | None = None  # monotonic time of a first frame without a PTS, where that is known
        self._last_pts: float | None = None  # seconds
        self._last_captured = 0.0  # monotonic
        self._latest = float("-inf")

    def seconds(self, pts: int | None, time_base: Fraction, monotonic: float, wall: float) -> float:
        """Unix time of a frame whose packet arrived at ``monotonic`` = time.monotonic(), ``wall`` = time.time()."""
        wall_offset = wall - monotonic
        if self._wall_offset is None or wall_offset - self._wall_offset > _CLOCK_STEP_SECONDS:
            self._wall_offset = wall_offset
        if pts is not None:
            captured = self._captured(float(pts * time_base), monotonic)
        else:
            captured = monotonic if self._first is None or self._last_pts is not None else self._first
        self._latest = max(self._latest, captured + self._wall_offset)
        return self._latest

    def expect(self, pts: float, captured: float, arrival: float) -> None:
        """Learn when a first packet was taken, before its frame comes; all in seconds, the last two monotonic."""
        self._least.append((arrival, captured - pts))
        self._first = captured - self._frame_seconds

    def _captured(self, pts: float, arrival: float) -> float:
        """Capture time on the monotonic clock; never after ``arrival``."""
        offset = arrival - pts
        if self._last_pts is not None and pts < self._last_pts:
            self._least.clear()
            if self._segments and arrival - self._last_captured < self._memory:
                offset = min(offset, self._last_captured + self._frame_seconds - pts)
        while self._least and int(arrival) - int(self._least[0][0]) > self._memory:
            self._least.popleft()
        expected = min((least + self._drift * (arrival - at) for at, least in self._least), default=offset)
        if offset - expected >= _MAX_DELAY_SECONDS and not self._segments:
            self._least.clear()
            expected = offset
        self._remember(arrival, offset)
        self._last_pts, self._last_captured = pts, pts + min(offset, expected)
        return self._last_captured

    def _remember(self, arrival: float, offset: float) -> None:
        if not self._least or int(arrival) > int(self._least[-1][0]):
            self._drift = self._measured_drift()
            self._least.append((arrival, offset))
        elif offset < self._least[-1][1]:
            self._least[-1] = self._least[-1][0], offset

    def _measured_drift(self) -> float:
        """Seconds per second by which the offset rises, where frames came in each second of the memory."""
        half, seconds = int(self._memory) // 2, list(self._least)
        if len(seconds) < 2 * half or int(seconds[-1][0]) - int(seconds[0][0]) >= len(seconds):
            return _DRIFT
        (before, old), (after, new) = (min(part, key=itemgetter(1)) for part in (seconds[:half], seconds[-half:]))
        return max(_DRIFT, (new - old) / (after - before)) if new - old > _LEAST_RISE else _DRIFT
