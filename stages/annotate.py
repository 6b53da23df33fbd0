"""Drawing what is known of a frame onto it. Pure: a copy is drawn on, RGB in and out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import supervision as sv
from numpy.typing import NDArray

from stages.types import Image, Label, Track, TrackState

# Bright, so that dark text can be read on all of them, and ordered so that neighbouring ids differ most.
COLOURS = ("#ff5c7a", "#35c3ff", "#ffd60a", "#3ddc84", "#c08bff", "#ff9a3c", "#25e0d0", "#ff7ce5", "#b4e332", "#8fa8ff")
INK = (16, 16, 24)
OPACITY = 0.45


def annotate(
    image: Image,
    masks: NDArray[np.bool_],
    tracks: Sequence[Track],
    labels: Sequence[str],
    classes: Sequence[Label] | None = None,
) -> Image:
    """A copy of ``image``, uint8 (H, W, 3) RGB, with the mask, the outline and ``#id prompt score`` of each track.

    ``masks`` are bool (N, H, W), one for each of ``tracks``; ``labels`` are the texts of the prompts. Colours go by
    the track's id. What is occluded or has no pixel is not drawn. ``classes`` stand in the lower left corner.
    """
    scene = image.copy()
    visible = [track.state is not TrackState.OCCLUDED and mask.any() for track, mask in zip(tracks, masks, strict=True)]
    brushes = _brushes(*image.shape[:2])
    if any(visible):
        shown = [track for track, seen in zip(tracks, visible, strict=True) if seen]
        _draw_objects(scene, masks[visible], shown, labels, brushes)
    if classes:
        _draw_classes(scene, classes, brushes)
    return scene


def encode_jpeg(image: Image, quality: int = 85) -> bytes:
    """``image``, uint8 (H, W, 3) RGB, as a JPEG of ``quality`` 1 to 100."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    jpeg: bytes = encoded.tobytes()
    return jpeg


@dataclass(frozen=True, slots=True)
class _Brushes:
    """supervision's annotators, scaled to the picture."""

    mask: sv.MaskAnnotator
    outline: sv.PolygonAnnotator
    label: sv.LabelAnnotator
    scale: float  # of the text
    padding: int  # pixels around the text


@cache
def _brushes(height: int, width: int) -> _Brushes:
    side = min(height, width)
    scale = float(np.clip(side / 1300, 0.32, 1.2))
    padding = max(2, round(side / 180))
    # supervision draws BGR: with red and blue exchanged here, what it draws is RGB.
    palette = sv.ColorPalette([sv.Color(c.b, c.g, c.r) for c in map(sv.Color.from_hex, COLOURS)])
    return _Brushes(
        sv.MaskAnnotator(palette, opacity=OPACITY),
        sv.PolygonAnnotator(palette, thickness=max(1, round(side / 300))),
        sv.LabelAnnotator(
            palette,
            text_color=sv.Color(*reversed(INK)),
            text_scale=scale,
            text_thickness=max(1, round(side / 700)),
            text_padding=padding,
            smart_position=True,
        ),
        scale,
        padding,
    )


def _draw_objects(
    scene: Image, masks: NDArray[np.bool_], tracks: Sequence[Track], labels: Sequence[str], brushes: _Brushes
) -> None:
    detections = sv.Detections(sv.mask_to_xyxy(masks), masks)
    colours = np.array([track.id for track in tracks]) % len(COLOURS)
    brushes.mask.annotate(scene, detections, colours)
    brushes.outline.annotate(scene, detections, colours)
    texts = [_text(track, labels) for track in tracks]
    brushes.label.annotate(scene, detections, texts, colours)


def _text(track: Track, labels: Sequence[str]) -> str:
    prompt = "" if track.prompt is None else f"{labels[track.prompt]} "
    return f"#{track.id} {prompt}{track.score:.2f}"


def _draw_classes(scene: Image, classes: Sequence[Label], brushes: _Brushes) -> None:
    """White text on a darkened strip, a line for each class, in the lower left corner."""
