"""Drawing what is known of a frame onto it. Pure: a copy is drawn on, RGB in and out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import supervision as sv
from numpy.typing import NDArray

from stages.types import Image, Label, Track, TrackState

# Bright, so that dark text can be read on all of them, and ordered so that neighbouring ids differ most.
COLOURS = ("#ff5c7a", "#35c3ff", "#ffd60a", "#3ddc84", "#c08bff", "#ff9a3c", "#25e0d0", "#ff7ce5", "#b4e332", "#8fa8ff")
INK, PAPER = (16, 16, 24), (250, 250, 250)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def annotate(
    image: Image,
    masks: NDArray[np.bool_],
    tracks: Sequence[Track],
    labels: Sequence[str],
    classes: Sequence[Label] | None = None,
) -> Image:
    """A copy of ``image``, uint8 (H, W, 3) RGB, with the mask, the outline and ``#id prompt score`` of each track.

    ``masks`` are bool (N, H, W), one for each of ``tracks``; ``labels`` are the texts of the prompts. Colours go by
    the track's id. What is occluded or has no pixel is not drawn. ``classes`` of the frame stand in the lower left
    corner, those of a track behind its score.
    """
    scene = image.copy()
    visible = [track.state is not TrackState.OCCLUDED and mask.any() for track, mask in zip(tracks, masks, strict=True)]
    brushes = _brushes(*image.shape[:2])
    if any(visible):
        shown = [track for track, seen in zip(tracks, visible, strict=True) if seen]
        _draw_objects(scene, masks[visible], shown, [_text(track, labels, classes or ()) for track in shown], brushes)
    _draw_classes(scene, [label for label in classes or () if label.id is None], brushes)
    return scene


def encode_jpeg(image: Image, quality: int = 85) -> bytes:
    """``image``, uint8 (H, W, 3) RGB, as a JPEG of ``quality`` 1 to 100."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    jpeg: bytes = encoded.tobytes()
    return jpeg


@dataclass(frozen=True, slots=True)
class _Brushes:
    """What draws, at the picture's scale."""

    mask: sv.MaskAnnotator
    outline: sv.PolygonAnnotator
    label: sv.LabelAnnotator
    text_scale: float
    text_thickness: int  # pixels
    padding: int  # pixels around a text


@lru_cache(maxsize=8)
def _brushes(height: int, width: int) -> _Brushes:
    side = min(height, width)
    scale, thickness, padding = max(0.32, side / 1300), max(1, round(side / 700)), max(2, round(side / 180))
    # supervision draws BGR: with red and blue exchanged beforehand, what it draws is RGB.
    palette = sv.ColorPalette([sv.Color(c.b, c.g, c.r) for c in map(sv.Color.from_hex, COLOURS)])
    by_id = sv.ColorLookup.TRACK
    label = sv.LabelAnnotator(
        palette,
        color_lookup=by_id,
        text_color=sv.Color(*reversed(INK)),
        text_scale=scale,
        text_thickness=thickness,
        text_padding=padding,
        smart_position=True,  # inside the picture and apart from each other
    )
    mask = sv.MaskAnnotator(palette, opacity=0.3, color_lookup=by_id)
    outline = sv.PolygonAnnotator(palette, max(1, round(side / 300)), color_lookup=by_id)
    return _Brushes(mask, outline, label, scale, thickness, padding)


def _draw_objects(
    scene: Image, masks: NDArray[np.bool_], tracks: Sequence[Track], texts: list[str], brushes: _Brushes
) -> None:
    ids = np.array([track.id for track in tracks])
    detections = sv.Detections(sv.mask_to_xyxy(masks), masks, tracker_id=ids)
    brushes.mask.annotate(scene, detections)
    brushes.outline.annotate(scene, detections)
    brushes.label.annotate(scene, detections, texts)


def _text(track: Track, labels: Sequence[str], classes: Sequence[Label]) -> str:
    prompt = "" if track.prompt is None else f"{labels[track.prompt]} "
    named = [label.label for label in classes if label.id == track.id]
    return " ".join([f"#{track.id} {prompt}{track.score:.2f}", *named])


def _draw_classes(scene: Image, classes: Sequence[Label], brushes: _Brushes) -> None:
    bottom = scene.shape[0]
    for label in reversed(classes):
        text = f"{label.label} {label.score:.2f}"
        (width, height), _ = cv2.getTextSize(text, FONT, brushes.text_scale, brushes.text_thickness)
        top = bottom - height - 2 * brushes.padding
        cv2.rectangle(scene, (0, top), (width + 2 * brushes.padding, bottom), INK, cv2.FILLED)
        start = (brushes.padding, bottom - brushes.padding)
        cv2.putText(scene, text, start, FONT, brushes.text_scale, PAPER, brushes.text_thickness, cv2.LINE_AA)
        bottom = top
