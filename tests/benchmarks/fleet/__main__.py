"""A simulated fleet: placement by measured cost against round-robin, with failing nodes, for one day.

python -m tests.benchmarks.fleet [--streams 10000] [--nodes 500] [--hours 24] [--failing 0.05] [--load 0.6]

Placement, costs and leases are the daemon's own functions; streams' demands, nodes' failures and the passing of time
are simulated (`demand.py`, `simulation.py`). Both policies see the same demands and failures, and use the same leases.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daemon.fleet.placement.decide import decide
from tests.benchmarks.fleet.demand import Asked
from tests.benchmarks.fleet.round_robin import RoundRobin
from tests.benchmarks.fleet.simulation import Run, Simulation

OURS, OTHER = "by measured cost", "round-robin"
PERCENTILES = (50, 99, 100)
ROWS = {
    "gap p50": "time without a watcher after a failure, p50, s",
    "gap p99": "the same, p99, s",
    "gap max": "the same, longest, s",
    "day p50": "time without a watcher per stream in a day, p50, s",
    "day p99": "the same, p99, s",
    "moves": "moves an hour",
    "spread": "spread of load (standard deviation over the workers)",
    "high": "load that 5 % of the workers are above",
    "most": "highest load of a worker",
    "lost": "frames lost to overload, %",
    "waiting": "streams that wait for room, mean",
}


def figures(run: Run, asked: Asked) -> dict[str, float]:
    """The figures of the table. Load is demand over capacity; what stands over time is a mean, but ``most``."""
    gaps = np.percentile(run.gaps or [0.0], PERCENTILES)
    day = np.percentile(run.unwatched * 24 / asked.hours, PERCENTILES)
    mean = {name: float(np.mean([getattr(one, name) for one in run.samples])) for name in ("spread", "high", "waiting")}
    return {
        **dict(zip(("gap p50", "gap p99", "gap max"), map(float, gaps), strict=True)),
        **dict(zip(("day p50", "day p99"), map(float, day[:2]), strict=True)),
        "moves": len(run.moves) / asked.hours,
        **mean,
        "most": max(one.most for one in run.samples),
        "lost": 100 * float(np.mean([one.lost for one in run.samples])),
    }


def table(ours: dict[str, float], other: dict[str, float]) -> str:
    lines = [f"| | {OURS} | {OTHER} | ratio |", "|---|---|---|---|"]
    for name, text in ROWS.items():
        ratio = _number(ours[name] / other[name]) if other[name] else "-"
        lines.append(f"| {text} | {_number(ours[name])} | {_number(other[name])} | {ratio} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.2f}" if value >= 0.01 else f"{value:.1g}"


def plot(ours: Run, other: Run, path: Path) -> None:
    """Load of the workers over time, by policy, and moves and failures an hour."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _loads(left, ours, OURS)
    _loads(middle, other, OTHER)
    highest = 1.25 * max(one.most for one in (*ours.samples, *other.samples))  # room for the legend
    left.set_ylim(0, highest)
    middle.set_ylim(0, highest)
    start = ours.samples[0].hour
    last = ours.samples[-1].hour
    edges = np.arange(start, last + 1)
    for times, label, color in ((ours.moves, "moves", "tab:blue"), (ours.failures, "failures of nodes", "tab:red")):
        hours = (np.array(times) - ours.begin) / 3600
        right.stairs(np.histogram(hours, edges)[0], edges, label=label, color=color)
    right.set(title=f"{OURS}: events", xlabel="hours", ylabel="an hour", xlim=(start, last))
    right.set_ylim(0, 1.25 * right.get_ylim()[1])
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", fontsize="small", framealpha=0.5)
    figure.savefig(path, dpi=120)


def _loads(axes: Axes, run: Run, title: str) -> None:
    hours = [one.hour for one in run.samples]
    low, high = [one.low for one in run.samples], [one.high for one in run.samples]
    axes.fill_between(hours, low, high, alpha=0.3, label="from 5 % to 95 % of the workers")
    axes.plot(hours, [one.mean for one in run.samples], label="mean")
    axes.plot(hours, [one.most for one in run.samples], linewidth=0.8, color="tab:red", label="fullest worker")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(title=title, xlabel="hours", ylabel="demand over capacity", xlim=(hours[0], hours[-1]))


def parse() -> argparse.Namespace:
    default = Asked()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=default.streams)
    parser.add_argument("--nodes", type=int, default=default.nodes, help="with one GPU each")
    parser.add_argument("--hours", type=float, default=default.hours)
    parser.add_argument("--load", type=float, default=default.load, help="mean demand over the capacity of all nodes")
    parser.add_argument(
        "--failing", type=float, default=default.failing, help="share of the nodes that fail in an hour"
    )
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    given = vars(parse())
    path, quiet = given.pop("plot"), given.pop("json")
    asked = Asked(**given)
    began = time.process_time()
    ours = Simulation(asked, decide).simulate()
    seconds = time.process_time() - began
    other = Simulation(asked, RoundRobin()).simulate()
    rows = figures(ours, asked), figures(other, asked)
    if quiet:
        about = {"asked": asdict(asked), "failures": len(ours.failures), "cpu_seconds": seconds}
        print(json.dumps(about | {"ours": rows[0], "round_robin": rows[1]}))
    else:
        fleet = f"{asked.streams} streams, {asked.nodes} nodes, {asked.hours:g} hours, {len(ours.failures)} failures"
        print(f"{fleet}; {seconds:.0f} s of CPU time for the first column\n\n{table(*rows)}")
    if path:
        plot(ours, other, path)


if __name__ == "__main__":
    main()
