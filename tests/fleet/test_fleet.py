"""A fleet of three nodes: streams move with their identities, and whatever is killed, nobody watches twice."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from daemon.fleet.leases.renewal import LEASE
from daemon.fleet.node.worker import SNAPSHOT
from tests.fleet.cluster import fleet
from tests.fleet.conftest import FPS, STREAMS, Site
from tests.fleet.watcher import kept_identities
from tests.support.program import PATIENCE, get

pytestmark = pytest.mark.process

AROUND = 8  # messages before and after a move


def daemon_of(site: Site, node: str) -> int:
    """Process id of the daemon of a node."""
    return next(process.pid for process in site.cluster.tree(node) if "--stay" in process.cmdline())


def worker_of(site: Site, node: str) -> int:
    """Process id of the Ray actor that supervises the daemon."""
    return next(process.pid for process in site.cluster.tree(node) if "ray::Worker" in " ".join(process.cmdline()))


def forwarder_of(site: Site) -> int:
    """Process id of the forwarder."""
    return int(site.config.with_name("forwarder.pid").read_text())


def everything_rests(site: Site) -> None:
    """All daemons are ready, and all streams up with both objects in sight."""
    site.wait(lambda: {one["state"] for one in site.status()["workers"]} == {"ready"}, "all daemons ready")
    site.wait(lambda: site.all_up() and all(map(site.rested, STREAMS)), "all objects")


def everything_is_kept(site: Site) -> None:
    """And a snapshot has been taken of that."""
    everything_rests(site)
    time.sleep(2 * SNAPSHOT)


def nobody_watched_twice(site: Site) -> None:
    assert all(len(sessions) == 1 for sessions in site.watcher.sessions_of_fences().values())
    assert site.watcher.fences_rise()


def identities_last(site: Site, stream: str, fence: int) -> None:
    """Bodies around the new ``fence`` have the ids that they had before; a new session would give others.

    One of two may be lost: the tracker itself does so when they pass each other in the gap. That handing over loses
    none, tests/tracking/test_snapshot.py shows.
    """
    site.wait(lambda: sum(seen.fence >= fence for seen in site.watcher.seen[stream]) >= AROUND, "messages after it")
    kept = kept_identities(site.watcher.seen[stream], fence, site.world(stream), AROUND)
    assert kept
    assert 2 * sum(kept.values()) >= len(kept)


def test_a_planned_move_keeps_identities_and_names_the_predecessor(site: Site):
    site.wait(lambda: site.rested("gate"), "both objects")
    old, fences = site.watcher.last("gate"), site.fences()
    target = next(node for node in ("n0", "n1", "n2") if node != site.places()["gate"])
    code, out, error = fleet(site.cluster, "move", "gate", target)
    assert (code, error) == (0, "")
    assert target in out
    site.watcher.wait_for(["gate"], fences)
    first = next(seen for seen in site.watcher.seen["gate"] if seen.fence > fences["gate"])
    assert first.header["predecessor"] == old.header["session"]
    identities_last(site, "gate", first.fence)
    told = [event.header["type"] for event in site.watcher.events["gate"] if event.header["fence"] >= old.fence]
    assert "source_down" not in told, "the source is read on both nodes"
    assert site.places()["gate"] == target
    nobody_watched_twice(site)


def test_status_targets_and_page_name_every_node(site: Site):
    assert {worker["state"] for worker in site.status()["workers"]} == {"ready"}
    code, out, _ = fleet(site.cluster, "status")
    assert code == 0
    assert all(name in out for name in (*STREAMS, "n0", "n1", "n2"))
    code, answer = get(f"http://{site.http}/fleet/targets")
    targets = json.loads(answer)
    assert [target["labels"]["node"] for target in targets] == ["n0", "n1", "n2"]
    for target in targets:
        code, metrics = get(f"http://{target['targets'][0]}/metrics")
        assert code == 200
        assert "maskcast_build_info" in metrics
    pages = {worker["page"] for worker in site.status()["workers"]}
    assert pages == {f"http://{target['targets'][0]}/" for target in targets}
    code, page = get(f"http://{site.http}/")
    assert code == 200
    assert "fleet.js" in page


def test_what_cannot_be_done_is_said_in_one_line(site: Site):
    up, move = ("up", "--config", str(site.config)), ("move", "gate", "n7")
    for words, code, message in (
        (up, 1, "a fleet runs on this cluster already"),
        (move, 2, "no node is named n7; the fleet has: n0, n1, n2"),
        (("move", "gat", "n0"), 2, 'no stream is named "gat"; the fleet has: gate, hall, yard'),
        (("drain", "n7"), 2, "no node is named n7"),
    ):
        done = fleet(site.cluster, *words)
        assert (done[0], done[1]) == (code, ""), done[2]
        assert done[2].startswith(f"maskcast: error: {message}")
        assert done[2].count("\n") == 1
    other = "import sys, ray; ray.__version__ = '1.0.0'; from daemon.__main__ import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", other, "fleet", "status", "--address", site.cluster.address]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert "has another version of Ray" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("victim", [daemon_of, worker_of])
def test_a_killed_process_costs_its_streams_a_gap_and_no_identity(site: Site, victim):
    everything_is_kept(site)
    stream, node = next(iter(site.places().items()))
    fences = site.fences()
    os.kill(victim(site, node), signal.SIGKILL)
    site.watcher.wait_for([stream], fences)
    identities_last(site, stream, site.watcher.fence(stream))
    nobody_watched_twice(site)


def controller_of(site: Site) -> psutil.Process:
    return next(process for process in site.cluster.tree("head") if "ray::Controller" in " ".join(process.cmdline()))


def test_streams_go_on_while_the_controller_hangs_and_stay_where_they_are_when_it_goes_on(site: Site):
    """Longer than a lease: most workers say that they do not hear it either."""
    everything_rests(site)
    places, fences = site.places(), site.fences()
    controller = controller_of(site)
    controller.suspend()
    try:
        site.goes_on(time.time() + 2 * LEASE)
    finally:
        controller.resume()
    site.goes_on(time.time() + LEASE)
    assert site.places() == places
    assert site.fences() == fences
    nobody_watched_twice(site)


def test_the_cluster_finds_everything_as_it_was_when_its_head_comes_back(site: Site):
    """Killed: all of Ray on the head, and the controller with it. It returns at its ports, with what GCS has stored."""

    def processes() -> list[int]:
        return [forwarder_of(site), *(who(site, node) for who in (worker_of, daemon_of) for node in ("n0", "n1", "n2"))]

    site.wait(site.says_all_is_well, "all daemons ready and all streams up")
    places, fences, before = site.places(), site.fences(), processes()
    site.cluster.kill_head()
    site.goes_on(time.time() + 2 * LEASE)
    site.cluster.start_head()
    back = time.time()
    site.wait(lambda: site.says_all_is_well() and site.places() == places, "the right picture")
    site.goes_on(back + LEASE)
    assert site.fences() == fences
    assert processes() == before
    nobody_watched_twice(site)


def test_a_node_that_is_stopped_for_a_while_publishes_nothing_when_it_goes_on(site: Site):
    everything_rests(site)
    node = site.places()["hall"]
    streams = [stream for stream, place in site.places().items() if place == node]
    fences = site.fences()
    site.cluster.pause(node, stopped=True)
    site.watcher.wait_for(streams, fences)
    site.cluster.pause(node, stopped=False)
    fences, seq = site.fences(), site.watcher.last("hall").header["seq"]
    site.wait(lambda: site.watcher.last("hall").header["seq"] > seq + 3 * FPS, "more messages")
    nobody_watched_twice(site)
    assert site.fences() == fences
    site.wait(site.all_up, "all up")
    site.cluster.restart(node)  # Ray has given it up, and ends there


def test_streams_of_a_killed_node_run_elsewhere_with_their_identities(site: Site):
    everything_is_kept(site)
    node = site.places()["yard"]
    streams = [stream for stream, place in site.places().items() if place == node]
    fences = site.fences()
    site.cluster.kill(node)
    site.watcher.wait_for(streams, fences)
    for stream in streams:
        identities_last(site, stream, site.watcher.fence(stream))
    assert node not in site.places().values()
    nobody_watched_twice(site)
    site.wait(lambda: site.keepers() <= site.cluster.node_ids(), "snapshots of all streams on nodes that live")


def test_a_drained_node_has_no_streams_and_its_daemon_has_ended(site: Site):
    site.wait(site.all_up, "all up")
    node = site.places()["gate"]
    code, out, error = fleet(site.cluster, "drain", node)
    assert (code, error) == (0, "")
    assert f"{node}: drained" in out
    assert node not in site.places().values()
    nobody_watched_twice(site)
