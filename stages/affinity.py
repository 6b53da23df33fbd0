"""How much masks overlap and how alike objects look; matrices for the association of detections with tracks."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray


def mask_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(A, h, w) and (B, h, w) logits -> (A, B) IoU of the masks above 0; 0 where both are empty."""
    a, b = (first > 0).flatten(1).float(), (second > 0).flatten(1).float()
    common = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1)[None] - common
    return common / union.clamp(min=1)


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


def likeness(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Cosine similarity of object pointers, (A, C) and (B, C) -> (A, B)."""
    return F.normalize(first.float(), dim=1) @ F.normalize(second.float(), dim=1).T


def on_host(matrix: torch.Tensor) -> NDArray[np.float32]:
    host: NDArray[np.float32] = matrix.float().cpu().numpy()
    return host
