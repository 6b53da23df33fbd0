"""What the controller decides from workers' reports, without a cluster."""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from daemon.fleet.assignments import GATHER, Assignments
from daemon.fleet.leases.held import HeldLeases
from daemon.fleet.leases.renewal import EXPIRY, RECENT
from daemon.fleet.protocol import Answer, Report, Seat
from daemon.fleet.settings import FleetSettings
from daemon.fleet.state_file import load, save
from daemon.fleet.status import status, targets
from stages.errors import ConfigError

LOAD = {"streams": [], "share": 0.0, "memory": {"used": 0, "budget": 8 << 30}, "draining": False}


def settings(*streams: Mapping[str, Any]) -> FleetSettings:
    given = [{"source": "testsrc://shapes?live=1", "prompts": ["red circle"], **stream} for stream in streams]
    return FleetSettings(streams=given)


class Node:
    """A worker that does at once what it is told."""

    def __init__(self, fleet: Assignments, name: str, site: str = "", incarnation: str = "first") -> None:
        self.fleet = fleet
        self.seat = Seat(f"{name}/0", name, f"id-{name}", "127.0.0.1", 0, labels={"site": site} if site else {})
        self.leases = HeldLeases(self.seat.worker, incarnation)
        self.views: dict[str, dict[str, Any]] = {}
        self.refused: dict[str, str] = {}

    def report(self, now: float, ahead: float = 0.0, **more: Any) -> Answer:
        values = {"load": LOAD, "views": self.views, "page": "http://127.0.0.1:1", "refused": self.refused, **more}
        answer = self.fleet.renew(Report(self.seat, self.leases.renewal(now), time.time() + ahead, **values), now)
        self.leases.accept(answer.reply, now)
        for name, order in answer.orders.items():
            session = f"{self.seat.node}-{order.fence}"
            view = {"fence": order.fence, "session": session, "width": 64, "height": 64, "state": "up", "reason": ""}
            self.views[name] = view
        return answer

    def release(self, stream: str) -> None:
        self.leases.release(stream, self.leases.streams[stream].fence)
        self.views.pop(stream)


def run(nodes: list[Node], start: float, seconds: float, **report: Any) -> float:
    """Let time pass: all ``nodes`` report twice a second. Returns the time after it."""
    for step in range(int(2 * seconds)):
        for node in nodes:
            node.report(start + step / 2, **report)
        nodes[0].fleet.tick(start + step / 2)
    return start + seconds


def test_a_stream_whose_label_no_node_has_waits_and_says_so_until_one_comes():
    fleet = Assignments(settings({"name": "gate", "site": "north"}), 0.0)
    now = run([south := Node(fleet, "s", "south")], 0.0, GATHER + 5)
    [stream] = status(fleet, {}, now)["streams"]
    assert stream["state"] == "waiting"
    assert 'site = "north"' in stream["reason"]
    north = Node(fleet, "n", "north")
    run([south, north], now, 5)
    assert list(north.leases.streams) == ["gate"]


def test_a_silent_workers_stream_goes_to_another_with_a_higher_fence_and_its_predecessor():
    fleet = Assignments(settings({"name": "gate"}), 0.0)
    nodes = [Node(fleet, "a"), Node(fleet, "b")]
    now = run(nodes, 0.0, 10)
    holder = next(node for node in nodes if node.leases.streams)
    other = next(node for node in nodes if node is not holder)
    fence = holder.leases.streams["gate"].fence
    now = run([other], now, EXPIRY - 1)
    assert not other.leases.streams
    now = run([other], now, 3)
    assert other.leases.streams["gate"].fence > fence
    order = fleet.running["gate"].order
    assert order is not None
    assert order.predecessor == f"{holder.seat.node}-{fence}"


def test_a_controller_that_comes_back_leaves_streams_where_they_are(tmp_path):
    first = Assignments(settings({"name": "gate"}), 0.0)
    node = Node(first, "a")
    now = run([node], 0.0, 10)
    held = node.leases.streams["gate"].fence
    save(tmp_path / "fleet.json", first.state())
    node.fleet = Assignments(settings({"name": "gate"}), now, load(tmp_path / "fleet.json"))
    run([node, Node(node.fleet, "b")], now, 10)
    assert node.leases.streams["gate"].fence == held
    [stream] = status(node.fleet, {}, now + 10)["streams"]
    assert (stream["node"], stream["session"]) == ("a", f"a-{held}")


