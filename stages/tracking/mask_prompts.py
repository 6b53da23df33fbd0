"""Masks from prompts on one frame: boxes of detections, and boxes, points and masks given by a user."""

import numpy as np
import torch
from numpy.typing import NDArray

from stages.errors import ConfigError
from stages.segmentation.base import Segmenter
from stages.segmentation.outputs import FrameFeatures, Heads
from stages.tracking import association, mask_ops
from stages.types import Detections, Frame

Points = tuple[NDArray[np.float32], NDArray[np.int64]]  # (P, 2) pixels of the frame; (P,) 1 inside, 0 outside
ModelPoints = tuple[torch.Tensor, torch.Tensor]  # the same in pixels of the model's input; labels 2, 3: box corners
Size = tuple[int, int]  # height and width of the frame, in whose pixels prompts are given


def segment_detections(
    segmenter: Segmenter, frame: Frame, features: FrameFeatures, detections: Detections, most: int
) -> tuple[Detections, Heads]:
    """Segment the best ``most`` detections; returns those with a mask, and their heads, best first.

    Of several detections of one prompt with the same mask only the best is returned.
    """
    if not len(detections):
        return detections, segmenter.empty_heads()
    detections = detections.take(np.argsort(-detections.scores, kind="stable")[:most].tolist())
    corners = torch.from_numpy(detections.boxes).reshape(-1, 2, 2)
    boxes = _to_model_pixels(segmenter, size_of(frame), corners).reshape(-1, 4)
    found = segmenter.prompt_boxes(features, boxes)
    same_prompt = detections.prompts[:, None] == detections.prompts[None]
    overlap = np.where(same_prompt, mask_ops.to_numpy(mask_ops.mask_iou(found.masks, found.masks)), 0)
    areas = mask_ops.areas(found.masks).tolist()
    kept = [d for d in mask_ops.suppress(overlap, detections.scores, association.DUPLICATE_OVERLAP) if areas[d]]
    return detections.take(kept), found.take(kept)


def size_of(frame: Frame) -> Size:
    """The size of its picture."""
    height, width = frame.image.shape[:2]
    return height, width


def segment_by_hand(
    segmenter: Segmenter,
    size: Size,
    features: FrameFeatures,
    box: NDArray[np.float32] | None,
    points: Points | None,
    mask: NDArray[np.bool_] | None,
) -> tuple[Heads, ModelPoints | None]:
    """Segment one object from exactly one kind of prompt, in pixels of the frame.

    Returns its heads, and the points that were used (the corners of a box; None for a mask). Raises ConfigError.
    """
    if sum(given is not None for given in (box, points, mask)) != 1:
        raise ConfigError("add: give one of a box, points or a mask")
    if mask is not None:
        if mask.shape != size:
            raise ConfigError(f"add: the mask is {mask.shape}, the picture {size} (height, width)")
        if not mask.any():
            raise ConfigError("add: the mask has no pixel; mark those of the object")
        return segmenter.prompt_mask(features, mask), None
    if box is not None:
        if box.shape != (4,) or not (box[:2] < box[2:]).all():
            raise ConfigError(f"add: a box has 4 numbers, x0 < x1 and y0 < y1, in the order x0 y0 x1 y1, not {box}")
        corners, _ = check_points("add", segmenter, size, (box.reshape(2, 2), np.ones(2, np.int64)))
        model_points = corners, torch.tensor([2, 3])
    else:
        assert points is not None
        model_points = check_points("add", segmenter, size, points)
    return segmenter.prompt_points(features, model_points[0][None], model_points[1][None]), model_points


def check_points(
    verb: str, segmenter: Segmenter, size: Size, points: Points, before: ModelPoints | None = None
) -> ModelPoints:
    """Validate points and convert them to model pixels; those ``before`` come first.

    Raises ConfigError, whose text starts with ``verb``.
    """
    (places, labels), (height, width) = points, size
    if places.ndim != 2 or places.shape[1] != 2 or not len(places) or labels.shape != places.shape[:1]:
        raise ConfigError(f"{verb}: points are pairs x y with a label each, not {places.shape} with {labels.shape}")
    if not ((places >= 0) & (places <= (width, height))).all():
        raise ConfigError(f"{verb}: {places.tolist()} lies outside the picture of {width} x {height} pixels")
    if not np.isin(labels, (0, 1)).all():
        raise ConfigError(f"{verb}: a point's label is 1 (inside the object) or 0 (outside), not {labels.tolist()}")
    now = _to_model_pixels(segmenter, size, torch.from_numpy(places.astype(np.float32))), torch.from_numpy(labels)
    return now if before is None else (torch.cat([before[0], now[0]]), torch.cat([before[1], now[1]]))


def _to_model_pixels(segmenter: Segmenter, size: Size, points: torch.Tensor) -> torch.Tensor:
    """(..., 2) pixels of the frame -> pixels of the model's square input."""
    height, width = size
    return points * torch.tensor([segmenter.image_size / width, segmenter.image_size / height])
