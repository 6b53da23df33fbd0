"""The hard worlds of the test source: look-alikes that cross, bodies that hide, bodies that stay away for long.

Seven bodies and a bigger one in front of them move on tours of ``CYCLE`` seconds. A set of tours is drawn again until
it holds what ``draw_hard_bodies`` promises.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.testsrc.bodies import LABELS, Body, draw_body
from stages.testsrc.motion import Place, Tour
from stages.testsrc.visibility import is_fair

CYCLE = 20.0  # seconds until everything moves as before
CAST = 8  # the bodies that the promises are about
_FASTEST = 0.45  # sides a second


@dataclass(frozen=True, slots=True, eq=False)
class _Leg:
    """The next straight line of a tour: ``seconds`` long and ``weight``'s share of what the cycle has left over."""

    to: Place | Tour  # a place, or whom to meet
    seconds: float = 0.0
    weight: float = 0.0


class _NoWayError(Exception):
    """What was drawn does not fit into the cycle."""


def draw_hard_bodies(rng: np.random.Generator, count: int) -> list[Body]:
    """``count`` bodies, at least ``CAST``, in drawing order; the promises hold for the last ``CAST``.

    Two pairs of look-alikes pass each other at least four times a cycle. Bodies hide behind others for up to 2 s and
    leave the picture for 1 to 5 s, at least two of them for more than 3 s. One of each pair is always in sight, so that
    the other can be told when it comes back.
    """
    while True:
        cover, *names = _draw_names(rng)
        try:
            cast = _draw_cast(rng, cover, names)
        except _NoWayError:
            continue
        if is_fair(cast, CYCLE):
            break
    extras = [_draw_single(rng, str(rng.choice(names[5:])), cast[-1], hides=0, away=()) for _ in range(count - CAST)]
    return extras + cast


def _draw_names(rng: np.random.Generator) -> list[str]:
    """All names in any order, but first that of a shape behind which others find room."""
    names = [str(name) for name in rng.permutation(LABELS)]
    first = next(name for name in names if name.endswith(("circle", "square")))
    names.remove(first)
    return [first, *names]


def _draw_cast(rng: np.random.Generator, cover_name: str, names: list[str]) -> list[Body]:
    """Two pairs, three singles, which have the first five names, and the bigger one last: it is in front."""
    cover = draw_body(rng, cover_name, float(rng.uniform(0.29, 0.33)), _circling(rng))
    sides = rng.permutation(4)
    pairs = [body for k in range(2) for body in _draw_pair(rng, names[k], int(sides[k]), cover)]
    singles = [
        _draw_single(rng, names[2], cover, hides=0, away=(rng.uniform(3.1, 4.2), rng.uniform(1.1, 2.5))),
        _draw_single(rng, names[3], cover, hides=2, away=()),
        _draw_single(rng, names[4], cover, hides=1, away=(rng.uniform(1.1, 4.0),)),
    ]
    others = pairs + singles
    return [*(others[i] for i in rng.permutation(len(others))), cover]


def _circling(rng: np.random.Generator) -> Tour:
    """A slow ellipse about the middle."""
    turns, radii = int(rng.choice([-2, -1, 1, 2])), rng.uniform(0.03, 0.1, 2)
    times = np.linspace(0, CYCLE, 32, endpoint=False)
    angles = 2 * np.pi * (turns * times / CYCLE + rng.random())
    places = rng.uniform(0.44, 0.56, 2) + radii * np.stack([np.cos(angles), np.sin(angles)], 1)
    return Tour(times, places, CYCLE)


# --- one body


def _draw_single(rng: np.random.Generator, label: str, cover: Body, hides: int, away: Sequence[float]) -> Body:
    """A body that wanders, hides behind ``cover`` and leaves the picture for each of the times ``away``."""
    size, start = float(rng.uniform(0.185, 0.25)), rng.uniform(0.18, 0.82, 2)
    acts = [*away, *[None] * hides]
    here, legs = start, list[_Leg]()
    for act in [acts[i] for i in rng.permutation(len(acts))]:
        legs += _hiding(rng, here, cover) if act is None else _leaving(rng, here, size, act)
        here = _stroll(rng, here, 0.4)
        legs.append(_Leg(here, weight=_distance(legs[-1].to, here)))
    reach = (CYCLE - sum(leg.seconds for leg in legs)) * rng.uniform(0.15, 0.3)
    while sum(leg.weight for leg in legs) + _distance(here, start) < reach:
        there = _stroll(rng, here, 0.5)
        legs.append(_Leg(there, weight=_distance(here, there)))
        here = there
    legs.append(_Leg(start, weight=_distance(here, start)))
    return draw_body(rng, label, size, _tour(legs))