def test_a_stream_that_a_daemon_refuses_is_tried_elsewhere():
    fleet = Assignments(settings({"name": "gate"}), 0.0)
    nodes = [Node(fleet, "a"), Node(fleet, "b")]
    now = run(nodes, 0.0, 10)
    holder = next(node for node in nodes if node.leases.streams)
    other = next(node for node in nodes if node is not holder)
    holder.release("gate")
    holder.refused["gate"] = "no memory is left"
    run(nodes, now, 5)
    assert list(other.leases.streams) == ["gate"]


def test_a_move_ends_at_the_node_that_was_asked_for_and_bad_ones_are_refused():
    fleet = Assignments(settings({"name": "gate"}), 0.0)
    nodes = {"a": Node(fleet, "a"), "b": Node(fleet, "b")}
    now = run(list(nodes.values()), 0.0, 10)
    source, target = ("a", "b") if nodes["a"].leases.streams else ("b", "a")
    for stream, node, why in (("gat", target, "no stream"), ("gate", "c", "no node"), ("gate", source, "already")):
        with pytest.raises(ConfigError, match=why):
            fleet.move(stream, node, now)
    assert fleet.move("gate", target, now) == f"{target}/0"
    assert nodes[source].report(now).hand_over == {}
    assert nodes[target].report(now).prepare["gate"]["source"] == "testsrc://shapes?live=1"
    nodes[target].report(now, prepared=frozenset({"gate"}))
    assert fleet.news() >= {f"{source}/0"}
    assert nodes[source].report(now).hand_over == {"gate": f"id-{target}"}
    nodes[source].release("gate")
    run(list(nodes.values()), now, 1)
    assert list(nodes[target].leases.streams) == ["gate"]


def test_a_move_is_given_up_when_its_target_dies_before_it_is_ready():
    fleet = Assignments(settings({"name": "gate"}), 0.0)
    nodes = {"a": Node(fleet, "a"), "b": Node(fleet, "b")}
    now = run(list(nodes.values()), 0.0, 10)
    source, target = ("a", "b") if nodes["a"].leases.streams else ("b", "a")
    fleet.move("gate", target, now)
    now = run([nodes[source]], now, EXPIRY + 1)
    assert nodes[source].report(now).hand_over == {}
    assert list(nodes[source].leases.streams) == ["gate"]
    assert nodes[target].report(now).prepare == {}


def test_sources_of_a_silent_workers_streams_are_opened_where_they_will_go():
    fleet = Assignments(settings({"name": "gate"}), 0.0)
    nodes = [Node(fleet, "a"), Node(fleet, "b")]
    now = run(nodes, 0.0, 10)
    holder = next(node for node in nodes if node.leases.streams)
    other = next(node for node in nodes if node is not holder)
    assert other.report(now).prepare == {}
    now = run([other], now, RECENT + 1)
    assert other.report(now).prepare.keys() == {"gate"}
    assert not other.leases.streams
    now = run(nodes, now, 1)
    assert other.report(now).prepare == {}, "it is heard of again"
    assert list(holder.leases.streams) == ["gate"]
    run([other], now, EXPIRY + 2)
    assert list(other.leases.streams) == ["gate"]
    assert other.report(now).prepare == {}


def test_snapshots_go_to_another_node_as_soon_as_the_keepers_is_silent():
    fleet = Assignments(settings({"name": "gate"}), 0.0)
    nodes = {name: Node(fleet, name) for name in "abc"}
    now = run(list(nodes.values()), 0.0, 10)
    keeper = nodes["a"].report(now).keeper
    assert keeper in ("id-b", "id-c")
    others = [node for node in nodes.values() if node.seat.node_id != keeper]
    now = run(others, now, RECENT + 1)
    assert nodes["a"].report(now).keeper in {"id-b", "id-c"} - {keeper}


def test_a_clock_that_is_an_hour_off_is_named_and_changes_nothing():
    fleet = Assignments(settings({"name": "gate"}), 0.0)
    node = Node(fleet, "a")
    now = run([node], 0.0, 10)
    now = run([node], now, 5, ahead=-3600)
    [worker] = status(fleet, {}, now)["workers"]
    assert worker["state"] == "ready"
    assert worker["problem"] == "its clock is 3600 s behind: set it, as with NTP"
    assert "gate" in node.leases.streams
    now = run([node], now, 5)
    assert status(fleet, {}, now)["workers"][0]["problem"] == ""


