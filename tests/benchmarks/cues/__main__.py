"""What the cues of identity and of keyframes cost, against the tracker's time in the same run.

python -m tests.benchmarks.cues [--world plain|hard|wild] [--seeds N ...] [--frames N] [--json]

The embedded models with the daemon's defaults. Time is what the thread ran: of the looks (describing detections,
comparing them with what is known, learning from the matches), of motion (the small pictures in which movement and cuts
are looked for), of need (what a result says about the next keyframe), and of all that the tracker does.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import ParamSpec, TypeVar
from unittest.mock import patch

from stages.detection.prompts import parse_prompts
from stages.keyframes.activity import Activity
from stages.keyframes.motion import MotionWatch
from stages.testsrc.open_world import KINDS, measured_world
from stages.tracking import keyframe
from stages.tracking.identity import looks
from stages.tracking.tracker import Tracker
from tests.benchmarks.identity import models
from tests.benchmarks.support.worlds import keyframes_from, track

P, R = ParamSpec("P"), TypeVar("R")
HELD_OUT = range(500, 504)
PARTS = (
    ("looks", looks, "describe"),
    ("looks", keyframe, "compare"),
    ("looks", keyframe, "learn"),
    ("motion", MotionWatch, "look"),
    ("need", Activity, "observe"),
    ("tracker", Tracker, "step"),
)


def timed(spent: Counter[str], name: str, function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose seconds count for ``name``."""

    def run(*arguments: P.args, **named: P.kwargs) -> R:
        began = time.thread_time()
        try:
            return function(*arguments, **named)
        finally:
            spent[name] += time.thread_time() - began

    return run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cues", description=__doc__.splitlines()[0])
    parser.add_argument("--world", choices=KINDS, default="wild")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(HELD_OUT))
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    spent = Counter[str]()
    detector, segmenter = models()
    with ExitStack() as patches:
        for name, owner, function in PARTS:
            patches.enter_context(patch.object(owner, function, timed(spent, name, getattr(owner, function))))
        for seed in arguments.seeds:
            world = measured_world(arguments.world, seed)
            prompts = parse_prompts(dict.fromkeys(world.labels))
            for _ in track(world, prompts, detector, segmenter, arguments.frames, keyframes_from(None)):
                pass
    milliseconds = {name: 1000 * value / (arguments.frames * len(arguments.seeds)) for name, value in spent.items()}
    if arguments.json:
        print(json.dumps(milliseconds))
        return
    print("| part | ms a frame | of the tracker |\n|---|---|---|")
    for name, value in milliseconds.items():
        print(f"| {name} | {value:.2f} | {value / milliseconds['tracker']:.1%} |")


if __name__ == "__main__":
    main()