def _hiding(rng: np.random.Generator, here: Place, cover: Body) -> list[_Leg]:
    """Behind ``cover``, along with it for a while, and back."""
    assert isinstance(cover.motion, Tour)
    way = (_distance(here, cover.motion.places.mean(0)) + 0.06) / rng.uniform(0.25, 0.35)
    stay = rng.uniform(0.3, 0.8)
    return [_Leg(cover.motion, way), _Leg(cover.motion, stay / 2), _Leg(cover.motion, stay / 2), _Leg(here, way)]


def _leaving(rng: np.random.Generator, here: Place, size: float, away: float) -> list[_Leg]:
    """Out over the nearest side, along it, and back."""
    axis = int(np.abs(here - 0.5).argmax())
    out = here.copy()
    out[axis] = 1 + 0.72 * size if here[axis] > 0.5 else -0.72 * size
    back = out.copy()
    back[1 - axis] = np.clip(out[1 - axis] + rng.uniform(-0.25, 0.25), 0.2, 0.8)
    pace = rng.uniform(0.25, 0.4)
    return [
        _Leg(out, _distance(here, out) / pace),
        _Leg((out + back) / 2, away / 2),
        _Leg(back, away / 2),
        _Leg(here, _distance(back, here) / pace),
    ]


def _stroll(rng: np.random.Generator, here: Place, most: float) -> Place:
    """A place inside the picture and not farther than ``most``."""
    heading = rng.uniform(0, 2 * np.pi)
    step = rng.uniform(0.4, 1) * most * np.array([np.cos(heading), np.sin(heading)])
    place: Place = np.clip(here + step, 0.16, 0.84)
    return place


# --- two look-alikes


def _draw_pair(rng: np.random.Generator, label: str, side: int, cover: Body) -> list[Body]:
    """Two of a name on one lane along a side of the picture: they swap ends, one leaves, one hides."""
    size = float(rng.uniform(0.185, 0.21))
    sizes = size, size * float(rng.uniform(0.97, 1.06))
    starts = [_lane_end(rng, side, end) for end in (0, 1)]
    here, legs = list(starts), (list[_Leg](), list[_Leg]())
    passes = int(rng.choice([4, 6]))
    acts = rng.permutation(["pass"] * (passes - 1) + ["leave", "hide"])
    for act in acts:
        if act == "pass":
            here = [_lane_end(rng, side, end) for end in _ends(side, here)[::-1]]
            for own, place in zip(legs, here, strict=True):
                own.append(_Leg(place, weight=1))
            continue
        actor = int(rng.integers(2))
        if act == "leave":
            part = _leaving(rng, here[actor], sizes[actor], rng.uniform(3.1, 4.2))
        else:
            part = _hiding(rng, here[actor], cover)
        legs[actor].extend(part)
        legs[1 - actor].extend(_meanwhile(rng, here[1 - actor], sum(leg.seconds for leg in part)))
    for own, place in zip(legs, starts, strict=True):
        own.append(_Leg(place, weight=1))
    return [draw_body(rng, label, s, _tour(own)) for s, own in zip(sizes, legs, strict=True)]


def _lane_end(rng: np.random.Generator, side: int, end: int) -> Place:
    """Near one of the two ends of the lane; sides are left, right, top, bottom."""
    across = rng.uniform(0.14, 0.23)
    along = rng.uniform(0.16, 0.24)
    place = np.array([across if side % 2 == 0 else 1 - across, along if end == 0 else 1 - along])
    return place if side < 2 else place[::-1].copy()


def _ends(side: int, places: Sequence[Place]) -> list[int]:
    along = 1 if side < 2 else 0
    return [int(place[along] > 0.5) for place in places]


def _meanwhile(rng: np.random.Generator, here: Place, seconds: float) -> list[_Leg]:
    """What the other one does: short strolls, back in time."""
    return [_Leg(place, seconds / 3) for place in (_stroll(rng, here, 0.2), _stroll(rng, here, 0.2), here)]


# --- tours


def _tour(legs: Sequence[_Leg]) -> Tour:
    """The tour whose last leg ends where its first begins. Raises _NoWayError when it would go too fast."""
    left = CYCLE - sum(leg.seconds for leg in legs)
    share = left / max(sum(leg.weight for leg in legs), 1e-9)
    seconds = np.array([leg.seconds + leg.weight * share for leg in legs])
    if seconds.min() <= 0:
        raise _NoWayError
    times = seconds.cumsum()
    ends = [leg.to.position(t) if isinstance(leg.to, Tour) else leg.to for leg, t in zip(legs, times, strict=True)]
    places = np.array([ends[-1], *ends[:-1]])
    speeds = np.linalg.norm(np.diff([*places, ends[-1]], axis=0), axis=1) / seconds
    if speeds.max() > _FASTEST:
        raise _NoWayError
    return Tour(np.array([0, *times[:-1]]), places, CYCLE)


def _distance(first: Place | Tour, second: Place) -> float:
    start = first.position(0) if isinstance(first, Tour) else first
    return float(np.linalg.norm(start - second))
