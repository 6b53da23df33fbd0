"""Keyframes where they help most against evenly spaced ones: IDF1 of four streams at the same number of detections.

python -m tests.benchmarks.keyframes [--world hard|wild] [--seeds N ...] [--frames N] [--shares S ...] [--json]

Two streams show busy worlds, two a plain world in which two objects move at a twentieth of their speed. The engine's
own scheduler runs the embedded models on frames that come 30 times a second, in a time that is reckoned: DETECT seconds
a picture, TRACK seconds a frame. For each share of the time the same streams run again, each with as many keyframes as
the four had on average, evenly spaced. Each seed makes four streams; its metrics are those of `identity`.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from daemon.settings.schema import Detection
from stages.detection.base import Detector
from stages.detection.prompts import Prompt, parse_prompts
from stages.keyframes.motion import MotionWatch
from stages.output.masks import full_masks
from stages.segmentation.base import Segmenter
from stages.testsrc.open_world import measured_world
from stages.testsrc.truth import Truth, World
from stages.testsrc.world import ShapesWorld
from stages.tracking.tracker import Tracker
from stages.types import Clock, Detections, Image, Result, Window
from tests.benchmarks.identity import Observed, models, score
from tests.benchmarks.support.engine_run import EngineRun, VirtualTime, frame_of

HELD_OUT = (500, 502, 504)  # each with the next one
SHARES = (0.1, 0.2, 0.3)
DETECT, TRACK = 0.02, 0.004  # seconds of a picture, of a frame
RATE, SLOW = 30, 20
WINDOW, EVERY = 8, 30


class ReckonedDetector:
    """The embedded detector, whose calls take DETECT seconds a picture; it asks the model once for each picture."""

    together = 1

    def __init__(self, model: Detector, time: VirtualTime) -> None:
        self._model, self._time = model, time
        self._known: dict[tuple[int, tuple[Prompt, ...]], Detections] = {}
        self.calls = 0

    def detect(self, images: Sequence[Image], prompts: Sequence[Prompt], *thresholds: float) -> list[Detections]:
        self._time.now += DETECT * len(images)
        self.calls += len(images)
        found = []
        for image in images:
            key = hash(image.tobytes()), tuple(prompts)
            if key not in self._known:
                self._known[key] = self._model.detect([image], prompts, *thresholds)[0]
            found.append(self._known[key])
        return found


class ReckonedTracker(Tracker):
    """The tracker, whose frames take TRACK seconds each."""

    def __init__(self, segmenter: Segmenter, time: VirtualTime) -> None:
        super().__init__(segmenter)
        self._time = time

    def step(self, window: Window, detections: Detections | None) -> list[Result]:
        self._time.now += TRACK * len(window.frames)
        return super().step(window, detections)


@dataclass
class Shown:
    """One of the four streams."""

    name: str
    world: World
    busy: bool


def four(kind: str, seed: int) -> list[Shown]:
    """Two busy streams and two that are nearly still."""
    busy = [Shown(f"busy-{n}", measured_world(kind, seed + n), True) for n in range(2)]
    still = [Shown(f"still-{n}", ShapesWorld(seed + n, objects=2, fps=SLOW * RATE), False) for n in range(2)]
    return busy + still


def run(streams: list[Shown], detector: ReckonedDetector, time: VirtualTime, frames: int, how: "How") -> "Run":
    """Show the streams' frames to the engine as they come, and measure what it makes of them."""
    _, segmenter = models()
    done = Run({s.name: Observed() for s in streams}, Counter())
    prompts = {s.name: parse_prompts([*dict.fromkeys(s.world.labels)]) for s in streams}
    watches, truths = {s.name: MotionWatch() for s in streams}, dict[tuple[str, int], Truth]()

    def advance() -> None:
        """Run what waits."""
        while (ran := engine.step()) is not None:
            name = ran[0].lane.name
            for result in ran[1]:
                labels = [prompts[name][one.prompt].phrase for one in result.tracks]
                masks = full_masks(result).full()
                done.seen[name].observe(
                    truths.pop((name, result.frame.index)), [t.id for t in result.tracks], labels, masks
                )
                done.keyframes[name] += result.keyframe

    with time.running():
        engine, start = EngineRun(detector, lambda: ReckonedTracker(segmenter, time)), time.now
        states = {s.name: engine.add(s.name, prompts[s.name], how.detection, True, WINDOW) for s in streams}
        for t in range(frames):
            for number, shown in enumerate(streams):
                time.now = max(time.now, start + (t + number / len(streams)) / RATE)
                image, truths[shown.name, t] = shown.world.render(t)
                frame = frame_of(image, t, Clock.ARRIVAL, watches[shown.name].look(image))
                states[shown.name].lane.inbox.put(Window(0, (frame,), how.is_keyframe(number, t, frames)))
                advance()
        for state in states.values():
            state.lane.inbox.close()
        advance()
    if truths:
        raise RuntimeError(f"{len(truths)} frames were dropped: the reckoned engine is too slow for them")
    return done


