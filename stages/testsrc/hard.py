"""The hard worlds of the test source: crossing look-alikes, occlusions and long absences.

Seven bodies and a larger occluder in front of them move on periodic paths of ``CYCLE`` seconds. The paths are sampled
again until they meet the constraints that ``sample_hard_bodies`` lists.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from stages.testsrc.bodies import LABELS, Body, sample_body
from stages.testsrc.motion import Point, WaypointPath
from stages.testsrc.visibility import meets_constraints

CYCLE = 20.0  # seconds; the period of all paths
MIN_BODIES = 8  # to which the constraints apply
_MAX_SPEED = 0.45  # image sides per second


@dataclass(frozen=True, slots=True, eq=False)
class _Segment:
    """A straight segment of a path: it takes ``seconds``, plus a share by ``weight`` of the cycle's remaining time."""

    end: Point | WaypointPath  # a point, or a moving body to meet
    seconds: float = 0.0
    weight: float = 0.0


class _InfeasibleError(Exception):
    """The sampled path does not fit into the cycle."""


def sample_hard_bodies(rng: np.random.Generator, count: int) -> list[Body]:
    """``count`` bodies, at least ``MIN_BODIES``, in drawing order; the last ``MIN_BODIES`` meet the constraints.

    Two pairs of look-alikes pass each other at least four times per cycle. Bodies are occluded for up to 2 s and leave
    the image for 1 to 5 s, at least two of them for more than 3 s. One of each pair is always visible, so that the
    other can be told from it when it returns.
    """
    while True:
        occluder, *labels = _sample_labels(rng)
        try:
            bodies = _sample_main_bodies(rng, occluder, labels)
        except _InfeasibleError:
            continue
        if meets_constraints(bodies, CYCLE):
            break
    return [_sample_extra(rng, labels[5:], bodies[-1]) for _ in range(count - MIN_BODIES)] + bodies


def _sample_labels(rng: np.random.Generator) -> list[str]:
    """All labels in random order; the first one is of a shape that can occlude others."""
    labels = [str(label) for label in rng.permutation(LABELS)]
    first = next(label for label in labels if label.endswith(("circle", "square")))
    labels.remove(first)
    return [first, *labels]


def _sample_main_bodies(rng: np.random.Generator, occluder_label: str, labels: list[str]) -> list[Body]:
    """Two pairs and three single bodies, which have the first five labels; the occluder is last, so in front."""
    occluder = sample_body(rng, occluder_label, float(rng.uniform(0.29, 0.33)), _elliptic_path(rng))
    sides = rng.permutation(4)
    pairs = [body for k in range(2) for body in _sample_pair(rng, labels[k], int(sides[k]), occluder)]
    singles = [
        _sample_single(rng, labels[2], occluder, occlusions=0, absences=(rng.uniform(3.1, 4.2), rng.uniform(1.1, 2.5))),
        _sample_single(rng, labels[3], occluder, occlusions=2, absences=()),
        _sample_single(rng, labels[4], occluder, occlusions=1, absences=(rng.uniform(1.1, 4.0),)),
    ]
    others = pairs + singles
    return [*(others[i] for i in rng.permutation(len(others))), occluder]


def _elliptic_path(rng: np.random.Generator) -> WaypointPath:
    """A slow ellipse around the image's centre."""
    turns, radii = int(rng.choice([-2, -1, 1, 2])), rng.uniform(0.03, 0.1, 2)
    times = np.linspace(0, CYCLE, 32, endpoint=False)
    angles = 2 * np.pi * (turns * times / CYCLE + rng.random())
    points = rng.uniform(0.44, 0.56, 2) + radii * np.stack([np.cos(angles), np.sin(angles)], 1)
    return WaypointPath(times, points, CYCLE)


# --- single bodies


def _sample_single(
    rng: np.random.Generator, label: str, occluder: Body, occlusions: int, absences: Sequence[float]
) -> Body:
    """A body on a random path: hidden behind ``occluder`` ``occlusions`` times, out of the image for ``absences`` s."""
    size, start = float(rng.uniform(0.185, 0.25)), rng.uniform(0.18, 0.82, 2)
    events = [*absences, *[None] * occlusions]
    point, segments = start, list[_Segment]()
    for absence in [events[i] for i in rng.permutation(len(events))]:
        segments += _occlusion(rng, point, occluder) if absence is None else _absence(rng, point, size, absence)
        point = _nearby(rng, point, 0.4)
        segments.append(_Segment(point, weight=_distance(segments[-1].end, point)))
    length = (CYCLE - sum(segment.seconds for segment in segments)) * rng.uniform(0.15, 0.3)
    while sum(segment.weight for segment in segments) + _distance(point, start) < length:
        following = _nearby(rng, point, 0.5)
        segments.append(_Segment(following, weight=_distance(point, following)))
        point = following
    segments.append(_Segment(start, weight=_distance(point, start)))
    return sample_body(rng, label, size, _path(segments))


def _sample_extra(rng: np.random.Generator, labels: Sequence[str], occluder: Body) -> Body:
    """A single body that is always inside the image."""
    while True:
        with suppress(_InfeasibleError):
            return _sample_single(rng, str(rng.choice(labels)), occluder, occlusions=0, absences=())


