"""At most one worker holds a valid lease of a stream, whatever happens to messages, clocks and processes."""

import json
from itertools import pairwise
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from daemon.fleet.leases import held as held_module
from daemon.fleet.leases import table as table_module
from daemon.fleet.leases.held import Held, HeldLeases
from daemon.fleet.leases.renewal import (
    ABANDONED,
    ANSWER,
    AWAY,
    EXPIRY,
    LEASE,
    QUIET,
    RECENT,
    RENEW,
    STEADY,
    Renewal,
    Word,
)
from daemon.fleet.leases.table import Lapsed, LeaseTable
from tests.fleet.lease_world import World

many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@many
@given(st.integers(0, 2**32))
def test_never_do_two_workers_hold_a_lease_of_a_stream_and_fences_rise_with_each_grant(seed):
    """Lost, late and doubled messages, clocks hours apart and 1 % off, processes killed, stopped, cut off, doubled."""
    world = World(Random(seed), workers=2 + seed % 4, faults=15)
    world.run(90)
    assume(world.given)  # once in some thousand worlds nobody could ever be asked
    assert all(before < after for before, after in pairwise(fence for _, _, _, fence in world.given))


@many
@given(st.integers(0, 2**32), st.floats(8, 12))
def test_a_dead_workers_streams_are_given_to_another_within_ten_seconds(seed, death):
    world = World(Random(seed), faults=0)
    world.run(death)
    dead = next(process for process in world.processes if process.publishes(death))
    orphans = dead.publishes(death)
    dead.runs = False
    world.run(death + 10)
    alive = [process.publishes(world.now) for process in world.processes]
    for stream, fence in orphans.items():
        assert [streams[stream] > fence for streams in alive if stream in streams] == [True]


@many
@given(st.integers(0, 2**32), st.integers(1, 5), st.floats(8, 12))
def test_no_stream_stops_while_the_controller_is_away(seed, workers, death):
    world = World(Random(seed), workers, faults=0)
    world.run(death)
    publishing = world.publishing()
    assert len(publishing) == world.streams
    world.leave(30)
    while world.now < death + 40:
        world.run(world.now + 0.1)
        assert world.publishing() == publishing


@many
@given(st.integers(0, 2**32), st.floats(8, 12), st.booleans())
def test_the_side_of_a_parted_network_that_has_most_witnesses_goes_on(seed, parting, few_with_controller):
    world = World(Random(seed), 5, faults=0)
    world.run(parting)
    before, few = world.publishing(), world.processes[:2]
    world.part(60, {process.worker for process in few}, few_with_controller)
    world.run(parting + 10)
    if few_with_controller:  # it hears two of five witnesses, and moves nothing
        assert world.publishing() == before
    else:
        assert not any(process.publishes(world.now) for process in few)
        assert world.publishing().keys() == before.keys()


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (table_module, "EXPIRY", LEASE * 0.9),
        (table_module, "ABANDONED", 0.0),  # it asks no witness
        (table_module, "GAP", 8.0),
        (held_module, "LEASE", EXPIRY + 1),
    ],
)
def test_the_world_finds_two_holders_where_a_rule_is_broken(monkeypatch, where, name, value):
    """So the tests above can fail."""
    monkeypatch.setattr(where, name, value)

    def worlds():
        for seed in range(200):
            World(Random(seed), faults=15).run(90)

    with pytest.raises(AssertionError, match="camera"):
        worlds()


NOW = 100.0  # a moment at which the table below may give streams away


@pytest.fixture
def table() -> LeaseTable:
    """Worker a holds gate, worker b nothing; both were heard just now."""
    table = LeaseTable(NOW - 2 * EXPIRY, first=7)
    for worker in "ab":
        table.renew(Renewal(worker, f"{worker}1", 1), NOW)
    assert table.grant("gate", "a", NOW) == 7
    return table


def test_a_worker_hears_of_its_streams_by_renewing(table):
    assert table.renew(Renewal("a", "a1", 2), NOW + RENEW).fences == {"gate": 7}
    assert table.renew(Renewal("b", "b1", 2), NOW + RENEW).fences == {}


def test_a_lease_holds_from_the_moment_at_which_the_worker_asked(table):
    """Not from the answer's arrival, and by the worker's own clock."""
    worker = HeldLeases("a", "a1")
    worker.renewal(5000.0)
    renewal = worker.renewal(5000.5)
    worker.accept(table.renew(renewal, NOW + 1), 5000.9)
    assert worker.streams == {"gate": Held(7, 5000.5 + LEASE)}


