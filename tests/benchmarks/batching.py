"""Batching over streams: time to detect keyframes and encode windows, stream by stream and in one batch.

python -m tests.benchmarks.batching [--streams 4] [--segmenter embedded t s b+ l] [--detector MODEL] [--json]

Each stream has its own frames of the test source; all have the same prompts. Both ways run in turns; a row has the
fastest round of each. With one CPU thread (OMP_NUM_THREADS=1) it is CPU time. The public sizes have random weights.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from daemon.service.build_models import pick_device, pick_dtype
from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.detection.prompts import parse_prompts
from stages.errors import ConfigError
from stages.sam2.load import load_segmenter
from stages.testsrc.world import ShapesWorld
from stages.types import Image
from tests.benchmarks.support.stopwatch import now, settle
from tests.benchmarks.tracker import NAMES, SIZES
from tests.support.checkpoints import write_sam2

THRESHOLDS = (0.25, 0.3)  # the daemon's: box, text


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds for all streams."""

    step: str
    model: str
    streams: int
    pictures: int  # per stream
    apart: float
    together: float

    @property
    def ratio(self) -> float:
        return self.together / self.apart


def compare(
    apart: Callable[[], object], together: Callable[[], object], device: torch.device, rounds: int
) -> list[float]:
    """The fastest round of each, in milliseconds, not counting the first round, which is the warm-up."""
    best = [float("inf")] * 2
    for turn in range(rounds + 1):
        for number, run in enumerate((apart, together)):
            settle(device)
            began = now(device)
            run()
            settle(device)
            if turn:
                best[number] = min(best[number], (now(device) - began) * 1000)
    return best


def detect(films: list[list[Image]], arguments: argparse.Namespace) -> Row:
    """Time the detection of one keyframe per stream."""
    device = pick_device(arguments.device)
    detector = GroundingDino(arguments.detector or EMBEDDED, device, pick_dtype(arguments.precision, device))
    prompts = parse_prompts(ShapesWorld(0).labels)
    keyframes = [film[0] for film in films]
    times = compare(
        lambda: [detector.detect([picture], prompts, *THRESHOLDS) for picture in keyframes],
        lambda: detector.detect(keyframes, prompts, *THRESHOLDS),
        device,
        arguments.rounds,
    )
    return Row("detect", arguments.detector or "embedded", len(films), 1, *times)


def encode(size: str, films: list[list[Image]], arguments: argparse.Namespace) -> Row:
    """Time the encoding of one window per stream."""
    device = pick_device(arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        weights = "embedded" if size == "embedded" else str(write_sam2(Path(folder), NAMES[size])[0])
        segmenter = load_segmenter(weights, device, pick_dtype(arguments.precision, device), arguments.compile)
    pictures = [picture for film in films for picture in film]
    times = compare(
        lambda: [segmenter.encode(film) for film in films],
        lambda: segmenter.encode(pictures),
        device,
        arguments.rounds,
    )
    return Row("encode", size, len(films), len(films[0]), *times)


def line(row: Row) -> str:
    """A line of a markdown table."""
    counts = f"{row.streams} x {row.pictures}"
    return f"| {row.step} | {row.model} | {counts} | {row.apart:.1f} | {row.together:.1f} | {row.ratio:.2f} |"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.batching", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--segmenter", nargs="+", choices=SIZES, default=["embedded"])
    parser.add_argument("--detector", metavar="MODEL", help="hub id or folder; the embedded one without it")
    parser.add_argument("--size", default="256x256", metavar="WIDTHxHEIGHT")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--compile", action="store_true", help="compile the segmenter as the daemon does on CUDA")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        pick_device(arguments.device)
    except ConfigError as error:
        parser.error(str(error))
    return arguments


def main() -> None:
    arguments = parse()
    width, height = map(int, arguments.size.split("x"))
    worlds = [ShapesWorld(seed, width, height) for seed in range(arguments.streams)]
    films = [[world.render(t)[0] for t in range(arguments.window)] for world in worlds]
    rows = [detect(films, arguments), *(encode(size, films, arguments) for size in arguments.segmenter)]
    if arguments.json:
        print(json.dumps({"rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}))
        return
    print("| step | model | streams x pictures | apart, ms | together, ms | together / apart |\n" + "|---" * 6 + "|")
    print("\n".join(map(line, rows)))


if __name__ == "__main__":
    main()
