"""What must be right on a GPU: tests, number types, CUDA graphs, the detector. Each function is a step."""

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import torch

from daemon.engine.warm_up import warm_up
from daemon.service.build_models import pick_dtype
from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.detection.prompts import parse_prompts
from stages.graphs import cuda_graphs
from stages.sam2.load import load_segmenter
from stages.sam2.segmenter import Sam2Segmenter
from stages.testsrc.world import ShapesWorld
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Clock, Detections, Frame, Result, Window
from tests.gpu.measurements import detector_folder
from tests.gpu.step import ROOT, Asked, Skipped
from tests.testsrc.truth import truth_detections

MARK = "pytest." + "mark.gpu"  # in files with tests that need a GPU
SEEDS, FRAMES, WINDOW, MOST = (0, 1, 2, 3), 24, 8, 8
AGREES = 0.99  # mean IoU of masks in bfloat16 and in float32; 0.997 on a CPU, 0.999 on an H200
SAME = 0.9999  # mean IoU of masks with and without graphs


def gpu_tests(asked: Asked) -> None:
    """The tests marked ``gpu``."""
    if find_spec("pytest") is None:
        raise Skipped("pytest is not installed")
    report = Path(asked.scratch) / "tests.xml"
    options = ["-m", "gpu", "-v", "-p", "no:cacheprovider", f"--junitxml={report}", "--continue-on-collection-errors"]
    # the project's settings name plugins that may not be there
    options += ["-W", "default::pytest.PytestConfigWarning", "-W", "default::pytest.PytestUnknownMarkWarning"]
    code = subprocess.run([sys.executable, "-m", "pytest", *options, *files_with_gpu_tests()], cwd=ROOT).returncode
    cases = list(ET.parse(report).iter("testcase"))
    wrong = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    for case in wrong:
        print(f"- failed: {case.get('classname')} {case.get('name')}")
    passed = len(cases) - len(wrong) - len(skipped)
    print(f"- {passed} passed, {len(skipped)} skipped, {len(wrong)} failed", flush=True)
    assert not wrong, f"{len(wrong)} tests failed"
    assert code in (0, 5), f"pytest ended with {code}"
    if not passed:
        assert asked.device == "cpu", "no test marked gpu ran on a machine with a GPU"
        raise Skipped("all of them need a GPU")


def files_with_gpu_tests() -> list[str]:
    """Test files that need a GPU in part; the others may need packages that a bare machine does not have."""
    return [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text()]


def precision(asked: Asked) -> None:
    """Masks of the embedded model in bfloat16 on the device against float32 on the CPU, free-running."""
    exact = load_segmenter("embedded", torch.device("cpu"), torch.float32)
    rounded = load_segmenter("embedded", torch.device(asked.device), torch.bfloat16)
    ious: list[float] = []
    for seed in SEEDS[:1] if asked.small else SEEDS:
        ious += _ious(_masks(exact, seed), _masks(rounded, seed))
    _judge(ious, AGREES)


def graphs(asked: Asked) -> None:
    """The embedded model with CUDA graphs and without: up to four objects, young and old, and a second keyframe."""
    device = torch.device(asked.device)
    eager, replayed = load_segmenter("embedded", device, pick_dtype("auto", device)), captured_segmenter(device)
    ious: list[float] = []
    furthest = 0.0
    for seed in SEEDS[:1] if asked.small else SEEDS:
        expected, found = (list(_results(segmenter, seed)) for segmenter in (eager, replayed))
        ious += _ious([result.masks > 0 for result in expected], [result.masks > 0 for result in found])
        for one, other in zip(expected, found, strict=True):
            if one.masks.shape == other.masks.shape and one.masks.numel():
                furthest = max(furthest, float((one.masks.float() - other.masks.float()).abs().max()))
    print(f"- largest difference of a logit: {furthest:.2g}")
    captured, refused = graph_counts(replayed)
    print(f"- graphs captured: {captured}, refused: {refused}", flush=True)
    _judge(ious, SAME)
    assert captured or asked.device == "cpu", "no graph was captured"


