"""Costs are learned from reports: by stream, by class of stream, and by kind of worker."""

import json

import pytest

from daemon.fleet.placement.cost import PRIOR_MEMORY, PRIOR_SECONDS, Cost, Costs, Load, StreamLoad, Work

MIB = 1 << 20
HD = Work("sam2", (1280, 720), 30.0)


def test_the_answer_of_the_daemon_is_read():
    answer = {
        "streams": [{"name": "gate", "seconds": 6.0, "share": 0.2, "fps": 24.5, "memory": 900, "waiting": 3}],
        "share": 0.2,
        "memory": {"used": 5000, "budget": 70000},
        "draining": False,
    }
    load = Load.from_json(answer)
    assert load == Load((StreamLoad("gate", 0.2, 24.5, 900),), 5000, 70000)
    assert load.memory == {"gate": 900}


def test_until_something_was_learned_there_is_a_prior():
    assert Costs().expect("gate", HD, "H100") == Cost(30 * PRIOR_SECONDS, PRIOR_MEMORY)
    assert Costs().expect("gate", Work("sam2"), "H100").share == 25 * PRIOR_SECONDS


def test_a_stream_costs_its_time_for_a_picture_at_its_sources_rate():
    """Also where an overloaded engine gives it a third of its pictures."""
    costs = Costs()
    costs.learn(HD, "H100", StreamLoad("gate", 0.06, 10.0, 700 * MIB), 0.0)
    assert costs.expect("gate", HD, "H100") == (pytest.approx(0.18), 700 * MIB)


def test_a_source_without_a_rate_counts_by_what_is_published():
    costs = Costs()
    work = Work("sam2", (1280, 720))
    costs.learn(work, "H100", StreamLoad("gate", 0.06, 12.0, MIB), 0.0)
    assert costs.expect("gate", work, "H100").share == pytest.approx(0.06)


def test_a_streams_own_cost_is_smoothed_over_a_minute():
    """One report among many does little; five minutes later the cost has followed."""
    costs = Costs()
    costs.learn(HD, "H100", StreamLoad("gate", 0.1, 30.0, MIB), 0.0)
    costs.learn(HD, "H100", StreamLoad("gate", 0.3, 30.0, 2 * MIB), 6.0)
    assert costs.expect("gate", HD, "H100") == (pytest.approx(0.119, abs=0.001), 2 * MIB)
    for now in range(12, 306, 6):
        costs.learn(HD, "H100", StreamLoad("gate", 0.3, 30.0, 2 * MIB), now)
    assert costs.expect("gate", HD, "H100").share == pytest.approx(0.3, abs=0.002)


def test_a_stream_without_pictures_keeps_its_cost():
    """Its camera may come back any time."""
    costs = Costs()
    costs.learn(HD, "H100", StreamLoad("gate", 0.1, 30.0, MIB), 0.0)
    costs.learn(HD, "H100", StreamLoad("gate", 0.0, 0.0, MIB), 60.0)
    assert costs.expect("gate", HD, "H100").share == pytest.approx(0.1)


def test_a_new_stream_costs_what_streams_of_its_model_and_size_cost():
    costs = Costs()
    small = Work("sam2", (640, 360), 30.0)
    for name, share in (("gate", 0.1), ("yard", 0.2)):
        costs.learn(HD, "H100", StreamLoad(name, share, 30.0, 500 * MIB), 0.0)
    costs.learn(small, "H100", StreamLoad("dock", 0.03, 30.0, 300 * MIB), 0.0)
    assert costs.expect("new", HD, "H100") == (pytest.approx(0.15), 500 * MIB)
    assert costs.expect("new", Work("sam2", (640, 360), 10.0), "H100") == (pytest.approx(0.01), 300 * MIB)
    assert costs.expect("new", Work("other", (1280, 720), 30.0), "H100").share == 30 * PRIOR_SECONDS


def test_a_size_that_was_never_seen_counts_as_the_nearest():
    costs = Costs()
    costs.learn(HD, "H100", StreamLoad("gate", 0.1, 30.0, MIB), 0.0)
    costs.learn(Work("sam2", (320, 180), 30.0), "H100", StreamLoad("dock", 0.03, 30.0, MIB), 0.0)
    assert costs.expect("new", Work("sam2", (3840, 2160), 30.0), "H100").share == pytest.approx(0.1)
    assert costs.expect("new", Work("sam2", (160, 90), 30.0), "H100").share == pytest.approx(0.03)


def test_another_kind_of_worker_scales_a_streams_own_cost():
    """The T4 takes four times as long for this model; a busy stream stays busier than the mean there, too."""
    costs = Costs()
    for name, share, kind in (("gate", 0.05, "H100"), ("yard", 0.15, "H100"), ("dock", 0.4, "T4")):
        costs.learn(HD, kind, StreamLoad(name, share, 30.0, MIB), 0.0)
    assert costs.expect("yard", HD, "T4").share == pytest.approx(0.6)
    assert costs.expect("gate", HD, "T4").share == pytest.approx(0.2)
    assert costs.expect("gate", HD, "L4").share == pytest.approx(0.125)  # between the two: nobody knows it yet


def test_what_was_learned_is_written_and_read_back():
    costs = Costs()
    costs.learn(HD, "H100", StreamLoad("gate", 0.1, 30.0, MIB), 5000.0)
    again = Costs(json.loads(json.dumps(costs.state())))
    for name in ("gate", "new"):
        assert again.expect(name, HD, "H100") == costs.expect(name, HD, "H100")
    again.learn(HD, "H100", StreamLoad("gate", 0.2, 30.0, MIB), 1.0)
    assert again.expect("gate", HD, "H100").share == pytest.approx(0.2)
