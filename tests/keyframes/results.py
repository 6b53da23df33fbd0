"""Results of a tracker, as far as the need for keyframes goes by them."""

from fractions import Fraction

import numpy as np
import torch

from stages.types import GRID, Clock, Detections, Frame, Motion, Result, Track, TrackChange, TrackEvent, TrackState

IMAGE = np.zeros((8, 8, 3), np.uint8)


def frame(index: int, motion: Motion | None = None, clock: Clock = Clock.FILE) -> Frame:
    return Frame(index, index, Fraction(1, 30), index / 30, clock, IMAGE, motion=motion)


def result(
    index: int,
    *changes: TrackChange,
    looked: bool = False,
    presence: float = 1.0,
    area: int = 100,
    state: TrackState = TrackState.TRACKED,
    motion: Motion | None = None,
) -> Result:
    """One track, id 1, whose mask has a pixel in the grid's first cell; ``changes`` happened to it."""
    events = tuple(TrackEvent(change, 1, 0, index, "") for change in changes)
    coverage = np.zeros((GRID, GRID), np.uint8)
    coverage[0, 0] = 1
    return Result(
        frame(index, motion),
        0,
        looked,
        (Track(1, 0, 0, index, state, 0.9, presence),),
        torch.zeros(1, 4, 4),
        events,
        Detections.empty() if looked else None,
        areas=(area,),
        coverage=coverage,
    )


def moving(*cells: tuple[int, int]) -> Motion:
    """Motion in these cells (row, column)."""
    grid = np.zeros((GRID, GRID), bool)
    for cell in cells:
        grid[cell] = True
    return Motion(False, grid)
