"""What small pictures tell: scene cuts, and what moves by itself while the camera moves."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest

from stages.keyframes.motion import STEP, MotionWatch
from stages.types import GRID, Image, Motion

HEIGHT, WIDTH = 270, 480


def scene(seed: int, side: int = 900) -> Image:
    """A picture with structure, larger than what the camera sees of it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (side // 30, side // 30, 3)).astype(np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def view(picture: Image, x: int = 0, y: int = 0) -> Image:
    return picture[100 + y : 100 + y + HEIGHT, 100 + x : 100 + x + WIDTH].copy()


def with_square(image: Image, x: int, y: int) -> Image:
    cv2.rectangle(image, (x, y), (x + 50, y + 50), (255, 255, 255), -1)
    return image


def looks(images: Iterator[Image] | Sequence[Image]) -> list[Motion]:
    watch = MotionWatch()
    return [watch.look(image) for image in images]


def moving(motions: list[Motion]) -> list[set[tuple[int, int]]]:
    """The cells (row, column) of each look at motion."""
    return [set(zip(*np.nonzero(m.moving), strict=True)) for m in motions if m.moving is not None]


def test_motion_is_looked_at_on_every_third_frame_and_never_on_the_first():
    found = looks([view(scene(0))] * (2 * STEP + 1))
    assert [m.moving is not None for m in found] == [False, *([False] * (STEP - 1) + [True]) * 2]
    assert not any(m.cut for m in found)


def test_what_moves_is_found_where_it_is():
    found = moving(looks(with_square(view(scene(0)), 200 + 4 * t, 100) for t in range(STEP + 1)))
    [cells] = found
    assert cells
    assert all(5 <= row <= 10 and 6 <= column <= 9 for row, column in cells)


@pytest.mark.parametrize("speed", [1, 3, 6])
def test_a_camera_that_pans_over_a_still_scene_shows_no_motion(speed):
    found = moving(looks(view(scene(1), x=speed * t) for t in range(4 * STEP)))
    assert found == [set()] * 3


def test_what_moves_while_the_camera_pans_is_told_from_the_rest():
    found = moving(looks(with_square(view(scene(1), x=4 * t), 200 - 6 * t, 100) for t in range(3 * STEP)))
    assert len(found) == 2
    for cells in found:
        assert cells
        assert all(4 <= row <= 11 and 2 <= column <= 10 for row, column in cells)


def test_light_that_changes_is_no_motion_and_no_cut():
    dimmed = [(view(scene(2)) * light).astype(np.uint8) for light in (1.0, 0.9, 0.8, 0.7, 0.6, 0.9, 0.7)]
    found = looks(dimmed)
    assert not any(m.cut for m in found)
    assert not any(moving(found))


def test_a_cut_is_one_frame_and_motion_is_not_looked_at_across_it():
    found = looks([*[view(scene(3))] * 5, *[view(scene(4))] * 5])
    assert [m.cut for m in found] == [t == 5 for t in range(10)]
    assert not any(moving(found))


def test_black_and_grey_frames_show_nothing():
    for level in (0, 128, 255):
        found = looks([np.full((HEIGHT, WIDTH, 3), level, np.uint8)] * 7)
        assert not any(m.cut for m in found)
        assert not any(moving(found))


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 700, 3), (2160, 3840, 3), (97, 33, 3)])
def test_pictures_of_any_size_are_looked_at(shape):
    rng = np.random.default_rng(0)
    found = looks([rng.integers(0, 256, shape).astype(np.uint8) for _ in range(STEP + 1)])
    assert all(m.moving is None or m.moving.shape == (GRID, GRID) for m in found)