def test_reports_that_were_held_up_tell_nothing_of_a_clock():
    fleet = Assignments(settings({"name": "gate"}), 0.0)
    node = Node(fleet, "a")
    now = run([node], 0.0, 10) + 20
    for late in range(20, 0, -1):
        node.report(now, ahead=-late)
    assert status(fleet, {}, now)["workers"][0]["problem"] == ""
    now = run([node], now, 1)
    assert status(fleet, {}, now)["workers"][0]["problem"] == ""


def test_a_node_that_the_cluster_has_given_up_gets_no_stream_though_its_worker_is_heard():
    """Ray ends its processes some seconds after it could be reached again."""
    fleet = Assignments(settings({"name": "gate"}, {"name": "yard"}), 0.0)
    lost, other = Node(fleet, "a"), Node(fleet, "b")
    fleet.members.alive = frozenset({other.seat.node_id})
    now = run([lost, other], 0.0, 10)
    assert sorted(other.leases.streams) == ["gate", "yard"]
    assert [worker["state"] for worker in status(fleet, {}, now)["workers"]] == ["leaving", "ready"]
    with pytest.raises(ConfigError, match="stream gate cannot run on a"):
        fleet.move("gate", "a", now)
    [worker, _] = status(fleet, {}, now + 20)["workers"]
    assert worker["state"] == "silent"
    assert "given up its node" in worker["problem"]


def test_a_node_whose_daemon_cannot_start_says_why_and_its_streams_run_elsewhere():
    fleet = Assignments(settings({"name": "gate"}, {"name": "yard"}), 0.0)
    broken, other = Node(fleet, "a"), Node(fleet, "b")
    problem = "the daemon ended: /models/sam2.pt: no such file"
    for step in range(20):
        broken.report(step / 2, load=None, problem=problem)
        run([other], step / 2, 0.5)
    assert sorted(other.leases.streams) == ["gate", "yard"]
    [worker, _] = status(fleet, {"a/0": broken.seat, "b/0": other.seat}, 10.0)["workers"]
    assert (worker["state"], worker["problem"]) == ("starting", problem)


def test_a_stream_that_fits_nowhere_waits_and_says_so_until_there_is_room():
    fleet = Assignments(settings({"name": "gate"}), 0.0)
    full = {**LOAD, "memory": {"used": 0, "budget": 1 << 20}}
    small = Node(fleet, "small")
    now = run([small], 0.0, GATHER + 5, load=full)
    [stream] = status(fleet, {}, now)["streams"]
    assert stream["state"] == "waiting"
    assert "memory" in stream["reason"]
    run([small], now, 5)
    assert list(small.leases.streams) == ["gate"]


def test_prometheus_finds_daemons_that_are_heard_of():
    fleet = Assignments(settings({"name": "gate"}), 0.0)
    now = run([Node(fleet, "a")], 0.0, 5)
    assert targets(status(fleet, {}, now)) == [
        {"targets": ["127.0.0.1:1"], "labels": {"node": "a", "worker": "a/0"}},
    ]
    assert targets(status(fleet, {}, now + 60)) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 99}'])
def test_a_file_that_is_no_state_is_refused(tmp_path, text):
    (tmp_path / "fleet.json").write_text(text)
    with pytest.raises(ConfigError, match=r"fleet\.state"):
        load(tmp_path / "fleet.json")


def test_a_stream_that_a_former_incarnation_has_stopped_runs_elsewhere():
    fleet = Assignments(settings({"name": "gate"}), 0.0)
    former = Node(fleet, "a")
    now = run([former], 0.0, 10)
    new = Node(fleet, "a", incarnation="second")
    now = run([new], now, 1)
    former.release("gate")
    former.report(now)
    run([new], now, 2)
    assert list(new.leases.streams) == ["gate"]


def test_a_stream_that_every_worker_refuses_says_why():
    fleet = Assignments(settings({"name": "gate"}), 0.0)
    node = Node(fleet, "a")
    now = run([node], 0.0, 10)
    node.refused["gate"] = "no file of that name"
    node.release("gate")
    now = run([node], now, 5)
    [stream] = status(fleet, {}, now)["streams"]
    assert stream["state"] == "waiting"
    assert "no file of that name" in stream["reason"]
