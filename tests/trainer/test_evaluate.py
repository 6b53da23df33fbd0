"""`maskcast evaluate`: what a checkpoint scores, alone and in an ensemble, on pictures that it has not learned."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.classification.card import Card, Preprocessing
from stages.classification.classifier import Classifier, build_model, checkpoint
from tests.cli.in_process import error_here, printed_here
from tests.cli.test_cli import maskcast
from tests.trainer.training import small_recipe, train_here, two_colours
from trainer.data.datasets import load_data
from trainer.data.images import ImageDataset
from trainer.evaluate import open_network, predict, select_split, ten_crop_views
from trainer.export import export
from trainer.training.machine import new_accelerator

CPU = ("--device", "cpu", "--workers", "0")
DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_colours(tmp_path_factory.mktemp("colours"), 20)


@pytest.fixture(scope="module")
def trained(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a seed of its own, so that its validation pictures are not those of the default."""
    out = tmp_path_factory.mktemp("trained")
    train_here(colours, out, small_recipe(epochs=1, seed=5))
    return out / "best.pt"


def untrained(path: Path, seed: int, labels: tuple[str, ...] = ("blue", "red"), size: int = 32) -> Path:
    torch.manual_seed(seed)
    model = build_model("compact_vit", len(labels), options={"image_size": size})
    card = Card("compact_vit", labels, Preprocessing(size), options={"image_size": size})
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint(card, model), path)
    return path


def scores(path: Path, pictures: ImageDataset, tta: bool = False) -> np.ndarray:
    network = open_network(str(path), new_accelerator("cpu", "float32", 0, 1))
    return predict(network, pictures, DEVICE, tta=tta)


@pytest.mark.process
def test_by_default_it_measures_on_the_pictures_that_the_training_held_out(colours: Path, trained: Path) -> None:
    """The checkpoint tells the seed that chose them; what was measured then comes out again."""
    done = maskcast("evaluate", str(trained), "--data", str(colours), "--json", *CPU)
    assert done.returncode == 0, done.stderr
    summary, then = json.loads(done.stdout), Classifier(trained, DEVICE, torch.float32).card.metrics
    assert (summary["split"], summary["pictures"]) == ("val", 4)
    assert summary["accuracy"] == pytest.approx(then["val_accuracy"])
    assert summary["log_loss"] == pytest.approx(then["val_loss"], rel=1e-4)


@pytest.mark.slow
def test_an_onnx_file_too_tells_which_pictures_were_held_out(
    colours: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(str(trained), tmp_path / "gate.onnx")
    printed = printed_here(capsys, "evaluate", str(tmp_path / "gate.onnx"), "--data", str(colours), "--json", *CPU)
    summary, then = json.loads(printed), Classifier(trained, DEVICE, torch.float32).card.metrics
    assert (summary["split"], summary["pictures"]) == ("val", 4)
    assert summary["log_loss"] == pytest.approx(then["val_loss"], rel=1e-4)


def test_scores_are_those_of_the_daemons_stage(colours: Path, trained: Path) -> None:
    _, pictures = select_split(load_data(str(colours), 0), "all")
    assert len(pictures) == 40
    classifier = Classifier(trained, DEVICE, torch.float32)
    named = classifier.classify([pictures[i][0].permute(1, 2, 0).numpy() for i in range(40)])
    ours = scores(trained, pictures)
    theirs = [{label.label: label.score for label in labels} for labels in named]
    np.testing.assert_allclose(ours, [[one["blue"], one["red"]] for one in theirs], atol=1e-6)


def test_the_ten_views_are_shifts_by_an_eighth_and_their_mirrors() -> None:
    """Counted out on numbered pixels, reflected at the edge."""
    picture = torch.arange(3 * 16 * 16, dtype=torch.float32).reshape(1, 3, 16, 16)
    padded = np.pad(picture.numpy(), [(0, 0), (0, 0), (2, 2), (2, 2)], mode="reflect")
    shifted = [padded[..., y : y + 16, x : x + 16] for y, x in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))]
    expected = {view.tobytes() for one in shifted for view in (one, one[..., ::-1])}
    found = {view.numpy().tobytes() for view in ten_crop_views(picture)}
    assert found == expected
    assert len(found) == 10