def test_a_stream_lapses_after_the_last_renewal_received(table):
    table.renew(Renewal("a", "a1", 2), NOW + 2)
    assert table.expire(NOW + 2 + EXPIRY) == []
    assert not table.free("gate", NOW + 2 + EXPIRY)
    assert table.expire(NOW + 2.1 + EXPIRY) == [Lapsed("gate", "a", 7)]
    assert table.free("gate", NOW + 2.1 + EXPIRY)


def test_a_worker_is_heard_while_its_renewals_come(table):
    assert table.hears("a", NOW + EXPIRY)
    assert not table.hears("a", NOW + EXPIRY + 0.1)
    assert table.hears("a", NOW + RECENT, within=RECENT)
    assert not table.hears("a", NOW + RECENT + 0.1, within=RECENT)
    assert not table.hears("nobody", NOW)


def test_a_renewal_that_comes_twice_or_after_a_later_one_renews_nothing(table):
    table.renew(Renewal("a", "a1", 3), NOW + 1)
    for sequence in (3, 2):
        assert table.renew(Renewal("a", "a1", sequence), NOW + 4).fences == {"gate": 7}
    assert table.expire(NOW + 1.1 + EXPIRY) == [Lapsed("gate", "a", 7)]


def test_a_stream_that_its_worker_never_asked_for_lapses_too(table):
    table.renew(Renewal("b", "b1", 2), NOW + 6)
    assert [lapsed.stream for lapsed in table.expire(NOW + 6)] == ["gate"]


def test_a_worker_that_comes_back_after_it_was_given_up_has_no_streams(table):
    worker = HeldLeases("a", "a1")
    worker.renewal(0)
    worker.accept(table.renew(worker.renewal(0.5), NOW + 0.5), 0.5)
    assert set(worker.streams) == {"gate"}
    table.expire(NOW + 9)
    table.renew(Renewal("b", "b1", 2), NOW + 9)
    assert table.grant("gate", "b", NOW + 9) == 8
    worker.accept(table.renew(worker.renewal(9), NOW + 9), 9)
    assert worker.streams == {}
    assert not worker.retired
    assert table.hears("a", NOW + 9)


def test_a_released_stream_is_free_at_once_and_only_under_its_fence(table):
    table.renew(Renewal("a", "a1", 2, released={"gate": 6}), NOW + 1)
    assert table.fence("gate") == 7
    table.renew(Renewal("a", "a1", 3, released={"gate": 7}), NOW + 1)
    assert table.fence("gate") is None
    assert table.grant("gate", "b", NOW + 1) == 8
    table.renew(Renewal("a", "a1", 3, released={"gate": 7}), NOW + 2)
    assert table.fence("gate") == 8


def test_a_late_answer_does_not_bring_a_released_stream_back(table):
    worker = HeldLeases("a", "a1")
    worker.renewal(0)
    worker.accept(table.renew(worker.renewal(0.5), NOW + 0.5), 0.5)
    late = table.renew(worker.renewal(1), NOW + 1)
    worker.release("gate", 7)
    worker.accept(late, 1.2)
    assert worker.streams == {}
    renewal = worker.renewal(1.5)
    assert renewal.released == {"gate": 7}
    worker.accept(table.renew(renewal, NOW + 1.5), 1.5)
    assert worker.renewal(2).released == {}


def test_a_release_is_told_until_it_is_answered(table):
    worker = HeldLeases("a", "a1")
    worker.renewal(0)
    worker.accept(table.renew(worker.renewal(0.5), NOW + 0.5), 0.5)
    worker.release("gate", 7)
    lost = [worker.renewal(1), worker.renewal(1.5)]
    assert [one.released for one in lost] == [{"gate": 7}] * 2
    worker.accept(table.renew(lost[1], NOW + 1.5), 1.5)
    assert table.free("gate", NOW + 1.5)


def test_answers_out_of_order_change_nothing(table):
    """The answer to the newest renewal counts."""
    worker = HeldLeases("a", "a1")
    worker.renewal(0)
    older = table.renew(worker.renewal(0.5), NOW + 0.5)
    newer = table.renew(worker.renewal(1), NOW + 1)
    worker.accept(newer, 1.2)
    worker.accept(older, 1.2)
    worker.accept(newer, 1.2)
    assert worker.streams == {"gate": Held(7, 1 + LEASE)}


