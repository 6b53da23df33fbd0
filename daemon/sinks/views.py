"""How well the objects of a frame are seen, to choose the picture of each."""

from collections.abc import Mapping, Sequence

from stages.output.wire import Header
from stages.types import Detections, Result

SAME = 0.5  # intersection over union from which a detection is that of the track
UNCONFIRMED = 0.25  # what a view counts that no detection confirms: the mask may have drifted onto something else
CUT_OFF = 0.5  # what a view counts that touches the edge of the picture


def qualities(result: Result, header: Header) -> dict[int, float]:
    """By track, of all that show on a frame: high where the object is large, whole and was detected there."""
    prompts = {track.id: track.prompt for track in result.tracks}
    return {
        entry["id"]: _quality(entry, prompts.get(entry["id"]), result.detections, header)
        for entry in header["objects"]
        if entry["area"]
    }


def _quality(entry: Header, prompt: int | None, detections: Detections | None, picture: Mapping[str, int]) -> float:
    x0, y0, x1, y1 = entry["box"]
    whole = x0 > 0 and y0 > 0 and x1 < picture["width"] and y1 < picture["height"]
    sure = UNCONFIRMED * entry["presence"]
    if prompt is not None and detections is not None:
        boxes, scores, of = detections.boxes.tolist(), detections.scores.tolist(), detections.prompts.tolist()
        there = zip(boxes, scores, of, strict=True)
        sure = max([sure, *(s for box, s, p in there if p == prompt and _overlap(entry["box"], box) >= SAME)])
    return float(sure * entry["area"] ** 0.5 * (1.0 if whole else CUT_OFF))


def _overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes, xyxy."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (first, second)]
    return width * height / (sum(areas) - width * height)
