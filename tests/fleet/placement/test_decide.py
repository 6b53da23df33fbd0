"""Streams go where their expected cost fits best, wait with a reason, and move only where that helps."""

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.fleet.placement.cost import Costs, Load, StreamLoad, Work
from daemon.fleet.placement.decide import decide, place
from daemon.fleet.placement.decisions import Move, Place, Wait
from daemon.fleet.placement.room import Room
from daemon.fleet.placement.state import Limits, Stream, Worker

GIB = 1 << 30
NOW = 1000.0


def worker(name: str, *streams: StreamLoad, budget: int = 40, **rest) -> Worker:
    """It uses 2 GiB beside what its streams do; on a node of its own name."""
    used = 2 * GIB + sum(stream.memory for stream in streams)
    return replace(Worker(name, f"node-{name}", load=Load(streams, used, budget * GIB)), **rest)


def knowing(shares: dict[str, float], gib: float = 1.0, kind: str = "") -> Costs:
    """Costs of streams that were measured: a share of a worker's time at 20 pictures a second."""
    costs = Costs()
    for name, share in shares.items():
        costs.learn(Work("m", (1280, 720), 20.0), kind, StreamLoad(name, share, 20.0, int(gib * GIB)), 0.0)
    return costs


def stream(name: str, **rest) -> Stream:
    return replace(Stream(name, Work("m", (1280, 720), 20.0)), **rest)


def test_a_stream_goes_to_the_worker_that_stays_least_full():
    costs = knowing({"gate": 0.2, "yard": 0.3, "dock": 0.25})
    running = [stream("gate", worker="a"), stream("yard", worker="b")]
    assert decide([worker("a"), worker("b")], [*running, stream("dock")], costs, NOW) == [Place("dock", "a")]


def test_the_fuller_of_time_and_memory_counts():
    """Worker a has time left and little memory, worker b the reverse of it, but less of that."""
    costs = knowing({"gate": 0.3, "dock": 0.1})
    workers = [worker("a", budget=4), worker("b", budget=40)]
    assert decide(workers, [stream("gate", worker="b"), stream("dock")], costs, NOW) == [Place("dock", "b")]


def test_streams_that_are_placed_together_spread():
    """Each placement counts for the next one, before any report does."""
    costs = knowing({f"camera-{i}": 0.2 for i in range(6)})
    decisions = decide([worker(name) for name in "abc"], [stream(f"camera-{i}") for i in range(6)], costs, NOW)
    assert sorted(decision.worker for decision in decisions) == ["a", "a", "b", "b", "c", "c"]


def test_the_heaviest_is_placed_first_and_the_rest_waits_with_a_reason():
    costs = knowing({"gate": 0.5, "yard": 0.5, "dock": 0.6})
    waiting = [stream("gate"), stream("yard"), stream("dock", weight=3)]
    decisions = decide([worker("a")], waiting, costs, NOW)
    assert decisions[0] == Place("dock", "a")
    short = "it needs 50.0% of a worker's time; the worker with the most left, a, has 35.0%"
    assert decisions[1:] == [Wait("gate", short), Wait("yard", short)]
    freed = decide([worker("a")], waiting[:2], costs, NOW)
    assert freed[0] == Place("gate", "a")


def test_a_stream_that_lost_its_worker_may_strain_another_one():
    """Being watched with fewer keyframes is better than not at all; a new stream waits. Memory has no such limit."""
    costs = knowing({"gate": 0.8, "yard": 0.4, "dock": 0.4, "shop": 0.4}, gib=4)
    here, lost = stream("gate", worker="a"), [stream("yard", ran=True), stream("dock", ran=True)]
    new = stream("shop", weight=2)
    assert [type(one) for one in decide([worker("a")], [here, new, *lost], costs, NOW)] == [Wait, Place, Wait]
    assert [type(one) for one in decide([worker("a", budget=9)], [here, *lost], costs, NOW)] == [Wait, Wait]
    back = [replace(one, worker="a") for one in (here, *lost[:1])]
    assert decide([worker("a"), worker("b")], back, costs, NOW) == [Move("gate", "a", "b", "a is over its limit")]


def test_among_equals_the_one_that_waits_longest_is_first():
    costs = knowing({"gate": 0.5, "yard": 0.5})
    decisions = decide([worker("a")], [stream("gate", since=7), stream("yard", since=3)], costs, NOW)
    assert decisions[0] == Place("yard", "a")


