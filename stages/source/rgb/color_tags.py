"""What the numbers of a decoded frame mean as colours: the tags of frame and container, completed.

Code points of ITU-T H.273, which FFmpeg's enumerations number alike.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

UNSPECIFIED = 2  # of matrix, transfer and primaries
BT709, BT601, BT2020, BT2020_CONSTANT = 1, 5, 9, 10  # matrices
_MATRICES = (BT709, 4, BT601, 6, 7, BT2020)  # those that swscale can convert to RGB
_RANGES = (int(ColorRange.MPEG), int(ColorRange.JPEG))
_HDR = (int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67))  # PQ and HLG
_WIDE = tuple(int(gamut) for gamut in (ColorPrimaries.BT2020, ColorPrimaries.SMPTE431, ColorPrimaries.SMPTE432))


@dataclass(frozen=True, slots=True)
class ColorTags:
    """Matrix from R'G'B' to Y'CbCr, transfer characteristic, primaries, and range (full or limited)."""

    matrix: int
    transfer: int
    primaries: int
    range: int

    @classmethod
    def of(cls, tagged: "VideoFrame | VideoCodecContext") -> "ColorTags":
        """The tags of a frame; of a decoder that has decoded nothing yet: those of its container."""
        return cls(int(tagged.colorspace), tagged.color_trc, tagged.color_primaries, tagged.color_range)

    @property
    def standard(self) -> bool:
        """Whether R'G'B' can be shown as it is: neither HDR nor a wide gamut."""
        return self.transfer not in _HDR and self.primaries not in _WIDE

    def completed(self, container: "ColorTags", width: int, height: int) -> "ColorTags":
        """These tags of a frame of ``width`` x ``height``, where they say nothing the container's, then a guess.

        As players guess: HDR is BT.2020, everything else BT.709 from HD on and BT.601 below. The transfer of a standard
        dynamic range stays out of account: displays differ more than these curves.
        """
        transfer = _known(self.transfer, container.transfer)
        primaries = _known(self.primaries, container.primaries)
        if transfer not in _HDR:
            transfer = int(ColorTrc.BT709)
        elif primaries not in _WIDE:
            primaries = int(ColorPrimaries.BT2020)
        matrix = _known(self.matrix, container.matrix)
        if matrix == BT2020_CONSTANT:
            matrix = BT2020  # the nearest that swscale has
        elif matrix not in _MATRICES:
            wide = primaries == int(ColorPrimaries.BT2020)
            matrix = BT2020 if wide else BT709 if width >= 1280 or height > 576 else BT601
        in_range = next((value for value in (self.range, container.range) if value in _RANGES), 0)
        return ColorTags(matrix, transfer, primaries, in_range)


def _known(frame: int, container: int) -> int:
    return container if frame == UNSPECIFIED else frame
