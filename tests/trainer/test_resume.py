"""A training that was stopped goes on to the same result, and only where it can."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.errors import ConfigError, ModelError, OutputError
from tests.support.small_disk import full_at
from tests.trainer.training import Watcher, small_recipe, train_here, two_colours
from trainer import checkpoint
from trainer.errors import InterruptedTraining, TrainingError
from trainer.training.files import BEST, LAST, METRICS
from trainer.training.training import Training

pytestmark = pytest.mark.slow

TIMES = ("seconds", "images_per_second")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 to train on, so 3 steps an epoch, and 4 for validation."""
    return two_colours(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted training of 2 epochs."""
    out = tmp_path_factory.mktemp("whole")
    train_here(pictures, out, small_recipe())
    return out


def interrupt_at(*places: tuple[int, int]) -> Callable[[Any], None]:
    """Ctrl-C in an epoch after a step."""

    def then(training: Any) -> None:
        if (training.epoch, training.step) in places:
            os.kill(os.getpid(), signal.SIGINT)

    return then


def timeless(state: Any) -> Any:
    """Without what a clock said."""
    if isinstance(state, dict):
        return {key: timeless(value) for key, value in state.items() if key not in TIMES}
    return [timeless(value) for value in state] if isinstance(state, list | tuple) else state


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Equal to the bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    else:
        assert one == other, where


@pytest.mark.parametrize("places", [[(0, 1)], [(0, 3), (1, 2)]], ids=["within an epoch", "at its end and in the next"])
def test_an_interrupted_training_goes_on_to_the_same_bits(
    pictures: Path, whole: Path, tmp_path: Path, places: list[tuple[int, int]]
) -> None:
    for epoch, step in places:
        with pytest.raises(InterruptedTraining, match=f"maskcast train --resume --out {tmp_path}"):
            train_here(pictures, tmp_path, small_recipe(), Watcher(interrupt_at((epoch, step))))
        saved = torch.load(tmp_path / LAST, weights_only=True)
        assert (saved["epoch"], saved["step"]) == (epoch, step)
    train_here(pictures, tmp_path, small_recipe())
    for name in (BEST, LAST):
        one, other = (torch.load(out / name, weights_only=True) for out in (tmp_path, whole))
        assert_same(timeless(one), timeless(other))
    one, other = ((out / METRICS).read_text().splitlines() for out in (tmp_path, whole))
    assert [timeless(json.loads(line)) for line in one] == [timeless(json.loads(line)) for line in other]


def test_the_seed_decides_the_result(pictures: Path, whole: Path, tmp_path: Path) -> None:
    """Which shows that the comparison above can fail."""
    train_here(pictures, tmp_path, small_recipe(seed=1, epochs=1))
    first, other = (json.loads((out / METRICS).read_text().splitlines()[0]) for out in (tmp_path, whole))
    assert first["train_loss"] != other["train_loss"]


def test_a_finished_training_is_only_measured_again(pictures: Path, whole: Path) -> None:
    before = torch.load(whole / LAST, weights_only=True)
    stepped: list[int] = []
    summary = train_here(pictures, whole, small_recipe(), Watcher(lambda training: stepped.append(training.step)))
    assert (stepped, summary["epochs"]) == ([], 2)
    assert_same(torch.load(whole / LAST, weights_only=True), before)


def test_a_training_ends_when_it_gets_no_better(pictures: Path, tmp_path: Path) -> None:
    """The colours are learned at once, or never: either way the accuracy soon rises no more."""
    summary = train_here(pictures, tmp_path, small_recipe(epochs=30, patience=1, lr=1e-9))
    saved = torch.load(tmp_path / LAST, weights_only=True)
    assert saved["waited"] == 1
    assert summary["epochs"] == summary["best_epoch"] + 1 < 30
    accuracies = [row["val_accuracy"] for row in saved["history"]]
    assert saved["best"] == max(accuracies) == accuracies[summary["best_epoch"] - 1]
    assert torch.load(tmp_path / BEST, weights_only=True)["epoch"] == summary["best_epoch"]


@pytest.mark.parametrize(("batch", "told"), [(36, True), (12, False)])
def test_few_steps_in_large_batches_are_told_before_they_are_taken(
    pictures: Path, tmp_path: Path, batch: int, told: bool
) -> None:
    watcher = Watcher()
    train_here(pictures, tmp_path, small_recipe(batch_size=batch, epochs=1), watcher)
    advice = "steps in all: 1; with so few pictures a smaller --batch-size, such as 16, learns more"
    assert (advice in watcher.said) == told


def test_other_labels_are_refused(whole: Path, tmp_path: Path) -> None:
    other = two_colours(tmp_path, 6)
    (other / "red").rename(other / "green")
    with pytest.raises(ConfigError, match="the checkpoint's classes are blue, red, the data's blue, green"):
        train_here(other, whole, small_recipe())


def test_pictures_that_were_added_or_taken_away_since_are_refused(pictures: Path, whole: Path, tmp_path: Path) -> None:
    """Another tenth would be held out, of which most have been learned."""
    copy = tmp_path / "pictures"
    shutil.copytree(pictures, copy)
    (copy / "red" / "000.jpg").unlink()
    with pytest.raises(ConfigError, match=r"had 36 \+ 4 pictures, the data has 35 \+ 4; .* without --resume"):
        train_here(copy, whole, small_recipe())


def test_a_checkpoint_without_a_training_is_refused(whole: Path, tmp_path: Path) -> None:
    contents = torch.load(whole / LAST, weights_only=True)
    torch.save({key: contents[key] for key in ("maskcast", "card", "model")}, tmp_path / LAST)
    with pytest.raises(ConfigError, match="holds a model but no training"):
        checkpoint.read(tmp_path / LAST)


@pytest.mark.parametrize("contents", [{"state_dict": {}}, {"maskcast": 99, "card": {}, "model": {}}, "text"])
def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path, contents: object) -> None:
    torch.save(contents, tmp_path / LAST)
    with pytest.raises(ModelError, match=str(tmp_path / LAST)):
        checkpoint.read(tmp_path / LAST)


def test_an_interrupt_while_a_file_is_written_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "last.pt").write_text("old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write_whole(tmp_path / "last.pt", b"new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("last.pt", "old")]


def test_a_full_disk_leaves_the_checkpoint_before_as_it_was(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptedTraining):
        train_here(pictures, tmp_path, small_recipe(), Watcher(interrupt_at((0, 1))))
    before = (tmp_path / LAST).read_bytes()
    with full_at(1_000_000), pytest.raises(OutputError, match=r"cannot write .*/best.pt \(\d+ MB\): File too large"):
        train_here(pictures, tmp_path, small_recipe())
    assert (tmp_path / LAST).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


@pytest.mark.parametrize(("fits", "expected"), [(5, "--batch-size 3 fits"), (0, "not even one picture fits")])
def test_out_of_memory_names_the_batch_size_that_fits(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: int, expected: str
) -> None:
    """A GPU of which it is known how many pictures it holds; the probe takes real steps."""
    learn, tried = Training.learn, []

    def learn_what_fits(self: Training, images: torch.Tensor, targets: torch.Tensor) -> None:
        tried.append(len(targets))
        if len(targets) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
        learn(self, images, targets)

    monkeypatch.setattr(Training, "learn", learn_what_fits)
    with pytest.raises(TrainingError, match=f"out of memory with --batch-size 12: {expected}") as error:
        train_here(pictures, tmp_path, small_recipe())
    assert "\n" not in str(error.value)
    assert tried == ([12, 6, 3] if fits else [12, 6, 3, 1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("batch", [12, 36], ids=["while it learns", "in the only step, so that validation shows it"])
def test_a_training_that_diverges_says_so(pictures: Path, tmp_path: Path, batch: int) -> None:
    with pytest.raises(TrainingError, match=r"the loss is not a number in epoch 1; .* lower --lr"):
        train_here(pictures, tmp_path, small_recipe(lr=1e30, epochs=1, batch_size=batch))
    assert not (tmp_path / BEST).exists()
