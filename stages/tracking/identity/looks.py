"""The looks of an object on one frame, as a row of numbers with a part for each cue.

- ``colour``: the median colour, in the model's normalised RGB.
- ``chromaticity``: a histogram of log(R / G) and log(B / G), which do not change with the brightness of the light
  (Finlayson and Hordley 2001, "Color constancy at a pixel"); square roots of the shares (Hellinger distance).
- ``texture``: a histogram of the orientation of the gradients of log brightness, by their size (Dalal and Triggs 2005).
- ``fine`` and ``coarse``: mean and standard deviation, over the mask, of the encoder's features at a quarter and at an
  eighth of the image size. Those of the coarsest level know classes of objects and hardly their patterns.
- ``shape``: logarithms of the share of the picture and of the aspect.

All is measured inside the mask without its outermost pixels. Object pointers tell classes of objects apart, not
instances, so they are not used.
"""

import math

import torch
import torch.nn.functional as F

from stages.graphs import Tensors
from stages.segmentation.base import Segmenter
from stages.segmentation.outputs import PICTURE_MEAN, PICTURE_STD, FrameFeatures
from stages.tracking.cues import inner, median_colours

CUES = "colour", "chromaticity", "texture", "fine", "coarse", "shape"
BINS = 8  # of each axis of the histograms
_MAX_CHROMATICITY = 1.5  # of a logarithm; more is counted as this
_MAX_BATCH = 16  # objects described in one step, which takes some megabytes for each at 1024 pixels
_DARKEST = 0.02  # brightness below which noise is larger than what is seen


def sizes(segmenter: Segmenter) -> tuple[int, ...]:
    """How many numbers each of the ``CUES`` has."""
    fine, coarse = segmenter.level_dims
    return 3, BINS * BINS, BINS, 2 * fine, 2 * coarse, 2


def describe(segmenter: Segmenter, features: FrameFeatures, masks: torch.Tensor) -> torch.Tensor:
    """The looks (N, D) of the objects with these masks (N, 4 S, 4 S), logits; D is the sum of `sizes`."""
    shared = features.picture, features.vision[0][:, 0], features.vision[1][:, 0]
    some = [masks[start : start + _MAX_BATCH] for start in range(0, max(1, len(masks)), _MAX_BATCH)]
    return torch.cat([segmenter.run(looks_of, shared, (batch,))[0] for batch in some])


def looks_of(shared: Tensors, rows: Tensors) -> Tensors:
    """A step: picture (3, h, w), two levels (P, C) of features, and masks (N, h, w) -> looks (N, D)."""
    (picture, fine, coarse), (masks,) = shared, rows
    inside = inner(masks).float()
    weights = _shares(inside)
    channels = zip(picture, PICTURE_STD, PICTURE_MEAN, strict=True)  # as numbers: a captured step copies nothing
    colours = torch.stack([channel * std + mean for channel, std, mean in channels])
    logs = colours.clamp(min=_DARKEST).log()
    parts = [
        median_colours(picture, masks),
        (weights @ _chromaticities(logs)).sqrt(),
        _shares(inside[:, 1:-1, 1:-1]) @ _gradients(logs.mean(0)),
        *(_pooled(level, inside) for level in (fine, coarse)),
        _shape(masks),
    ]
    return (torch.cat(parts, dim=1).nan_to_num(0, 0, 0),)


def distances(first: torch.Tensor, second: torch.Tensor, parts: tuple[int, ...]) -> torch.Tensor:
    """The distances of the cues, (A, B, len(CUES)), of looks (A, D) and (B, D): root mean squares of differences.

    ``parts`` as from `sizes`.
    """
    pairs = zip(first.split(parts, 1), second.split(parts, 1), parts, strict=True)
    exact = "donot_use_mm_for_euclid_dist"
    return torch.stack([torch.cdist(a, b, compute_mode=exact) / math.sqrt(dim) for a, b, dim in pairs], dim=2)


def _shares(masks: torch.Tensor) -> torch.Tensor:
    """(N, h, w) -> (N, h * w), each row divided by its sum; rows of zeros stay."""
    flat = masks.flatten(1)
    return flat / flat.sum(1, keepdim=True).clamp(min=1e-6)


def _soft_bins(values: torch.Tensor) -> torch.Tensor:
    """Values (P,) in [0, BINS - 1] -> (P, BINS): shares in the two nearest bins."""
    bins = torch.arange(BINS, device=values.device)
    return (1 - (values[:, None] - bins).abs()).clamp(min=0)


def _chromaticities(logs: torch.Tensor) -> torch.Tensor:
    """Logarithms of RGB (3, h, w) -> (h * w, BINS * BINS)."""
    red, green, blue = logs.flatten(1)
    axes = [
        _soft_bins(((each / _MAX_CHROMATICITY + 1) / 2).clamp(0, 1) * (BINS - 1))
        for each in (red - green, blue - green)
    ]
    return (axes[0][:, :, None] * axes[1][:, None]).flatten(1)


def _gradients(brightness: torch.Tensor) -> torch.Tensor:
    """(h, w) -> ((h - 2) * (w - 2), BINS): each pixel's gradient in the bins of its orientation."""
    x = (brightness[1:-1, 2:] - brightness[1:-1, :-2]).flatten()
    y = (brightness[2:, 1:-1] - brightness[:-2, 1:-1]).flatten()
    angles = torch.atan2(y, x).remainder(math.pi) / math.pi * BINS
    apart = (angles[:, None] - torch.arange(BINS, device=x.device)).abs()
    near = (1 - torch.minimum(apart, BINS - apart)).clamp(min=0)
    return near * torch.hypot(x, y)[:, None]


def _pooled(level: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation (N, 2 C) of features (P, C) inside masks, in units of the level's mean size."""
    side = math.isqrt(len(level))
    weights = _shares(F.interpolate(inside[:, None], (side, side), mode="area")[:, 0])
    values = level.float()
    values = values / values.square().mean().sqrt().clamp(min=1e-6)
    means = weights @ values
    return torch.cat([means, (weights @ values.square() - means.square()).clamp(min=0).sqrt()], dim=1)


def _shape(masks: torch.Tensor) -> torch.Tensor:
    """Logarithms of the share of the picture and of height over width, (N, 2)."""
    visible = masks > 0
    area, height, width = (visible.flatten(1).sum(1), visible.any(2).sum(1), visible.any(1).sum(1))
    logs = [each.clamp(min=1).float().log() for each in (area, height, width)]
    return torch.stack([logs[0] - math.log(math.prod(masks.shape[1:])), logs[1] - logs[2]], dim=1)
