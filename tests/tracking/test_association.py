"""Association: a detection continues, relocates, re-identifies or starts a track, and no object gets two tracks."""

import dataclasses

import numpy as np

from stages.tracking.association import Evidence, Matches, assign, associate

LIKE, HALF, UNLIKE = 5.0, 1.0, -5.0  # log-likelihood ratios


def make(
    overlap, whole=None, same_prompt=None, likeness=None, track_overlap=None, proximity=None, reidentify=True
) -> Matches:
    """Columns of ``likeness`` beyond those of ``overlap`` are tracks that have ended."""
    overlap = np.array(overlap, np.float32)
    tracks = overlap.shape[1]
    likeness = np.full_like(overlap, UNLIKE) if likeness is None else np.array(likeness, np.float32)
    evidence = Evidence(
        np.ones(likeness.shape, bool) if same_prompt is None else np.array(same_prompt, bool),
        overlap,
        np.zeros_like(overlap) if proximity is None else np.array(proximity, np.float32),
        likeness,
        np.eye(tracks, dtype=np.float32) if track_overlap is None else np.array(track_overlap, np.float32),
        np.ones(tracks, bool) if whole is None else np.array(whole, bool),
    )
    return associate(evidence, reidentify)


def test_the_assignment_is_the_best_in_total_not_the_first():
    pairs = assign(np.array([[0.9, 0.8], [0.85, 0.1]], np.float32), np.ones((2, 2), bool))
    assert sorted(pairs) == [(0, 1), (1, 0)]


def test_a_strong_pair_is_not_given_up_for_two_weak_ones():
    pairs = assign(np.array([[3.0, 0.5], [0.5, 0.0]], np.float32), np.array([[1, 1], [1, 0]], bool))
    assert pairs == [(0, 0)]


def test_a_detection_continues_the_track_it_overlaps():
    assert make([[0.1, 0.9], [0.8, 0.0]]).matched == [(0, 1), (1, 0)]


def test_prompts_do_not_mix():
    """A detection of another prompt is a new track."""
    found = make([[0.9]], same_prompt=[[False]])
    assert (found.matched, found.new) == ([], [0])


def test_a_detection_beside_a_detected_track_starts_a_new_track():
    assert make([[0.9], [0.1]]).new == [1]


def test_a_detection_that_looks_like_no_track_starts_one():
    """Even where a track of its prompt has no detection: the detector missed that object, this is another one."""
    found = make([[0.1]], likeness=[[UNLIKE]])
    assert (found.relocated, found.new) == ([], [0])


def test_an_undetected_track_moves_to_a_detection_that_looks_like_it():
    """Its mask has drifted onto something that does not match its prompt."""
    found = make([[0.1]], likeness=[[LIKE]])
    assert (found.relocated, found.new) == ([(0, 0)], [])


def test_a_hidden_track_continues_at_the_detection_nearest_to_its_prediction():
    assert make([[0.0, 0.0]], whole=[False, False], proximity=[[0.4, 0.9]], likeness=[[HALF, HALF]]).relocated == [
        (0, 1)
    ]


def test_a_hidden_track_continues_at_the_detection_that_looks_most_like_it():
    found = make([[0.0, 0.0]], whole=[False, False], likeness=[[HALF, LIKE]])
    assert (found.relocated, found.new) == ([(0, 1)], [])


def test_tracks_that_have_swapped_objects_are_swapped_back():
    """Each overlaps the detection that looks like the other."""
    found = make([[0.9, 0.0], [0.0, 0.9]], likeness=[[UNLIKE, LIKE], [LIKE, UNLIKE]])
    assert sorted(found.relocated) == [(0, 1), (1, 0)]


def test_nearly_equal_looks_do_not_swap_tracks():
    assert make([[0.9, 0.0], [0.0, 0.9]], likeness=[[LIKE - 1, LIKE], [LIKE, LIKE - 1]]).matched == [(0, 0), (1, 1)]


def test_a_detection_that_looks_like_an_ended_track_continues_it():
    found = make(np.zeros((1, 1)), likeness=[[UNLIKE, LIKE]])
    assert (found.reidentified, found.new) == ([(0, 0)], [])


def test_a_tracked_object_is_not_reidentified_as_an_ended_track():
    found = make([[0.9]], likeness=[[LIKE - 1, LIKE]])
    assert (found.matched, found.reidentified) == ([(0, 0)], [])


def test_reidentification_can_be_switched_off():
    found = make([[0.0]], whole=[False], likeness=[[LIKE, LIKE]], proximity=[[0.9]], reidentify=False)
    assert (found.relocated, found.reidentified, found.new) == ([], [], [0])


def test_a_track_that_drifted_onto_another_object_returns_to_its_own():
    """Two tracks are on one object; the detection elsewhere looks like the track that has no detection."""
    found = make(
        [[0.9, 0.8], [0.0, 0.0]], likeness=[[LIKE, UNLIKE], [UNLIKE, LIKE]], track_overlap=[[1, 0.9], [0.9, 1]]
    )
    assert found.matched == [(0, 0)]
    assert found.relocated == [(1, 1)]


def test_a_track_on_another_tracks_object_without_its_own_detection_is_displaced():
    found = make([[0.9, 0.8]], track_overlap=[[1, 0.9], [0.9, 1]])
    assert (found.matched, found.displaced) == ([(0, 0)], [1])


def test_a_second_detection_of_a_tracked_object_starts_no_track():
    found = make([[0.95], [0.7]])
    assert (found.matched, found.new) == ([(0, 0)], [])


def test_without_detections_or_tracks_there_is_nothing_to_match():
    assert make(np.zeros((0, 0))) == Matches()
    assert make(np.zeros((2, 0))).new == [0, 1]


def test_what_looks_like_nothing_known_is_a_new_object_even_where_a_hidden_one_is_expected():
    found = make([[0.0]], whole=[False], proximity=[[0.9]], likeness=[[UNLIKE]])
    assert (found.relocated, found.new) == ([], [0])


def test_a_track_keeps_the_detection_in_its_place_whatever_it_looks_like_when_no_other_track_claims_it():
    """As when the light goes out: nothing looks as before."""
    assert make([[0.9, 0.0], [0.0, 0.9]]).matched == [(0, 0), (1, 1)]


def test_a_hidden_track_takes_its_object_from_a_track_that_has_jumped_onto_it():
    """It looks like the first track, which is hidden, and overlaps the second, which it does not resemble."""
    found = make([[0.0, 0.9]], whole=[False, True], likeness=[[LIKE, UNLIKE]])
    assert (found.matched, found.relocated) == ([], [(0, 0)])


def test_place_counts_less_where_motion_has_told_little():
    """The same detection: with steady motion it continues the track in its place, else the one that it looks like."""
    evidence = Evidence(
        np.ones((1, 2), bool),
        np.array([[0.9, 0.0]], np.float32),
        np.zeros((1, 2), np.float32),
        np.array([[-1.0, 3.0]], np.float32),
        np.eye(2, dtype=np.float32),
        np.array([True, True]),
    )
    assert associate(dataclasses.replace(evidence, worth=(5.0, 2.0)), True).matched == [(0, 0)]
    assert associate(dataclasses.replace(evidence, worth=(0.5, 0.0)), True).relocated == [(0, 1)]
