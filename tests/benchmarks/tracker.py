"""Milliseconds per frame of the tracker and of upstream's video predictor, by stage, against the number of objects.

python -m tests.benchmarks.tracker [--sizes t s b+ l embedded] [--objects 1 4 16 64] [--plot FILE.png] [--json]

Both take uint8 images of 1280 x 720 and return masks at the mask decoder's resolution on the host. Objects are boxes on
a grid; the public sizes have random weights. The memory is filled before the timing starts. A row is the fastest
window; with one CPU thread (OMP_NUM_THREADS=1) it is CPU time, so that other processes have little influence. "vos" is
upstream's compiled predictor, "graphs" the tracker with CUDA graphs, whose stages cannot be told apart; both by default
only on CUDA. ``rest`` is the time outside of the stages: for the tracker the memory bank and the results, for upstream
the collection of memories. Only on CUDA: maximum memory while tracking, without the weights, in MiB; the share of time
in which the GPU works; and per frame its kernels and the host's launches of kernels and graphs.
"""

import argparse
import gc
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from daemon.service.build_models import pick_device, pick_dtype
from stages.errors import ConfigError
from stages.sam2.load import EMBEDDED, config_file
from stages.testsrc.world import ShapesWorld
from stages.types import Image
from tests.benchmarks.support.gpu_work import gpu_work
from tests.benchmarks.support.stopwatch import counted_flops, now, peak_flops, settle
from tests.benchmarks.support.streams import Model, load_ours, load_upstream
from tests.support.checkpoints import SAM2_SIZES, write_sam2

NAMES = {short: name for name, short in SAM2_SIZES.items()}
SIZES = (*NAMES, "embedded")
STAGES = ("encode", "attend", "decode", "memorise")
WIDTH, HEIGHT = 1280, 720
HEADS = ("size", "objects", "tracker", "ms", *STAGES, "rest", "attend GFLOP", "TFLOP/s", "of peak", "MiB", "GPU works")
HEADS += ("kernels", "launches", "/ ours", "/ one object")


@dataclass(slots=True)
class Cell:
    """One row of the table; times are milliseconds per frame."""

    size: str
    tracker: str
    objects: int
    status: str = "ok"  # or "oom", or "failed"
    total: float = 0.0
    stages: dict[str, float | None] = field(default_factory=dict)  # None: cannot be measured
    attend_flop: float = 0.0  # operations per frame, including those on masked keys
    attend_flops: float = 0.0  # operations per second
    attend_of_peak: float = 0.0
    held_mib: float | None = None
    gpu_share: float | None = None  # of the total in which the GPU works
    kernels: float | None = None  # per frame
    launches: float | None = None  # by the host, per frame
    over_ours: float | None = None  # ratio of the total to that of our tracker with the same number of objects
    over_one: float | None = None  # ratio of the total to that of the same tracker with one object


def grid(count: int) -> NDArray[np.float32]:
    """Boxes (count, 4) on a grid that fills the image."""
    columns = int(np.ceil(np.sqrt(count)))
    places = np.array([divmod(n, columns)[::-1] for n in range(count)], np.float32)
    corners = np.concatenate([places + 0.15, places + 0.85], 1)
    return (corners * np.array([WIDTH, HEIGHT] * 2) / columns).astype(np.float32)


def load(tracker: str, size: str, folder: Path, arguments: argparse.Namespace) -> Model:
    """Load one of the trackers; random weights of a public size are written into ``folder`` when first needed."""
    device = pick_device(arguments.device)
    dtype = pick_dtype(arguments.precision, device)
    name = NAMES.get(size)
    weights = EMBEDDED / "segmenter.pt" if name is None else folder / f"sam2.1_hiera_{name}.pt"
    if not weights.exists():
        write_sam2(folder, name)
    if tracker in ("ours", "graphs"):
        source = "embedded" if name is None else str(weights)
        return load_ours(source, device, dtype, arguments.compile, graphs=tracker == "graphs")
    config = EMBEDDED / "segmenter.yaml" if name is None else config_file("2.1", size)
    return load_upstream(config, weights, device, dtype, optimised=tracker == "vos")