def test_with_tta_the_scores_are_the_mean_over_the_views(colours: Path, tmp_path: Path) -> None:
    path = untrained(tmp_path / "a.pt", 1)
    _, pictures = select_split(load_data(str(colours), 0), "val")
    network = open_network(str(path), new_accelerator("cpu", "float32", 0, 1))
    batch = network.card.preprocessing(torch.stack([pictures[i][0] for i in range(len(pictures))]))
    with torch.inference_mode():
        expected = torch.stack([network.forward(view).softmax(1) for view in ten_crop_views(batch)]).mean(0)
    found = scores(path, pictures, tta=True)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert np.abs(found - scores(path, pictures)).max() > 1e-4


def test_an_ensemble_is_the_mean_of_its_members_whatever_their_sizes(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also through the command: its log loss is that of the mean, and the report is of the ensemble."""
    paths = [untrained(tmp_path / "a.pt", 1), untrained(tmp_path / "b.pt", 2, size=48)]
    asked = (*map(str, paths), "--data", str(colours), "--split", "all", "--json", "--out", str(tmp_path), *CPU)
    summary = json.loads(printed_here(capsys, "evaluate", *asked))
    _, pictures = select_split(load_data(str(colours), 0), "all")
    each = [scores(path, pictures) for path in paths]
    rows = np.arange(40)
    mean = (each[0] + each[1]) / 2
    assert summary["log_loss"] == pytest.approx(-np.log(mean[rows, pictures.targets]).mean(), rel=1e-4)
    for one, alone in zip(each, summary["checkpoints"], strict=True):
        assert alone["log_loss"] == pytest.approx(-np.log(one[rows, pictures.targets]).mean(), rel=1e-4)
    right = int((mean.argmax(1) == pictures.targets).sum())
    assert f"({right} of 40 pictures)" in (tmp_path / "report.md").read_text()


def test_a_folder_may_lack_classes_that_the_checkpoint_knows(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Classes are matched by name, not by position."""
    path = untrained(tmp_path / "a.pt", 1, ("amber", "red", "blue"))
    printed_here(capsys, "evaluate", str(path), "--data", str(colours), "--split", "all", "--out", str(tmp_path), *CPU)
    table = [line.split(",")[:2] for line in (tmp_path / "per_class.csv").read_text().splitlines()[1:]]
    assert table == [["amber", "0"], ["red", "20"], ["blue", "20"]]


@pytest.mark.parametrize(
    ("others", "arguments", "said"),
    [
        (("blue", "green"), (), r"other classes than .*a\.pt \(green, red\)"),
        (("red", "blue"), (), r"other classes than .*a\.pt \(their order\)"),
        (None, ("--split", "test"), "no folder named test"),
        (None, ("--device", "cuda"), "--device cuda"),
        (None, ("--workers", "-1"), "--workers: -1: give a number"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    colours: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    others: tuple[str, ...] | None,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    paths = [untrained(tmp_path / "a.pt", 1)]
    paths += [untrained(tmp_path / "b.pt", 2, others)] if others else []
    asked = (*map(str, paths), "--data", str(colours), *CPU, *arguments)
    assert re.search(said, error_here(capsys, "evaluate", *asked, code=2))


def test_a_class_that_the_checkpoint_does_not_know_is_one_line(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = untrained(tmp_path / "a.pt", 1, ("green", "red"))
    assert "the class blue, which the checkpoint does not know (it knows green, red)" in error_here(
        capsys, "evaluate", str(path), "--data", str(colours), *CPU, code=2
    )


def test_pictures_that_another_member_has_learned_are_refused(
    colours: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two seeds held out different pictures of one folder."""
    contents = torch.load(trained, weights_only=True)
    contents["card"]["seed"] = 6
    torch.save(contents, tmp_path / "other.pt")
    both = (str(trained), str(tmp_path / "other.pt"))
    assert "seeds 5, 6" in error_here(capsys, "evaluate", *both, "--data", str(colours), *CPU, code=2)
    printed_here(capsys, "evaluate", *both, "--data", str(colours), "--split", "all", *CPU)
