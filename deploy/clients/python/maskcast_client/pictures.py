"""JPEG to pixels, by OpenCV or Pillow, whichever is installed."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from maskcast_client.errors import MaskcastError, MessageError


def decode(jpeg: bytes) -> NDArray[np.uint8]:
    """The picture in ``jpeg``, uint8 (height, width, 3) RGB. Raises MessageError when it is damaged."""
    try:
        import cv2
    except ImportError:
        return _by_pillow(jpeg)
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if pixels is None:
        raise MessageError("a picture is not a JPEG: the message is damaged")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def _by_pillow(jpeg: bytes) -> NDArray[np.uint8]:
    try:
        from PIL import Image
    except ImportError:
        raise MaskcastError("frame.image needs Pillow or OpenCV: pip install pillow") from None
    try:
        with Image.open(BytesIO(jpeg)) as picture:
            return np.array(picture.convert("RGB"), np.uint8)
    except OSError:
        raise MessageError("a picture is not a JPEG: the message is damaged") from None
