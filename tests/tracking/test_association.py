"""Detections continue, return to, recall or start tracks; never two of one object."""

import numpy as np

from stages.tracking.association import Evidence, Plan, assign, plan


def make(overlap, whole=None, same_prompt=None, likeness=None, between=None, near=None, reidentify=True) -> Plan:
    """Columns of ``likeness`` beyond those of ``overlap`` are tracks that have ended."""
    overlap = np.array(overlap, np.float32)
    tracks = overlap.shape[1]
    likeness = np.zeros_like(overlap) if likeness is None else np.array(likeness, np.float32)
    evidence = Evidence(
        np.ones(likeness.shape, bool) if same_prompt is None else np.array(same_prompt, bool),
        overlap,
        np.zeros_like(overlap) if near is None else np.array(near, np.float32),
        likeness,
        np.eye(tracks, dtype=np.float32) if between is None else np.array(between, np.float32),
        np.ones(tracks, bool) if whole is None else np.array(whole, bool),
    )
    return plan(evidence, reidentify)


def test_the_assignment_is_the_best_in_total_not_the_first():
    pairs = assign(np.array([[0.9, 0.8], [0.85, 0.1]], np.float32), np.ones((2, 2), bool))
    assert sorted(pairs) == [(0, 1), (1, 0)]


def test_a_strong_pair_is_not_given_up_for_two_weak_ones():
    pairs = assign(np.array([[3.0, 0.5], [0.5, 0.0]], np.float32), np.array([[1, 1], [1, 0]], bool))
    assert pairs == [(0, 0)]


def test_a_detection_continues_the_track_it_overlaps():
    assert make([[0.1, 0.9], [0.8, 0.0]]).matched == [(0, 1), (1, 0)]


def test_prompts_do_not_mix():
    """An object found under another prompt is another track."""
    found = make([[0.9]], same_prompt=[[False]])
    assert (found.matched, found.fresh) == ([], [0])


def test_a_detection_beside_tracks_that_others_continue_starts_one():
    assert make([[0.9], [0.1]]).fresh == [1]


def test_a_detection_that_looks_like_no_track_starts_one():
    """Even where a track of its prompt has no detection: that one's object is missed, this is another."""
    found = make([[0.1]], likeness=[[0.05]])
    assert (found.reclaimed, found.fresh) == ([], [0])


def test_a_track_whose_mask_no_detection_bears_out_follows_its_like():
    """Its mask has drifted onto something that its prompt does not name."""
    found = make([[0.1]], likeness=[[0.8]])
    assert (found.reclaimed, found.fresh) == ([(0, 0)], [])


def test_a_hidden_track_is_taken_up_where_it_is_expected():
    assert make([[0.0, 0.0]], whole=[False, False], near=[[0.4, 0.9]]).reclaimed == [(0, 1)]


def test_a_hidden_track_is_taken_up_where_its_like_is_found():
    found = make([[0.0, 0.0]], whole=[False, False], likeness=[[0.4, 0.7]])
    assert (found.reclaimed, found.fresh) == ([(0, 1)], [])


def test_tracks_that_have_exchanged_their_objects_get_them_back():
    """Each sits where the other belongs, and does not look like what is there."""
    found = make([[0.9, 0.0], [0.0, 0.9]], likeness=[[0.1, 0.9], [0.9, 0.1]])
    assert sorted(found.reclaimed) == [(0, 1), (1, 0)]


def test_tracks_that_look_nearly_the_same_stay_where_they_are():
    assert make([[0.9, 0.0], [0.0, 0.9]], likeness=[[0.7, 0.9], [0.9, 0.7]]).matched == [(0, 0), (1, 1)]


def test_who_looks_like_a_track_that_has_ended_is_that_one_again():
    found = make(np.zeros((1, 1)), likeness=[[0.0, 0.8]])
    assert (found.recalled, found.fresh) == ([(0, 0)], [])


def test_a_tracked_object_is_not_recalled():
    found = make([[0.9]], likeness=[[0.6, 0.9]])
    assert (found.matched, found.recalled) == ([(0, 0)], [])


def test_reidentification_can_be_switched_off():
    found = make([[0.0]], whole=[False], likeness=[[0.9, 0.9]], near=[[0.9]], reidentify=False)
    assert (found.reclaimed, found.recalled, found.fresh) == ([], [], [0])


def test_a_track_that_slid_onto_anothers_object_gets_its_own_back():
    """Two tracks share one object; the detection elsewhere looks like the one that no detection holds."""
    found = make([[0.9, 0.8], [0.0, 0.0]], likeness=[[0.8, 0.1], [0.1, 0.8]], between=[[1, 0.9], [0.9, 1]])
    assert found.matched == [(0, 0)]
    assert found.reclaimed == [(1, 1)]


def test_a_track_on_anothers_object_without_a_detection_of_its_own_is_displaced():
    found = make([[0.9, 0.8]], between=[[1, 0.9], [0.9, 1]])
    assert (found.matched, found.displaced) == ([(0, 0)], [1])


def test_a_second_detection_of_a_held_object_starts_nothing():
    found = make([[0.95], [0.7]])
    assert (found.matched, found.fresh) == ([(0, 0)], [])


def test_nothing_on_either_side_is_no_plan():
    assert make(np.zeros((0, 0))) == Plan()
    assert make(np.zeros((2, 0))).fresh == [0, 1]
