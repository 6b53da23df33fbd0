"""Live streams on the whole daemon: streams at full rate, latency, and behaviour under overload.

python -m tests.benchmarks.live [--streams 1 2 4] [--fps 10] [--overload 12] [--segmenter tiny] [--device cuda]

Each run starts ``maskcast run`` with that number of ``testsrc://shapes?live=1`` sources, and one subscriber to all
masks. Latency is from capture to publication, by the headers. The last run has more streams than the machine can
process and is reported over time. ``--segmenter`` takes the values of ``maskcast run``, or a size of SAM 2.1 (tiny,
small, base_plus, large), for which a checkpoint with random weights is written first.
"""

import argparse
import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from matplotlib.figure import Figure

from tests.benchmarks.support.live_run import Asked, Run, run_live, slices
from tests.support.checkpoints import SAM2_SIZES, write_sam2

HELD = 0.99  # minimum share of captured frames that every stream publishes in a run that holds its streams
PARTS = 6  # of the overloaded run; 10 s each by default

HEADS = ("streams", "asked FPS", "published / asked", "least of a stream", "p50 ms", "p95 ms", "p99 ms")
MORE = ("p95 / first row", "dropped, by reason", "governor", "held")
SLICE_HEADS = ("seconds", "published / asked", "dropped", "p50 ms", "p95 ms", "p99 ms", "p95 / first")


def figures(run: Run, first: Run) -> dict:
    """The figures of a run; ``first`` is the first run of all."""
    p50, p95, p99 = run.latencies
    return {
        "streams": run.streams,
        "asked_fps": run.streams * run.fps,
        "published_of_asked": run.published,
        "least_of_a_stream": run.worst,
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "p95_over_first_run": p95 / first.latencies[1],
        "drops": run.drops,
        "governor_step": run.governor_step,
        "held": run.worst >= HELD and not any(run.drops.values()),
    }


def over_time(run: Run) -> list[dict]:
    """The figures of the overloaded run, by span of time."""
    parts = slices(run, PARTS)
    first = parts[0].latencies[1]
    rows = []
    for number, part in enumerate(parts):
        p50, p95, p99 = part.latencies
        rows.append(
            {
                "until": (number + 1) * part.seconds,
                "published_of_asked": part.published,
                "dropped": part.dropped,
                "p50": p50,
                "p95": p95,
                "p99": p99,
                "p95_over_first": p95 / first,
            }
        )
    return rows


def run_row(row: dict) -> str:
    drops = ", ".join(f"{count} {reason}" for reason, count in row["drops"].items() if count) or "0"
    shares = (f"{row['published_of_asked']:.3f}", f"{row['least_of_a_stream']:.3f}")
    rest = (f"{row['p95_over_first_run']:.2f}", drops, f"step {row['governor_step']}", "yes" if row["held"] else "no")
    return _line(str(row["streams"]), f"{row['asked_fps']:g}", *shares, *_milliseconds(row), *rest)


def slice_row(row: dict) -> str:
    shares = (f"{row['published_of_asked']:.3f}", str(row["dropped"]))
    return _line(f"to {row['until']:.0f}", *shares, *_milliseconds(row), f"{row['p95_over_first']:.2f}")


def _milliseconds(row: dict) -> list[str]:
    return [f"{1000 * row[name]:.0f}" for name in ("p50", "p95", "p99")]


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _head(heads: tuple[str, ...]) -> str:
    return _line(*heads) + "\n" + "|---" * len(heads) + "|"


def plot(runs: list[dict], overload: list[dict], path: Path) -> None:
    """Plot latency against streams, and latency and drops of the overloaded run against time."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    held, late = figure.subplots(1, 2)
    for name in ("p50", "p95", "p99"):
        held.plot([row["streams"] for row in runs], [1000 * row[name] for row in runs], marker="o", label=name)
    held.set(title="latency against streams", xlabel="streams", ylabel="capture -> publish, ms", ylim=(0, None))
    until = [row["until"] for row in overload]
    for name in ("p50", "p95"):
        late.plot(until, [1000 * row[name] for row in overload], marker="o", label=name)
    late.set(title="overload", xlabel="seconds", ylabel="capture -> publish, ms", ylim=(0, None))
    late.twinx().bar(until, [row["dropped"] for row in overload], color="gray", alpha=0.3, width=until[0] / 2)
    figure.axes[-1].set(ylabel="frames dropped (bars)")
    for axes in (held, late):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.live", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--fps", type=float, default=10.0, help="of each stream")
    parser.add_argument("--size", default="256x256", metavar="WIDTHxHEIGHT")
    parser.add_argument("--overload", type=int, default=12, metavar="STREAMS", help="more than can be held")
    parser.add_argument("--seconds", type=float, default=20.0, help="that each run is looked at; overload: three times")
    parser.add_argument("--warm-up", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--segmenter", default="embedded", metavar="MODEL", help="or a size of SAM 2.1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--every", type=int, default=30)
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        segmenter = arguments.segmenter
        if segmenter in SAM2_SIZES:
            segmenter = str(write_sam2(Path(folder), segmenter)[0])
        measure(arguments, segmenter)


def measure(arguments: argparse.Namespace, segmenter: str) -> None:
    pace = (arguments.window, arguments.every, arguments.warm_up)
    asked = Asked(arguments.fps, arguments.size, segmenter, arguments.device, *pace)
    quiet, runs, first = arguments.json, [], None
    if not quiet:
        print(f"{machine(arguments.device)}\n\n{_head(HEADS + MORE)}", flush=True)
    for streams in (*arguments.streams, arguments.overload):
        overloaded = len(runs) == len(arguments.streams)
        run = run_live(asked, streams, arguments.seconds * (3 if overloaded else 1))
        first = first or run
        runs.append(figures(run, first))
        if not quiet:
            print(run_row(runs[-1]), flush=True)
    overload = over_time(run)
    if quiet:
        about = {"machine": machine(arguments.device), "asked": asdict(asked) | {"segmenter": arguments.segmenter}}
        print(json.dumps(about | {"runs": runs, "overload": overload}))
    else:
        print(f"\noverload, {arguments.overload} streams:\n\n{_head(SLICE_HEADS)}")
        print(*map(slice_row, overload), sep="\n")
    if arguments.plot:
        plot(runs[:-1], overload, arguments.plot)


def machine(device: str) -> str:
    """Description of the machine."""
    gpu = f", {torch.cuda.get_device_name()}" if device != "cpu" and torch.cuda.is_available() else ""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return f"{os.cpu_count()} cores ({platform.machine()}), OMP_NUM_THREADS {threads}{gpu}"


if __name__ == "__main__":
    main()
