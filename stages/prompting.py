"""Masks from prompts on one frame: the detector's boxes, and boxes, points and masks given by hand."""

import numpy as np
import torch
from numpy.typing import NDArray

from stages import affinity, identity
from stages.errors import ConfigError
from stages.sam2_model import FrameFeatures, Heads, Segmenter
from stages.types import Detections, Frame

_GROUP = 64  # detections that are segmented at once


def segment_detections(
    segmenter: Segmenter, frame: Frame, feature: FrameFeatures, detections: Detections, most: int
) -> tuple[Detections, Heads]:
    """The best ``most`` detections that have a mask; of those of one prompt with the same mask only the best."""
    if not len(detections):
        return detections, segmenter.nothing()
    detections = detections.take(np.argsort(-detections.scores, kind="stable")[:most].tolist())
    boxes = _to_model(segmenter, frame, torch.from_numpy(detections.boxes).reshape(-1, 2, 2)).reshape(-1, 4)
    groups = [segmenter.prompt_boxes(feature, group) for group in boxes.split(_GROUP)]
    found = Heads(*(torch.cat(parts) for parts in zip(*groups, strict=True)))
    same_prompt = detections.prompts[:, None] == detections.prompts[None]
    overlap = np.where(same_prompt, affinity.on_host(affinity.mask_iou(found.masks, found.masks)), 0)
    areas = affinity.areas(found.masks).tolist()
    kept = [d for d in affinity.keep_best(overlap, detections.scores, identity.DUPLICATE) if areas[d]]
    return detections.take(kept), Heads(*(part[kept] for part in found))


def segment_by_hand(
    segmenter: Segmenter,
    frame: Frame,
    feature: FrameFeatures,
    box: NDArray[np.float32] | None,
    points: tuple[NDArray[np.float32], NDArray[np.int64]] | None,
    mask: NDArray[np.bool_] | None,
) -> Heads:
    """One object from exactly one kind of prompt, in the frame's pixels. Raises ConfigError where it does not fit."""
    if sum(given is not None for given in (box, points, mask)) != 1:
        raise ConfigError("add: give one of a box, points or a mask")
    height, width = frame.image.shape[:2]
    if mask is not None:
        if mask.shape != (height, width):
            raise ConfigError(f"add: the mask is {mask.shape}, the picture {(height, width)} (height, width)")
        return segmenter.prompt_masks(feature, mask[None])
    if box is not None:
        if box.shape != (4,):
            raise ConfigError(f"add: a box has 4 numbers, x0 y0 x1 y1, not the shape {box.shape}")
        places, labels = box.reshape(2, 2), np.array([2, 3])
    else:
        assert points is not None
        places, labels = points
    if places.ndim != 2 or places.shape[1] != 2 or not len(places) or labels.shape != places.shape[:1]:
        raise ConfigError(f"add: points are pairs x y with a label each, not {places.shape} with {labels.shape}")
    if not ((places >= 0) & (places <= (width, height))).all():
        raise ConfigError(f"add: {places.tolist()} lies outside the picture of {width} x {height} pixels")
    at = _to_model(segmenter, frame, torch.from_numpy(places.astype(np.float32)))
    return segmenter.prompt_points(feature, at[None], torch.from_numpy(labels)[None])


def _to_model(segmenter: Segmenter, frame: Frame, points: torch.Tensor) -> torch.Tensor:
    """(..., 2) pixels of the frame -> pixels of the model's square input."""
    height, width = frame.image.shape[:2]
    return points * torch.tensor([segmenter.image_size / width, segmenter.image_size / height])