@dataclass(frozen=True)
class Run:
    seen: dict[str, Observed]
    keyframes: Counter[str]


@dataclass(frozen=True)
class How:
    """By the scheduler, or with so many keyframes in each stream, evenly spaced."""

    detection: Detection
    even: tuple[int, ...] = ()

    def is_keyframe(self, stream: int, t: int, frames: int) -> bool:
        if not self.even:
            return t == 0
        count = self.even[stream]
        return t in (i * frames // count for i in range(count))


def compare(kind: str, seed: int, share: float, frames: int) -> tuple[Run, Run]:
    """The run by the scheduler, and the one with as many keyframes evenly spaced."""
    streams, time = four(kind, seed), VirtualTime()
    detector = ReckonedDetector(models()[0], time)
    scheduled = run(streams, detector, time, frames, How(Detection(every=EVERY, share=share)))
    each, more = divmod(scheduled.keyframes.total(), len(streams))
    counts = tuple(each + (number < more) for number in range(len(streams)))
    even = run(streams, detector, time, frames, How(Detection(every=10 * frames, share=0), counts))
    assert even.keyframes.total() == scheduled.keyframes.total()
    return scheduled, even


def table_row(share: float, runs: Sequence[Run]) -> dict[str, float]:
    """The figures of the runs of all seeds."""

    def of(kind: str) -> list[Observed]:
        return [one for each in runs for name, one in each.seen.items() if name.startswith(kind)]

    def apart(kind: str) -> float:
        frames = sum(len(one.objects) for one in of(kind))
        return frames / sum(count for each in runs for name, count in each.keyframes.items() if name.startswith(kind))

    return {
        "share": share,
        "keyframes": sum(each.keyframes.total() for each in runs),
        "busy every": apart("busy"),
        "still every": apart("still"),
        "IDF1 busy": score(of("busy"))["idf1"],
        "IDF1 still": score(of("still"))["idf1"],
        "IDF1": score(of(""))["idf1"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.keyframes", description=__doc__.splitlines()[0])
    parser.add_argument("--world", choices=("hard", "wild"), default="hard")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(HELD_OUT))
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for share in arguments.shares:
        pairs = [compare(arguments.world, seed, share, arguments.frames) for seed in arguments.seeds]
        for name, runs in (("scheduler", [p[0] for p in pairs]), ("even", [p[1] for p in pairs])):
            rows.append({"keyframes by": name} | table_row(share, runs))
            print(rows[-1], file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps(rows))
        return
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(cell(name, value) for name, value in row.items()) + " |")


def cell(name: str, value: float | str) -> str:
    if isinstance(value, str | int):
        return str(value)
    return f"{value:.3f}" if name.startswith("IDF1") else f"{value:.1f}"


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
