"""A small picture of one object, cut out of its frame."""

from collections.abc import Sequence

import cv2
import numpy as np

from stages.types import Image

SIDE = 240  # pixels of the longer side, at most
MARGIN = 0.25  # of the box, around it
LEAST_MARGIN = 12.0  # pixels
QUALITY = 80  # of the JPEG, 1 to 100; such a picture has about 5 KB, and never more than 100


def thumbnail(image: Image, box: Sequence[float]) -> bytes:
    """What is in and around ``box``, xyxy in pixels, of ``image``, uint8 (H, W, 3) RGB, as a JPEG."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box
    across, down = max(MARGIN * (x1 - x0), LEAST_MARGIN), max(MARGIN * (y1 - y0), LEAST_MARGIN)
    left, top = int(np.clip(x0 - across, 0, width - 1)), int(np.clip(y0 - down, 0, height - 1))
    right, bottom = int(np.clip(x1 + across, left + 1, width)), int(np.clip(y1 + down, top + 1, height))
    crop = image[top:bottom, left:right]
    scale = SIDE / max(crop.shape[:2])
    if scale < 1:
        size = max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale))
        crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    jpeg: bytes = encoded.tobytes()
    return jpeg
