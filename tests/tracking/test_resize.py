"""A tracker whose capacity or image size is reduced frees memory and keeps its tracks."""

import gc

import numpy as np
import pytest
import torch

from stages.sam2.attention import LeanOptions
from stages.sam2.load import EMBEDDED, build, load_segmenter
from stages.sam2.segmenter import Sam2Segmenter
from stages.tracking.cues import Cues
from stages.tracking.identity.views import Views
from stages.tracking.state import state_bytes
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Detections, Frame, Result, TrackChange, TrackState, Window
from tests.testsrc.truth import truth_detections

PLACES = TrackerOptions(max_objects=8)


@pytest.fixture
def film(world, shapes_frame):
    """film(tracker, first, last, found=None) -> the results of some frames, in windows of 3."""

    def film(tracker: Tracker, first: int, last: int, found: Detections | None = None) -> list[Result]:
        results = []
        for start in range(first, last, 3):
            shown = tuple(shapes_frame(world, t) for t in range(start, start + 3))
            results += tracker.step(Window(0, shown, found is not None), found)
            found = None
        return results

    return film


def best_first(world) -> Detections:
    """The detections of the first frame, with falling scores."""
    found = truth_detections(world, 0)
    return Detections(found.boxes, np.linspace(0.9, 0.6, len(found)).astype(np.float32), found.prompts)


def masks_by_id(result: Result) -> dict[int, torch.Tensor]:
    return {track.id: mask for track, mask in zip(result.tracks, result.masks, strict=True)}


def same(some: list[Result], others: list[Result]) -> bool:
    """Whether the ids are the same and the masks equal bit for bit."""
    pairs = [(masks_by_id(a), masks_by_id(b)) for a, b in zip(some, others, strict=True)]
    return all(a.keys() == b.keys() and all(torch.equal(a[i], b[i]) for i in a) for a, b in pairs)


def overlaps(world, results: list[Result]) -> list[float]:
    """IoU with the truth of every track whose object is visible."""
    ious = []
    for result in results:
        truth = world.render(result.frame.index)[1]
        for track, logits in zip(result.tracks, result.masks, strict=True):
            big = torch.nn.functional.interpolate(logits[None, None], truth.masks.shape[1:], mode="bilinear")[0, 0]
            mask, true = big.numpy() > 0, truth.masks[track.prompt]
            if truth.visible[track.prompt] > 0.5:
                ious.append(float((mask & true).sum() / (mask | true).sum()))
    return ious


def tensor_bytes() -> int:
    """Bytes of all CPU tensors that are still referenced."""
    gc.collect()
    held = [kept.untyped_storage() for kept in gc.get_objects() if type(kept) is torch.Tensor]
    return sum({storage.data_ptr(): storage.nbytes() for storage in held if storage.device.type == "cpu"}.values())


# capacity


def test_masks_are_bit_exact_while_the_capacity_changes(segmenter, world, film):
    resized, untouched = Tracker(segmenter, PLACES), Tracker(segmenter, PLACES)
    assert same(film(resized, 0, 9, best_first(world)), film(untouched, 0, 9, best_first(world)))
    assert len(resized.ids) == 4
    for first, places in ((9, 4), (12, 16), (15, 8)):
        resized.resize(places)
        assert same(film(resized, first, first + 3), film(untouched, first, first + 3))
    assert resized.ids == untouched.ids


@pytest.mark.parametrize("places", [4, 16])
def test_memory_is_freed_and_allocated_to_the_byte(places, segmenter, world, film):
    tracker = Tracker(segmenter, PLACES)
    film(tracker, 0, 9, best_first(world))
    held, before = tracker.nbytes, tensor_bytes()
    tracker.resize(places)
    assert tracker.nbytes == held * places / 8 == Tracker(segmenter, TrackerOptions(max_objects=places)).nbytes
    assert tensor_bytes() - before == tracker.nbytes - held


