"""Association: a detection continues, relocates, re-identifies or starts a track, and no object gets two tracks."""

import numpy as np

from stages.tracking.association import Evidence, Matches, assign, associate


def make(
    overlap, whole=None, same_prompt=None, similarity=None, track_overlap=None, proximity=None, reidentify=True
) -> Matches:
    """Columns of ``similarity`` beyond those of ``overlap`` are tracks that have ended."""
    overlap = np.array(overlap, np.float32)
    tracks = overlap.shape[1]
    similarity = np.zeros_like(overlap) if similarity is None else np.array(similarity, np.float32)
    evidence = Evidence(
        np.ones(similarity.shape, bool) if same_prompt is None else np.array(same_prompt, bool),
        overlap,
        np.zeros_like(overlap) if proximity is None else np.array(proximity, np.float32),
        similarity,
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


def test_a_detection_that_is_similar_to_no_track_starts_one():
    """Even where a track of its prompt has no detection: the detector missed that object, this is another one."""
    found = make([[0.1]], similarity=[[0.05]])
    assert (found.relocated, found.new) == ([], [0])


def test_an_undetected_track_moves_to_a_similar_detection():
    """Its mask has drifted onto something that does not match its prompt."""
    found = make([[0.1]], similarity=[[0.8]])
    assert (found.relocated, found.new) == ([(0, 0)], [])


def test_a_hidden_track_continues_at_the_detection_nearest_to_its_prediction():
    assert make([[0.0, 0.0]], whole=[False, False], proximity=[[0.4, 0.9]]).relocated == [(0, 1)]


def test_a_hidden_track_continues_at_the_most_similar_detection():
    found = make([[0.0, 0.0]], whole=[False, False], similarity=[[0.4, 0.7]])
    assert (found.relocated, found.new) == ([(0, 1)], [])


def test_tracks_that_have_swapped_objects_are_swapped_back():
    """Each overlaps the detection that is similar to the other."""
    found = make([[0.9, 0.0], [0.0, 0.9]], similarity=[[0.1, 0.9], [0.9, 0.1]])
    assert sorted(found.relocated) == [(0, 1), (1, 0)]


def test_nearly_equal_similarity_does_not_swap_tracks():
    assert make([[0.9, 0.0], [0.0, 0.9]], similarity=[[0.7, 0.9], [0.9, 0.7]]).matched == [(0, 0), (1, 1)]


def test_a_detection_similar_to_an_ended_track_continues_it():
    found = make(np.zeros((1, 1)), similarity=[[0.0, 0.8]])
    assert (found.reidentified, found.new) == ([(0, 0)], [])


def test_a_tracked_object_is_not_reidentified_as_an_ended_track():
    found = make([[0.9]], similarity=[[0.6, 0.9]])
    assert (found.matched, found.reidentified) == ([(0, 0)], [])


def test_reidentification_can_be_switched_off():
    found = make([[0.0]], whole=[False], similarity=[[0.9, 0.9]], proximity=[[0.9]], reidentify=False)
    assert (found.relocated, found.reidentified, found.new) == ([], [], [0])


def test_a_track_that_drifted_onto_another_object_returns_to_its_own():
    """Two tracks are on one object; the detection elsewhere is similar to the track that has no detection."""
    found = make([[0.9, 0.8], [0.0, 0.0]], similarity=[[0.8, 0.1], [0.1, 0.8]], track_overlap=[[1, 0.9], [0.9, 1]])
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