def test_memory_is_never_given_beyond_the_budget():
    """What streams will need counts, where that is more than what they are reported to use so far."""
    costs = knowing({"gate": 0.1, "yard": 0.1, "dock": 0.1}, gib=5)
    small = worker("a", StreamLoad("gate", 0.1, 20, GIB), budget=14)
    here = [stream("gate", worker="a"), stream("yard"), stream("dock")]
    assert decide([small], here, costs, NOW) == [
        Place("dock", "a"),
        Wait("yard", "it needs 5.00 GiB of memory; the worker with the most left, a, has 2.00 GiB"),
    ]


def test_a_stream_with_a_site_waits_for_a_node_with_that_label():
    costs = knowing({"gate": 0.1})
    north, south = worker("a", labels={"site": "north"}), worker("b", labels={"site": "south"})
    asked = stream("gate", site="south")
    assert decide([north, south], [asked], costs, NOW) == [Place("gate", "b")]
    assert decide([north], [asked], costs, NOW) == [Wait("gate", 'there is no worker with the label site = "south"')]
    gone = replace(south, draining=True)
    reason = 'every worker with the label site = "south" is draining'
    assert decide([north, gone], [asked], costs, NOW) == [Wait("gate", reason)]


def test_a_stream_waits_where_there_is_no_worker_or_none_has_reported():
    asked = [stream("gate")]
    assert decide([], asked, Costs(), NOW) == [Wait("gate", "there is no worker")]
    silent = [replace(worker("a"), load=None)]
    assert decide(silent, asked, Costs(), NOW) == [Wait("gate", "no worker has reported its load yet")]


def test_a_worker_that_refused_a_stream_is_left_out_for_a_while():
    costs = knowing({"gate": 0.1, "yard": 0.2})
    workers = [worker("a"), worker("b")]
    refused = stream("gate", avoid={"a": NOW + 30})
    assert decide(workers, [refused, stream("yard", worker="b")], costs, NOW) == [Place("gate", "b")]
    reason = "every worker with room for it refused it; the next try is in 30 s"
    assert decide(workers[:1], [refused], costs, NOW) == [Wait("gate", reason)]
    assert decide(workers[:1], [refused], costs, NOW + 30) == [Place("gate", "a")]


def test_neither_time_nor_memory_alone_is_short():
    costs = knowing({"gate": 0.5, "yard": 0.5}, gib=4)
    workers = [worker("a", budget=10), worker("b", budget=5)]
    decisions = decide(workers, [stream("gate", worker="a"), stream("yard")], costs, NOW)
    reason = "it needs 50.0% of a worker's time and 4.00 GiB of memory; no worker has both left"
    assert decisions == [Wait("yard", reason)]


def test_a_stream_on_a_worker_that_is_not_heard_is_left_alone():
    """Its lease must lapse first."""
    assert decide([worker("a")], [stream("gate", worker="dead")], knowing({"gate": 0.1}), NOW) == []


def test_a_worker_over_its_limit_hands_on_what_is_cheapest_to_move():
    """The cheapest of those that are enough: a little stream would not help, and a big one carries more bytes."""
    costs = knowing({"little": 0.01, "gate": 0.3, "yard": 0.3, "dock": 0.4})
    sizes = {"little": 0, "gate": 30 << 20, "yard": 20 << 20, "dock": 60 << 20}
    here = [stream(name, worker="a", snapshot=size) for name, size in sizes.items()]
    why = "a is over its limit"
    assert decide([worker("a"), worker("b")], here, costs, NOW) == [Move("yard", "a", "b", why)]


def test_a_worker_near_its_limit_hands_on_nothing_and_takes_over_nothing():
    """It takes a stream that has no worker at all."""
    costs = knowing({"gate": 0.5, "yard": 0.4, "dock": 0.02, "shop": 0.5, "hall": 0.48})
    near = [stream("gate", worker="a"), stream("yard", worker="a")]
    over = [stream("shop", worker="b"), stream("hall", worker="b")]
    little = stream("dock", worker="b")
    workers = [worker("a"), worker("b")]
    assert decide(workers, [*near, *over, little], costs, NOW) == []
    assert decide(workers, [*near, *over, replace(little, worker=None)], costs, NOW) == [Place("dock", "a")]


def test_a_stream_that_was_moved_or_placed_within_a_minute_stays():
    costs = knowing({"gate": 0.5, "yard": 0.5})
    workers = [worker("a"), worker("b")]
    fresh = [stream("gate", worker="a", moved=NOW - 59), stream("yard", worker="a", since=NOW - 59)]
    assert decide(workers, fresh, costs, NOW) == []
    assert decide(workers, fresh, costs, NOW + 1) == [Move("gate", "a", "b", "a is over its limit")]


def test_a_move_that_does_not_help_is_left_undone():
    """One stream is too much for any worker: it would be the same elsewhere."""
    costs = knowing({"gate": 1.2})
    assert decide([worker("a"), worker("b")], [stream("gate", worker="a")], costs, NOW) == []


