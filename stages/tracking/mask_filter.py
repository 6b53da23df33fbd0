"""Masks that must not be believed. No function here synchronises with the host."""

import torch

from stages.tracking import mask_ops

INSIDE = 0.6  # share of a mask that lies in another track's
JUMPED = 0.3  # IoU of a mask with the same track's mask one frame before, below which it has jumped
CONVERGED = 0.6  # IoU from which the masks of two rivals are on one object
FLOOD = 0.8  # share of the picture that no mask covers all of a sudden
GROWN = 2.0  # how much larger than usual a flooding mask is


def stolen(masks: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Which tracks have jumped onto another track's object, as when their own has left the picture: (N,) bool.

    masks (N, h, w) are logits, ``before`` (N, h, w) bool the masks one frame earlier.
    """
    now, then = (masks > 0).flatten(1).float(), before.flatten(1).float()
    common = (now * then).sum(1)
    steady = common / (now.sum(1) + then.sum(1) - common).clamp(min=1)
    taken = (mask_ops.inside(masks, masks) > INSIDE) & (steady[None] > steady[:, None])
    return taken.any(1) & (steady < JUMPED)


def flooding(masks: torch.Tensor, usual: torch.Tensor) -> torch.Tensor:
    """Which masks suddenly cover the picture, (N,) bool; ``usual`` (N,) is what they cover otherwise, in pixels."""
    areas = mask_ops.areas(masks)
    return (areas > FLOOD * masks[0].numel()) & (areas > GROWN * usual) if len(masks) else areas > 0


def converged(masks: torch.Tensor, rivals: torch.Tensor, strangeness: torch.Tensor) -> torch.Tensor:
    """Which tracks sit on the object of a rival that fits it better, (N,) bool.

    rivals (N, N) bool; the lower ``strangeness`` (N,), of two the first, keeps the object.
    """
    rank = strangeness.argsort(stable=True).argsort()
    better = rank[None] < rank[:, None]
    return (rivals & better & (mask_ops.mask_iou(masks, masks) >= CONVERGED)).any(1)


def shared_out(masks: torch.Tensor, rivals: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
    """The masks (N, h, w) once each pixel that rivals claim belongs to the one with the least ``cost`` (N, h * w)."""
    if not len(masks):
        return masks
    logits = masks.flatten(1)
    claimed = logits > 0
    owner = torch.where(claimed, cost, torch.inf).argmin(0)
    lost = claimed & rivals[:, owner]
    return torch.where(lost, -logits.abs(), logits).view_as(masks)
