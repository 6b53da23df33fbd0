"""Draws the dashboard with data of a real Prometheus and a running daemon; Grafana is not needed.

python -m tests.deploy.dashboard_picture OUT.png [--seconds 120]
"""

import argparse
import math
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tests.deploy.dashboard import Panel, panels
from tests.deploy.operated import site
from tests.deploy.prometheus import EVERY, Prometheus

COLUMNS = 4
UNITS = {"percentunit": 100.0, "bytes": 1 / 2**20, "Bps": 1 / 1e3}  # factors to the units below
NAMES = {"percentunit": "%", "bytes": "MiB", "Bps": "kB/s", "s": "s", "percent": "%", "celsius": "°C", "short": ""}

Series = tuple[str, list[float], list[float]]  # legend, seconds, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=120, help="how long the site works before it is drawn")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, site(Path(folder)) as running:
        time.sleep(arguments.seconds)
        draw(running.prometheus, arguments.seconds, arguments.out)


def draw(prometheus: Prometheus, seconds: float, out: Path) -> None:
    """Draw all panels over the last ``seconds`` into one image file."""
    everything = panels()
    rows = math.ceil(len(everything) / COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(6 * COLUMNS, 3.2 * rows), layout="constrained")
    for place in axes.flat[len(everything) :]:
        place.axis("off")
    for place, panel in zip(axes.flat, everything, strict=False):
        lines = series(prometheus, panel, seconds)
        place.set_title(f"{panel.row}: {panel.title}", fontsize=10, loc="left")
        _number(place, panel, lines) if panel.json["type"] == "stat" else _curves(place, panel, lines)
    figure.savefig(out, dpi=70)
    plt.close(figure)


def series(prometheus: Prometheus, panel: Panel, seconds: float) -> list[Series]:
    """Values of a panel's expressions over the last ``seconds``; times are relative to now, so negative."""
    now = time.time()
    scale = UNITS.get(panel.unit, 1.0)
    found = []
    for expression, legend in zip(panel.expressions, panel.legends, strict=True):
        span = {"start": str(now - seconds), "end": str(now), "step": str(EVERY)}
        for line in prometheus.ask("query_range", query=expression, **span)["result"]:
            times = [float(at) - now for at, _ in line["values"]]
            found.append(
                (_filled(legend, line["metric"]), times, [scale * float(value) for _, value in line["values"]])
            )
    return found


def _filled(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), legend)


def _unit(panel: Panel) -> str:
    return NAMES.get(panel.unit, panel.unit.removeprefix("suffix:"))


def _number(place: Axes, panel: Panel, lines: list[Series]) -> None:
    place.axis("off")
    legend, _, values = lines[0]
    by_name = panel.json["options"]["textMode"] == "name"
    text = legend.replace(", ", "\n") if by_name else f"{values[-1]:.4g} {_unit(panel)}"
    place.text(0.5, 0.5, text, ha="center", va="center", fontsize=11 if by_name else 26)


def _curves(place: Axes, panel: Panel, lines: list[Series]) -> None:
    custom: dict[str, Any] = panel.json["fieldConfig"]["defaults"]["custom"]
    times = max((line[1] for line in lines), key=len, default=[])
    if custom.get("stacking", {}).get("mode") == "normal":
        values = [[0.0] * (len(times) - len(line[2])) + line[2] for line in lines]
        place.stackplot(times, values, labels=[line[0] for line in lines], alpha=0.7)
    else:
        step = "steps-post" if panel.json["type"] == "state-timeline" else "default"
        for legend, at, values_of_one in lines:
            place.plot(at, values_of_one, label=legend, drawstyle=step)
    place.set_ylabel(_unit(panel))
    if custom.get("axisSoftMin") == 0:
        place.set_ylim(bottom=min(0.0, place.get_ylim()[0]), top=max(place.get_ylim()[1], 0.1))
    place.grid(alpha=0.3)
    if lines:
        place.legend(fontsize=6, loc="upper left", ncols=2)


if __name__ == "__main__":
    main()
