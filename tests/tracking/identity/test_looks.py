"""The looks of an object: what each cue sees, and what it does not see."""

import pytest
import torch

from stages.segmentation.outputs import PICTURE_MEAN, PICTURE_STD
from stages.tracking.identity.looks import CUES, distances, looks_of

SIDE, LEVELS = 32, (4, 6)  # of masks and picture; channels of the two levels
PARTS = 3, 64, 8, 2 * LEVELS[0], 2 * LEVELS[1], 2


def picture(rgb: torch.Tensor) -> torch.Tensor:
    """(3, SIDE, SIDE) in [0, 1] -> normalised."""
    return (rgb - torch.tensor(PICTURE_MEAN)[:, None, None]) / torch.tensor(PICTURE_STD)[:, None, None]


def plain(red: float, green: float, blue: float) -> torch.Tensor:
    return torch.tensor([red, green, blue])[:, None, None].expand(3, SIDE, SIDE).clone()


def square(x: int = 8, y: int = 8, width: int = 16, height: int = 16) -> torch.Tensor:
    mask = torch.full((1, SIDE, SIDE), -5.0)
    mask[0, y : y + height, x : x + width] = 5.0
    return mask


def look(rgb: torch.Tensor, mask: torch.Tensor | None = None, seed: int = 0) -> torch.Tensor:
    """The looks in a picture whose features are random numbers of ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.randn(side * side, dim, generator=generator) for side, dim in zip((32, 16), LEVELS, strict=True)]
    return looks_of((picture(rgb), *levels), (square() if mask is None else mask,))[0]


def apart(first: torch.Tensor, second: torch.Tensor) -> dict[str, float]:
    return dict(zip(CUES, distances(first, second, PARTS)[0, 0].tolist(), strict=True))


def stripes(vertical: bool) -> torch.Tensor:
    lines = (torch.arange(SIDE) // 2 % 2 * 0.4 + 0.4)[:, None].expand(SIDE, SIDE)
    return (lines.T if vertical else lines)[None].expand(3, -1, -1).clone()


def test_half_the_light_changes_the_colour_and_not_the_chromaticity():
    there = apart(look(plain(0.8, 0.2, 0.4)), look(plain(0.4, 0.1, 0.2)))
    assert there["colour"] > 0.5
    assert there["chromaticity"] < 0.01


def test_another_colour_changes_both():
    there = apart(look(plain(0.8, 0.2, 0.4)), look(plain(0.2, 0.8, 0.4)))
    assert there["colour"] > 0.5
    assert there["chromaticity"] > 0.1


def test_stripes_of_another_direction_change_the_texture_alone():
    there = apart(look(stripes(True)), look(stripes(False)))
    assert there["texture"] > 0.05
    assert there["chromaticity"] < 0.01


def test_features_are_pooled_inside_the_mask_at_both_levels():
    one, other = look(plain(0.5, 0.5, 0.5)), look(plain(0.5, 0.5, 0.5), seed=1)
    assert apart(one, other)["fine"] > 0.02
    assert apart(one, other)["coarse"] > 0.02


def test_a_larger_or_wider_mask_has_another_shape():
    grey = plain(0.5, 0.5, 0.5)
    assert apart(look(grey), look(grey, square(width=8)))["shape"] > 0.4
    assert apart(look(grey), look(grey, square(x=4)))["shape"] == 0


def test_a_rim_of_another_colour_does_not_count():
    """As in a mask that is a pixel too large."""
    framed = plain(0.1, 0.1, 0.1)
    framed[0, 9:23, 9:23] = 0.9
    there = apart(look(framed, square()), look(framed, square(9, 9, 14, 14)))
    assert there["colour"] == pytest.approx(0)
    assert there["chromaticity"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("mask", [torch.full((1, SIDE, SIDE), -5.0), square(0, 0, 1, 1), square(0, 0, SIDE, SIDE)])
def test_looks_are_finite_for_any_mask(mask):
    assert look(plain(0, 0, 0), mask).isfinite().all()


def test_no_objects_have_no_looks():
    assert look(plain(0, 0, 0), torch.zeros(0, SIDE, SIDE)).shape == (0, sum(PARTS))
