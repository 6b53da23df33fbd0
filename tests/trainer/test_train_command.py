"""`maskcast train` as people call it: from pictures to a classifier, and what it says when that cannot be."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from daemon.__main__ import main
from stages.classification.classifier import Classifier
from stages.source.source import open_source
from tests.cli.in_process import error_here
from tests.cli.test_cli import maskcast
from tests.support.small_disk import on_small_disk
from tests.trainer.training import cifar, two_colours, write_picture

QUICK = ("--from-scratch", "--epochs", "2", "--batch-size", "16", "--device", "cpu", "--workers")


@pytest.mark.process
def test_200_real_pictures_become_a_classifier_with_its_report(tmp_path: Path) -> None:
    """The whole command line, on CIFAR-10."""
    data = cifar(tmp_path / "cifar", train=15, test=5)
    out = tmp_path / "out"
    done = maskcast("train", "--data", str(data), "--out", str(out), "--json", *QUICK, "1")
    assert done.returncode == 0, done.stderr
    assert "compact_vit: 3,818,570 parameters, 3,818,570 trainable (100.00%)" in done.stderr
    summary = json.loads(done.stdout)
    assert {path.name for path in out.iterdir()} == {
        "best.pt", "last.pt", "metrics.jsonl",
        "training_curves.png", "confusion_matrix.png", "per_class.csv", "report.md",
    }  # fmt: skip
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert max(row["val_accuracy"] for row in rows) == summary["val_accuracy"]
    classifier = Classifier(out / "best.pt", torch.device("cpu"), torch.float32)
    assert list(classifier.labels) == summary["labels"] == sorted(path.name for path in (data / "train").iterdir())
    assert classifier.card.metrics["test_accuracy"] == summary["test_accuracy"]
    tests = sorted((data / "test").rglob("*.jpg"))
    named = classifier.classify([read(path) for path in tests])
    right = sum(labels[0].label == path.parent.name for labels, path in zip(named, tests, strict=True))
    assert right / len(tests) == pytest.approx(summary["test_accuracy"])


def read(path: Path):
    import numpy as np

    return np.asarray(Image.open(path))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    """The one line of `maskcast train` that ends with ``code``."""
    return error_here(capsys, "train", *arguments, code=code)


@pytest.mark.slow
def test_a_classifier_learns_to_tell_two_colours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures of one class are all named so afterwards, also those it never saw."""
    data, out = two_colours(tmp_path / "pictures", 60), tmp_path / "out"
    (data / "red" / "broken.jpg").write_text("no picture")
    assert main(["train", "--data", str(data), "--out", str(out), "--seed", "3", "--class-weights", *QUICK, "0"]) == 0
    assert f"maskcast: skipped: cannot read {data}/red/broken.jpg" in capsys.readouterr().err
    classifier = Classifier(out / "best.pt", torch.device("cpu"), torch.float32)
    named: Counter[tuple[str, str]] = Counter()
    for name, colour in (("red", (180, 40, 40)), ("blue", (40, 40, 180))):
        for seed in range(1000, 1008):
            write_picture(tmp_path / "new.png", seed, colour, 48)
            [[best, _]] = classifier.classify([read(tmp_path / "new.png")])
            named[name, best.label] += 1
    assert named == {("red", "red"): 8, ("blue", "blue"): 8}


