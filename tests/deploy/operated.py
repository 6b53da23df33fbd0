"""A monitored site: a daemon with two cameras, a forwarder, a fake GPU exporter, and a Prometheus that scrapes all."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy import dcgm
from tests.deploy.prometheus import Prometheus, scraping
from tests.fleet.forwarder.process import running
from tests.support.program import Program, wait_until

CONFIGURATION = """
[[streams]]
name = "gate"
source = "testsrc://shapes?seed=12&fps=5&live=1"
prompts = ["purple star", "red circle"]

[[streams]]
name = "yard"
source = "testsrc://shapes?seed=5&fps=5&hard=1&objects=8&live=1"
prompts = ["yellow circle", "purple star"]
"""


@dataclass(frozen=True, slots=True)
class Site:
    """The running site."""

    prometheus: Prometheus
    metrics: str  # URL of the daemon's metrics
    forwarder: str  # URL of the forwarder's metrics


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """A site that runs until the block ends; the block starts when Prometheus has scraped tracks."""
    (folder / "maskcast.toml").write_text(CONFIGURATION)
    program = Program("--config", str(folder / "maskcast.toml"))
    try:
        masks, metrics = program.address("masks"), program.address("metrics")
        with running("--bind", "tcp://127.0.0.1:0", "--connect", masks, "--stream", "gate", "yard") as forwarder:
            targets = {"maskcast": metrics, "maskcast-forwarder": forwarder.metrics}
            targets = {job: url.removeprefix("http://").removesuffix("/metrics") for job, url in targets.items()}
            with Prometheus(folder, scraping({**targets, "dcgm": dcgm.serve()})) as prometheus:
                wait_until(lambda: len(prometheus.values(HAS_TRACKS)) == 2)
                yield Site(prometheus, metrics, forwarder.metrics)
    finally:
        program.process.terminate()
        program.end()


HAS_TRACKS = "sum by (stream) (rate(maskcast_track_frames_total[4s])) > 0"
