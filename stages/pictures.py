"""Reads picture files, for the daemon and the trainer alike, so that a picture looks the same to both."""

import mimetypes
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageOps

from stages.errors import SourceError
from stages.types import Image

MOST_PIXELS = 178_956_970  # Pillow's own limit against small files that fill the memory

# Pillow prints a warning at half the limit, which is no reason for one; `_decode` checks the limit
PIL.Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")  # damaged metadata, which nobody needs

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_UNKNOWN = "not a picture that Pillow knows, or damaged"
_RAW = "a camera's raw picture; export it as JPEG or PNG"
_ADVICE = {
    **dict.fromkeys((".heic", ".heif"), "HEIC, which Pillow does not read; convert it to JPEG or PNG"),
    **dict.fromkeys((".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf"), _RAW),
}


def read_picture(path: Path) -> Image:
    """uint8 (H, W, 3) RGB, rotated by its EXIF orientation, of an animation the first frame, without transparency.

    The upper 8 of 16 bits are taken, and floats from 0 to 1 become 0 to 255, as FFmpeg does. Raises SourceError, whose
    text names the file and the reason.
    """
    ending = path.suffix.lower()
    if ending in _ADVICE and path.is_file():  # Pillow takes the thumbnail of a raw picture for the picture
        raise SourceError(f"cannot read {path}: {_ADVICE[ending]}")
    try:
        return _read(path)
    except SourceError as error:
        video = (mimetypes.guess_type(path.name)[0] or "").startswith("video/")
        unknown = isinstance(error.__cause__, PIL.UnidentifiedImageError)
        what = "a video, not a picture; give it to `maskcast run`" if unknown and video else error
        raise SourceError(f"cannot read {path}: {what}") from error.__cause__


def decode_picture(data: bytes) -> Image:
    """As ``read_picture``, of the bytes of a picture. Raises SourceError, whose text is the reason alone."""
    return _read(BytesIO(data))


def _read(source: Path | BytesIO) -> Image:
    try:
        with PIL.Image.open(source) as file:
            return _decode(file)
    except SourceError:
        raise
    except PIL.UnidentifiedImageError as error:
        raise SourceError(_UNKNOWN) from error
    except Exception as error:  # each picture format raises its own errors
        system = error.strerror if isinstance(error, OSError) else None
        raise SourceError(system or _damage(error)) from error


def _damage(error: Exception) -> str:
    return f"damaged ({' '.join(str(error).split()) or type(error).__name__})"


def _decode(file: PIL.Image.Image) -> Image:
    """The pixels. Raises SourceError without the path, and Pillow's errors."""
    width, height = file.size
    if width * height > MOST_PIXELS:
        raise SourceError(f"{width}x{height} is more than {MOST_PIXELS // 10**6} million pixels; scale it down")
    file.load()
    picture = _upright(file)
    if picture.mode in _SIXTEEN_BITS or (picture.mode == "I" and file.format in ("PNG", "PPM")):
        return _grey((np.array(picture).astype(np.int64) >> 8).astype(np.uint8))
    if picture.mode == "I":
        raise SourceError("pixels of 32-bit integers; save it with 8 or 16 bits")
    if picture.mode == "F":
        return _grey(_from_floats(np.array(picture)))
    if "transparency" in picture.info:  # a palette may hold it, which RGB cannot be made of directly
        picture = picture.convert("RGBA")
    return np.array(picture.convert("RGB"))


def _upright(file: PIL.Image.Image) -> PIL.Image.Image:
    """The picture, rotated by its EXIF orientation if that can be read."""
    try:
        return ImageOps.exif_transpose(file)
    except Exception:  # damaged metadata raises errors of many classes; the pixels are well
        return file


def _from_floats(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if not (low >= -0.01 and high <= 1.01):  # also for what is not a number
        raise SourceError(f"floats from {low:g} to {high:g}; scale them to 0 to 1, or save 8 or 16 bits")
    scaled: NDArray[np.uint8] = (values.clip(0, 1) * 255).round().astype(np.uint8)
    return scaled


def _grey(values: NDArray[np.uint8]) -> Image:
    """(H, W) to (H, W, 3)."""
    return np.repeat(values[..., None], 3, axis=2)
