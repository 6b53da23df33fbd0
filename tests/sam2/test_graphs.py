"""Graphs of captured steps track as the steps do; what cannot be captured runs as it is, with one warning."""

import numpy as np
import pytest
import torch

from stages.graphs import CudaCapture, Graphs
from stages.sam2.load import load_segmenter
from stages.sam2.segmenter import Sam2Segmenter
from stages.tracking.all_shapes import run_all_shapes
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Window
from tests.support.recorded_graph import record
from tests.testsrc.truth import truth_detections

CPU = torch.device("cpu")
EVERY = 8  # frames from one keyframe to the next


def with_graphs(segmenter, capture=record) -> Sam2Segmenter:
    """The session's model behind a segmenter of its own."""
    return Sam2Segmenter(segmenter._model, CPU, torch.float32, graphs=Graphs("segmenter", capture))


@pytest.fixture(scope="module")
def captured(segmenter) -> Sam2Segmenter:
    """All shapes of up to four objects, in windows of up to four frames, are captured."""
    made = with_graphs(segmenter)
    with made.capturing():
        run_all_shapes(made, max_objects=4, window=4)
    assert made.graphs.fallbacks == 0
    return made


def film(segmenter, world, shapes_frame, frames: int = 32, objects: int = 4):
    """The results of a film with keyframes; one object is added by hand, and another removed."""
    tracker, results = Tracker(segmenter, TrackerOptions(max_objects=4)), []
    for start in range(0, frames, 4):
        shown = tuple(shapes_frame(world, t) for t in range(start, start + 4))
        found = truth_detections(world, start).take(range(objects - 1)) if start % EVERY == 0 else None
        results += tracker.step(Window(0, shown, found is not None), found)
        if start == 8:
            tracker.add(box=truth_detections(world, start + 3).boxes[-1])
        if start == 24:
            tracker.remove(tracker.ids[0])
    return results


def same(some, others) -> bool:
    """Whether the ids are the same, and the masks to float rounding."""
    return all(
        [track.id for track in a.tracks] == [track.id for track in b.tracks]
        and torch.allclose(torch.as_tensor(a.masks), torch.as_tensor(b.masks), atol=1e-3)
        for a, b in zip(some, others, strict=True)
    )


def test_replayed_graphs_track_as_the_steps_do(segmenter, captured, world, shapes_frame, monkeypatch):
    """Young rows and full ones, with one conditioning frame and with two, after keyframes and changes of the rows."""
    replays = []
    run = captured.graphs.run
    monkeypatch.setattr(captured.graphs, "run", lambda *args: replays.append(args[0].__name__) or run(*args))
    found = film(captured, world, shapes_frame)
    monkeypatch.setattr(segmenter, "static", True)
    assert same(found, film(segmenter, world, shapes_frame))
    assert captured.graphs.fallbacks == 0
    assert {"_encode", "_segment", "_propagate", "_memorise", "reject_implausible", "next_motion", "looks_of"} == set(
        replays
    )


def test_streams_share_graphs(captured, world, shapes_frame):
    """Two trackers whose windows alternate do not disturb each other: each sees what it sees alone."""
    alone = [film(captured, world, shapes_frame, frames=8, objects=n) for n in (2, 4)]
    trackers, results = [Tracker(captured, TrackerOptions(max_objects=8)) for _ in range(2)], ([], [])
    for start in (0, 4):
        shown = tuple(shapes_frame(world, t) for t in range(start, start + 4))
        for tracker, kept, objects in zip(trackers, results, (2, 4), strict=True):
            found = truth_detections(world, 0).take(range(objects - 1)) if start == 0 else None
            kept += tracker.step(Window(0, shown, found is not None), found)
    assert all(same(*pair) for pair in zip(results, alone, strict=True))


def test_fewer_objects_than_before_are_not_disturbed_by_those_that_left(captured):
    """The rows after the last object are zeros, whatever they were."""
    step = captured.graphs
    with torch.inference_mode(), captured.capturing():
        count = lambda shared, rows: ((rows[0] + rows[0].sum()),)  # noqa: E731 (one function for all calls)
        for objects in (4, 4, 3, 4, 1):
            [out] = step.run(count, 4, (), (torch.ones(objects, 2),), {})
            assert out.tolist() == [[1 + 2 * objects] * 2] * objects


