"""Throughput and latency of this machine with the configured models: one stream, from an empty scene to many objects.

Pictures are of the built-in test source, objects are added by hand, and every stage that a GPU runs is timed. Reading,
drawing and publishing go on beside that, in threads of their own.

examples:
  maskcast bench
  maskcast bench --segmenter facebook/sam2.1-hiera-tiny --objects 1 8 32 --json
  maskcast bench --detector embedded --segmenter embedded --size 256x256 --plot bench.png
"""

import json
import statistics
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.cli.bench_plot import check_plot, save_plot
from daemon.cli.flags import FLAGS, add_settings_flags, load_settings
from stages.errors import ConfigError
from stages.plural import plural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from daemon.engine.models import Models, Tracker
    from daemon.settings.schema import Settings
    from stages.types import Frame, Image, Window

KEYFRAMES = 3  # detections that are timed
MEMORY_FRAMES = 16  # frames after which the memory bank of an object is full
BENCH_FLAGS = tuple(row for row in FLAGS if row.setting.partition(".")[0] in ("models", "tracking", "detection"))


@dataclass(frozen=True, slots=True)
class Row:
    """Measured times for a number of objects, in seconds."""

    objects: int
    window_p50: float
    window_p95: float
    frame: float  # per frame: its share of the window plus its share of a detection
    fps: float


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``maskcast bench``."""
    parser.add_argument(
        "--objects",
        type=int,
        nargs="+",
        default=[0, 1, 4, 16],
        metavar="N",
        help="tracked objects (0 1 4 16)",
    )
    parser.add_argument("--size", type=_size, default=(1280, 720), metavar="WxH", help="of the pictures (1280x720)")
    parser.add_argument("--windows", type=int, default=8, metavar="N", help="windows that are timed (8)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the figures, as PNG, SVG or PDF")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_settings_flags(parser, BENCH_FLAGS)


def run(arguments: Namespace) -> int:
    """Print the table. Raises ConfigError, ModelError, OutputError."""
    settings = load_settings(arguments)
    _check(arguments, settings)
    from daemon.service.build_models import build_models, pick_device

    models = build_models(settings, warm=True)
    width, height = arguments.size
    frames = list(_frames(width, height, settings.tracking.window))
    detect = _time_detection(models, settings, frames[0].image)
    rows = []
    for objects in arguments.objects:
        rows.append(_measure(models, settings, frames, objects, arguments.windows, detect))
        if not arguments.json:
            _print_row(rows[-1], settings, detect, first=len(rows) == 1)
    if arguments.plot:
        device, window = pick_device(settings.models.device), settings.tracking.window
        frames_of = f"windows of {window} {plural(window, 'frame')}"
        save_plot(arguments.plot, rows, f"{settings.models.segmenter}, {width} x {height}, {frames_of}, {device}")
    if arguments.json:
        summary = {
            "device": str(pick_device(settings.models.device)),
            "size": list(arguments.size),
            "window": settings.tracking.window,
            "every": settings.detection.every,
            "detect": detect,
            "rows": [asdict(row) for row in rows],
        }
        print(json.dumps(summary))
    return 0


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and 32 <= int(width) <= 8192 and 32 <= int(height) <= 8192):
        raise ArgumentTypeError(f"{text!r} is no size such as 1280x720, of 32 to 8192 pixels")
    return int(width), int(height)


def _check(arguments: Namespace, settings: "Settings") -> None:
    most = settings.tracking.max_objects
    for objects in arguments.objects:
        if not 0 <= objects <= most:
            raise ConfigError(f"--objects {objects}: must be from 0 to tracking.max_objects, which is {most}")
    if arguments.windows < 1:
        raise ConfigError(f"--windows {arguments.windows}: must be at least 1")
    if arguments.plot:
        check_plot(arguments.plot)


def _frames(width: int, height: int, count: int) -> "Iterator[Frame]":
    """Frames of the built-in test source."""
    from stages.testsrc.world import ShapesWorld
    from stages.types import Clock, Frame

    world = ShapesWorld(0, width, height)
    for index in range(count):
        yield Frame(index, index, Fraction(1, 30), index / 30, Clock.FILE, world.render(index)[0])


def _time_detection(models: "Models", settings: "Settings", image: "Image") -> float:
    """Median seconds of one detection, after a warm-up."""
    from stages.detection.prompts import parse_prompts
    from stages.detection.tiles import detect_in_tiles

    detector, chosen = models.detector, settings.detection
    asked = parse_prompts(["red circle"]), (chosen.box_threshold, chosen.text_threshold), chosen.tiles
    spent = []
    for _ in range(KEYFRAMES + 1):
        started = time.perf_counter()
        detect_in_tiles(detector, [image], *asked, detector.together)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent[1:])


def _measure(
    models: "Models", settings: "Settings", frames: "list[Frame]", objects: int, windows: int, detect: float
) -> Row:
    from stages.types import Window

    # hidden objects must not end: they cost the same
    tracking = settings.tracking.model_copy(update={"lost_after": 1_000_000})
    tracker, window = models.new_tracker(tracking, 1.0), Window(0, tuple(frames), False)
    tracker.step(window, None)
    for _ in range(objects):
        tracker.add(box=_centre_box(frames[0].image))
    for _ in range(MEMORY_FRAMES // len(frames) + 1):
        tracker.step(window, None)
    spent = sorted(_time_window(tracker, window) for _ in range(windows))
    frame = statistics.median(spent) / len(frames) + detect / settings.detection.every
    return Row(objects, statistics.median(spent), spent[round(0.95 * (windows - 1))], frame, 1 / frame)


def _time_window(tracker: "Tracker", window: "Window") -> float:
    """Seconds of one window, until the results are in host memory."""
    started = time.perf_counter()
    tracker.step(window, None)
    return time.perf_counter() - started


def _centre_box(image: "Image") -> "NDArray[np.float32]":
    """Box of half the width and height around the centre, xyxy in pixels."""
    import numpy as np

    height, width = image.shape[:2]
    return np.array([width / 4, height / 4, width * 3 / 4, height * 3 / 4], np.float32)


def _print_row(row: Row, settings: "Settings", detect: float, first: bool) -> None:
    if first:
        every, window = settings.detection.every, settings.tracking.window
        how_often = f"at the least once in {every} {plural(every, 'frame')}"
        print(f"a detection takes {1000 * detect:.0f} ms, {how_often}; windows of {window} {plural(window, 'frame')}")
        print(f"{'objects':>8} {'window p50':>12} {'window p95':>12} {'a frame':>10} {'FPS':>8}")
    times = f"{1000 * row.window_p50:>9.0f} ms {1000 * row.window_p95:>9.0f} ms {1000 * row.frame:>7.1f} ms"
    print(f"{row.objects:>8} {times} {row.fps:>8.1f}", flush=True)
