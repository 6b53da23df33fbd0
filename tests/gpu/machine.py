"""What must be right on a GPU: its decoder, and what happens when its memory is full. Each function is a step."""

import gc
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from daemon.limits.out_of_memory import free_memory_of, is_out_of_memory
from daemon.service.build_models import pick_dtype
from stages.sam2.load import load_segmenter
from stages.sam2.segmenter import Sam2Segmenter
from stages.source.gpu_decoder import cuda_decoder
from stages.source.source import open_source
from stages.testsrc.world import ShapesWorld
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Clock, Detections, Frame, Result, Window
from tests.gpu.correctness import captured_segmenter
from tests.gpu.step import ROOT, Asked, Skipped
from tests.support.media import write_video
from tests.testsrc.truth import truth_detections

PACKAGES = ("torch", "torchvision", "transformers", "sam2", "av", "numpy", "pyzmq")
CODECS = ("libx264", "libx265")
CLOSE = 2  # of 255: the two decoders may round colours differently


def describe(asked: Asked) -> None:
    """The GPU, its driver, the versions that matter. Without the GPU that was asked for nothing else can run."""
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise Skipped("torch sees no CUDA device: check the driver and torch's build, or try the steps on --device cpu")
    if asked.device == "cuda":
        free, total = torch.cuda.mem_get_info()
        memory = f"{total / 2**30:.0f} GiB, {free / 2**30:.0f} free"
        driver = _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").partition("\n")[0]
        cuda = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        print(f"- {torch.cuda.get_device_name()}, {memory}, driver {driver or 'unknown'}, {cuda}")
    print(f"- {', '.join(f'{name} {_version(name)}' for name in PACKAGES)}")
    print(f"- Python {platform.python_version()}, {os.cpu_count()} cores ({platform.machine()})")
    print(f"- commit {_said('git', 'rev-parse', '--short', 'HEAD') or 'unknown'}", flush=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _said(*command: str) -> str:
    """What a program prints; nothing where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def decoder(asked: Asked) -> None:
    """The GPU's pictures of H.264 and HEVC in 1920 x 1080 are those of the software, and how long either takes."""
    if asked.device == "cpu" or cuda_decoder(0) is None:
        raise Skipped("no GPU that FFmpeg can decode on")
    world = ShapesWorld(0, 1920, 1080)
    pictures = [world.render(t)[0] for t in range(48)]
    print("| codec | on the GPU, ms a frame | in software | largest difference |\n|---|---|---|---|", flush=True)
    for codec in CODECS:
        path = write_video(Path(asked.scratch) / f"{codec}.mp4", pictures, codec=codec)
        (on_gpu, quick), (software, slow) = _decoded(path, gpu=0), _decoded(path, gpu=None)
        pairs = list(zip(on_gpu, software, strict=True))
        furthest = max(int(np.abs(one.image.astype(int) - other.image).max()) for one, other in pairs)
        print(f"| {codec} | {quick:.1f} | {slow:.1f} | {furthest} |", flush=True)
        assert [frame.pts for frame in on_gpu] == [frame.pts for frame in software]
        assert furthest <= CLOSE, f"{codec}: pictures differ by {furthest}"


def _decoded(path: Path, gpu: int | None) -> tuple[list[Frame], float]:
    """All frames, and milliseconds a frame."""
    source = open_source(str(path), gpu=gpu)
    began = time.perf_counter()
    frames = list(source.frames())
    milliseconds = (time.perf_counter() - began) * 1000 / len(frames)
    assert source.decoder == ("software" if gpu is None else "cuda"), f"decoded by {source.decoder}"
    return frames, milliseconds


def out_of_memory(asked: Asked) -> None:
    """A tracker goes on after the memory was full, in the middle of a stream; a new one fails and can be made later."""
    device = torch.device(asked.device)
    if device.type == "cpu":
        raise Skipped("for a GPU's memory")
    _go_on(load_segmenter("embedded", device, pick_dtype("auto", device)), "eager")
    _go_on(captured_segmenter(device), "with graphs")


def _go_on(segmenter: Sam2Segmenter, how: str) -> None:
    device = segmenter.device
    world, options = ShapesWorld(0, objects=4), TrackerOptions(max_objects=8)
    tracker, undisturbed = Tracker(segmenter, options), Tracker(segmenter, options)
    for one in (tracker, undisturbed):
        _step(one, world, 0, truth_detections(world, 0))
    failures = 0
    for start in range(4, 28, 4):
        with _full(device, start % 8 == 0):
            failures += _failed(lambda start=start: _step(tracker, world, start))
        _step(undisturbed, world, start)
    result, expected = _step(tracker, world, 28)[-1], _step(undisturbed, world, 28)[-1]
    found, wanted = result.masks > 0, expected.masks > 0
    assert found.shape == wanted.shape, f"{len(found)} objects instead of {len(wanted)}"
    overlap = int((found & wanted).sum()) / max(int((found | wanted).sum()), 1)
    print(
        f"- {how}: {failures} of 3 windows failed with full memory; masks then overlap by {overlap:.3f}",
        flush=True,
    )
    assert overlap > 0.9, "after full memory the masks are elsewhere"
    with _full(device):
        assert _failed(lambda: Tracker(segmenter, TrackerOptions(max_objects=4096))), "memory was not full"
    assert Tracker(segmenter, TrackerOptions(max_objects=4096)).nbytes > 0
    print(f"- {how}: a large tracker fails with full memory and can be made afterwards", flush=True)


def _step(tracker: Tracker, world: ShapesWorld, start: int, found: Detections | None = None) -> list[Result]:
    images = [world.render(t)[0] for t in range(start, start + 4)]
    frames = tuple(Frame(t, t, Fraction(1, 30), t / 30, Clock.FILE, image) for t, image in enumerate(images, start))
    return tracker.step(Window(0, frames, found is not None), found)


def _failed(work: Callable[[], object]) -> bool:
    """Whether it failed for want of memory; other errors are raised."""
    try:
        work()
        torch.cuda.synchronize()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        free_memory_of(error)
        return True
    return False


@contextmanager
def _full(device: torch.device, really: bool = True) -> Iterator[None]:
    """torch gets no more memory of the GPU in this block."""
    if not really:
        yield
        return
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved(device) / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
