"""Overlap, area and non-maximum suppression of masks, in matrices for the association of detections with tracks."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torchvision.ops import box_iou

from stages.types import GRID


def mask_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(A, h, w) and (B, h, w) logits -> (A, B) IoU of the masks above 0; 0 where both are empty."""
    a, b = (first > 0).flatten(1).float(), (second > 0).flatten(1).float()
    common = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1)[None] - common
    return common / union.clamp(min=1)


def share_inside(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(A, h, w) and (B, h, w) logits -> (A, B) share of the first mask's pixels that are in the second."""
    a, b = (first > 0).flatten(1).float(), (second > 0).flatten(1).float()
    return (a @ b.T) / a.sum(1, keepdim=True).clamp(min=1)


def overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(A, h, w) and (B, h, w) logits -> (A, B) mean of the masks' IoU and of their boxes' IoU."""
    boxes: torch.Tensor = box_iou(_boxes(first), _boxes(second))
    return (mask_iou(first, second) + boxes) / 2


def _boxes(masks: torch.Tensor) -> torch.Tensor:
    """(N, h, w) logits -> (N, 4) xyxy of the pixels above 0, half-open; an empty mask has an empty box."""
    sides = []
    for other_axis in (1, 2):
        occupied = (masks > 0).any(other_axis)
        index = torch.arange(occupied.shape[1], device=masks.device)
        low = torch.where(occupied, index, occupied.shape[1]).amin(1)
        sides.append((low, torch.where(occupied, index + 1, 0).amax(1).maximum(low)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def areas(masks: torch.Tensor) -> torch.Tensor:
    """(N, h, w) logits -> (N,) number of pixels above 0."""
    return (masks > 0).flatten(1).sum(1)


def coverage(masks: torch.Tensor) -> torch.Tensor:
    """(T, N, h, w) logits of T frames -> (T, GRID, GRID) number of masks that have a pixel in each cell."""
    frames, objects = masks.shape[:2]
    if not objects:
        return torch.zeros(frames, GRID, GRID, device=masks.device)
    highest: torch.Tensor = F.adaptive_max_pool2d(masks.flatten(0, 1), GRID)
    return (highest > 0).view(frames, objects, GRID, GRID).sum(1)


def suppress(overlap: NDArray[np.float32], scores: NDArray[np.float32], threshold: float) -> list[int]:
    """Non-maximum suppression with a given overlap matrix (N, N); returns the kept indices, best first.

    A candidate is dropped when it overlaps a kept one by ``threshold`` or more.
    """
    kept: list[int] = []
    for candidate in np.argsort(-scores, kind="stable"):
        if all(overlap[candidate, other] < threshold for other in kept):
            kept.append(int(candidate))
    return kept


def to_numpy(matrix: torch.Tensor) -> NDArray[np.float32]:
    """The matrix as float32 on the host; synchronises with the device."""
    host: NDArray[np.float32] = matrix.float().cpu().numpy()
    return host