def measure(cell: Cell, model: Model, pictures: list[Image], arguments: argparse.Namespace) -> None:
    """Fill the memory, count the operations of a window, then time windows; stores the results in ``cell``."""
    device = pick_device(arguments.device)
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    endless, window = cycle(pictures), min(arguments.window, arguments.frames)
    with model.capturing():
        stream = model.start(next(endless), grid(cell.objects))
        for _ in range(-(-arguments.fill // window)):
            stream.step(list(islice(endless, window)))
        with counted_flops(*model.attends) as calls:
            stream.step(list(islice(endless, window)))
    stream.step(list(islice(endless, window)))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    model.watch.take()
    timed = []
    for _ in range(-(-arguments.frames // window)):
        began = now(device)
        stream.step(list(islice(endless, window)))
        settle(device)
        timed.append(((now(device) - began) * 1000 / window, model.watch.take()))
    cell.total, stages = min(timed, key=lambda one: one[0])
    found = {stage: stages[stage] / window if stage in stages else None for stage in STAGES}
    cell.stages = {**found, "rest": cell.total - sum(time or 0.0 for time in found.values())}
    if attended := found["attend"]:
        cell.attend_flop = sum(calls) / window
        cell.attend_flops = cell.attend_flop / (attended / 1000)
    if device.type == "cuda":
        cell.held_mib = (torch.cuda.max_memory_allocated(device) - before) / 2**20
    pictures = list(islice(endless, window))
    if work := gpu_work(lambda: stream.step(pictures), device):
        cell.kernels, cell.launches = work.kernels / window, work.launches / window
        cell.gpu_share = work.milliseconds / window / cell.total


def attempt(cell: Cell, model: Model, pictures: list[Image], arguments: argparse.Namespace) -> None:
    """Measure a cell; on failure set its status, print the reason and continue."""
    try:
        measure(cell, model, pictures, arguments)
    except RuntimeError as error:
        cell.status = "oom" if isinstance(error, torch.OutOfMemoryError) else "failed"
        reason = str(error).strip().splitlines()[0]
        print(f"{cell.size} {cell.tracker} {cell.objects}: {type(error).__name__}: {reason}", file=sys.stderr)
    model.watch.take()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def cells(arguments: argparse.Namespace, peak: float) -> Iterator[Cell]:
    """All rows: for each size and number of objects our tracker first, then the others."""
    world = ShapesWorld(0, WIDTH, HEIGHT)
    pictures, ours, one = [world.render(t)[0] for t in range(2 * arguments.window)], {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.weights or Path(temporary)
        for size in arguments.sizes:
            models = {name: load(name, size, folder, arguments) for name in arguments.trackers}
            for objects in sorted(arguments.objects):
                for name, model in models.items():
                    cell = Cell(size, name, objects)
                    attempt(cell, model, pictures, arguments)
                    if cell.status == "ok":
                        cell.attend_of_peak = cell.attend_flops / peak
                        if name == "ours":
                            ours[size, objects] = cell.total
                        if objects == 1:
                            one[size, name] = cell.total
                        cell.over_ours = _ratio(cell.total, ours.get((size, objects)))
                        cell.over_one = _ratio(cell.total, one.get((size, name)))
                    yield cell
            del models, model
            torch.compiler.reset()


def _ratio(value: float, base: float | None) -> float | None:
    return value / base if base else None


def row(cell: Cell) -> str:
    """A line of a markdown table."""
    names = [cell.size, str(cell.objects), cell.tracker]
    if cell.status != "ok":
        return "| " + " | ".join([*names, cell.status, *["-"] * (len(HEADS) - 4)]) + " |"
    times = [_shown(time, ".1f") for time in (cell.total, *cell.stages.values())]
    work = [f"{cell.attend_flop / 1e9:.2f}", f"{cell.attend_flops / 1e12:.3f}", f"{cell.attend_of_peak:.1%}"]
    on_gpu = [_shown(cell.held_mib, ".0f"), _shown(cell.gpu_share, ".0%")]
    counts = [_shown(cell.kernels, ".0f"), _shown(cell.launches, ".0f")]
    ratios = [_shown(ratio, ".2f") for ratio in (cell.over_ours, cell.over_one)]
    return "| " + " | ".join([*names, *times, *work, *on_gpu, *counts, *ratios]) + " |"


def _shown(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


def plot(measured: list[Cell], path: Path) -> None:
    """Plot per size: milliseconds against objects, and the stages with the most objects."""
    ok = [cell for cell in measured if cell.status == "ok"]
    sizes = list(dict.fromkeys(cell.size for cell in ok))
    figure = Figure(figsize=(4.2 * len(sizes), 7.5), layout="constrained")
    axes = figure.subplots(2, len(sizes), squeeze=False)
    for (upper, lower), size in zip(axes.T, sizes, strict=True):
        here = [cell for cell in ok if cell.size == size]
        for name in dict.fromkeys(cell.tracker for cell in here):
            line = [(cell.objects, cell.total) for cell in here if cell.tracker == name]
            upper.plot(*zip(*line, strict=True), marker="o", label=name)
        counts = sorted({cell.objects for cell in here})
        upper.set(title=f"SAM 2.1 {size}", xscale="log", yscale="log", xlabel="objects", ylabel="ms a frame")
        upper.set_xticks(counts, [str(count) for count in counts])
        upper.set_xticks([], minor=True)
        upper.grid(alpha=0.3)
        upper.legend()
        shown = [cell for cell in here if cell.objects == counts[-1]]
        bottom = np.zeros(len(shown))
        for stage in (*STAGES, "rest"):
            heights = [max(cell.stages[stage] or 0.0, 0.0) for cell in shown]
            lower.bar([cell.tracker for cell in shown], heights, bottom=bottom, label=stage, width=0.6)
            bottom += heights
        lower.set(title=f"{counts[-1]} objects", ylabel="ms a frame")
        lower.legend()
    figure.savefig(path, dpi=120)


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.tracker", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--objects", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--trackers", nargs="+", choices=["ours", "graphs", "upstream", "vos"])
    parser.add_argument("--frames", type=int, default=40, help="timed frames, rounded up to whole windows")
    parser.add_argument("--fill", type=int, help="frames after the prompts; default 24 on CUDA, 16 on a CPU")
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--compile", action="store_true", help="compile the tracker as the daemon does on CUDA")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="keep the checkpoints there")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(given)
    try:
        on_cuda = pick_device(arguments.device).type == "cuda"
    except ConfigError as error:
        parser.error(str(error))
    arguments.fill = arguments.fill if arguments.fill is not None else (24 if on_cuda else 16)
    more = ["graphs"] * on_cuda
    arguments.trackers = arguments.trackers or ["ours", *more, "upstream", *["vos"] * on_cuda]
    return arguments


def main(given: Sequence[str] | None = None) -> None:
    arguments = parse(given)
    torch.set_float32_matmul_precision("high")  # TF32 for both, as in upstream's benchmark
    device = pick_device(arguments.device)
    dtype = pick_dtype(arguments.precision, device)
    peak = peak_flops(device, dtype)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    about = f"{where}, {str(dtype).removeprefix('torch.')}, torch {torch.__version__}, compile {arguments.compile}"
    if not arguments.json:
        print(f"{about}; matrix product {peak / 1e12:.3f} TFLOP/s\n")
        print("| " + " | ".join(HEADS) + " |\n" + "|---" * len(HEADS) + "|", flush=True)
    measured = []
    for cell in cells(arguments, peak):
        measured.append(cell)
        if not arguments.json:
            print(row(cell), flush=True)
    if arguments.json:
        print(json.dumps({"machine": about, "peak_flops": peak, "cells": [asdict(cell) for cell in measured]}))
    if arguments.plot:
        plot(measured, arguments.plot)
    sys.exit(any(cell.status == "failed" for cell in measured))


if __name__ == "__main__":
    main()
