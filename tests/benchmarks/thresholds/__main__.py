"""Detection with `auto_threshold` against the fixed default thresholds, on the test source and under corruptions.

python -m tests.benchmarks.thresholds [--world plain|hard|wild] [--seeds N ...] [--frames N] [--every N]
                                      [--detector FOLDER] [--json]

Only keyframes are rendered and only the embedded detector runs. All conditions use the same worlds, with a corrupted
image, with prompts in words that the detector was not trained on, with a constant added to its logits (as of a
checkpoint with higher or lower scores; the embedded one is calibrated by such a constant), or with other sets of
prompts. By default the prompts of a world are the labels of all its objects and of two absent ones. Every stream starts
with the fixed thresholds. The constants of `auto_threshold` were chosen on seeds 300 to 339.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from daemon.settings.schema import Detection
from stages.detection.auto_threshold import FLOOR, AutoThresholds
from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.detection.prompts import Prompt
from stages.testsrc.bodies import LABELS
from stages.testsrc.open_world import KINDS, Kind, measured_world
from stages.testsrc.score import Quality, measured_labels
from stages.testsrc.truth import World
from stages.types import Clock, Detections, Frame, Image, Result

HELD_OUT = range(400, 440)
BATCH = 20  # keyframes per call of the detector
COUNTS = ("true_positives", "false_positives", "false_negatives", "keyframes", "keyframes_absent")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Condition:
    """A corruption of the images, prompts or logits."""

    group: str
    name: str
    spoil: Callable[[Floats, np.random.Generator], Floats] = lambda picture, _: picture
    word: Callable[[str, int], str] = lambda label, _: label  # the prompt, by label and its index
    shift: float = 0.0  # added to the detector's logits
    ask: Callable[[World], list[str]] = measured_labels


def _compressed(picture: Floats, _: np.random.Generator) -> Floats:
    _, code = cv2.imencode(".jpg", picture.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 6])
    return cv2.imdecode(code, cv2.IMREAD_COLOR).astype(np.float32)


def _with(word: str) -> Callable[[str, int], str]:
    return lambda label, _: label.replace(" ", f" {word} ")


CONDITIONS = (
    Condition("picture", "plain"),
    Condition("picture", "dark (gamma 2.2)", lambda p, _: 255 * (p / 255) ** 2.2),
    Condition("picture", "overexposed (gamma 0.45)", lambda p, _: 255 * (p / 255) ** 0.45),
    Condition("picture", "half the light", lambda p, _: p * 0.5),
    Condition("picture", "a third of the light", lambda p, _: p * 0.3),
    Condition("picture", "haze (contrast 0.6)", lambda p, _: 128 + (p - 128) * 0.6),
    Condition("picture", "noise (sigma 40)", lambda p, rng: p + rng.normal(0, 40, p.shape)),
    Condition("picture", "blur (sigma 4)", lambda p, _: cv2.GaussianBlur(p, (0, 0), 4)),
    Condition("picture", "JPEG (quality 6)", _compressed),
    Condition("words", "shiny red circle", word=lambda label, _: f"shiny {label}"),
    Condition("words", "red circle toy", word=lambda label, _: f"{label} toy"),
    Condition("words", "every other: red metal circle", word=lambda l_, i: _with("metal")(l_, i) if i % 2 else l_),
    Condition("scores", "logits + 2", shift=2.0),
    Condition("scores", "logits - 2", shift=-2.0),
    Condition("prompts", "one", ask=lambda world: list(world.labels[:1])),
    Condition("prompts", "all 24 names", ask=lambda _: list(LABELS)),
    Condition("prompts", "only absent ones", ask=lambda w: [label for label in LABELS if label not in w.labels][::5]),
)


class Network:
    """The detector's network with a constant added to its logits; caches its outputs by caption."""

    def __init__(self, network: Any) -> None:
        self.shift = 0.0
        self._network = network
        self._answers: dict[tuple[int, ...], Any] = {}

    def __call__(self, input_ids: torch.Tensor, **pictures: Any) -> Any:
        caption = tuple(input_ids[0].tolist())
        if caption not in self._answers:
            answer = self._network(input_ids=input_ids, **pictures)
            answer.logits = answer.logits + self.shift
            self._answers[caption] = answer
        return self._answers[caption]

    def forget(self, shift: float) -> None:
        """Clear the cache, before other images are given, and set the constant."""
        self.shift = shift
        self._answers.clear()


