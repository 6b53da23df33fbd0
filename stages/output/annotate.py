"""Draw masks, labels and classes on a copy of a frame; JPEG encoding."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from unicodedata import normalize

import cv2
import numpy as np
from numpy.typing import NDArray
from supervision.detection.utils.boxes import spread_out_boxes

from stages.output.masks import Masks
from stages.types import Image, Label, Track, TrackState

# bright, so that dark text is readable on all of them; ordered so that consecutive ids differ most
COLOURS = ("#ff5c7a", "#35c3ff", "#ffd60a", "#3ddc84", "#c08bff", "#ff9a3c", "#25e0d0", "#ff7ce5", "#b4e332", "#8fa8ff")
DARK, LIGHT = (16, 16, 24), (250, 250, 250)
PALETTE = tuple(tuple(bytes.fromhex(colour[1:])) for colour in COLOURS)  # RGB
OPACITY = 0.3  # of a mask
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
        shapes = masks.take(visible)
        colours = [track.id % len(PALETTE) for track in shown]
        _draw_masks(scene, image, shapes, colours, style.outline)
        _draw_labels(scene, shapes.boxes[:, :2].tolist(), texts, colours, style)
    _draw_classes(scene, [label for label in classes or () if label.id is None], style)
    return scene


def encode_jpeg(image: Image, quality: int = 85) -> bytes:
    """``image``, uint8 (H, W, 3) RGB, as a JPEG of ``quality`` 1 to 100."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    jpeg: bytes = encoded.tobytes()
    return jpeg


@dataclass(frozen=True, slots=True)
class _Style:
    """Line and text sizes for one image size."""

    outline: int  # pixels that an outline is thick
    text_scale: float
    text_thickness: int  # pixels
    padding: int  # pixels around a text


@lru_cache(maxsize=8)
def _style(height: int, width: int) -> _Style:
    side = min(height, width)
    scale, thickness, padding = max(0.32, side / 1300), max(1, round(side / 700)), max(2, round(side / 180))
    return _Style(max(1, round(side / 300)), scale, thickness, padding)


def _draw_masks(scene: Image, image: Image, masks: Masks, colours: Sequence[int], thickness: int) -> None:
    """Draw masks, which have a pixel each, and outlines ``thickness`` pixels thick as supervision's MaskAnnotator and
    PolygonAnnotator do, to the pixel; but by OpenCV's own calls, during which other threads can run.

    ``scene`` is a copy of ``image``; ``colours`` are indices of the palette.
    """
    placed = list(zip(masks.boxes.tolist(), [crop.view(np.uint8) for crop in masks.crops], colours, strict=True))
    for number in np.argsort(masks.areas)[::-1].tolist():  # the smaller one on top
        (left, top, right, bottom), crop, colour = placed[number]
        inside = np.s_[top:bottom, left:right]
        cv2.copyTo(cv2.LUT(image[inside], _tint(colour)), crop, scene[inside])
    for (left, top, _, _), crop, colour in placed:
        contours, _ = cv2.findContours(crop, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
        polygons = [contour for contour in contours if len(contour) > 2]
        cv2.polylines(scene, polygons, True, PALETTE[colour], thickness)


@lru_cache(maxsize=len(COLOURS))
def _tint(colour: int) -> NDArray[np.uint8]:
    """What each value of each channel becomes under a mask of the colour, (1, 256, 3)."""
    values = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    tinted: NDArray[np.uint8] = cv2.addWeighted(np.full_like(values, PALETTE[colour]), OPACITY, values, 1 - OPACITY, 0)
    return tinted


def _draw_labels(
    scene: Image, corners: Sequence[tuple[int, int]], texts: Sequence[str], colours: Sequence[int], style: _Style
) -> None:
    """Draw each text above its corner (x, y), inside the picture and beside the others, as supervision's LabelAnnotator
    does. That takes several times as long with the interpreter lock."""
    heights = []
    boxes = []  # xyxy
    for (x, y), text in zip(corners, texts, strict=True):
        (width, height), _ = cv2.getTextSize(text, FONT, style.text_scale, style.text_thickness)
        heights.append(height)
        width, height = width + 2 * style.padding, height + 2 * style.padding
        boxes.append((x, y - height, x + width, y))
    boxes = _inside(boxes, scene)
    if any(_near(*pair) for pair in combinations(boxes, 2)):
        boxes = _inside(spread_out_boxes(np.array(boxes, np.float32)).tolist(), scene)
    for (left, top, right, bottom), height, text, colour in zip(boxes, heights, texts, colours, strict=True):
        cv2.rectangle(scene, (left, top), (right, bottom), PALETTE[colour], cv2.FILLED)
        start = (left + style.padding, top + style.padding + height)
        cv2.putText(scene, text, start, FONT, style.text_scale, DARK, style.text_thickness, cv2.LINE_AA)


_Box = tuple[int, int, int, int]


def _inside(boxes: Sequence[Sequence[float]], scene: Image) -> list[_Box]:
    """The boxes, moved into the picture; where one does not fit, its upper left corner is inside."""
    height, width = scene.shape[:2]
    moved = []
    for left, top, right, bottom in boxes:
        x, y = max(0, min(0, width - right) + left), max(0, min(0, height - bottom) + top)
        moved.append((int(x), int(y), int(x + right - left), int(y + bottom - top)))
    return moved


def _near(first: _Box, second: _Box) -> bool:
    """The boxes overlap, or nearly."""
    return (
        first[0] < second[2] + 2 and second[0] < first[2] + 2 and first[1] < second[3] + 2 and second[1] < first[3] + 2
    )


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
