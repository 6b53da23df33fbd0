"""A daemon that says that it is ready has nothing left to compile."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from daemon.engine import warm_up as engine_warm_up
from daemon.engine.warm_up import warm_up
from daemon.limits.governor import SCALES
from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.detection.prompts import parse_prompts
from stages.errors import ConfigError
from stages.sam2.load import load_segmenter
from stages.tracking.all_shapes import run_all_shapes
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Window
from tests.sam2.test_graphs import with_graphs
from tests.sam2.test_static_shapes import CPU, run
from tests.support.fakes import FakeDetector
from tests.testsrc.truth import truth_detections


@pytest.mark.slow
def test_after_the_warm_up_nothing_is_left_to_compile_whatever_a_windows_length(world, shapes_frame, graphs):
    segmenter = load_segmenter("embedded", CPU, torch.float32, compiled=True)
    warm_up(GroundingDino(EMBEDDED, CPU, torch.float32), segmenter, [], max_objects=2, window=8)
    known = len(graphs)
    assert known > 3
    for objects in (1, 2):
        run(segmenter, world, shapes_frame, objects)
    assert len(graphs) == known


def test_where_memory_is_too_small_the_warm_up_is_smaller(segmenter, monkeypatch, caplog):
    """The daemon starts: it runs the other sizes as they come, and its governor lowers them."""
    monkeypatch.setattr(segmenter, "static", True)
    monkeypatch.setattr(segmenter, "recent_pointers", 2)
    room, encode, encoded = 3, segmenter.encode, []

    def encode_in_the_room(images):
        if len(images) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        encoded.append(len(images))
        return encode(images)

    monkeypatch.setattr(segmenter, "encode", encode_in_the_room)
    detector = FakeDetector()
    warm_up(detector, segmenter, [], max_objects=2, window=4)
    assert set(encoded) == {1, 2}
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("warm-up: too little memory for 2 objects and windows of 4 frames; ")
    room = 0
    with pytest.raises(torch.OutOfMemoryError):
        warm_up(detector, segmenter, [], max_objects=2, window=4)


@pytest.fixture
def on_a_gpu(monkeypatch) -> SimpleNamespace:
    """A segmenter of which the warm-up asks nothing but its device."""
    monkeypatch.setattr(engine_warm_up, "_tracked", lambda *_: True)
    return SimpleNamespace(device=torch.device("cuda"))


def test_on_a_gpu_the_detector_is_run_with_the_prompts_of_all_streams(on_a_gpu, monkeypatch):
    detector, shown = FakeDetector(), []
    monkeypatch.setattr(detector, "detect", lambda images, prompts, *_: shown.append(prompts))
    car, cat = parse_prompts(["car"]), parse_prompts(["cat, dog"])
    warm_up(detector, on_a_gpu, [(car, "off"), (cat, "off")], max_objects=1, window=1)
    assert set(shown) == {car, cat}
    assert shown.count(car) == shown.count(cat) > 2, "a graph is captured and compared before a stream needs it"


@pytest.mark.parametrize(
    ("error", "fatal"),
    [
        (ConfigError("no word"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (RuntimeError("CUDA"), True),
    ],
)
def test_a_stream_that_cannot_be_detected_on_is_told_of_later_a_broken_gpu_at_once(on_a_gpu, monkeypatch, error, fatal):
    def fail(*_):
        raise error

    detector = FakeDetector()
    monkeypatch.setattr(detector, "detect", fail)
    with pytest.raises(RuntimeError) if fatal else nullcontext():
        warm_up(detector, on_a_gpu, [(parse_prompts(["car"]), "off")], max_objects=1, window=1)


@pytest.mark.parametrize("tiles", [4, "auto"])
def test_tiles_are_detected_on_before_a_stream_needs_them(on_a_gpu, monkeypatch, tiles):
    """As often as it takes to have a graph, several in one call, in the shape that most cameras' tiles have."""
    detector, shown = FakeDetector(), []
    monkeypatch.setattr(detector, "together", 3)
    monkeypatch.setattr(detector, "scale", lambda height, width: min(800 / height, 1333 / width))
    plain = detector.detect
    monkeypatch.setattr(
        detector, "detect", lambda images, *rest: shown.append([i.shape for i in images]) or plain(images, *rest)
    )
    warm_up(detector, on_a_gpu, [(parse_prompts(["car"]), tiles)], max_objects=1, window=1)
    calls = [len(shapes) for shapes in shown]
    assert calls == [1, 3, 1] * (len(shown) // 3)
    assert len(shown) > 6
    assert {round(wide / tall, 1) for shapes in shown for tall, wide, _ in shapes} == {1.8}


def test_pictures_of_half_the_size_have_graphs_too(segmenter, world, shapes_frame):
    """The governor goes to that size under overload, when steps must not get slower."""
    made = with_graphs(segmenter)
    warm_up(FakeDetector(), made, [], max_objects=1, window=1)
    captured = made.graphs.captured
    tracker = Tracker(made, TrackerOptions(max_objects=1), scale=SCALES[-1])
    for t in range(4):
        found = truth_detections(world, 0).take(range(1)) if t == 0 else None
        [result] = tracker.step(Window(0, (shapes_frame(world, t),), t == 0), found)
    assert len(result.tracks) == 1
    assert (made.graphs.captured, made.graph_fallbacks) == (captured, 0)


def test_models_that_run_as_they_are_need_one_size_only(segmenter):
    assert segmenter.batch_sizes(64) == [1]


def test_where_shapes_are_static_there_are_few_sizes(segmenter, monkeypatch):
    monkeypatch.setattr(segmenter, "static", True)
    assert segmenter.batch_sizes(64) == [1, 2, 4, 8, 16, 32, 64]
    assert segmenter.batch_sizes(5) == [1, 2, 4, 8]


def test_a_gpu_propagates_at_most_sixteen_objects_together(segmenter, monkeypatch):
    """The keys of one object take tens of megabytes."""
    monkeypatch.setattr(segmenter, "static", True)
    monkeypatch.setattr(segmenter, "recent_pointers", 2)
    sizes, run = set(), segmenter.run

    def spy(step, shared, rows, **static):
        if step.__name__ in ("_propagate", "_memorise", "_segment"):
            sizes.add(segmenter.padded(len(rows[0])))
        return run(step, shared, rows, **static)

    monkeypatch.setattr(segmenter, "run", spy)
    run_all_shapes(segmenter, max_objects=18, window=1)
    assert sizes == {1, 2, 4, 8, 16}