def pictures(world: World, seed: int, condition: Condition, indices: range) -> Iterator[Image]:
    rng = np.random.default_rng([seed, 77])
    for index in indices:
        spoilt = condition.spoil(world.render(index)[0].astype(np.float32), rng)
        yield np.clip(spoilt, 0, 255).astype(np.uint8)


def observe(quality: Quality, index: int, image: Image, found: Detections) -> None:
    frame = Frame(index, index, Fraction(1, 30), index / 30, Clock.FILE, image)
    nothing = np.zeros((0, *image.shape[:2]), bool)
    quality.observe(Result(frame, 0, True, (), torch.zeros(0, 1, 1), detections=found), nothing)


def measure(
    kind: Kind, seed: int, condition: Condition, indices: range, detector: GroundingDino
) -> tuple[Quality, Quality]:
    """Quality of one stream with the fixed thresholds, and with automatic ones that start from them."""
    default = Detection()
    world = measured_world(kind, seed)
    labels = condition.ask(world)
    named = [Prompt(label, label) for label in labels]
    asked = [Prompt(label, condition.word(label, place)) for place, label in enumerate(labels)]
    fixed, auto = Quality(world, named), Quality(world, named)
    thresholds = AutoThresholds(len(labels), default.least_score)
    shown = list(pictures(world, seed, condition, indices))
    for start in range(0, len(shown), BATCH):
        batch = shown[start : start + BATCH]
        detector.network.forget(condition.shift)
        usual = detector.detect(batch, asked, default.box_threshold, default.text_threshold)
        everything = detector.detect(batch, asked, FLOOR, FLOOR)
        for index, image, one, other in zip(indices[start:], batch, usual, everything, strict=False):
            observe(fixed, index, image, one)
            observe(auto, index, image, thresholds.select(other))
    return fixed, auto


def total(parts: list[Quality]) -> dict[str, float]:
    """f1, precision, recall and absent_rate over all ``parts``."""
    whole = Quality(measured_world("plain", 0), [])
    for name in COUNTS:
        setattr(whole, name, sum(getattr(part, name) for part in parts))
    kept = ("f1", "precision", "recall", "absent_rate")
    return {name: round(value, 4) for name, value in whole.summary().items() if name in kept}


def line(name: str, fixed: dict[str, float], auto: dict[str, float]) -> str:
    cells = [f"{fixed[key]:.3f} {auto[key]:.3f} {auto[key] - fixed[key]:+.3f}" for key in ("f1", "absent_rate")]
    return f"{name:40s} {'   '.join(cells)}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.thresholds", description=__doc__.splitlines()[0])
    parser.add_argument("--world", choices=KINDS, default="plain")
    parser.add_argument("--detector", type=Path, default=EMBEDDED)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(HELD_OUT))
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--every", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    detector = GroundingDino(arguments.detector, torch.device("cpu"), torch.float32)
    detector.network = Network(detector.network)
    indices = range(0, arguments.frames, arguments.every)
    report: dict[str, Any] = {}
    every: list[tuple[Quality, Quality]] = []

    def tell(name: str, pairs: list[tuple[Quality, Quality]]) -> None:
        fixed, auto = (total(list(side)) for side in zip(*pairs, strict=True))
        report[name] = {"fixed": fixed, "auto": auto}
        if not arguments.json:
            print(line(name, fixed, auto), flush=True)

    if not arguments.json:
        print(f"{'':40s} F1 fixed, auto          absent_rate fixed, auto")
    for group, conditions in groupby(CONDITIONS, lambda condition: condition.group):
        of_group: list[tuple[Quality, Quality]] = []
        for condition in conditions:
            pairs = [measure(arguments.world, seed, condition, indices, detector) for seed in arguments.seeds]
            tell(f"{group}: {condition.name}", pairs)
            of_group += pairs
        tell(f"{group}, all", of_group)
        every += of_group
    tell("total", every)
    if arguments.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
