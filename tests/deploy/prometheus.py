"""A real Prometheus with a configuration of ``deploy/``, but with the targets and scrape interval of the test."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.support.media import free_port
from tests.support.program import PATIENCE, get, wait_until
from tests.support.tools import needs_tool

DEPLOY = Path(__file__).parents[2] / "deploy"
EVERY = 1  # seconds between two scrapes

needs_prometheus = needs_tool("prometheus", "prometheus")


def read(name: str = "prometheus.yml") -> dict[str, Any]:
    """A configuration of ``deploy/``."""
    config: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return config


def scraping(targets: Mapping[str, str]) -> dict[str, Any]:
    """The configuration of a site with a forwarder; ``targets``: host:port by job."""
    config, fleet = read(), read("fleet/prometheus.yml")
    config["scrape_configs"] += [job for job in fleet["scrape_configs"] if job["job_name"] == "maskcast-forwarder"]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
        job["relabel_configs"] = config["scrape_configs"][0]["relabel_configs"]
    return config


class Prometheus:
    """The server on a free port, until the block ends, with this configuration (`scraping`, `read`)."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        config["global"] = {"scrape_interval": f"{EVERY}s", "evaluation_interval": f"{EVERY}s"}
        config["rule_files"] = [str(DEPLOY / name) for name in config["rule_files"]]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        wait_until(self._is_ready)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._log.close()

    def ask(self, path: str, **arguments: str) -> Any:
        """The data of the HTTP API's answer. Raises ValueError with Prometheus' error message."""
        status, answer = get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}")
        if status != 200:
            raise ValueError(f"{arguments}: {status} {answer}")
        return json.loads(answer)["data"]

    def values(self, expression: str) -> list[float]:
        """Current value of each series of an expression."""
        return [float(series["value"][1]) for series in self.ask("query", query=expression)["result"]]

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text()
        try:
            return get(f"{self.url}/-/ready")[0] == 200
        except OSError:
            return False
