"""`maskcast search`: every point of a grid is trained once, whatever interrupts it; a table and a plot tell of it."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from daemon.__main__ import main
from stages.errors import ConfigError, OutputError
from tests.cli.in_process import error_here
from tests.cli.test_cli import maskcast
from tests.trainer.training import two_colours
from trainer.errors import InterruptedTraining, TrainingError
from trainer.search import search

GRID = {"lr": [1e-4, 1e-3], "batch_size": [8, 16]}
SETTINGS = {"data": "pictures", "epochs": 1}


class Trainer:
    """Stands for a training whose result is known: best at the lower rate and the larger batch."""

    def __init__(self, errors: dict[int, Exception] | None = None) -> None:
        self.folders: list[str] = []
        self._errors = errors or {}  # by the number of the training, from 1

    def __call__(self, values: dict[str, Any], folder: Path) -> dict[str, Any]:
        self.folders.append(folder.name)
        if len(self.folders) in self._errors:
            raise self._errors[len(self.folders)]
        accuracy = 0.9 - 100 * values["lr"] + values["batch_size"] / 1000
        return {
            "val_accuracy": accuracy,
            "test_accuracy": None,
            "best_epoch": 1,
            "seconds": 1.0,
            "checkpoint": "best.pt",
        }


def table(out: Path) -> list[dict[str, str]]:
    with (out / "search.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_point_is_trained_once_and_the_best_comes_first(tmp_path: Path) -> None:
    trainer = Trainer()
    rows = search(GRID, SETTINGS, tmp_path, trainer)
    assert sorted(trainer.folders) == [
        "lr=0.0001,batch_size=16", "lr=0.0001,batch_size=8", "lr=0.001,batch_size=16", "lr=0.001,batch_size=8",
    ]  # fmt: skip
    order = [(1e-4, 16), (1e-4, 8), (1e-3, 16), (1e-3, 8)]
    assert [(row["lr"], row["batch_size"]) for row in rows] == order
    assert [(float(row["lr"]), int(row["batch_size"])) for row in table(tmp_path)] == order
    assert float(table(tmp_path)[0]["val_accuracy"]) == rows[0]["val_accuracy"] == pytest.approx(0.906)
    with Image.open(tmp_path / "search.png") as plot:
        assert plot.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_finished_search_trains_nothing_again(tmp_path: Path) -> None:
    rows, trainer = search(GRID, SETTINGS, tmp_path, Trainer()), Trainer()
    assert search(GRID, SETTINGS, tmp_path, trainer) == rows
    assert trainer.folders == []


@pytest.mark.parametrize("error", [InterruptedTraining("stopped"), OutputError("disk full"), ValueError("a bug")])
def test_a_search_that_was_stopped_goes_on_with_what_was_not_finished(tmp_path: Path, error: Exception) -> None:
    """What ended before has its row; the training that was under way is done again, in its folder."""
    first, second = Trainer({3: error}), Trainer()
    with pytest.raises(type(error), match=str(error)):
        search(GRID, SETTINGS, tmp_path, first)
    assert len(table(tmp_path)) == 2
    rows = search(GRID, SETTINGS, tmp_path, second)
    assert len(rows) == 4
    assert len(second.folders) == 2
    assert first.folders[2] in second.folders
    assert sorted(first.folders[:2] + second.folders) == sorted({*first.folders, *second.folders})


def test_a_training_that_fails_is_a_row_with_its_reason_and_the_others_go_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer = Trainer({1: TrainingError("out of memory with --batch-size 8")})
    rows = search(GRID, SETTINGS, tmp_path, trainer)
    assert [row["val_accuracy"] is None for row in rows] == [False, False, False, True]
    assert rows[-1]["failed"] == table(tmp_path)[-1]["failed"] == "out of memory with --batch-size 8"
    assert capfd.readouterr() == ("", "")


def test_a_grid_can_grow(tmp_path: Path) -> None:
    """Only new points are trained, and every point has one row."""
    search(GRID, SETTINGS, tmp_path, Trainer())
    trainer = Trainer()
    rows = search({**GRID, "lr": [1e-4, 1e-3, 1e-5]}, SETTINGS, tmp_path, trainer)
    assert sorted(trainer.folders) == ["lr=1e-05,batch_size=16", "lr=1e-05,batch_size=8"]
    assert len(rows) == len({(row["lr"], row["batch_size"]) for row in rows}) == 6


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    search(GRID, SETTINGS, tmp_path, Trainer())
    with pytest.raises(ConfigError, match="has a search with epochs 1, not 2"):
        search(GRID, {**SETTINGS, "epochs": 2}, tmp_path, Trainer())


@pytest.mark.process
def test_the_command_trains_real_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two points, each with its model and report; the same command again only prints the table."""
    data, out = two_colours(tmp_path / "pictures", 20), tmp_path / "out"
    quick = ("--from-scratch", "--epochs", "1", "--workers", "0", "--device", "cpu")
    command = ("search", "--data", str(data), "--out", str(out), "--lr", "1e-3", "--batch-size", "12", "18", *quick)
    done = maskcast(*command, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert sorted(row["batch_size"] for row in rows) == [12, 18]
    for row in rows:
        folder = out / f"lr=0.001,batch_size={row['batch_size']}"
        assert row["checkpoint"] == str(folder / "best.pt")
        assert (folder / "report.md").exists()
        assert not (folder / "last.pt").exists()
        assert 0 <= row["val_accuracy"] <= 1
    assert (out / "search.png").exists()
    assert main(command) == 0
    again = capsys.readouterr()
    assert "epoch" not in again.err
    assert again.out.splitlines()[-1] == f"table: {out / 'search.csv'}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--lr", "0"), "--lr 0"),
        (("--unfreeze", "3", "--from-scratch"), "--unfreeze"),
        (("--data", "nowhere"), "--data nowhere"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    two_colours(tmp_path / "pictures", 3)
    asked = ("--data", str(tmp_path / "pictures"), "--out", str(tmp_path / "out"), *arguments)
    assert said in error_here(capsys, "search", *asked, code=2)
    assert not (tmp_path / "out").exists()