def test_with_too_few_places_the_tracks_with_the_lowest_scores_end_and_the_others_go_on(segmenter, world, film):
    """The others go on as if these had been removed by hand; the next result has the events, with the reason."""
    resized, removed = Tracker(segmenter, PLACES), Tracker(segmenter, PLACES)
    film(resized, 0, 9, best_first(world))
    film(removed, 0, 9, best_first(world))
    resized.resize(2)
    for track in (4, 3):
        removed.remove(track)
    assert set(resized.ids) == {1, 2}
    after = film(resized, 9, 15)
    assert same(after, film(removed, 9, 15))
    ended = [(e.change, e.track, e.frame, e.reason) for e in after[0].events]
    assert sorted(ended) == [(TrackChange.ENDED, 3, 8, "max_objects"), (TrackChange.ENDED, 4, 8, "max_objects")]


def test_a_track_out_of_sight_ends_before_one_in_sight_with_a_lower_score(segmenter, world, shapes_frame, film):
    """A grey bar hides the object with the best score."""
    tracker, found = Tracker(segmenter, PLACES), best_first(world)
    film(tracker, 0, 3, found)
    for t in range(3, 9):
        frame, truth = shapes_frame(world, t), world.render(t)[1]
        left, top, right, bottom = truth.boxes[found.prompts[0]].astype(int)
        frame.image[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = 90
        [result] = tracker.step(Window(0, (frame,), False), None)
    assert [track.id for track in result.tracks if track.state is TrackState.OCCLUDED] == [1]
    tracker.resize(3)
    assert set(tracker.ids) == {2, 3, 4}


def test_an_evicted_track_returns_under_its_id_once_there_is_room(segmenter, world, film):
    tracker = Tracker(segmenter, PLACES)
    film(tracker, 0, 6, best_first(world))
    tracker.resize(3)
    film(tracker, 6, 9)
    tracker.resize(8)
    results = film(tracker, 9, 12, truth_detections(world, 9))
    assert set(tracker.ids) == {1, 2, 3, 4}
    assert (TrackChange.RETURNED, 4) in [(event.change, event.track) for event in results[0].events]


def test_a_smaller_gallery_keeps_the_tracks_that_ended_last(segmenter, world, film):
    """Three tracks end, the gallery keeps the last of them: it returns, the others get new ids."""
    tracker, found = Tracker(segmenter, PLACES), best_first(world)
    film(tracker, 0, 3, found)
    tracker.resize(2)  # 4 and 3 leave, in this order
    tracker.resize(1)  # 2 leaves, and the gallery drops 3
    tracker.resize(8)
    film(tracker, 3, 6, truth_detections(world, 3))
    assert {1, 2} < set(tracker.ids)
    assert not {3, 4} & set(tracker.ids)


def test_a_capacity_that_does_not_fit_the_memory_changes_nothing(segmenter, world, film):
    resized, untouched = Tracker(segmenter, PLACES), Tracker(segmenter, PLACES)
    film(resized, 0, 6, best_first(world))
    film(untouched, 0, 6, best_first(world))
    held = resized.nbytes
    with pytest.raises(RuntimeError, match="memory"):
        resized.resize(10**10)
    assert resized.nbytes == held
    assert same(film(resized, 6, 9), film(untouched, 6, 9))
    resized.resize(9)
    assert same(film(resized, 9, 12), film(untouched, 9, 12))


@pytest.mark.parametrize("options", [PLACES, TrackerOptions(max_objects=5, memory_dtype=torch.float32)])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_bytes_of_a_tracker_are_known_before_it_is_built(scale, options, segmenter):
    smaller = segmenter.scaled(scale)
    assert state_bytes(smaller, options) == Tracker(smaller, options).nbytes
    assert state_bytes(smaller, TrackerOptions(max_objects=10**10)) > 10**14


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_memory_goes_back_to_the_device():
    segmenter = load_segmenter("embedded", torch.device("cuda"), torch.float32)
    tracker = Tracker(segmenter, TrackerOptions(max_objects=4096))
    before, held = torch.cuda.memory_reserved(), tracker.nbytes
    tracker.resize(16)
    assert before - torch.cuda.memory_reserved() > 0.9 * (held - tracker.nbytes)


# image size


def test_a_smaller_model_shares_every_weight_and_equals_one_built_for_that_size(segmenter, film, world):
    smaller = segmenter.scaled(0.5)
    assert smaller.image_size == 128
    assert smaller is segmenter.scaled(0.5)
    weights, ours = segmenter.state_dict(), smaller.state_dict()
    assert weights.keys() == ours.keys()
    assert all(weights[name].data_ptr() == ours[name].data_ptr() for name in weights)
    model = build(EMBEDDED / "segmenter.yaml", image_size=128)
    model.load_state_dict(weights)
    built = Sam2Segmenter(model, segmenter.device, torch.float32)
    there, here = Tracker(built, PLACES), Tracker(smaller, PLACES)
    assert same(film(there, 0, 12, best_first(world)), film(here, 0, 12, best_first(world)))


def test_the_smaller_model_of_a_compiled_one_is_not_compiled(segmenter, film, world, monkeypatch):
    """Compiling would stop all streams for a minute; no function compiled for the large model runs, either."""

    def compiled(function, **options):
        def never(*arguments, **named):
            raise AssertionError("this was compiled")

        return never

    monkeypatch.setattr(torch, "compile", compiled)
    large = load_segmenter("embedded", segmenter.device, torch.float32, compiled=True)
    with pytest.raises(AssertionError, match="compiled"):
        film(Tracker(large, PLACES), 0, 3, best_first(world))
    plain = load_segmenter("embedded", segmenter.device, torch.float32, lean=LeanOptions())  # what a compiled one runs
    there, here = Tracker(plain.scaled(0.5), PLACES), Tracker(large.scaled(0.5), PLACES)
    assert same(film(there, 0, 6, best_first(world)), film(here, 0, 6, best_first(world)))


@pytest.mark.parametrize(("scale", "size"), [(1.0, 256), (0.7, 192), (0.51, 128), (0.01, 32), (1.5, 384)])
def test_sizes_are_multiples_of_32(scale, size, segmenter):
    assert segmenter.scaled(scale).image_size == size


def test_other_sizes_leave_the_model_itself_untouched(segmenter, film, world):
    before = film(Tracker(segmenter, PLACES), 0, 6, best_first(world))
    film(Tracker(segmenter.scaled(0.5), PLACES), 0, 6, best_first(world))
    assert same(before, film(Tracker(segmenter, PLACES), 0, 6, best_first(world)))


def test_tracks_and_masks_survive_a_change_of_size_and_back(segmenter, world, film):
    """At the small size and after it the masks are nearly as good as without the change."""
    tracker, untouched = Tracker(segmenter, PLACES), Tracker(segmenter, PLACES)
    film(tracker, 0, 9, best_first(world))
    film(untouched, 0, 9, best_first(world))
    held = tracker.nbytes
    tracker.rescale(0.5)
    assert tracker.nbytes < 0.35 * held
    small = film(tracker, 9, 18)
    tracker.rescale(1.0)
    assert tracker.nbytes == held
    large = film(tracker, 18, 27)
    assert {result.masks.shape[-1] for result in small} == {32}
    assert {result.masks.shape[-1] for result in large} == {64}
    assert all({track.id for track in result.tracks} == {1, 2, 3, 4} for result in small + large)
    assert not any(e.change in (TrackChange.ENDED, TrackChange.STARTED) for r in small + large for e in r.events)
    assert np.mean(overlaps(world, small)) > np.mean(overlaps(world, film(untouched, 9, 18))) - 0.15
    assert np.mean(overlaps(world, large)) > np.mean(overlaps(world, film(untouched, 18, 27))) - 0.05


def test_keyframes_continue_the_tracks_of_another_size(segmenter, world, film):
    """The detections of a keyframe confirm every track; none starts or ends."""
    tracker = Tracker(segmenter, PLACES)
    film(tracker, 0, 9, best_first(world))
    tracker.rescale(0.5)
    results = film(tracker, 9, 18) + film(tracker, 18, 24, truth_detections(world, 18))
    tracker.rescale(1.0)
    results += film(tracker, 24, 27, truth_detections(world, 24))
    assert {track.id: track.prompt for track in results[-1].tracks} == dict(enumerate(best_first(world).prompts, 1))
    assert not any(e.change in (TrackChange.ENDED, TrackChange.STARTED) for r in results for e in r.events)


def test_objects_hidden_while_the_size_changes_are_found_again(segmenter, world, shapes_frame, film):
    tracker = Tracker(segmenter, PLACES)
    film(tracker, 0, 6, best_first(world))
    for t in (6, 7):
        blank = shapes_frame(world, t)
        blank.image[:] = 90
        [result] = tracker.step(Window(0, (blank,), False), None)
    assert {track.state for track in result.tracks} == {TrackState.OCCLUDED}
    tracker.rescale(0.5)
    results = film(tracker, 8, 14)
    found = [track.id for track in results[-1].tracks if track.state is not TrackState.OCCLUDED]
    assert len(found) >= 3, "by memories that were made at the other size"
    assert np.mean(overlaps(world, results[-2:])) > 0.5


def test_visible_objects_are_conditioned_on_the_last_frame_at_the_new_size(segmenter, world, film):
    tracker = Tracker(segmenter, PLACES)
    film(tracker, 0, 9, best_first(world))
    bank = tracker._state.bank
    assert not any(bank.is_conditioned_on(row, 8) for row in range(4))
    tracker.rescale(0.5)
    assert all(bank.is_conditioned_on(row, 8) for row in range(4))


def test_the_recorded_areas_are_converted_to_the_new_size(segmenter, world, film):
    """A mask as large as before still counts as whole."""
    tracker = Tracker(segmenter, PLACES)
    film(tracker, 0, 6, best_first(world))
    before = [record.area for record in tracker._state.table.rows]
    tracker.rescale(0.5)
    [result] = film(tracker, 6, 9)[:1]
    sizes = (result.masks > 0).flatten(1).sum(1).tolist()
    assert [record.area for record in tracker._state.table.rows] == [round(area / 4) for area in before]
    assert all(
        0.5 * record.area < size < 2 * record.area
        for record, size in zip(tracker._state.table.rows, sizes, strict=True)
    )


def test_the_predicted_motion_is_converted_to_the_new_size(segmenter):
    """Squares that move to the right, drawn at both sizes, are predicted at the same positions."""

    def squares(t: int, side: int) -> torch.Tensor:
        masks = torch.full((2, side, side), -10.0)
        unit = side // 12
        for number, top in enumerate((1, 6)):
            masks[number, unit * top : unit * (top + 4), unit * t : unit * (t + 3)] = 10
        return masks

    large, small = Cues(48, 2, torch.device("cpu")), Cues(24, 2, torch.device("cpu"))
    for cues, side in ((large, 48), (small, 24)):
        cues.append(squares(0, side), torch.zeros(2, 3), Views.first(torch.zeros(2, 2), 0))
        for t in range(1, 5):
            cues.update(squares(t, side), segmenter.run)
    large.rescale(24, 0.5)
    for t in range(5, 9):
        assert all(torch.allclose(ours, theirs) for ours, theirs in zip(large.predict(), small.predict(), strict=True))
        large.update(squares(t, 24), segmenter.run)
        small.update(squares(t, 24), segmenter.run)


def test_a_tracker_may_change_its_size_before_its_first_frame(segmenter, world, film):
    tracker, other = Tracker(segmenter, PLACES), Tracker(segmenter.scaled(0.5), PLACES)
    tracker.rescale(0.5)
    assert same(film(tracker, 0, 6, best_first(world)), film(other, 0, 6, best_first(world)))


def test_a_tracker_of_another_size_takes_prompts_by_hand_on_the_frame_before(segmenter, world, shapes_frame):
    """A box given before the change is still used when a point refines it afterwards."""
    tracker, truth = Tracker(segmenter, PLACES), world.render(0)[1]
    frame = shapes_frame(world, 0)
    tracker.step(Window(0, (Frame(0, 0, frame.time_base, 0.0, frame.clock, frame.image),), False), None)
    first, second = np.argsort(-truth.masks.sum((1, 2)))[:2]
    added = tracker.add(int(first), box=truth.boxes[first])
    tracker.rescale(0.5)
    rows, columns = np.nonzero(truth.masks[first])
    tracker.refine(added, np.array([[columns.mean(), rows.mean()]], np.float32), np.array([1]))
    tracker.add(int(second), box=truth.boxes[second])
    results = tracker.step(Window(0, (shapes_frame(world, 1),), False), None)
    assert min(overlaps(world, results)) > 0.7
