"""A whole site: a daemon with two cameras, an exporter of GPU figures, and a Prometheus that reads both."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy import dcgm
from tests.deploy.prometheus import Prometheus
from tests.support.program import Program, wait_until

CONFIGURATION = """
[[streams]]
name = "gate"
source = "testsrc://shapes?seed=12&size=128x128&fps=10&live=1"
prompts = ["purple star", "red circle"]

[[streams]]
name = "yard"
source = "testsrc://shapes?seed=5&size=128x128&fps=5&hard=1&objects=8&live=1"
prompts = ["yellow circle", "purple star"]
"""


@dataclass(frozen=True, slots=True)
class Site:
    """What tests ask."""

    prometheus: Prometheus
    metrics: str  # the daemon's own address


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """It is there once Prometheus has seen tracks; it ends with the block."""
    (folder / "maskcast.toml").write_text(CONFIGURATION)
    program = Program("--config", str(folder / "maskcast.toml"))
    try:
        metrics = program.address("metrics")
        targets = {"maskcast": metrics.removeprefix("http://").removesuffix("/metrics"), "dcgm": dcgm.serve()}
        with Prometheus(folder, targets) as prometheus:
            wait_until(lambda: len(prometheus.values(HAS_TRACKS)) == 2)
            yield Site(prometheus, metrics)
    finally:
        program.process.terminate()
        program.end()


HAS_TRACKS = "sum by (stream) (rate(maskcast_track_frames_total[4s])) > 0"
