"""Frames as supervision's Detections."""

from typing import TYPE_CHECKING, Any

import numpy as np

from maskcast_client.errors import MaskcastError

if TYPE_CHECKING:
    from supervision import Detections

    from maskcast_client.messages import Frame, TrackedObject

_BY_HAND = "object"  # the class name of an object without a prompt


def detections(frame: "Frame") -> "Detections":
    """The visible objects of ``frame``; ``Frame.detections`` has the details."""
    try:
        from supervision import Detections
    except ImportError:
        raise MaskcastError("frame.detections needs supervision: pip install supervision") from None
    shown = [thing for thing in frame.objects if thing.area]
    if not shown:
        return Detections.empty()
    named = [thing.prompt or _BY_HAND for thing in shown]
    return Detections(
        xyxy=np.array([thing.box for thing in shown], np.float32),
        mask=_masks(shown, (frame.height, frame.width)),
        confidence=np.array([thing.score for thing in shown], np.float32),
        class_id=np.array([frame.names.setdefault(name, len(frame.names)) for name in named], np.int64),
        tracker_id=np.array([thing.id for thing in shown], np.int64),
        data={
            "class_name": np.array(named),
            "state": np.array([thing.state for thing in shown]),
            "presence": np.array([thing.presence for thing in shown], np.float32),
        },
    )


def _masks(shown: "list[TrackedObject]", size: tuple[int, int]) -> Any:
    """A CompactMask, made of run lengths without decoding; where supervision has none, bool (N, H, W)."""
    try:
        from supervision import CompactMask
    except ImportError:
        return np.stack([thing.mask for thing in shown])
    crops = [thing.cropped for thing in shown]
    return CompactMask(
        [crop.runs.astype(np.int32) for crop in crops],
        np.array([(crop.height, crop.width) for crop in crops], np.int32),
        np.array([(crop.x, crop.y) for crop in crops], np.int32),
        size,
    )