def test_a_worker_that_starts_again_has_a_dead_workers_streams_to_wait_for(table):
    """Its former process may still run elsewhere; this one's renewals do not count for it."""
    assert table.renew(Renewal("a", "a2", 1), NOW + 1).fences == {}
    assert not table.free("gate", NOW + 1)
    table.renew(Renewal("a", "a2", 2), NOW + 3)
    assert table.expire(NOW + 0.1 + EXPIRY) == [Lapsed("gate", "a", 7)]
    assert table.grant("gate", "a", NOW + 4) == 8
    assert table.renew(Renewal("a", "a2", 3), NOW + 4).fences == {"gate": 8}


def test_a_new_incarnation_frees_at_once_what_it_has_stopped(table):
    worker = HeldLeases("a", "a2")
    worker.release("gate", 7)
    worker.accept(table.renew(worker.renewal(0), NOW + 1), 0)
    assert table.free("gate", NOW + 1)


def test_a_former_incarnation_is_told_to_end(table):
    """Also by a table that was written and read back, and its renewals, late as they are, renew nothing."""
    table.renew(Renewal("a", "a2", 1), NOW + 1)
    former = HeldLeases("a", "a1")
    former.accept(table.renew(former.renewal(0), NOW + 2), 0)
    assert former.retired
    assert former.streams == {}
    again = LeaseTable(NOW, json.loads(json.dumps(table.state())))
    assert again.renew(Renewal("a", "a1", 9), NOW + EXPIRY).fences is None
    assert again.expire(NOW + 0.1 + EXPIRY) == [Lapsed("gate", "a", 7)]


def test_after_a_restart_every_lease_counts_as_just_renewed(table):
    """The new controller's clock may be another machine's."""
    again = LeaseTable(5.0, json.loads(json.dumps(table.state())))
    assert again.renew(Renewal("a", "a1", 40), 5.1).fences == {"gate": 7}
    assert again.hears("b", 5 + EXPIRY)
    assert again.expire(5 + EXPIRY) == []
    assert again.expire(5.2 + EXPIRY) == [Lapsed("gate", "a", 7)]
    assert again.grant("gate", "b", 5.2 + EXPIRY) > 7


def test_nothing_is_free_in_the_first_seconds_after_a_start():
    """Workers of a controller whose state is lost may hold leases; its fences are passed as they are heard of."""
    table = LeaseTable(NOW)
    table.renew(Renewal("a", "a1", 5, held={"gate": 300}), NOW + 1)
    assert not table.free("gate", NOW + EXPIRY)
    with pytest.raises(ValueError, match="stream gate is not free: a worker may hold its lease"):
        table.grant("gate", "a", NOW + EXPIRY)
    assert table.grant("gate", "a", NOW + 0.1 + EXPIRY) == 301


def test_a_stream_is_given_only_when_free_and_to_a_worker_that_was_heard(table):
    with pytest.raises(ValueError, match="stream gate is not free"):
        table.grant("gate", "b", NOW)
    with pytest.raises(ValueError, match="worker c has not renewed yet"):
        table.grant("yard", "c", NOW)


def test_an_answer_that_is_late_counts_as_none(table):
    worker = HeldLeases("a", "a1")
    worker.renewal(0)
    worker.accept(table.renew(worker.renewal(0.5), NOW + 0.5), 0.6 + ANSWER)
    assert worker.streams == {}
    assert worker.word(0.6 + ANSWER).quiet


def alone(table: LeaseTable) -> HeldLeases:
    """Worker a, which holds gate and has the witnesses a and b, its last answer from second 1 of its clock."""
    table.choose_witnesses({"a": "north", "b": "south"}, NOW)
    worker = HeldLeases("a", "a1")
    worker.renewal(0)
    for asked in (0.5, 1.0):
        worker.accept(table.renew(worker.renewal(asked), NOW + asked), asked)
    assert worker.witnesses == {"a": "a1", "b": "b1"}
    return worker


def test_leases_last_while_most_witnesses_do_not_hear_the_controller(table):
    worker = alone(table)
    assert not worker.word(1 + QUIET - 0.1).quiet
    for asked in (1 + QUIET, 3 + QUIET, 5 + QUIET):
        assert worker.prolong([Word("b", "b1", True)], asked, asked + 0.1)
        assert worker.streams == {"gate": Held(7, asked + LEASE)}