def hub_detector(asked: Asked) -> None:
    """A checkpoint as the hub has them (Grounding DINO tiny, random weights) finds boxes, with graphs the same.

    Two sizes of pictures, captions of two lengths and a batch of two alternate, so that graphs do, too.
    """
    device = torch.device(asked.device)
    folder, dtype, graphs = str(detector_folder(asked)), pick_dtype("auto", device), cuda_graphs("detector", device)
    eager, replayed = GroundingDino(folder, device, dtype), GroundingDino(folder, device, dtype, graphs)
    short, long = parse_prompts(["red circle"]), parse_prompts(["red circle", "blue square"])
    kinds = [((1280, 720), short, 1), ((1280, 640), short, 1), ((1280, 720), long, 1), ((1280, 720), short, 2)]
    for seed in range(2 if asked.small else 4):  # the second of a kind is captured and compared, the last is replayed
        for number, (size, prompts, pictures) in enumerate(kinds):
            shown = [ShapesWorld(10 * seed + 5 * number + n, *size).render(0)[0] for n in range(pictures)]
            expected, found = (detector.detect(shown, prompts, 0.0, 0.0) for detector in (eager, replayed))
            for one, other in zip(expected, found, strict=True):
                _judge_boxes(one, size)
                _judge_same(one, other)
    print(f"- graphs captured: {graphs.captured if graphs else 0}, refused: {replayed.graph_fallbacks}")
    if graphs:
        print(f"- GPU memory held: {torch.cuda.memory_reserved(device) / 2**20:.0f} MiB", flush=True)
        assert graphs.captured
    assert not replayed.graph_fallbacks


def _judge_boxes(found: Detections, size: tuple[int, int]) -> None:
    assert len(found), "no box at threshold 0"
    assert np.isfinite(found.boxes).all()
    assert np.isfinite(found.scores).all()
    assert (found.boxes[:, :2] <= found.boxes[:, 2:]).all(), "a box is inside out"
    assert (found.boxes >= -1).all(), "a box is outside of the picture"
    assert (found.boxes <= np.array([*size, *size]) + 1).all(), "a box is outside of the picture"


def _judge_same(one: Detections, other: Detections) -> None:
    """The best boxes and scores; of those below, rounding may choose others."""
    most = min(50, len(one), len(other))
    scores = np.abs(one.scores[:most] - other.scores[:most]).max()
    boxes = np.abs(np.sort(one.boxes[:most], 0) - np.sort(other.boxes[:most], 0)).mean()
    print(f"- {len(one)} and {len(other)} boxes; scores differ by {scores:.4f}, boxes by {boxes:.2f} px", flush=True)
    assert scores < 0.02
    assert boxes < 5


def captured_segmenter(device: torch.device) -> Sam2Segmenter:
    """The embedded model with its graphs captured, as the daemon does it before it is ready."""
    dtype = pick_dtype("auto", device)
    segmenter = load_segmenter("embedded", device, dtype, graphs=True)
    warm_up(GroundingDino(EMBEDDED, device, dtype), segmenter, [], MOST, WINDOW)
    return segmenter


def graph_counts(segmenter: Sam2Segmenter) -> tuple[int, int]:
    """Graphs that were captured, and shapes that run without one."""
    return (segmenter.graphs.captured, segmenter.graphs.fallbacks) if segmenter.graphs else (0, 0)


def _masks(segmenter: Sam2Segmenter, seed: int) -> list[torch.Tensor]:
    return [result.masks > 0 for result in _results(segmenter, seed)]


def _results(segmenter: Sam2Segmenter, seed: int) -> Iterator[Result]:
    """Objects from the first frame on, those of frame 8 detected again and the new ones added, one removed at 16."""
    world, tracker = ShapesWorld(seed, objects=4), Tracker(segmenter, TrackerOptions(max_objects=MOST))
    for start in range(0, FRAMES, WINDOW):
        frames = tuple(_frame(world, t) for t in range(start, start + WINDOW))
        found = truth_detections(world, start) if start in (0, WINDOW) else None
        yield from tracker.step(Window(0, frames, found is not None), found)
        if start == WINDOW:
            tracker.remove(tracker.ids[0])


def _frame(world: ShapesWorld, t: int) -> Frame:
    return Frame(t, t, Fraction(1, 30), t / 30, Clock.FILE, world.render(t)[0])


def _ious(expected: list[torch.Tensor], found: list[torch.Tensor]) -> list[float]:
    """IoU of each object on each frame; a frame with another number of objects counts as 0 for each."""
    ious: list[float] = []
    for one, other in zip(expected, found, strict=True):
        if one.shape != other.shape:
            ious += [0.0] * len(one)
            continue
        other = other.to(one.device)
        for first, second in zip(one, other, strict=True):
            union = int((first | second).sum())
            ious.append(int((first & second).sum()) / union if union else 1.0)
    return ious


def _judge(ious: list[float], least: float) -> None:
    mean, poor = float(np.mean(ious)), sum(iou < 0.5 for iou in ious)
    print(f"- mask IoU over {len(ious)} object-frames: mean {mean:.4f}, least {min(ious):.4f}, {poor} below 0.5")
    assert mean >= least, f"the mean IoU {mean:.4f} is below {least}"
