"""Many daemons on the nodes of a Ray cluster: streams run where there is room, and move when a node is lost.

Start the cluster first: `ray start --head` on one machine, `ray start --address HEAD:6379` on the others. `up` starts
a daemon for each GPU, `status` shows what runs where, `move` takes a stream to another node, `drain` empties a node
before work on it, `down` ends all daemons. Streams keep the identities of their objects when they move.

examples:
  maskcast fleet up --config fleet.toml
  maskcast fleet status
  maskcast fleet move gate gpu-2
  maskcast fleet drain gpu-1 --address 10.0.0.1:6379
"""

import json
import logging
import os
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from daemon.settings.load import CONFIG_VARIABLE
from stages.errors import ConfigError
from stages.plural import plural

ACTIONS = {"up": (), "status": (), "move": ("STREAM", "NODE"), "drain": ("NODE",), "down": ()}
ANSWER = 30.0  # seconds
DRAIN = 600.0  # seconds
DOWN = 60.0  # seconds
# read when Ray is imported: nothing leaves this machine unasked, and who refuses is asked 3 times, not for 2 minutes
RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_NUM_REDIS_GET_RETRIES": "3"}


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``maskcast fleet``."""
    parser.add_argument("action", choices=ACTIONS, help="up, status, move STREAM NODE, drain NODE, down")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of move: a stream and a node; of drain: a node")
    parser.add_argument("--config", type=Path, metavar="FILE", help="of up: fleet.toml; else $MASKCAST_CONFIG")
    parser.add_argument(
        "--address", default="auto", metavar="HOST:PORT", help="of the Ray cluster; default: that of this machine"
    )
    parser.add_argument("--json", action="store_true", help="of status: print everything as JSON")


def run(arguments: Namespace) -> int:
    """Do it and say so. Raises ConfigError and FleetError."""
    wanted = ACTIONS[arguments.action]
    if len(arguments.names) != len(wanted):
        raise ConfigError(f"write it as: maskcast fleet {' '.join([arguments.action, *wanted])}")
    for name, value in RAY.items():
        os.environ.setdefault(name, value)
    try:
        from daemon.fleet import cluster
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise ConfigError("Ray is not installed, which a fleet needs: pip install 'maskcast[fleet]'") from None
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    settings = _settings(arguments.config) if arguments.action == "up" else None
    cluster.connect(arguments.address)
    if settings is not None:
        return _up(settings)
    from daemon.fleet.controller import ask

    fleet = cluster.controller()
    match arguments.action:
        case "status":
            _print(ask(fleet.status.remote(), ANSWER), arguments.json)
        case "move":
            stream, node = arguments.names
            worker = ask(fleet.move.remote(stream, node), ANSWER)
            print(f"{stream} moves to {worker}")
        case "drain":
            _drain(fleet, arguments.names[0])
        case "down":
            ask(fleet.stop.remote(), DOWN)
            cluster.end(fleet)
            print("the fleet has ended; the Ray cluster goes on")
    return 0


def _settings(config: Path | None) -> Any:
    from daemon.fleet.settings import load_fleet

    path = config or (Path(os.environ[CONFIG_VARIABLE]) if CONFIG_VARIABLE in os.environ else None)
    if path is None:
        raise ConfigError("name the fleet's configuration: maskcast fleet up --config fleet.toml")
    settings = load_fleet(path)
    if not settings.streams:
        raise ConfigError(f"{path}: has no [[streams]]")
    return settings


def _up(settings: Any) -> int:
    from daemon.fleet import cluster
    from daemon.fleet.controller import ask, start

    seats = cluster.seats(settings.fleet.slot)
    for seat in seats:
        settings.check_address(seat.address)
    slots = len(seats)
    if not slots:
        raise ConfigError(
            f"no node of the cluster has the resource {settings.fleet.slot}; start nodes with GPUs, "
            "or set fleet.slot to a resource that they have"
        )
    fleet = start(settings)
    problem = ask(fleet.problem.remote(), ANSWER)
    if problem:
        cluster.end(fleet)
        raise ConfigError(problem)
    streams = len(settings.streams)
    print(f"fleet: {streams} {plural(streams, 'stream')} for {slots} {plural(slots, 'daemon')}; maskcast fleet status")
    print(f"masks: maskcast watch {settings.fleet.endpoint}")
    print(f"page: {ask(fleet.url.remote(), ANSWER)}/")
    return 0


def _print(status: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(status, ensure_ascii=False))
        return
    from rich.console import Console

    from daemon.fleet.status import tables

    console = Console(soft_wrap=True)
    workers, streams = tables(status)
    console.print(workers)
    console.print()
    console.print(streams)
    if status["problem"]:
        console.print(f"\nproblem: {status['problem']}", highlight=False, markup=False)
    console.print(f"\nmasks: {status['masks']}   page: {status['page']}", highlight=False)


def _drain(fleet: Any, node: str) -> None:
    """Returns when the node's daemons have ended."""
    from daemon.fleet.cluster import FleetError
    from daemon.fleet.controller import ask

    streams = ask(fleet.drain.remote(node), ANSWER)
    print(f"{node}: {streams} {plural(streams, 'stream')} to move", flush=True)
    end = time.monotonic() + DRAIN
    while time.monotonic() < end:
        status = ask(fleet.status.remote(), ANSWER)
        workers = [one for one in status["workers"] if one["node"] == node]
        if all(one["state"] in ("drained", "silent") for one in workers):
            print(f"{node}: drained")
            return
        time.sleep(0.5)
    left = [name for one in workers for name in one["streams"]]
    reasons = {one["stream"]: one["reason"] for one in status["streams"]}
    stuck = f"{left[0]}: {reasons[left[0]] or 'it moves'}" if left else "its daemon has not ended"
    raise FleetError(f"{node} is not drained after {DRAIN:.0f} s; {stuck}")
