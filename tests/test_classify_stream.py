"""Classes on their way: which frames have them, what a fault costs, how they stay on the picture, the whole program."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from daemon.__main__ import main
from daemon.classification import Turns
from daemon.engine import Engine
from daemon.governor import Governor
from daemon.lane import Lane, Models
from daemon.mailbox import Mailbox
from daemon.metrics import Metrics
from daemon.outcome import Outcome
from daemon.settings import Classification, Detection, Publish, Record, Settings, StreamSettings, Tracking
from daemon.stream_metrics import StreamMetrics
from daemon.vocabulary import Vocabulary
from daemon.writer import Identity, Writer
from stages.classify import EMBEDDED, load_card
from stages.errors import WindowError
from stages.prompts import parse_prompts
from stages.publish import Publisher
from stages.record import Recorder
from stages.testsrc import ShapesWorld
from stages.types import Image, Label, Result, Track, TrackState, Window
from stages.wire import StreamEvent
from tests.fakes import FakeDetector, FakeTracker, frames, window
from tests.program import Program, get, lines_of
from tests.test_wire import validate
from trainer.embedded.classifier import LABELS, name_colour


class FakeClassifier:
    """Names pictures by their size; calls ``before`` with them first."""

    def __init__(self, before: Callable[[Sequence[Image]], None] = lambda _: None) -> None:
        self.batches: list[int] = []
        self._before = before

    def classify(self, images: Sequence[Image], top: int = 3) -> list[tuple[Label, ...]]:
        self._before(images)
        self.batches.append(len(images))
        names = [f"{image.shape[1]}x{image.shape[0]}" for image in images]
        return [tuple(Label(name, 1 / (1 + place)) for place in range(top)) for name in names]


def results(*indices: int, epoch: int = 0) -> list[Result]:
    return [Result(frame, epoch, False, (), torch.zeros(0, 2, 2)) for frame in frames(*indices)]


def classified(found: Sequence[Result]) -> list[int]:
    return [result.frame.index for result in found if result.classes is not None]


def test_the_first_frame_and_every_nth_after_it_have_classes_a_window_in_one_batch() -> None:
    turns, classifier = Turns(Classification(every=3)), FakeClassifier()
    found: list[Result] = []
    for indices in ((0, 1, 2, 3), (4, 5), (6, 7, 8, 9)):
        told, seconds = turns.classify(classifier, results(*indices))
        assert ("classify" in seconds) == (indices != (4, 5))
        found += told
    assert [result.frame.index for result in found] == list(range(10))
    assert classified(found) == [0, 3, 6, 9]
    assert classifier.batches == [2, 2]
    assert found[0].classes == (Label("8x8", 1), Label("8x8", 1 / 2), Label("8x8", 1 / 3))


def test_a_new_epoch_begins_with_a_classified_frame() -> None:
    turns, classifier = Turns(Classification(every=4)), FakeClassifier()
    first, _ = turns.classify(classifier, results(0, 1))
    second, _ = turns.classify(classifier, results(2, 3, 4, 5, 6, epoch=1))
    assert classified([*first, *second]) == [0, 2, 6]


def test_each_object_that_shows_gets_the_best_class_of_its_crop_with_its_id() -> None:
    masks = torch.full((3, 8, 8), -1.0)
    masks[0, :2, :2] = masks[2, 4:, 4:] = 1
    states = (TrackState.TRACKED, TrackState.OCCLUDED, TrackState.NEW)
    tracks = tuple(Track(5 + i, 0, 0, 0, state, 0.9, 0.9) for i, state in enumerate(states))
    [result] = results(0)
    turns = Turns(Classification(target="objects"))
    [told], _ = turns.classify(FakeClassifier(), [replace(result, tracks=tracks, masks=masks)])
    assert told.classes == (Label("3x3", 1, id=5), Label("5x5", 1, id=7))


def test_a_frame_without_objects_has_been_looked_at_all_the_same() -> None:
    [told], _ = Turns(Classification(target="objects")).classify(FakeClassifier(), results(0))
    assert told.classes == ()


class Bench:
    """One lane that has ended, through an engine of fakes with this classifier."""

    def __init__(self, classifier: FakeClassifier, *windows: Window, every: int = 2) -> None:
        self.metrics, self.tracker = Metrics(), FakeTracker()
        detection, tracking = Detection(), Tracking()
        self.governor = Governor(detection, tracking)
        own = StreamMetrics(self.metrics, "gate", ["car"])
        prompts = parse_prompts(["car"])
        lane = Lane("gate", Vocabulary(prompts), detection, tracking, own, Mailbox(100), Mailbox(100), self.governor)
        lane.turns = Turns(Classification(every=every))
        for each in windows:
            lane.inbox.put(each)
        lane.inbox.close()
        engine = Engine(lambda: Models(FakeDetector(), lambda *_: self.tracker, classifier=classifier))
        engine.add(lane)
        engine.start()
        self.outcomes: list[Outcome] = []
        while not lane.outbox.drained:
            outcome = lane.outbox.get(20)
            self.outcomes += [outcome] if outcome else []
        assert engine.close(20)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"maskcast_{name}", {"stream": "gate", **labels})


def failing(error: Exception, *at: int) -> FakeClassifier:
    """Raises ``error`` in these of its calls."""
    calls = iter(range(1000))

    def fail(_: Sequence[Image]) -> None:
        if next(calls) in at:
            raise error

    return FakeClassifier(fail)


@pytest.mark.parametrize("error", [WindowError("scores are not numbers"), RuntimeError("scores are\nnot numbers")])
def test_a_fault_of_the_classifier_costs_the_classes_of_its_window_and_nothing_else(error: Exception) -> None:
    bench = Bench(failing(error, 1), window(0, 1), window(2, 3), window(4, 5))
    found = [result for outcome in bench.outcomes for result in outcome.results]
    assert [result.frame.index for result in found] == list(range(6))
    assert classified(found) == [0, 4]
    assert len(bench.tracker.windows) == 3
    told = [notice for outcome in bench.outcomes for notice in outcome.notices]
    assert [notice.event for notice in told] == [StreamEvent.ERROR]
    assert told[0].reason.endswith("scores are not numbers")
    assert bench.value("frames_dropped_total", reason="error") == 0
    assert bench.value("frames_total", stage="tracked") == 6
    assert bench.value("stage_seconds_count", stage="classify") == 2


def test_a_classifier_that_finds_no_memory_makes_the_governor_step_down() -> None:
    bench = Bench(failing(torch.OutOfMemoryError("CUDA out of memory"), 0), window(0, 1), window(2, 3))
    assert bench.governor.step == 1
    assert {notice.event for outcome in bench.outcomes for notice in outcome.notices} == {
        StreamEvent.ERROR,
        StreamEvent.GOVERNOR,
    }
    assert classified([result for outcome in bench.outcomes for result in outcome.results]) == [2]


def test_classes_stay_on_the_picture_until_there_are_others_but_only_their_own_frame_says_them(tmp_path: Path) -> None:
    settings = StreamSettings(name="gate", source="a.mp4", record=Record(dir=str(tmp_path), frames=True))
    publisher, metrics = Publisher("tcp://127.0.0.1:0"), Metrics()
    resolved = settings.resolved(Settings(publish=Publish(jpeg_quality=100)))
    own = StreamMetrics(metrics, "gate", ())
    writer = Writer(Identity("gate", "s", {}), resolved, Vocabulary(()), publisher, own, dict)
    writer.recorder = Recorder(tmp_path, "gate", 10.0, frames=True)
    grey = np.full((96, 96, 3), 90, np.uint8)
    plain = [replace(result, frame=replace(result.frame, image=grey)) for result in results(0, 1, 2, 3)]
    plain[1] = replace(plain[1], classes=(Label("day", 0.9),))
    plain[3] = replace(plain[3], epoch=1)
    writer.write(Outcome(tuple(plain)))
    writer.close("done")
    publisher.close()
    assert [bool(line["classes"]) for line in lines_of(tmp_path / "gate.masks.jsonl")] == [False, True, False, False]
    pictures = [cv2.imread(str(tmp_path / "gate-frames" / f"{index:06d}.jpg")) for index in range(4)]
    assert [bool((picture[-4:, :20] < 60).any()) for picture in pictures] == [False, True, True, False]


FRAMES, SEED, EVERY = 20, 6, 5
SHAPES = f"testsrc://shapes?seed={SEED}&frames={FRAMES}"


def run(folder: Path, *arguments: str, **environment: str) -> tuple[list[dict], str]:
    """The masks headers and the metrics of a run with the embedded classifier that ended well."""
    waits = {"MASKCAST_PUBLISH__WAIT_FOR": "0", "MASKCAST_CLASSIFICATION__EVERY": str(EVERY)}
    camera = ("--classifier", "embedded", "--record", str(folder), *arguments)
    program = Program(SHAPES, *camera, **waits, **environment)
    address = program.address("metrics")
    metrics = ""
    while program.process.poll() is None:
        try:
            metrics = get(address)[1]
        except OSError:
            break  # it has closed its port
    code, _, wrong = program.end()
    assert (code, wrong) == (0, [])
    return lines_of(folder / "shapes.masks.jsonl"), metrics


def test_run_puts_the_classes_of_frames_into_the_stream_and_times_them(tmp_path: Path) -> None:
    headers, metrics = run(tmp_path)
    world = ShapesWorld(SEED)
    assert [header["frame"] for header in headers if header["classes"]] == list(range(0, FRAMES, EVERY))
    for header in headers:
        validate(header)
        if header["classes"]:
            image, truth = world.render(header["frame"])
            assert header["classes"][0]["label"] == LABELS[name_colour(truth, image)[0]]
            assert len(header["classes"]) == 3
            assert all("id" not in named for named in header["classes"])
    count = 'maskcast_stage_seconds_count{stage="classify",stream="shapes"}'
    assert any(line.startswith(count) for line in metrics.splitlines())


def test_run_puts_the_classes_of_objects_into_the_stream_each_with_its_id(tmp_path: Path) -> None:
    world = ShapesWorld(SEED)
    prompts = ("--prompt", *dict.fromkeys(world.labels))
    headers, _ = run(tmp_path, *prompts, MASKCAST_CLASSIFICATION__TARGET="objects")
    right = []
    for header in headers:
        validate(header)
        shown = {item["id"]: item["box"] for item in header["objects"] if item["area"]}
        if header["frame"] % EVERY:
            assert header["classes"] == []
            continue
        assert [named["id"] for named in header["classes"]] == list(shown)
        image, truth = world.render(header["frame"])
        for named in header["classes"]:
            label, clear = name_colour(truth, image, np.array(shown[named["id"]], np.float32))
            right += [named["label"] == LABELS[label]] if clear else []
    assert len(right) >= 6
    assert np.mean(right) > 0.8


def test_check_loads_the_classifier_and_names_its_classes(capsys: pytest.CaptureFixture[str]) -> None:
    models = ["--detector", "embedded", "--segmenter", "embedded", "--classifier", "embedded", "--device", "cpu"]
    assert main(["check", *models, "--publish", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--json"]) == 0
    [found] = [f for f in json.loads(capsys.readouterr().out)["findings"] if f["subject"] == "classifier"]
    assert found["ok"]
    assert f"{len(load_card(EMBEDDED)[0].labels)} classes, such as nothing, mostly red" in found["detail"]


def test_a_classifier_that_cannot_be_loaded_ends_the_program_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "other.pt").write_bytes(b"something else")
    program = Program(SHAPES, "--classifier", str(tmp_path / "other.pt"))
    code, _, wrong = program.end()
    assert code == 1
    [line] = [line for line in wrong if line.startswith("maskcast: error: ")]
    assert f"{tmp_path / 'other.pt'} is not a checkpoint of `maskcast train`" in line


def test_image_names_the_classes_of_its_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, truth = ShapesWorld(SEED).render(0)
    cv2.imwrite(str(tmp_path / "x.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    models = ["--detector", "embedded", "--segmenter", "embedded", "--classifier", "embedded", "--device", "cpu"]
    out = ["--out", str(tmp_path / "out"), "--json"]
    assert main(["image", str(tmp_path / "x.png"), "--prompt", "red circle", *models, *out]) == 0
    [summary] = json.loads(capsys.readouterr().out)["pictures"]
    assert summary["classes"][0]["label"] == LABELS[name_colour(truth, image)[0]]
    assert json.loads((tmp_path / "out" / "x.json").read_text())["classes"] == summary["classes"]