def test_memory_beyond_the_budget_is_handed_on_too():
    costs = knowing({"gate": 0.1, "yard": 0.1}, gib=6)
    full = worker("a", StreamLoad("gate", 0.1, 20, 6 * GIB), StreamLoad("yard", 0.1, 20, 6 * GIB), budget=13)
    here = [stream("gate", worker="a"), stream("yard", worker="a")]
    assert decide([full, worker("b")], here, costs, NOW) == [Move("gate", "a", "b", "a is over its limit")]


def test_a_stream_that_is_being_moved_needs_room_at_both_ends_and_is_not_moved_again():
    costs = knowing({"gate": 0.5, "yard": 0.5, "dock": 0.5})
    workers = [worker("a"), worker("b")]
    here = [stream("gate", worker="a", target="b"), stream("yard", worker="a")]
    assert [type(one) for one in decide(workers, [*here, stream("dock")], costs, NOW)] == [Wait]


def test_a_draining_worker_is_emptied_a_few_streams_at_a_time():
    """The heaviest first, also those that came a moment ago."""
    names = [f"camera-{i}" for i in range(5)]
    costs = knowing(dict.fromkeys(names, 0.1))
    workers = [worker("a", draining=True), worker("b"), worker("c")]
    here = [stream(name, worker="a", since=NOW, weight=float(i)) for i, name in enumerate(names)]
    first = decide(workers, here, costs, NOW)
    assert first == [Move("camera-4", "a", "b", "a is draining"), Move("camera-3", "a", "c", "a is draining")]
    under_way = [replace(one, target="b" if one.name == "camera-4" else "c") for one in here[3:]]
    assert decide(workers, [*here[:3], *under_way], costs, NOW) == []


def test_a_stream_that_cannot_leave_a_draining_worker_says_so():
    costs = knowing({"gate": 0.7, "yard": 0.9})
    workers = [worker("a", draining=True), worker("b")]
    decisions = decide(workers, [stream("gate", worker="a"), stream("yard", worker="b")], costs, NOW)
    reason = "it needs 70.0% of a worker's time; the worker with the most left, b, has 5.0%"
    assert decisions == [Wait("gate", f"it stays, although a is draining: {reason}")]


def test_a_stream_leaves_a_node_that_has_not_its_label():
    costs = knowing({"gate": 0.1})
    workers = [worker("a", labels={"site": "north"}), worker("b", labels={"site": "south"})]
    moved = decide(workers, [stream("gate", site="south", worker="a")], costs, NOW)
    assert moved == [Move("gate", "a", "b", 'a has not the label site = "south"')]


def test_a_worker_of_another_kind_is_filled_by_what_the_stream_costs_there():
    """The slow kind takes three times as long for the model: the stream fits on the fast one alone."""
    costs = knowing({"gate": 0.3}, kind="fast")
    costs.learn(Work("m", (1280, 720), 20.0), "slow", StreamLoad("old", 0.99, 20.0, GIB), 0.0)
    slow, fast = worker("a", kind="slow"), worker("b", kind="fast")
    assert decide([slow, fast], [stream("gate")], costs, NOW) == [Place("gate", "b")]
    reason = "it needs 99.0% of a worker's time; the worker with the most left, a, has 95.0%"
    assert decide([slow], [stream("gate")], costs, NOW) == [Wait("gate", reason)]


def test_a_node_can_be_asked_for():
    """`maskcast fleet move`: the worker of that node where the stream fits best, or why there is none."""
    costs = knowing({"gate": 0.4, "yard": 0.6})
    workers = [worker("a"), worker("b"), worker("c")]
    streams = [stream("gate", worker="a"), stream("yard", worker="b")]
    room = Room(workers, streams, costs, NOW, Limits())
    assert place(room, streams[0], "node-c") == Place("gate", "c")
    short = "it needs 40.0% of a worker's time; the worker with the most left, b, has 35.0%"
    assert place(room, streams[0], "node-b") == Wait("gate", short)
    assert place(room, streams[0], "nowhere") == Wait("gate", "there is no worker")


