"""What the models take on a GPU: the tracker by stage against upstream, and the detector. Each function is a step."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from daemon.service.build_models import pick_device, pick_dtype
from stages.detection.grounding_dino import GroundingDino
from stages.detection.prompts import parse_prompts
from stages.graphs import cuda_graphs
from stages.testsrc.world import ShapesWorld
from tests.benchmarks import tracker as benchmark
from tests.benchmarks.support.gpu_work import gpu_work
from tests.benchmarks.support.stopwatch import settle
from tests.gpu.step import Asked
from tests.support.checkpoints import write_grounding_dino

FILL, FRAMES = 24, 16  # upstream reads at most 16 frames' pointers: more would not make a frame slower
MANY = 32  # objects, from which on upstream takes so long that one window is timed


def tracker(asked: Asked, size: str, objects: Sequence[int], trackers: Sequence[str]) -> None:
    """tests.benchmarks.tracker for one size: milliseconds a frame by stage, the GPU's work, kernels, launches."""
    names = [name for name in trackers if name != "graphs" or asked.device == "cuda"]
    fill, frames = (4, 4) if asked.small else (FILL, FRAMES if max(objects) < MANY else 8)
    given = ["--sizes", size, "--objects", *map(str, objects), "--trackers", *names, "--device", asked.device]
    given += ["--frames", str(frames), "--fill", str(fill), "--weights", asked.scratch]
    benchmark.main(given)


def detection(asked: Asked) -> None:
    """Grounding DINO tiny (random weights) on a picture of 1280 x 720, resized as the public model's processor does."""
    folder, device = detector_folder(asked), pick_device(asked.device)
    picture, prompts = ShapesWorld(0, 1280, 720).render(0)[0], parse_prompts(["red circle", "blue square"])
    print(
        "| precision | graphs | sides | ms | GPU works | kernels | launches |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    auto = pick_dtype("auto", device)
    for dtype, graphs in ((auto, cuda_graphs("detector", device)), (auto, None), (torch.float32, None)):
        detector = GroundingDino(str(folder), device, dtype, graphs)

        def detect(detector: GroundingDino = detector) -> None:
            detector.detect([picture], prompts, 0.25, 0.3)

        milliseconds = _fastest(detect, device, 2 if asked.small else 10)
        work, name = gpu_work(detect, device), str(dtype).removeprefix("torch.")
        shown = f"{work.milliseconds / milliseconds:.0%} | {work.kernels} | {work.launches}" if work else "- | - | -"
        captured = graphs.captured if graphs else "no"
        print(
            f"| {name} | {captured} | {' x '.join(map(str, sizes(asked)))} | {milliseconds:.1f} | {shown} |", flush=True
        )


def detector_folder(asked: Asked) -> Path:
    """Grounding DINO tiny with random weights, in the hub's format; written once for all steps."""
    folder = Path(asked.scratch) / "detector"
    if not folder.exists():
        written = folder.with_suffix(".part")
        written.mkdir(exist_ok=True)
        write_grounding_dino(written)
        config = written / "preprocessor_config.json"
        shortest, longest = sizes(asked)
        size = {"size": {"shortest_edge": shortest, "longest_edge": longest}}
        config.write_text(json.dumps(json.loads(config.read_text()) | size))
        written.rename(folder)
    return folder


def sizes(asked: Asked) -> tuple[int, int]:
    """The sides in pixels to which the detector's processor resizes pictures: at least, at most."""
    return (192, 342) if asked.small else (800, 1333)


def _fastest(work: Callable[[], None], device: torch.device, rounds: int) -> float:
    """Milliseconds of the fastest round; the first two do not count."""
    taken = []
    for _ in range(rounds + 2):
        settle(device)
        began = time.perf_counter()
        work()
        settle(device)
        taken.append((time.perf_counter() - began) * 1000)
    return min(taken[2:])
