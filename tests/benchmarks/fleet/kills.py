"""What a killed node, a planned move and a drained node cost the streams of a real fleet on this machine.

python -m tests.benchmarks.fleet.kills [--kills 10] [--moves 9] [--streams 9] [--fps 3] [--json]

Ray with a head and three nodes of one CPU slot each, live test sources of two objects, the embedded models, and one
subscriber on the forwarder's address. A kill is SIGKILL for all processes of a node; a new node takes its place. Then
streams are moved, one at a time, and at last a node is drained. What is not concerned is measured in the same seconds.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from daemon.fleet.node.worker import SNAPSHOT
from tests.fleet.conftest import Site, live_site
from tests.fleet.watcher import identities_around

# seeds of worlds whose two bodies differ and are seldom out of sight
SEEDS = (108, 4, 125, 88, 67, 109, 76, 139, 120)
BACK = 4.0  # seconds of messages before and after a change in which objects are looked for
# seconds to wait for what a change is to bring; a stream that moved within the last minute is drained later
AFTER = {"kill": 30.0, "move": 30.0, "drain": 150.0}


@dataclass(frozen=True)
class Cost:
    """What one change cost one stream: seconds without a message, frames that nobody published, and identities.

    A killed stream's seconds count from the kill. ``ids``: before and after, of each object that stayed in sight; None
    for one that was not shown again within BACK seconds.
    """

    stream: str
    seconds: float
    frames: int
    ids: list[tuple[int, int | None]]


@dataclass(frozen=True)
class Change:
    """A kill, a move or a drain, and what it cost the streams that it concerns and all others."""

    what: str
    concerned: list[Cost]
    others: list[Cost]


def measure(site: Site, what: str, streams: Iterable[str], began: float, fences: Mapping[str, int]) -> Change:
    """Wait until ``streams`` are back under new fences, and look at what all streams have sent since ``began``."""
    streams, count, kind = sorted(streams), round(BACK * site.fps), what.split()[0]

    def back(stream: str) -> bool:
        seen = site.watcher.seen[stream][-count:]
        return len(seen) == count and all(one.fence > fences[stream] for one in seen)

    while not all(map(back, streams)) and time.time() < began + AFTER[kind]:
        time.sleep(0.1)
    since = began if kind == "kill" else 0.0
    return Change(
        what,
        [_concerned(site, stream, fences[stream], since, count) for stream in streams],
        [_other(site, stream, began, count) for stream in site.seeds if stream not in streams],
    )


def _concerned(site: Site, stream: str, fence: int, since: float, count: int) -> Cost:
    messages = list(site.watcher.seen[stream])
    first = next((place for place, seen in enumerate(messages) if seen.fence > fence), None)
    if first is None:  # it is lost, or has stayed where it was
        silent = time.time() - messages[-1].at
        gone = site.identities(stream).values() if silent > BACK else ()
        return Cost(stream, silent, round(silent * site.fps), [(identity, None) for identity in gone])
    before, after = messages[first - 1], messages[first]
    lost = after.header["pts"] - before.header["pts"] - 1
    return Cost(stream, after.at - max(before.at, since), lost, _identities(site, stream, first, count))


def _other(site: Site, stream: str, began: float, count: int) -> Cost:
    """A stream that nothing was done to: its longest gap, and the identities around that."""
    messages = list(site.watcher.seen[stream])
    since = next(place for place, seen in enumerate(messages) if seen.at > began)
    times = [seen.at for seen in messages]
    first = max(range(since, len(messages)), key=lambda place: times[place] - times[place - 1])
    lost = messages[first].header["pts"] - messages[first - 1].header["pts"] - 1
    return Cost(stream, times[first] - times[first - 1], lost, _identities(site, stream, first, count))


def _identities(site: Site, stream: str, first: int, count: int) -> list[tuple[int, int | None]]:
    return list(identities_around(site.watcher.seen[stream], first, site.world(stream), count).values())


def settle(site: Site) -> None:
    """Until three daemons are ready, all streams are up, and snapshots of all have been taken."""
    site.wait(lambda: len(ready_nodes(site)) == 3 and site.all_up(), "three nodes with all streams up")
    time.sleep(max(BACK, 3 * SNAPSHOT))


def ready_nodes(site: Site) -> list[str]:
    """Nodes with a daemon that takes streams, in the order in which they came."""
    ready = {one["node"] for one in site.status()["workers"] if one["state"] == "ready"}
    return [name for name in site.cluster.nodes if name in ready]


def kill(site: Site, number: int) -> Change:
    """Kill the oldest node that has streams, and start another."""
    settle(site)
    places, fences = site.places(), site.fences()
    node = next(name for name in ready_nodes(site) if name in places.values())
    began = time.time()
    site.cluster.kill(node)
    killed = time.time()
    streams = [stream for stream, place in places.items() if place == node]
    change = measure(site, f"kill {node}", streams, (began + killed) / 2, fences)
    site.cluster.node(f"n{number}")  # only now: on one machine its start would slow the others down
    return change


def move(site: Site, stream: str) -> Change:
    """Move a stream to the node that has the fewest."""
    settle(site)
    places, fences, began = site.places(), site.fences(), time.time()
    others = [name for name in ready_nodes(site) if name != places[stream]]
    target = min(others, key=list(places.values()).count)
    site.move(stream, target)
    return measure(site, f"move {stream}", [stream], began, fences)


def drain(site: Site) -> Change:
    """Drain the node with the most streams."""
    settle(site)
    places, fences, began = site.places(), site.fences(), time.time()
    node = max(ready_nodes(site), key=list(places.values()).count)
    site.drain(node)
    return measure(site, f"drain {node}", [name for name, place in places.items() if place == node], began, fences)


HEAD = (
    "| | streams | longest gap, s | frames lost, most | ids kept | others: longest gap, s | ids kept |\n"
    + "|---" * 7
    + "|"
)


def row(what: str, changes: list[Change]) -> str:
    """One line of the table."""
    concerned = [cost for change in changes for cost in change.concerned]
    others = [cost for change in changes for cost in change.others]
    cells = (what, len(concerned), _longest(concerned), max((c.frames for c in concerned), default="-"))
    return f"| {' | '.join(map(str, (*cells, _kept(concerned), _longest(others), _kept(others))))} |"


def _longest(costs: list[Cost]) -> str:
    return f"{max(cost.seconds for cost in costs):.2f}" if costs else "-"


def _kept(costs: list[Cost]) -> str:
    ids = [pair for cost in costs for pair in cost.ids]
    return f"{sum(before == after for before, after in ids)} of {len(ids)}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--moves", type=int, default=9)
    parser.add_argument("--streams", type=int, default=9, help=f"at most {len(SEEDS)}")
    parser.add_argument("--fps", type=int, default=3)
    parser.add_argument("--drain", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    seeds = {f"cam{number}": seed for number, seed in enumerate(SEEDS[: asked.streams])}
    changes: list[Change] = []
    with tempfile.TemporaryDirectory() as folder, live_site(Path(folder), seeds, asked.fps) as site:
        print(HEAD, file=sys.stderr)
        for number in range(asked.kills):
            changes.append(kill(site, 3 + number))
            print(row(changes[-1].what, changes[-1:]), file=sys.stderr, flush=True)
        for number in range(asked.moves):
            changes.append(move(site, list(seeds)[number % len(seeds)]))
            print(row(changes[-1].what, changes[-1:]), file=sys.stderr, flush=True)
        if asked.drain:
            changes.append(drain(site))
            print(row(changes[-1].what, changes[-1:]), file=sys.stderr, flush=True)
        twice = [key for key, sessions in site.watcher.sessions_of_fences().items() if len(sessions) > 1]
        back = sum(seen != sorted(seen, key=lambda one: one.fence) for seen in site.watcher.seen.values())
    if asked.json:
        print(
            json.dumps({"changes": [asdict(change) for change in changes], "twice": twice, "older_after_newer": back})
        )
        return
    kinds = {kind: [change for change in changes if change.what.startswith(kind)] for kind in ("kill", "move", "drain")}
    print("\n".join([HEAD, *(row(f"all {len(of)} of {kind}", of) for kind, of in kinds.items() if of)]))
    print(f"fences under which two have published: {len(twice)}; streams with an older message after a newer: {back}")


if __name__ == "__main__":
    main()
