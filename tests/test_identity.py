"""Detections continue, return to, or start tracks; never two of one object."""

import numpy as np

from stages.identity import Plan, assign, plan


def make(overlap, whole, same_prompt=None, likeness=None, between=None, reidentify=True) -> Plan:
    overlap = np.array(overlap, np.float32)
    return plan(
        np.ones_like(overlap, bool) if same_prompt is None else np.array(same_prompt, bool),
        overlap,
        np.zeros_like(overlap) if likeness is None else np.array(likeness, np.float32),
        np.eye(len(whole), dtype=np.float32) if between is None else np.array(between, np.float32),
        np.array(whole, bool),
        reidentify,
    )


def test_the_assignment_is_the_best_in_total_not_the_first():
    pairs = assign(np.array([[0.9, 0.8], [0.85, 0.1]], np.float32), np.ones((2, 2), bool), 0.3)
    assert sorted(pairs) == [(0, 1), (1, 0)]


def test_a_detection_continues_the_track_it_overlaps():
    assert make([[0.1, 0.9], [0.8, 0.0]], [True, True]).matched == [(0, 1), (1, 0)]


def test_prompts_do_not_mix():
    """An object found under another prompt is another track."""
    found = make([[0.9]], [True], same_prompt=[[False]])
    assert (found.matched, found.fresh) == ([], [0])


def test_a_detection_beside_tracks_that_others_continue_starts_one():
    assert make([[0.9], [0.1]], [True]).fresh == [1]


def test_a_track_whose_mask_no_detection_bears_out_follows_the_detection_elsewhere():
    """Its mask has drifted onto something that its prompt does not name."""
    found = make([[0.1]], [True])
    assert (found.reclaimed, found.fresh) == ([(0, 0)], [])


def test_a_track_without_a_mask_is_taken_up_before_one_with_a_mask():
    assert make([[0.0, 0.0]], [True, False], likeness=[[0.9, 0.1]]).reclaimed == [(0, 1)]


def test_a_hidden_track_of_the_prompt_is_taken_up_again_and_the_more_alike_one_first():
    found = make([[0.0, 0.0]], [False, False], likeness=[[0.2, 0.7]])
    assert (found.reclaimed, found.fresh) == ([(0, 1)], [])


def test_reidentification_can_be_switched_off():
    found = make([[0.0]], [False], likeness=[[0.9]], reidentify=False)
    assert (found.reclaimed, found.fresh) == ([], [0])


def test_a_track_that_slid_onto_anothers_object_gets_its_own_back():
    """Two tracks share one object; the detection elsewhere belongs to the one that no detection holds."""
    found = make([[0.9, 0.8], [0.0, 0.0]], [True, True], between=[[1, 0.9], [0.9, 1]])
    assert found.matched == [(0, 0)]
    assert found.reclaimed == [(1, 1)]


def test_a_track_on_anothers_object_without_a_detection_of_its_own_is_displaced():
    found = make([[0.9, 0.8]], [True, True], between=[[1, 0.9], [0.9, 1]])
    assert (found.matched, found.displaced) == ([(0, 0)], [1])


def test_a_second_detection_of_a_held_object_starts_nothing():
    found = make([[0.95], [0.7]], [True])
    assert (found.matched, found.fresh) == ([(0, 0)], [])


def test_nothing_on_either_side_is_no_plan():
    assert make(np.zeros((0, 0)), []) == Plan()
    assert make(np.zeros((2, 0)), []).fresh == [0, 1]
