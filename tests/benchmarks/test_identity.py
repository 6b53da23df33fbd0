"""The identity benchmark's metrics are right on cases that can be reckoned by hand."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from stages.testsrc.truth import Truth
from tests.benchmarks.identity import Observed, mask_iou, score
from tests.support.program import PATIENCE

LABELS = ("red circle", "red circle", "blue star")


def mask(left, width=4):
    whole = np.zeros((8, 32), bool)
    whole[2:6, left : left + width] = True
    return whole


MASKS = np.stack([mask(0), mask(10), mask(20)])


def truth(visible=(1.0, 1.0, 1.0), masks=MASKS):
    return Truth(np.arange(1, 4), LABELS, masks, np.zeros((3, 4), np.float32), np.array(visible, np.float32))


def observed(*frames):
    """frames: (truth, ids, labels, masks)."""
    one = Observed()
    for frame in frames:
        one.observe(*frame)
    return one


def test_perfect_tracking_scores_one():
    scores = score([observed(*[(truth(), (7, 8, 9), LABELS, MASKS)] * 10)])
    assert [scores[name] for name in ("idf1", "hota", "mota", "deta", "assa")] == pytest.approx([1] * 5)
    assert (scores["idsw"], scores["switches"]) == (0, 0)


def test_two_ids_that_swap_half_way_cost_one_switch_each_and_half_of_their_frames():
    before, after = (truth(), (7, 8, 9), LABELS, MASKS), (truth(), (8, 7, 9), LABELS, MASKS)
    scores = score([observed(*[before] * 5, *[after] * 5)])
    assert scores["idsw"] == 2
    assert scores["switches"] == pytest.approx(1000 * 2 / 10)
    assert scores["idf1"] == pytest.approx(20 / 30)
    assert scores["mota"] == pytest.approx(1 - 2 / 30)
    assert scores["deta"] == pytest.approx(1)
    assert scores["assa"] == pytest.approx((10 * 1 + 20 * 5 / 15) / 30)


def test_a_return_with_a_new_id_costs_a_switch():
    gone = (truth((0, 1, 1), MASKS * np.array([0, 1, 1], bool)[:, None, None]), (8, 9), LABELS[1:], MASKS[1:])
    scores = score(
        [observed(*[(truth(), (7, 8, 9), LABELS, MASKS)] * 4, gone, *[(truth(), (5, 8, 9), LABELS, MASKS)] * 4)]
    )
    assert scores["idsw"] == 1
    assert scores["idf1"] == pytest.approx(2 * (4 + 9 + 9) / (26 + 26))


def test_a_barely_visible_object_is_neither_missed_nor_is_its_track_wrong():
    barely = truth((0.2, 1, 1))
    with_it, without_it = (barely, (7, 8, 9), LABELS, MASKS), (barely, (8, 9), LABELS[1:], MASKS[1:])
    for frame in (with_it, without_it):
        scores = score([observed(*[(truth(), (7, 8, 9), LABELS, MASKS)] * 2, *[frame] * 2)])
        assert [scores[name] for name in ("idf1", "hota", "mota")] == pytest.approx([1] * 3)


def test_a_track_elsewhere_is_wrong_even_when_an_object_is_barely_visible():
    elsewhere = np.stack([mask(27), *MASKS[1:]])
    scores = score([observed(*[(truth((0.2, 1, 1)), (7, 8, 9), LABELS, elsewhere)] * 2)])
    assert scores["precision"] == pytest.approx(2 / 3)


def test_a_track_of_another_name_matches_nothing():
    scores = score([observed(*[(truth(), (7, 8, 9), ("blue star", *LABELS[1:]), MASKS)] * 3)])
    assert scores["recall"] == pytest.approx(2 / 3)
    assert scores["precision"] == pytest.approx(2 / 3)


def test_an_empty_mask_is_no_detection():
    hidden = MASKS * np.array([0, 1, 1], bool)[:, None, None]
    scores = score([observed(*[(truth((0, 1, 1), hidden), (7, 8, 9), LABELS, hidden)] * 3)])
    assert [scores[name] for name in ("idf1", "hota", "mota")] == pytest.approx([1] * 3)


def test_a_mask_that_covers_less_than_half_is_no_match_at_one_half():
    small = np.stack([mask(0, 1), *MASKS[1:]])
    scores = score([observed(*[(truth(), (7, 8, 9), LABELS, small)] * 4)])
    assert mask_iou(MASKS, small)[0, 0] == pytest.approx(0.25)
    assert scores["recall"] == pytest.approx(2 / 3)
    assert scores["hota"] < 1


def test_sequences_count_by_their_frames_and_share_no_ids():
    good = observed(*[(truth(), (7, 8, 9), LABELS, MASKS)] * 6)
    nothing = observed(*[(truth(), (), (), MASKS[:0])] * 2)
    scores = score([good, nothing])
    assert scores["recall"] == pytest.approx(6 / 8)
    assert scores["idf1"] == pytest.approx(2 * 18 / (18 + 24))
    assert scores["idsw"] == 0


@pytest.mark.process
def test_the_command_tracks_hard_worlds_in_processes_and_prints_their_figures():
    command = [sys.executable, "-m", "tests.benchmarks.identity", "--seeds", "200", "201", "--frames", "9"]
    command += ["--jobs", "1", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"idf1", "hota", "switches", "mota", "idsw", "deta", "assa"} <= report.keys()
    assert 0 < report["hota"] <= 1
    assert done.stderr.count("seed 20") == 2
