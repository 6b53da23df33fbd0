"""Masks that must not be believed."""

import torch

INSIDE = 0.6  # share of a mask that lies in another track's
JUMPED = 0.3  # IoU of a mask with the same track's mask one frame before, below which it has jumped


def stolen(masks: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Which tracks have jumped onto another track's object, as when their own has left the picture: (N,) bool.

    masks (N, h, w) are logits, ``before`` (N, h, w) bool the masks one frame earlier. No host synchronisation.
    """
    now, then = (masks > 0).flatten(1).float(), before.flatten(1).float()
    common = (now * then).sum(1)
    steady = common / (now.sum(1) + then.sum(1) - common).clamp(min=1)
    inside = (now @ now.T) / now.sum(1, keepdim=True).clamp(min=1)
    taken = (inside > INSIDE) & (steady[None] > steady[:, None])
    return taken.any(1) & (steady < JUMPED)