@pytest.mark.parametrize(
    "words",
    [
        [],
        [Word("b", "b1", False)],
        [Word("b", "b2", True)],  # another process has its name
        [Word("a", "a1", True)],
        [Word("c", "c1", True)],
    ],
)
def test_leases_end_where_half_of_the_witnesses_or_more_may_hear_the_controller(table, words):
    worker = alone(table)
    assert not worker.prolong(words, 1 + QUIET, 1 + QUIET)
    assert worker.streams == {"gate": Held(7, 1 + LEASE)}


def test_what_has_lapsed_does_not_come_back_without_the_controller(table):
    worker = alone(table)
    asked = 1 + LEASE + 0.1
    assert worker.prolong([Word("b", "b1", True)], asked, asked)
    assert worker.streams == {"gate": Held(7, 1 + LEASE)}


def test_words_that_are_late_count_as_none_and_so_do_those_after_the_longest_absence(table):
    worker = alone(table)
    words = [Word("b", "b1", True)]
    assert not worker.prolong(words, 1 + QUIET, 1.1 + QUIET + ANSWER)
    assert not worker.prolong(words, 1.1 + AWAY, 1.1 + AWAY)


def hear(table: LeaseTable, workers: str, start: float, seconds: float) -> None:
    """Renewals of ``workers`` twice a second, each with the stamp of the answer before."""
    stamps = {}
    for step in range(int(2 * seconds)):
        now = start + step / 2
        for worker in workers:
            renewal = Renewal(worker, f"{worker}1", 1000 + int(2 * now), answered=stamps.get(worker))
            stamps[worker] = table.renew(renewal, now).stamp


def test_streams_are_taken_from_a_silent_worker_only_while_half_of_its_witnesses_are_heard(table):
    table.renew(Renewal("c", "c1", 1), NOW)
    table.choose_witnesses({"a": "north", "b": "south", "c": "west"}, NOW)
    hear(table, "abc", NOW, 20)
    hear(table, "b", NOW + 20, 20)
    assert table.expire(NOW + 40) == []
    assert not table.free("gate", NOW + 40)
    hear(table, "bc", NOW + 40, STEADY)
    assert table.expire(NOW + 39.9 + STEADY) == []
    hear(table, "bc", NOW + 40 + STEADY, 2)
    assert table.expire(NOW + 41.5 + STEADY) == [Lapsed("gate", "a", 7)]


def test_streams_of_a_worker_whose_witnesses_are_all_gone_are_taken_in_the_end(table):
    table.choose_witnesses({"a": "north"}, NOW)
    hear(table, "ab", NOW, 2)
    hear(table, "b", NOW + 2, 20)
    assert table.expire(NOW + 22) == []
    assert table.expire(NOW + 2 + ABANDONED) == [Lapsed("gate", "a", 7)]


def test_a_worker_keeps_the_witnesses_that_it_may_have_across_restarts(table):
    """The answer with the new ones may have been lost."""
    table.choose_witnesses({"a": "north"}, NOW)
    hear(table, "a", NOW, 2)
    table.choose_witnesses({"a": "north", "b": "south"}, NOW + 2)
    table.renew(Renewal("a", "a1", 5000), NOW + 2)
    again = LeaseTable(NOW + 2, json.loads(json.dumps(table.state())))
    hear(again, "b", NOW + 2, 20)
    assert again.expire(NOW + 22) == []


def test_witnesses_are_on_nodes_of_their_own_and_change_only_when_they_are_lost(table):
    nodes = {name: name for name in "abcdefgh"} | {"b": "a"}
    hear(table, "abcdefgh", NOW, 1)
    table.choose_witnesses(nodes, NOW + 1)
    assert list(table.state()["witnesses"]) == ["a", "c", "d", "e", "f"]
    table.renew(Renewal("d", "d2", 1), NOW + 2)
    table.choose_witnesses(nodes, NOW + 2)
    assert table.state()["witnesses"]["d"] == "d2"
    hear(table, "abefgh", NOW + 2, 20)
    table.choose_witnesses(nodes, NOW + 22)
    assert list(table.state()["witnesses"]) == ["a", "e", "f", "g", "h"]


def test_a_table_does_not_grow_with_the_incarnations_of_its_workers(table):
    for i in range(500):
        table.renew(Renewal("b", f"b-{i}", 1), NOW + i)
        table.expire(NOW + i)
    assert len(json.dumps(table.state())) < 1000