def test_a_graph_with_a_value_that_the_host_chose_is_left_out(segmenter, world, shapes_frame, caplog):
    """It is right on the inputs of the capture only; the second run tells."""
    made, frame = with_graphs(segmenter), iter(range(100))

    def step(shared, rows):
        return (rows[0] + next(frame),)

    with torch.inference_mode(), made.capturing():
        outputs = [float(made.run(step, (), (torch.zeros(1),))[0]) for _ in range(3)]
    assert len(set(outputs)) == 3, "each is the step's own"
    assert (made.graphs.captured, made.graphs.fallbacks) == (0, 1)
    assert [record.getMessage() for record in caplog.records] == [
        "segmenter: step runs without a CUDA graph for a batch of 1, and slower: its graph gives other results"
    ]


def count_ones(shared, rows):
    return (torch.full_like(rows[0], len(rows[0].nonzero())),)


def test_a_step_that_asks_the_device_cannot_be_captured(segmenter, caplog):
    made = with_graphs(segmenter)
    with torch.inference_mode(), made.capturing():
        for _ in range(3):
            [out] = made.run(count_ones, (), (torch.ones(2),))
    assert out.tolist() == [2.0, 2.0]
    [warning] = [record.getMessage() for record in caplog.records]
    assert warning.endswith("capture failed: operation not permitted when stream is capturing")


def refuse(run):
    raise RuntimeError("CUDA error: the driver is too old\nmore lines")


def test_where_nothing_can_be_captured_tracking_goes_on(segmenter, world, shapes_frame, caplog, monkeypatch):
    """As with an old driver, or without memory for a graph: the same masks, and one warning for each step."""
    made = with_graphs(segmenter, refuse)
    with made.capturing():
        run_all_shapes(made, max_objects=4, window=4)
    assert made.graphs.captured == 0
    assert made.graphs.fallbacks > 20
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 7
    assert all(warning.endswith("capture failed: CUDA error: the driver is too old") for warning in warnings)
    found = film(made, world, shapes_frame, frames=12)
    monkeypatch.setattr(segmenter, "static", True)
    assert same(found, film(segmenter, world, shapes_frame, frames=12))


@pytest.mark.parametrize("change", ["objects", "window", "size"])
def test_what_was_not_captured_runs_as_it_is(segmenter, captured, world, shapes_frame, caplog, monkeypatch, change):
    """More objects, longer windows, another size of the images than the warm-up knows."""
    frames = tuple(shapes_frame(world, t) for t in range(8 if change == "window" else 2))
    boxes = [np.array([9.0 * n, 9.0 * n, 9.0 * n + 60, 9.0 * n + 60], np.float32) for n in range(6)]

    def masks(segmenter):
        tracker = Tracker(segmenter, TrackerOptions(max_objects=8), scale=0.5 if change == "size" else 1.0)
        tracker.step(Window(0, frames[:1], False), None)
        for box in boxes[: 6 if change == "objects" else 2]:
            tracker.add(box=box)
        return tracker.step(Window(0, frames, False), None)

    before = captured.graphs.captured
    found = masks(captured)
    assert captured.graphs.captured == before
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings
    assert all("without a CUDA graph" in warning for warning in warnings)
    assert len(warnings) == len(set(warnings))
    monkeypatch.setattr(segmenter, "static", True)
    assert same(found, masks(segmenter))


def test_without_a_gpu_nothing_is_captured():
    assert load_segmenter("embedded", CPU, torch.float32, graphs=True).graphs is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_after_a_capture_that_fails_on_a_gpu_memory_can_be_freed_and_the_next_step_is_captured(caplog):
    graphs, rows = Graphs("segmenter", CudaCapture(torch.device("cuda"))), (torch.ones(2, device="cuda"),)
    double = lambda shared, rows: (2 * rows[0],)  # noqa: E731 (one function for all calls)
    with torch.inference_mode(), graphs.capturing():
        [counted] = graphs.run(count_ones, 2, (), rows, {})
        torch.cuda.empty_cache()
        [doubled] = graphs.run(double, 2, (), rows, {})
    assert counted.tolist() == doubled.tolist() == [2.0, 2.0]
    assert (graphs.captured, graphs.fallbacks) == (1, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_shape_is_captured_on_a_gpu_and_tracks_as_without_graphs(world, shapes_frame):
    cuda = torch.device("cuda")
    plain, fast = (load_segmenter("embedded", cuda, torch.bfloat16, graphs=graphs) for graphs in (False, True))
    with fast.capturing():
        run_all_shapes(fast, max_objects=4, window=4)
    assert fast.graphs.fallbacks == 0
    assert fast.graphs.captured > 20
    some, others = film(fast, world, shapes_frame), film(plain, world, shapes_frame)
    agreement = [
        float(((torch.as_tensor(a.masks) > 0) == (torch.as_tensor(b.masks) > 0)).float().mean())
        for a, b in zip(some, others, strict=True)
    ]
    assert min(agreement) > 0.999
