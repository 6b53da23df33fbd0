"""Who holds the interpreter lock: milliseconds a frame for each kind of thread of the daemon, sampled by py-spy.

python -m tests.benchmarks.lock [--streams N] [--size 1920x1080] [--objects N] [--seconds S] [--functions N] [--json]

``maskcast run`` reads a video of moving shapes under several names; a subscriber takes the masks and the annotated
pictures of all streams. In turns, py-spy looks which thread has the lock, and which threads run. The share of its
running time for which a thread has the lock, times the CPU time that it used for a frame, is the time that it has the
lock for a frame: other programs on the machine make it hardly longer.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stages.testsrc.world import ShapesWorld
from tests.benchmarks.live import machine
from tests.support.checkpoints import SAM2_SIZES, write_sam2
from tests.support.measured import MeasuredProgram, find_py_spy, subscriber
from tests.support.media import write_video

NAMED = {"-writer": "writer", "-reader": "reader", "-source-": "reader", "packets": "reader"}  # parts of names
ROWS = ("writer", "engine", "reader", "http", "other")
TURNS = 3  # of looking who has the lock, then who runs
RATE = 100  # samples a second
PICTURES = 50  # of the video, which shows them forwards and backwards again and again
BEGUN = 20  # pictures of each stream that are published before anything is measured


@dataclass(slots=True)
class Threads:
    """Threads of one kind: milliseconds of CPU time a frame, and of them those with the lock."""

    cpu: float = 0.0
    lock: float = 0.0
    functions: dict[str, float] = field(default_factory=dict)  # the same with the lock, by innermost function


@dataclass(slots=True)
class Samples:
    """What was seen: stacks with the lock, running stacks, CPU seconds by thread, and frames published."""

    held: Counter[tuple[str, ...]] = field(default_factory=Counter)
    running: Counter[tuple[str, ...]] = field(default_factory=Counter)
    cpu: Counter[int] = field(default_factory=Counter)
    frames: float = 0.0


def write_clip(path: Path, size: str, objects: int, frames: int) -> list[str]:
    """Write a video of ``frames`` frames; returns the names of its objects."""
    width, height = map(int, size.split("x"))
    world = ShapesWorld(3, width, height, objects)
    pictures = [world.render(t)[0] for t in range(PICTURES)]
    there_and_back = pictures + pictures[::-1]
    shown = [there_and_back[t % len(there_and_back)] for t in range(frames)]
    write_video(path, shown, codec_options={"preset": "ultrafast", "bf": "0", "g": "25"})
    return list(dict.fromkeys(world.labels))


@contextmanager
def running(arguments: argparse.Namespace) -> Iterator[MeasuredProgram]:
    """The daemon with its streams, and a subscriber to all of them; every stream has published pictures."""
    with tempfile.TemporaryDirectory() as folder:
        clip, config = Path(folder) / "clip.mp4", Path(folder) / "maskcast.toml"
        prompts = write_clip(clip, arguments.size, arguments.objects, arguments.frames)
        names = [f"file-{number}" for number in range(1, arguments.streams + 1)]
        config.write_text(
            "".join(f"[[streams]]\nname = {n!r}\nsource = '{clip}'\nprompts = {prompts}\n" for n in names)
        )
        segmenter = arguments.segmenter
        if segmenter in SAM2_SIZES:
            segmenter = str(write_sam2(Path(folder), segmenter)[0])
        models = ("--detector", "embedded", "--segmenter", segmenter, "--device", arguments.device)
        with closing(MeasuredProgram("--config", str(config), *models, MASKCAST_PUBLISH__WAIT_FOR="1")) as program:
            program.address("masks")
            begun = threading.Event()
            threading.Thread(target=_read, args=(program, names, begun), daemon=True).start()
            begun.wait()
            yield program


def _read(program: MeasuredProgram, names: list[str], begun: threading.Event) -> None:
    """Read all masks and pictures until the program ends; set ``begun`` once every stream has published some."""
    seen: Counter[str] = Counter()
    with subscriber(program, *(f"v1/{name}/{kind}" for name in names for kind in ("masks", "frame"))) as messages:
        for topic, *_ in messages:
            seen[topic.decode()] += 1
            if all(seen[f"v1/{name}/frame"] >= BEGUN for name in names):
                begun.set()


def sample(program: MeasuredProgram, seconds: int) -> Samples:
    """Look who has the lock and who runs, in turns, for ``seconds`` each."""
    samples = Samples()
    samples.cpu.subtract(_cpu(program))
    samples.frames -= program.scrape().sum("frames_total", stage="published")
    for _ in range(TURNS):
        samples.held += _look(program, max(1, seconds // TURNS), "--gil")
        samples.running += _look(program, max(1, seconds // TURNS))
    samples.frames += program.scrape().sum("frames_total", stage="published")
    samples.cpu.update(_cpu(program))
    return samples


def _cpu(program: MeasuredProgram) -> dict[int, float]:
    """CPU seconds of each thread so far."""
    return {thread.id: thread.user_time + thread.system_time for thread in program.process.threads()}


def _look(program: MeasuredProgram, seconds: int, *options: str) -> Counter[tuple[str, ...]]:
    py_spy = find_py_spy()
    if py_spy is None:
        sys.exit("lock: needs py-spy: pip install py-spy")
    with tempfile.NamedTemporaryFile("r") as output:
        options = (*options, "--threads", "--format", "raw", "--rate", str(RATE), "--duration", str(seconds))
        command = [py_spy, "record", *options, "--pid", str(program.process.pid), "--output", output.name]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(f"lock: py-spy failed; it needs the right to trace processes: {' '.join(done.stdout.split())}")
        return read_stacks(output.read())


def read_stacks(raw: str) -> Counter[tuple[str, ...]]:
    """py-spy's raw output: on each line a stack, whose entries semicolons separate, and how often it was seen."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        stacks[tuple(stack.split(";"))] += int(count)
    return stacks