@pytest.mark.process
def test_ctrl_c_saves_says_how_to_go_on_and_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = two_colours(tmp_path / "pictures", 40), tmp_path / "out"
    command = [sys.executable, "-m", "daemon", "train", "--data", str(data), "--out", str(out), *QUICK, "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 1/2: loss" in line:  # the terminal sends it to the loader's processes too
                os.killpg(process.pid, signal.SIGINT)
                break
        left = process.stderr.read().splitlines()
    assert process.returncode == 130
    *progress, last = left
    assert last.endswith(f"error: stopped in epoch 2 of 2 and saved; go on with: maskcast train --resume --out {out}")
    assert all(line.startswith("maskcast: epoch 2/2 step ") for line in progress)
    assert torch.load(out / "last.pt", weights_only=True)["epoch"] == 1
    assert main(["train", "--resume", "--out", str(out), "--device", "cpu", "--workers", "0", "--json"]) == 0
    said = capsys.readouterr()
    assert "going on in epoch 2 of 2" in said.err
    assert json.loads(said.out)["epochs"] == 2


def test_what_is_there_is_not_overwritten_and_what_is_not_there_is_not_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "last.pt").touch()
    assert "has a training already" in refused(capsys, "--data", "x", "--out", str(tmp_path), code=2)
    assert "there is no" in refused(capsys, "--resume", "--out", str(tmp_path / "other"), code=2)
    assert "last.pt is empty" in refused(capsys, "--resume", "--out", str(tmp_path), code=1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--data is missing"),
        (["--data", "nowhere"], "--data nowhere: no such folder"),
        (["--data", "x", "--model", "resnet50"], "--model resnet50: torchvision has no such ViT or Swin"),
        (["--data", "x", "--epochs", "0"], "--epochs 0: give a number above 0"),
        (["--data", "x", "--every", "1s"], "--every goes with --frames-from"),
        (["--data", "x", "--frames-from", "a.mp4"], "--frames-from only cuts frames"),
        (["--data", "x", "--seed", "-1"], "--seed -1: give a number from 0 to 4294967295"),
        (["--frames-from", "a.mp4", "--every", "often"], "--every often: give a time above zero"),
    ],
)
def test_wrong_usage_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert expected in refused(capsys, *arguments, "--out", str(tmp_path / "out"), code=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.process
def test_no_room_for_the_checkpoints_shows_before_the_training(tmp_path: Path) -> None:
    data = two_colours(tmp_path / "pictures", 4)
    out = tmp_path / "small" / "out"
    command = [sys.executable, "-m", "daemon", "train", "--data", str(data), "--out", str(out), *QUICK, "1"]
    code, _, err = on_small_disk(tmp_path, command)
    *_, last = err.splitlines()
    assert (code, list((tmp_path / "kept" / "out").iterdir())) == (1, [])
    assert last.startswith(f"maskcast: error: {out} has 2 MB left and the checkpoints need 137 MB")


def test_flags_may_repeat_but_not_change_the_training_that_goes_on(tmp_path: Path) -> None:
    from stages.errors import ConfigError
    from trainer.commands.train import _same_recipe
    from trainer.training.recipe import FROM_SCRATCH

    contents = {"options": {"recipe": FROM_SCRATCH.to_dict()}}
    assert _same_recipe(contents, {"lr": 1e-3}) == FROM_SCRATCH
    with pytest.raises(ConfigError, match="--batch-size 64: the training to go on with has 128"):
        _same_recipe(contents, {"batch_size": 64})


def test_frames_of_a_recording_become_pictures_to_sort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One for each quarter of a second, named by its time, as it was shown then."""
    import cv2
    import numpy as np

    recording = tmp_path / "gate.avi"
    writer = cv2.VideoWriter(str(recording), cv2.VideoWriter.fourcc(*"MJPG"), 20, (64, 48))
    for index in range(21):
        writer.write(np.full((48, 64, 3), index * 10, np.uint8))
    writer.release()
    out = tmp_path / "frames"
    assert main(["train", "--frames-from", str(recording), "--every", "250ms", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"5 frames in {out}: sort them into {out}/<class>/, then maskcast train --data {out}")
    pictures = sorted(out.iterdir())
    assert [path.name for path in pictures] == [f"gate-{ms:09d}.jpg" for ms in (0, 250, 500, 750, 1000)]
    assert [round(float(read(path).mean()), -1) for path in pictures] == [0, 50, 100, 150, 200]


def test_a_camera_is_no_recording_and_its_password_stays_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live test source stands in for the camera once it is open."""
    monkeypatch.setattr("trainer.data.frames.open_source", lambda _: open_source("testsrc://shapes?live=1"))
    line = refused(capsys, "--frames-from", "rtsp://me:hush@camera/x", "--out", str(tmp_path / "out"), code=2)
    assert "rtsp://camera/***: it never ends" in line
    assert not (tmp_path / "out").exists()


def test_frames_of_a_url_have_names_that_every_file_system_takes(tmp_path: Path) -> None:
    assert main(["train", "--frames-from", "testsrc://shapes?seed=5&frames=2", "--out", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["shapes-seed-5-frames-2-000000000.jpg"]


def test_a_recording_that_cannot_be_read_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.mp4" in refused(capsys, "--frames-from", str(tmp_path / "none.mp4"), code=1)
