"""The shape of a stream's pixels, and the size of its pictures once their pixels are square."""

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from stages.errors import ConfigError

if TYPE_CHECKING:
    from av.video.stream import VideoStream

_MOST = 4  # times as wide as high, or as high as wide: no format has more, such a value is a mistake
_NEARLY_SQUARE = Fraction(1, 100)  # containers round: a difference up to this is not worth scaling
_WIDEST = 3  # times as wide as high, or the other way round: a shape that makes a picture wider is a mistake, too
_MAX_SIDE = 16384  # pixels


def parse_pixel_aspect(text: str) -> Fraction | None:
    """Width over height of a pixel, written as in "2:1"; None for "". Raises ConfigError."""
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,6}):(\d{1,6})", text, re.ASCII)
    if match and (ratio := _plausible(int(match[1]), int(match[2]))):
        return ratio
    raise ConfigError(
        f'must be width:height, as in "2:1", with neither more than {_MOST} times the other, or "" for what the source '
        "says"
    )


class PixelAspect:
    """Width over height of the pixels that a stream is to be shown with. Of the thread that decodes it.

    The container's value goes before the decoder's, as in FFmpeg (av_guess_sample_aspect_ratio). The decoder's may
    change while the stream is decoded. A missing value, and one that no format has, means square.
    """

    def __init__(self, stream: "VideoStream", override: Fraction | None = None) -> None:
        """``stream`` just opened; ``override`` replaces what it says."""
        self._override = override
        self._decoder = stream.codec_context
        guess = stream.sample_aspect_ratio  # the container's value if it has one, else the decoder's first one
        self._container = guess if guess != self._decoder.sample_aspect_ratio else None

    def square(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that the frame decoded last, of ``width`` x ``height``, has with square pixels."""
        if self._override is not None:
            return square_size(width, height, self._override)
        for ratio in (self._container, self._decoder.sample_aspect_ratio):
            if ratio and (plausible := _plausible(ratio.numerator, ratio.denominator)):
                size = square_size(width, height, plausible)
                if max(size) <= _WIDEST * min(size):
                    return size
        return width, height


def square_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Width and height of a picture of ``width`` x ``height`` pixels once they are square: one side grows, to an even
    number. Unchanged where the pixels are nearly square or the picture would become too large.
    """
    if abs(aspect - 1) <= _NEARLY_SQUARE:
        return width, height
    size = (2 * round(width * aspect / 2), height) if aspect > 1 else (width, 2 * round(height / aspect / 2))
    return size if max(size) <= _MAX_SIDE else (width, height)


def _plausible(width: int, height: int) -> Fraction | None:
    if width <= 0 or height <= 0 or width > _MOST * height or height > _MOST * width:
        return None
    return Fraction(width, height)
