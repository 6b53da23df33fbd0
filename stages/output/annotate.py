"""Draw masks, labels and classes on a copy of a frame; JPEG encoding."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from unicodedata import normalize

import cv2
import numpy as np
import supervision as sv

from stages.output.masks import Masks
from stages.output.rle import run_lengths
from stages.types import Image, Label, Track, TrackState

# bright, so that dark text is readable on all of them; ordered so that consecutive ids differ most
COLOURS = ("#ff5c7a", "#35c3ff", "#ffd60a", "#3ddc84", "#c08bff", "#ff9a3c", "#25e0d0", "#ff7ce5", "#b4e332", "#8fa8ff")
DARK, LIGHT = (16, 16, 24), (250, 250, 250)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def annotate(
    image: Image,
    masks: Masks,
    tracks: Sequence[Track],
    labels: Sequence[str],
    classes: Sequence[Label] | None = None,
) -> Image:
    """A copy of ``image``, uint8 (H, W, 3) RGB, with the mask, the outline and ``#id prompt score`` of each track.

    ``masks`` are of the picture's size, one for each of ``tracks``; ``labels`` are the texts of the prompts. The
    track's id determines the colour. Occluded tracks and empty masks are not drawn. ``classes`` of the frame are drawn
    in the lower left corner, those of a track after its score. The font is OpenCV's: it has Latin, Greek, Cyrillic,
    Hebrew, Chinese, Japanese and Korean; "?" stands for each character that it lacks, such as an emoji.
    """
    scene = image.copy()
    visible = [
        number
        for number, (track, crop) in enumerate(zip(tracks, masks.crops, strict=True))
        if track.state is not TrackState.OCCLUDED and crop.size
    ]
    style = _style(*image.shape[:2])
    if visible:
        shown = [tracks[number] for number in visible]
        texts = [_text(track, labels, classes or ()) for track in shown]
        _draw_objects(scene, masks.take(visible), shown, texts, style)
    _draw_classes(scene, [label for label in classes or () if label.id is None], style)
    return scene


def encode_jpeg(image: Image, quality: int = 85) -> bytes:
    """``image``, uint8 (H, W, 3) RGB, as a JPEG of ``quality`` 1 to 100."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    jpeg: bytes = encoded.tobytes()
    return jpeg


@dataclass(frozen=True, slots=True)
class _Style:
    """Annotators and text sizes for one image size."""

    mask: sv.MaskAnnotator
    outline: sv.PolygonAnnotator
    label: sv.LabelAnnotator
    text_scale: float
    text_thickness: int  # pixels
    padding: int  # pixels around a text


@lru_cache(maxsize=8)
def _style(height: int, width: int) -> _Style:
    side = min(height, width)
    scale, thickness, padding = max(0.32, side / 1300), max(1, round(side / 700)), max(2, round(side / 180))
    # supervision draws BGR: swap red and blue here, so that the result is RGB
    palette = sv.ColorPalette([sv.Color(c.b, c.g, c.r) for c in map(sv.Color.from_hex, COLOURS)])
    by_id = sv.ColorLookup.TRACK
    label = sv.LabelAnnotator(
        palette,
        color_lookup=by_id,
        text_color=sv.Color(*reversed(DARK)),
        text_scale=scale,
        text_thickness=thickness,
        text_padding=padding,
        smart_position=True,  # inside the image, without overlap
    )
    mask = sv.MaskAnnotator(palette, opacity=0.3, color_lookup=by_id)
    outline = sv.PolygonAnnotator(palette, max(1, round(side / 300)), color_lookup=by_id)
    return _Style(mask, outline, label, scale, thickness, padding)


def _draw_objects(scene: Image, masks: Masks, tracks: Sequence[Track], texts: list[str], style: _Style) -> None:
    ids = np.array([track.id for track in tracks])
    boxes = masks.boxes - (0, 0, 1, 1)  # supervision's boxes are closed
    detections = sv.Detections(boxes, _compact(masks), tracker_id=ids)
    style.mask.annotate(scene, detections)
    style.outline.annotate(scene, detections)
    style.label.annotate(scene, detections, texts)


def _compact(masks: Masks) -> sv.CompactMask:
    """The masks as supervision draws them fastest: run lengths inside their boxes."""
    shapes = np.array([crop.shape for crop in masks.crops], np.int32)
    runs = [run_lengths(crop, len(crop), 0, crop.size).astype(np.int32) for crop in masks.crops]
    return sv.CompactMask(runs, shapes, masks.boxes[:, :2].astype(np.int32), masks.size)


def _text(track: Track, labels: Sequence[str], classes: Sequence[Label]) -> str:
    prompt = "" if track.prompt is None else f"{labels[track.prompt]} "
    named = [label.label for label in classes if label.id == track.id]
    return _composed(" ".join([f"#{track.id} {prompt}{track.score:.2f}", *named]))


def _composed(text: str) -> str:
    """``text`` with each letter and its accents as one character; OpenCV draws the accents of others beside them."""
    return normalize("NFC", text)


def _draw_classes(scene: Image, classes: Sequence[Label], style: _Style) -> None:
    bottom = scene.shape[0]
    for label in reversed(classes):
        text = _composed(f"{label.label} {label.score:.2f}")
        (width, height), _ = cv2.getTextSize(text, FONT, style.text_scale, style.text_thickness)
        top = bottom - height - 2 * style.padding
        cv2.rectangle(scene, (0, top), (width + 2 * style.padding, bottom), DARK, cv2.FILLED)
        start = (style.padding, bottom - style.padding)
        cv2.putText(scene, text, start, FONT, style.text_scale, LIGHT, style.text_thickness, cv2.LINE_AA)
        bottom = top
