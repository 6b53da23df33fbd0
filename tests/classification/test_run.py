"""Classes in the output of `maskcast run`, `check` and `image`, with the embedded classifier."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from daemon.__main__ import main
from stages.classification.classifier import EMBEDDED, load_checkpoint
from stages.testsrc.world import ShapesWorld
from tests.output.test_wire import validate
from tests.support.program import Program, get, lines_of
from trainer.embedded.classifier import LABELS, dominant_colour

pytestmark = pytest.mark.process  # most of these tests

pytestmark = pytest.mark.process  # most of these tests

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
            assert header["classes"][0]["label"] == LABELS[dominant_colour(truth, image)[0]]
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
            label, clear = dominant_colour(truth, image, np.array(shown[named["id"]], np.float32))
            right += [named["label"] == LABELS[label]] if clear else []
    assert len(right) >= 6
    assert np.mean(right) > 0.8


def test_check_loads_the_classifier_and_names_its_classes(capsys: pytest.CaptureFixture[str]) -> None:
    models = ["--detector", "embedded", "--segmenter", "embedded", "--classifier", "embedded", "--device", "cpu"]
    assert main(["check", *models, "--publish", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--json"]) == 0
    [found] = [f for f in json.loads(capsys.readouterr().out)["findings"] if f["subject"] == "classifier"]
    assert found["ok"]
    assert f"{len(load_checkpoint(EMBEDDED)[0].labels)} classes, such as nothing, mostly red" in found["detail"]


def test_a_classifier_that_cannot_be_loaded_ends_the_program_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "other.pt").write_bytes(b"something else")
    program = Program(SHAPES, "--classifier", str(tmp_path / "other.pt"))
    code, _, wrong = program.end()
    assert code == 1
    [line] = [line for line in wrong if line.startswith("maskcast: error: ")]
    assert f"{tmp_path / 'other.pt'} is a text, not the weights" in line


def test_image_names_the_classes_of_its_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, truth = ShapesWorld(SEED).render(0)
    cv2.imwrite(str(tmp_path / "x.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    models = ["--detector", "embedded", "--segmenter", "embedded", "--classifier", "embedded", "--device", "cpu"]
    out = ["--out", str(tmp_path / "out"), "--json"]
    assert main(["image", str(tmp_path / "x.png"), "--prompt", "red circle", *models, *out]) == 0
    [summary] = json.loads(capsys.readouterr().out)["pictures"]
    assert summary["classes"][0]["label"] == LABELS[dominant_colour(truth, image)[0]]
    assert json.loads((tmp_path / "out" / "x.json").read_text())["classes"] == summary["classes"]
