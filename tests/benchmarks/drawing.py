"""Masks, boxes, codes and drawing: each mask inside its box against each over the whole picture.

python -m tests.benchmarks.drawing [--scene shapes tiny full] [--size 1920x1080] [--rounds N] [--device cuda] [--json]

Both ways start with the same logits (256 x 256) and must end with the same codes and the same pixels; they run in
turns, three frames each, and a row has the fastest frame of each. With one CPU thread (OMP_NUM_THREADS=1) that is CPU
time.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pycocotools.mask as coco
import supervision as sv
import torch
from numpy.typing import NDArray

from daemon.service.build_models import pick_device
from stages.errors import ConfigError
from stages.output import annotate, rle
from stages.output.masks import Masks, full_masks
from stages.testsrc.world import ShapesWorld
from stages.types import Clock, Frame, Image, Result, Track, TrackState
from tests.benchmarks.support.stopwatch import now, settle

SIDE = 256  # of the logits, SAM 2's at 1024 pixels
SCENES = {
    "shapes": "20 moving shapes",
    "tiny": "one object of 1/50 of each side",
    "full": "one object that fills the picture",
}


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds a frame."""

    scene: str
    step: str
    whole: float  # over the whole picture
    inside: float  # inside the boxes

    @property
    def ratio(self) -> float:
        return self.whole / self.inside


def scene(name: str, width: int, height: int, device: torch.device) -> Result:
    """A frame with the logits of its objects."""
    image, truth = ShapesWorld(seed=3, width=width, height=height, objects=20).render(30)
    rows, columns = np.mgrid[:height, :width]
    middle = (np.abs(rows / height - 0.5) < 0.01) & (np.abs(columns / width - 0.5) < 0.01)
    masks = {"shapes": truth.masks, "tiny": middle[None], "full": np.ones((1, height, width), bool)}[name]
    small = [cv2.resize(mask.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for mask in masks]
    logits = torch.tensor(np.array(small) * 16 - 8, device=device)
    tracks = tuple(Track(number, 0, 0, 30, TrackState.TRACKED, 0.8, 0.99) for number in range(1, len(masks) + 1))
    return Result(Frame(30, 0, Fraction(1, 30), 1.0, Clock.FILE, image), 0, True, tracks, logits)


def whole_masks(result: Result) -> NDArray[np.bool_]:
    """The masks over the whole picture, (N, H, W)."""
    height, width = result.frame.image.shape[:2]
    logits = result.masks.float().cpu().numpy()
    return np.stack([cv2.resize(logit, (width, height), interpolation=cv2.INTER_LINEAR) > 0 for logit in logits])


def whole_codes(masks: NDArray[np.bool_]) -> list[str]:
    """Codes, areas and boxes of whole masks, by pycocotools."""
    columns = np.stack([cv2.transpose(mask.view(np.uint8)) for mask in masks])
    codes = coco.encode(columns.transpose(2, 1, 0))
    coco.area(codes)
    coco.toBbox(codes)
    return [code["counts"].decode("ascii") for code in codes]


def inside_codes(masks: Masks) -> list[str]:
    """Codes and areas of masks inside boxes, which they know."""
    masks.areas  # noqa: B018 (counts the pixels)
    return [str(code["counts"]) for code in rle.encode_all(masks)]


@contextmanager
def drawn_by_supervision() -> Iterator[None]:
    """Within it, pictures are drawn by supervision's annotators, masks over the whole picture."""
    # they draw BGR; the pictures are RGB
    palette = sv.ColorPalette([sv.Color(*reversed(colour)) for colour in annotate.PALETTE])
    by_id = sv.ColorLookup.TRACK

    def masks(scene: Image, image: Image, masks: Masks, colours: Sequence[int], thickness: int) -> None:
        detections = sv.Detections(masks.boxes - (0, 0, 1, 1), masks.full(), tracker_id=np.array(colours))
        sv.MaskAnnotator(palette, annotate.OPACITY, by_id).annotate(scene, detections)
        sv.PolygonAnnotator(palette, thickness, by_id).annotate(scene, detections)

    def labels(scene: Image, corners: Any, texts: list[str], colours: Sequence[int], style: Any) -> None:
        detections = sv.Detections(np.array([(*corner, *corner) for corner in corners]), tracker_id=np.array(colours))
        text = (sv.Color(*reversed(annotate.DARK)), style.text_scale, style.text_thickness, style.padding)
        sv.LabelAnnotator(palette, by_id, *text, smart_position=True).annotate(scene, detections, texts)

    with patch.multiple(annotate, _draw_masks=masks, _draw_labels=labels):
        yield


def compare(name: str, result: Result, rounds: int) -> list[Row]:
    """Time the steps both ways; raises RuntimeError where their results differ."""
    device, picture = result.masks.device, result.frame.image
    inside, whole = full_masks(result), whole_masks(result)

    def draw() -> NDArray[np.uint8]:
        return annotate.annotate(picture, inside, result.tracks, ["shape"])

    def draw_whole() -> NDArray[np.uint8]:
        with drawn_by_supervision():
            return draw()

    if inside_codes(inside) != whole_codes(whole) or (draw() != draw_whole()).any():
        raise RuntimeError(f"{name}: the two ways differ")
    steps: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "masks": (lambda: whole_masks(result), lambda: full_masks(result)),
        "boxes and codes": (lambda: whole_codes(whole), lambda: inside_codes(inside)),
        "drawing": (draw_whole, draw),
    }
    return [Row(name, step, *fastest(ways, device, rounds)) for step, ways in steps.items()]


def fastest(ways: tuple[Callable[[], object], ...], device: torch.device, rounds: int) -> list[float]:
    """The fastest call of each way, in milliseconds."""
    best = [float("inf")] * len(ways)
    for _ in range(rounds):
        for number, way in [(number, way) for number, way in enumerate(ways) for _ in range(3)]:
            settle(device)
            began = now(torch.device("cpu"))
            way()
            best[number] = min(best[number], (now(torch.device("cpu")) - began) * 1000)
    return best


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.drawing", description=__doc__.splitlines()[0])
    parser.add_argument("--scene", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--size", default="1920x1080", metavar="WIDTHxHEIGHT")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where the logits are")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        pick_device(arguments.device)
    except ConfigError as error:
        parser.error(str(error))
    return arguments


def main() -> None:
    arguments = parse()
    cv2.setNumThreads(torch.get_num_threads())
    width, height = map(int, arguments.size.split("x"))
    device = torch.device(arguments.device)
    rows = [
        row for name in arguments.scene for row in compare(name, scene(name, width, height, device), arguments.rounds)
    ]
    if arguments.json:
        print(json.dumps({"rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}))
        return
    print("| scene | step | whole picture, ms | inside boxes, ms | whole / inside |\n" + "|---" * 5 + "|")
    for row in rows:
        print(f"| {SCENES[row.scene]} | {row.step} | {row.whole:.2f} | {row.inside:.2f} | {row.ratio:.1f} |")


if __name__ == "__main__":
    main()
