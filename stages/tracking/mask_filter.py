"""Detection and repair of implausible propagated masks. No function here synchronises with the host."""

import torch

from stages.graphs import Tensors
from stages.segmentation.outputs import Heads
from stages.tracking import cues, mask_ops

INSIDE_SHARE = 0.6  # least share of a mask inside another track's mask, to take it for a mask of that track's object
JUMP_IOU = 0.3  # a mask has jumped when its IoU with the track's mask one frame earlier is below this
CONVERGED_IOU = 0.6  # least IoU of the masks of two rivals that are on one object
FLOOD_SHARE = 0.8  # least share of the picture that a flooding mask covers
FLOOD_GROWTH = 2.0  # how many times its usual area a flooding mask has at least


def reject_implausible(shared: Tensors, rows: Tensors) -> Tensors:
    """A step: heads with implausible masks marked absent, and each pixel that rivals share left to one of them.

    ``shared``: the picture (3, h, w) and the moments of its pixels. ``rows``: the three tensors of N heads, the logits
    one frame earlier, and the tracks' motion (N, 6), colours (N, 3), rivals (N, N) bool, pairs that share no pixel, and
    those away (N,) bool, whose object is in another view: they have no mask.
    """
    picture, moments = shared
    *parts, previous, motion, colours, rivals, away = rows
    heads = Heads(*parts).mark_absent(away)
    _, usual_areas = cues.predicted(motion)
    heads = heads.mark_absent(jumped(heads.masks, previous > 0) | flooding(heads.masks, usual_areas))
    mismatch = cues.mismatch(moments, motion, colours, picture, heads.masks)
    heads = heads.mark_absent(converged(heads.masks, rivals, mismatch))
    cost = cues.pixel_mismatch(moments, motion, colours, picture)
    return heads._replace(masks=separate_rivals(heads.masks, rivals, cost))


def jumped(masks: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
    """Which tracks have jumped onto another track's object, as happens when their own leaves the picture: (N,) bool.

    ``masks`` (N, h, w) are logits, ``previous`` (N, h, w) bool the masks one frame earlier. Of two tracks on one object
    only the one whose mask changed more since the last frame can be the one that jumped.
    """
    now, before = (masks > 0).flatten(1).float(), previous.flatten(1).float()
    common = (now * before).sum(1)
    steadiness = common / (now.sum(1) + before.sum(1) - common).clamp(min=1)  # IoU with the frame before
    on_steadier = (mask_ops.share_inside(masks, masks) > INSIDE_SHARE) & (steadiness[None] > steadiness[:, None])
    return on_steadier.any(1) & (steadiness < JUMP_IOU)


def flooding(masks: torch.Tensor, usual_areas: torch.Tensor) -> torch.Tensor:
    """Which masks suddenly cover most of the picture, (N,) bool; ``usual_areas`` (N,) are the tracks', in pixels."""
    areas = mask_ops.areas(masks)
    if not len(masks):
        return areas > 0
    return (areas > FLOOD_SHARE * masks[0].numel()) & (areas > FLOOD_GROWTH * usual_areas)


def converged(masks: torch.Tensor, rivals: torch.Tensor, mismatch: torch.Tensor) -> torch.Tensor:
    """Which tracks are on the object of a rival that fits it better, (N,) bool.

    ``rivals`` (N, N) bool; the track with the lower ``mismatch`` (N,) keeps the object, the first of two equal ones.
    """
    rank = mismatch.argsort(stable=True).argsort()
    better = rank[None] < rank[:, None]
    return (rivals & better & (mask_ops.mask_iou(masks, masks) >= CONVERGED_IOU)).any(1)


def separate_rivals(masks: torch.Tensor, rivals: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
    """The masks (N, h, w) with each pixel that several rivals have left to the one with the least ``cost`` (N, h * w).

    ``rivals`` (N, N) bool. The logits of a pixel that a track loses are made negative.
    """
    if not len(masks):
        return masks
    logits = masks.flatten(1)
    inside = logits > 0
    owner = torch.where(inside, cost, torch.inf).argmin(0)
    lost = inside & rivals[:, owner]
    return torch.where(lost, -logits.abs(), logits).view_as(masks)
