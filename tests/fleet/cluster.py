"""A Ray cluster of this machine's own: a head and nodes with one CPU slot each, on loopback alone.

By hand, ``python -m tests.fleet.cluster`` runs one with three nodes: see deploy/fleet/README.md.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.support.media import free_port
from tests.support.program import PATIENCE

# Ray must not leave loopback: no statistics, no address but 127.0.0.1
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",
    "RAY_worker_oom_score_adjustment": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "OMP_NUM_THREADS": "1",
}
SMALL = {
    "node_ip_address": "127.0.0.1",
    "object_store_memory": 80 << 20,
    "include_dashboard": False,
    "include_log_monitor": False,
    "no_monitor": True,
    "num_cpus": 1,
}
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


class RayCluster:
    """``node`` adds one; ``kill`` is a power cut. At the end everything is killed, whatever happens."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        storage = folder / "gcs"
        storage.mkdir()
        system = {**HEALTH, "gcs_storage": "rocksdb", "gcs_storage_path": str(storage)}
        ports = {"gcs_server_port": free_port(), "node_manager_port": free_port()}
        self._head = {**SMALL, **ports, "node_name": "head", "_system_config": system}
        self._cluster = Cluster(initialize_head=True, head_node_args=self._head)
        self.address: str = self._cluster.address
        self.nodes: dict[str, Any] = {"head": self._cluster.head_node}
        self._killed: list[Any] = []

    def node(self, name: str, site: str = "") -> None:
        """Add a node with one slot."""
        labels = {"site": site} if site else {}
        self.nodes[name] = self._cluster.add_node(
            wait=False, node_name=name, resources={"slot": 1}, labels=labels, **SMALL
        )

    def ready(self) -> None:
        """Wait until all nodes are in the cluster."""
        self._cluster.wait_for_nodes()

    def node_ids(self) -> set[str]:
        """Ray's ids of the nodes that live."""
        return {node.node_id for node in self.nodes.values()}

    def tree(self, name: str) -> list[psutil.Process]:
        """The raylet of a node and all that it started."""
        raylet = psutil.Process(self.nodes[name].all_processes["raylet"][0].process.pid)
        return [raylet, *raylet.children(recursive=True)]

    def kill(self, name: str) -> None:
        """End all of a node's processes at once."""
        for process in self.tree(name):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        node = self.nodes.pop(name)
        node.all_processes["raylet"][0].process.wait()  # a zombie would keep its workers running
        self._killed.append(node)

    def restart(self, name: str) -> None:
        """Start Ray again on a node, as systemd does when it has ended."""
        self.kill(name)
        self.node(name)

    def kill_head(self) -> None:
        """End all of Ray's processes on the head at once; what they have started goes on, as under systemd."""
        workers = [process for process in self.tree("head") if process.name().startswith("ray")]
        started = [one.process for some in self.nodes.pop("head").all_processes.values() for one in some]
        for process in (*workers, *started):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for process in started:
            process.wait()

    def start_head(self) -> None:
        """Start the head again, at its ports and with what GCS has stored."""
        self._cluster.head_node = None
        self.nodes["head"] = self._cluster.add_node(wait=False, **self._head)

    def pause(self, name: str, stopped: bool) -> None:
        """Stop all of a node's processes, or let them go on."""
        for process in self.tree(name):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)

    def close(self) -> None:
        """End the cluster."""
        left = []
        for name in self.nodes:
            with suppress(psutil.NoSuchProcess, KeyError):
                left += self.tree(name)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        self._cluster.shutdown()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def ray_cluster(folder: Path) -> Iterator[RayCluster]:
    """A head without slots; nodes are added by the test."""
    before = {name: os.environ.get(name) for name in (*QUIET, "HOME")}
    home = folder / "home"
    home.mkdir()
    (home / "ray_bootstrap_config.yaml").write_text("provider: {type: local}\n")
    os.environ |= {**QUIET, "HOME": str(home)}
    cluster = None
    try:
        cluster = RayCluster(folder)
        yield cluster
    finally:
        if cluster is not None:
            cluster.close()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def fleet(cluster: RayCluster | str, *words: str, timeout: float = PATIENCE) -> tuple[int, str, str]:
    """Run ``maskcast fleet``: exit code, stdout, stderr."""
    address = cluster if isinstance(cluster, str) else cluster.address
    done = subprocess.run(
        [sys.executable, "-m", "daemon", "fleet", *words, "--address", address],
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return done.returncode, done.stdout, done.stderr


def main() -> None:
    """Runs three nodes until the end of standard input; a line of it, a node's name, kills that node."""
    with tempfile.TemporaryDirectory(prefix="maskcast-") as folder, ray_cluster(Path(folder)) as cluster:
        for name in ("n1", "n2", "n3"):
            cluster.node(name)
        cluster.ready()
        print(f"export RAY_ADDRESS={cluster.address} RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0", flush=True)
        with suppress(KeyboardInterrupt):
            for line in sys.stdin:
                if line.strip() in cluster.nodes:
                    cluster.kill(line.strip())


if __name__ == "__main__":
    main()
