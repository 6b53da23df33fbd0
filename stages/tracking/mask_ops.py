"""How much masks overlap and how alike objects look; matrices for the association of detections with tracks."""

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou


def mask_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(A, h, w) and (B, h, w) logits -> (A, B) IoU of the masks above 0; 0 where both are empty."""
    a, b = (first > 0).flatten(1).float(), (second > 0).flatten(1).float()
    common = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1)[None] - common
    return common / union.clamp(min=1)


def inside(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(A, h, w) and (B, h, w) logits -> (A, B) share of the first mask that lies in the second."""
    a, b = (first > 0).flatten(1).float(), (second > 0).flatten(1).float()
    return (a @ b.T) / a.sum(1, keepdim=True).clamp(min=1)


def overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(A, h, w) and (B, h, w) logits -> (A, B) mean of the IoU of the masks and that of their boxes."""
    boxes: torch.Tensor = box_iou(_boxes(first), _boxes(second))
    return (mask_iou(first, second) + boxes) / 2


def _boxes(masks: torch.Tensor) -> torch.Tensor:
    """(N, h, w) logits -> (N, 4) xyxy of the pixels above 0, half-open; a mask without any has an empty box."""
    sides = []
    for across in (1, 2):
        shown = (masks > 0).any(across)
        at = torch.arange(shown.shape[1], device=masks.device)
        low = torch.where(shown, at, shown.shape[1]).amin(1)
        sides.append((low, torch.where(shown, at + 1, 0).amax(1).maximum(low)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def areas(masks: torch.Tensor) -> torch.Tensor:
    """(N, h, w) logits -> (N,) pixels above 0."""
    return (masks > 0).flatten(1).sum(1)


def keep_best(overlap: NDArray[np.float32], scores: NDArray[np.float32], most: float) -> list[int]:
    """Of N things with their overlaps (N, N), those that overlap no better one by ``most`` or more, best first."""
    kept: list[int] = []
    for candidate in np.argsort(-scores, kind="stable"):
        if all(overlap[candidate, other] < most for other in kept):
            kept.append(int(candidate))
    return kept


def on_host(matrix: torch.Tensor) -> NDArray[np.float32]:
    host: NDArray[np.float32] = matrix.float().cpu().numpy()
    return host
