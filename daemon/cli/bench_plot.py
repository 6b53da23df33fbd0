"""The figures of ``maskcast bench`` as a picture: frames a second, and the latency of a window, by objects."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stages.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 150


class Row(Protocol):
    """Measured times for a number of objects, in seconds."""

    @property
    def objects(self) -> int: ...
    @property
    def window_p50(self) -> float: ...
    @property
    def window_p95(self) -> float: ...
    @property
    def fps(self) -> float: ...


def check_plot(path: Path) -> None:
    """Raises ConfigError when no picture can be written there: measuring takes minutes, and comes before it."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ModuleNotFoundError:
        raise ConfigError("--plot needs matplotlib, which is not installed: pip install 'maskcast[train]'") from None
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in known:
        raise ConfigError(f"--plot {path}: its ending says the format; take one of {', '.join(sorted(known))}")
    if not path.parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no folder {path.parent}; make it first")


def save_plot(path: Path, rows: Sequence[Row], title: str) -> None:
    """Write the picture. Raises OutputError."""
    try:
        _figure(rows, title).savefig(path, dpi=PIXELS_PER_INCH)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another file for --plot") from None


def _figure(rows: Sequence[Row], title: str) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    figure.suptitle(title)
    throughput, latency = figure.subplots(1, 2)
    rows = sorted(rows, key=lambda row: row.objects)
    objects = [row.objects for row in rows]
    throughput.plot(objects, [row.fps for row in rows], marker="o")
    throughput.set_ylabel("frames per second")
    for percent, values in (("95", [row.window_p95 for row in rows]), ("50", [row.window_p50 for row in rows])):
        latency.plot(objects, [1000 * value for value in values], marker="o", label=f"p{percent}")
    latency.set_ylabel("a window, in milliseconds")
    latency.legend()
    for axes in (throughput, latency):
        axes.set_xlabel("tracked objects")
        axes.set_xticks(objects)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    return figure