def thread_of(stack: tuple[str, ...]) -> tuple[int, str]:
    """The id of the thread whose stack it is, and its kind; the outermost entry is ``thread (ID): NAME``."""
    number, _, name = stack[0].removeprefix("thread (").partition("): ")
    kinds = [kind for part, kind in NAMED.items() if part in name]
    return int(number.rstrip(")")), kinds[0] if kinds else name if name in ROWS else "other"


def evaluate(samples: Samples, functions: int) -> dict[str, Threads]:
    """The figures of each kind of thread, with its ``functions`` innermost functions that have the lock for longest."""
    kinds: dict[int, str] = dict(thread_of(stack) for stack in (*samples.running, *samples.held))
    rows = {kind: Threads() for kind in ROWS}
    for thread, seconds in samples.cpu.items():
        rows[kinds.get(thread, "other")].cpu += 1000 * seconds / samples.frames
    for kind, row in rows.items():
        held = {stack: count for stack, count in samples.held.items() if thread_of(stack)[1] == kind}
        ran = sum(count for stack, count in samples.running.items() if thread_of(stack)[1] == kind)
        one = row.cpu / max(1, ran)  # what one sample stands for
        row.lock = min(row.cpu, one * sum(held.values()))
        innermost: Counter[str] = Counter()
        for stack, count in held.items():
            innermost[stack[-1]] += count
        row.functions = {name: one * count for name, count in innermost.most_common(functions)}
    return rows


def main() -> None:
    arguments = parse()
    with running(arguments) as program:
        samples = sample(program, arguments.seconds)
    rows = evaluate(samples, arguments.functions)
    if arguments.json:
        print(json.dumps({"frames": samples.frames, "threads": {kind: asdict(row) for kind, row in rows.items()}}))
        return
    print(f"{machine(arguments.device)}, {samples.frames:.0f} frames\n")
    print("| threads | CPU, ms a frame | with the lock, ms a frame | share of the lock |\n" + "|---" * 4 + "|")
    total = sum(row.lock for row in rows.values())
    for kind, row in rows.items():
        print(f"| {kind} | {row.cpu:.2f} | {row.lock:.2f} | {row.lock / total:.0%} |")
    for kind, row in rows.items():
        print(*(f"{kind}: {spent:.3f} ms {name}" for name, spent in row.functions.items()), sep="\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.lock", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--size", default="1920x1080", metavar="WIDTHxHEIGHT")
    parser.add_argument("--objects", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=30, help="to look who has the lock, and again to look who runs")
    parser.add_argument("--frames", type=int, default=1500, help="of the video; it must last until the end")
    parser.add_argument("--segmenter", default="embedded", metavar="MODEL", help="or a size of SAM 2.1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--functions", type=int, default=0, metavar="N", help="of each kind of thread to name")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