def _occlusion(rng: np.random.Generator, start: Point, occluder: Body) -> list[_Segment]:
    """From ``start`` behind ``occluder``, with it for a while, and back."""
    path = occluder.motion
    assert isinstance(path, WaypointPath)
    approach = (_distance(start, path.points.mean(0)) + 0.06) / rng.uniform(0.25, 0.35)
    stay = rng.uniform(0.3, 0.8)
    return [_Segment(path, approach), _Segment(path, stay / 2), _Segment(path, stay / 2), _Segment(start, approach)]


def _absence(rng: np.random.Generator, start: Point, size: float, seconds: float) -> list[_Segment]:
    """From ``start`` out of the image over the nearest side, along it for ``seconds``, and back."""
    axis = int(np.abs(start - 0.5).argmax())
    out = start.copy()
    out[axis] = 1 + 0.72 * size if start[axis] > 0.5 else -0.72 * size
    back = out.copy()
    back[1 - axis] = np.clip(out[1 - axis] + rng.uniform(-0.25, 0.25), 0.2, 0.8)
    speed = rng.uniform(0.25, 0.4)
    return [
        _Segment(out, _distance(start, out) / speed),
        _Segment((out + back) / 2, seconds / 2),
        _Segment(back, seconds / 2),
        _Segment(start, _distance(back, start) / speed),
    ]


def _nearby(rng: np.random.Generator, start: Point, max_distance: float) -> Point:
    """A random point inside the image, at most ``max_distance`` from ``start``."""
    heading = rng.uniform(0, 2 * np.pi)
    step = rng.uniform(0.4, 1) * max_distance * np.array([np.cos(heading), np.sin(heading)])
    point: Point = np.clip(start + step, 0.16, 0.84)
    return point


# --- pairs of look-alikes


def _sample_pair(rng: np.random.Generator, label: str, side: int, occluder: Body) -> list[Body]:
    """Two bodies of one label on a lane along a side of the image: they swap ends, one leaves, one is occluded."""
    size = float(rng.uniform(0.185, 0.21))
    sizes = size, size * float(rng.uniform(0.97, 1.06))
    starts = [_lane_end(rng, side, end) for end in (0, 1)]
    points, paths = list(starts), (list[_Segment](), list[_Segment]())
    passes = int(rng.choice([4, 6]))
    for event in rng.permutation(["pass"] * (passes - 1) + ["leave", "hide"]):
        if event == "pass":
            points = [_lane_end(rng, side, end) for end in _lane_ends(side, points)[::-1]]
            for segments, point in zip(paths, points, strict=True):
                segments.append(_Segment(point, weight=1))
            continue
        mover = int(rng.integers(2))
        if event == "leave":
            part = _absence(rng, points[mover], sizes[mover], rng.uniform(3.1, 4.2))
        else:
            part = _occlusion(rng, points[mover], occluder)
        paths[mover].extend(part)
        paths[1 - mover].extend(_stay(rng, points[1 - mover], sum(segment.seconds for segment in part)))
    for segments, point in zip(paths, starts, strict=True):
        segments.append(_Segment(point, weight=1))
    return [sample_body(rng, label, s, _path(segments)) for s, segments in zip(sizes, paths, strict=True)]


def _lane_end(rng: np.random.Generator, side: int, end: int) -> Point:
    """A point near ``end``, 0 or 1, of the lane; sides are left, right, top, bottom."""
    across = rng.uniform(0.14, 0.23)
    along = rng.uniform(0.16, 0.24)
    point = np.array([across if side % 2 == 0 else 1 - across, along if end == 0 else 1 - along])
    return point if side < 2 else point[::-1].copy()


def _lane_ends(side: int, points: Sequence[Point]) -> list[int]:
    """The end of the lane that each point is near."""
    along = 1 if side < 2 else 0
    return [int(point[along] > 0.5) for point in points]


def _stay(rng: np.random.Generator, start: Point, seconds: float) -> list[_Segment]:
    """To two points near ``start`` and back, in ``seconds``."""
    return [_Segment(point, seconds / 3) for point in (_nearby(rng, start, 0.2), _nearby(rng, start, 0.2), start)]


# --- paths


def _path(segments: Sequence[_Segment]) -> WaypointPath:
    """The closed path of ``segments``. Raises _InfeasibleError when it exceeds the cycle or the maximum speed."""
    remaining = CYCLE - sum(segment.seconds for segment in segments)
    share = remaining / max(sum(segment.weight for segment in segments), 1e-9)
    seconds = np.array([segment.seconds + segment.weight * share for segment in segments])
    if seconds.min() <= 0:
        raise _InfeasibleError
    times = seconds.cumsum()
    ends = [
        segment.end.position(t) if isinstance(segment.end, WaypointPath) else segment.end
        for segment, t in zip(segments, times, strict=True)
    ]
    points = np.array([ends[-1], *ends[:-1]])
    speeds = np.linalg.norm(np.diff([*points, ends[-1]], axis=0), axis=1) / seconds
    if speeds.max() > _MAX_SPEED:
        raise _InfeasibleError
    return WaypointPath(np.array([0, *times[:-1]]), points, CYCLE)


def _distance(first: Point | WaypointPath, second: Point) -> float:
    start = first.position(0) if isinstance(first, WaypointPath) else first
    return float(np.linalg.norm(start - second))