@st.composite
def fleets(draw):
    """Any fleet: some workers full, silent or draining, some streams waiting, moving, or on workers not heard."""
    random = Random(draw(st.integers(0, 2**32)))
    costs = Costs()
    names = [f"w{i}" for i in range(random.randint(0, 6))]
    sites = [None, "north", "south"]
    streams = []
    for i in range(random.randint(0, 30)):
        one = stream(
            f"s{i}",
            weight=random.choice([1, 2]),
            site=random.choice(sites),
            worker=random.choice([*names, *names, None, "dead"]),
            since=random.uniform(900, 1000),
            moved=random.choice([None, random.uniform(900, 1000)]),
            snapshot=random.randint(0, 50) << 20,
            ran=random.random() < 0.5,
        )
        if one.worker in names and random.random() < 0.1:
            one = replace(one, target=random.choice(names))
        streams.append(one)
        if random.random() < 0.8:
            load = StreamLoad(one.name, random.uniform(0.01, 0.5), 20.0, random.randint(1, 4) * GIB)
            costs.learn(one.work, random.choice(["fast", "slow"]), load, 0.0)
    workers = []
    for name in names:
        loads = tuple(StreamLoad(s.name, 0.1, 20.0, random.randint(0, 2) * GIB) for s in streams if s.worker == name)
        one = worker(name, *loads, budget=random.randint(10, 40), draining=random.random() < 0.2)
        labels = {"site": random.choice(["north", "south"])}
        loaded = one.load if random.random() < 0.9 else None
        workers.append(replace(one, labels=labels, kind=random.choice(["fast", "slow"]), load=loaded))
    return workers, streams, costs


@settings(max_examples=200, deadline=None)
@given(fleets(), st.randoms(use_true_random=False))
def test_decisions_keep_every_rule_and_do_not_depend_on_order(fleet, random):
    workers, streams, costs = fleet
    decisions = decide(workers, streams, costs, NOW)
    by_name = {one.name: one for one in workers}
    draining = {one.name for one in workers if one.draining}
    asked = {one.name: one for one in streams}
    busy = [name for one in streams if one.target is not None for name in (one.worker, one.target)]
    assert len({decision.stream for decision in decisions}) == len(decisions)
    assert {one.name for one in streams if one.worker is None} <= {decision.stream for decision in decisions}
    for decision in decisions:
        if isinstance(decision, Wait):
            assert decision.reason
            continue
        one = asked[decision.stream]
        target = by_name[decision.worker if isinstance(decision, Place) else decision.target]
        assert target.load is not None
        assert not target.draining
        assert one.site in (None, target.labels["site"])
        if isinstance(decision, Move):
            assert one.worker == decision.source != decision.target
            assert one.target is None
            assert one.moved is None or NOW - one.moved >= 60
            busy += [decision.source, decision.target]
    moving = {
        name for decision in decisions if isinstance(decision, Move) for name in (decision.source, decision.target)
    }
    assert all(busy.count(name) <= 2 for name in moving)
    for name in {d.worker if isinstance(d, Place) else d.target for d in decisions if not isinstance(d, Wait)}:
        assert_it_fits(by_name[name], streams, decisions, costs, draining)
    mixed = random.sample(workers, len(workers)), random.sample(streams, len(streams))
    assert decide(*mixed, costs, NOW) == decisions


def assert_it_fits(target, streams, decisions, costs, draining):
    """All that is and comes there is within the budget, and within the limit of time that holds for what comes."""
    comes = {decision.stream for decision in decisions if getattr(decision, "worker", None) == target.name}
    comes |= {decision.stream for decision in decisions if getattr(decision, "target", None) == target.name}
    there = [one for one in streams if target.name in (one.worker, one.target) or one.name in comes]
    expected = {one.name: costs.expect(one.name, one.work, target.kind) for one in there}
    other = target.load.used - sum(target.load.memory.get(name, 0) for name in expected)
    taken = sum(max(cost.memory, target.load.memory.get(name, 0)) for name, cost in expected.items())
    assert other + taken <= target.load.budget
    strained = any(one.ran or one.worker in draining for one in there if one.name in comes)
    assert sum(cost.share for cost in expected.values()) <= (Limits().strained if strained else Limits().full) + 1e-9


@settings(max_examples=100, deadline=None)
@given(fleets())
def test_a_fleet_whose_loads_stay_comes_to_rest(fleet):
    """No stream goes to and fro: after a while nothing is decided any more but waiting."""
    workers, streams, costs = fleet
    now, moves = NOW, 0
    for _ in range(40):
        now += 60
        at = {one.name: one for one in streams}
        decisions = [one for one in decide(workers, list(at.values()), costs, now) if not isinstance(one, Wait)]
        for decision in decisions:
            target = decision.worker if isinstance(decision, Place) else decision.target
            moved = now if isinstance(decision, Move) else at[decision.stream].moved
            at[decision.stream] = replace(at[decision.stream], worker=target, target=None, since=now, moved=moved)
            moves += isinstance(decision, Move)
        streams = [replace(one, worker=one.target or one.worker, target=None) for one in at.values()]
    assert decisions == []
    assert moves <= len(streams)
