"""What a training or an evaluation leaves for a person to read says what the model did."""

import csv
import os
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image

from stages.errors import OutputError
from tests.support.program import PATIENCE
from trainer.report.class_names import PlotNames, plot_names
from trainer.report.plots import draw_confusion, draw_curves
from trainer.report.report import Predictions, write_report

HISTORY = [
    {"epoch": n, "train_loss": 1 / n, "train_accuracy": 0.5, "val_loss": 2 / n, "val_accuracy": v, "lr": 1e-4}
    for n, v in ((1, 0.5), (2, 0.75), (3, 0.625))
]


def predictions(labels: tuple[str, ...], pairs: list[tuple[int, int]]) -> Predictions:
    """``pairs`` of true and predicted class; the predicted one gets 0.8, the others the rest."""
    scores = np.full((len(pairs), len(labels)), 0.2 / (len(labels) - 1), np.float32)
    for row, (_, predicted) in zip(scores, pairs, strict=True):
        row[predicted] = 0.8
    return Predictions(labels, np.array([true for true, _ in pairs]), scores)


@pytest.fixture
def gate() -> Predictions:
    """Of 4 open gates 3 are called open, of 6 closed ones 4; one has no picture and is never named."""
    pairs = [(0, 0)] * 3 + [(0, 1)] + [(1, 1)] * 4 + [(1, 0)] * 2
    return predictions(("open | ajar", "closed", "gone"), pairs)


def dark_pixels(picture: bytes) -> tuple[float, float]:
    """Where the darkest blue is, left of the colour bar: the mean row and column, as shares of the picture."""
    pixels = np.asarray(Image.open(BytesIO(picture)).convert("RGB")).astype(int)
    height, width = pixels.shape[:2]
    left = pixels[:, : int(width * 0.75)]
    rows, columns = np.nonzero((left[..., 2] - left[..., 0] > 60) & (left[..., 0] < 20))
    assert len(rows) > height * width * 0.02
    return float(rows.mean()) / height, float(columns.mean()) / width


def test_rows_of_the_confusion_matrix_are_true_classes_and_columns_predicted_ones() -> None:
    """What is first and is taken for the second shows above and to the right of the opposite."""
    upper, lower = (
        dark_pixels(draw_confusion(plot_names(("a", "b")), np.array(counts)))
        for counts in ([[0, 9], [0, 0]], [[0, 0], [9, 0]])
    )
    assert upper[0] < lower[0] - 0.2
    assert upper[1] > lower[1] + 0.2


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 20, 60])
def test_the_pictures_have_300_dots_an_inch_and_room_for_every_class(classes: int) -> None:
    labels = [f"a class with a long name, number {index}" for index in range(classes)]
    for picture in (draw_confusion(plot_names(labels), np.eye(classes, dtype=np.int64)), draw_curves(HISTORY)):
        image = Image.open(BytesIO(picture))
        assert image.format == "PNG"
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    width = Image.open(BytesIO(draw_confusion(plot_names(labels), np.eye(classes, dtype=np.int64)))).width
    assert width / 300 > 0.6 * min(classes, 30) + 2


def test_curves_can_be_drawn_of_a_single_epoch() -> None:
    assert Image.open(BytesIO(draw_curves(HISTORY[:1]))).size == Image.open(BytesIO(draw_curves(HISTORY))).size


def test_the_table_of_classes_agrees_with_counting_by_hand(tmp_path: Path, gate: Predictions) -> None:
    write_report(tmp_path, gate, {})
    with (tmp_path / "per_class.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["class", "pictures", "precision", "recall", "f1", "most_often_taken_for"],
        ["open | ajar", "4", "0.6000", "0.7500", "0.6667", "closed"],
        ["closed", "6", "0.8000", "0.6667", "0.7273", "open | ajar"],
        ["gone", "0", "0.0000", "0.0000", "0.0000", ""],
    ]


def test_the_summary_agrees_with_counting_by_hand(gate: Predictions) -> None:
    """A class without a picture does not count."""
    summary = gate.summary()
    assert set(summary) == {"accuracy", "macro_f1", "log_loss"}
    assert summary["accuracy"] == pytest.approx(0.7)
    assert summary["macro_f1"] == pytest.approx((2 / 3 + 8 / 11) / 2)
    assert summary["log_loss"] == pytest.approx(-0.7 * np.log(0.8) - 0.3 * np.log(0.1), rel=1e-6)


def test_with_more_than_five_classes_the_best_five_count_too() -> None:
    """Scores fall from class 0 to class 5: only who is class 5 is not among the best five."""
    scores = np.tile(np.array([6, 5, 4, 3, 2, 1], np.float32) / 21, (4, 1))
    summary = Predictions(tuple("abcdef"), np.array([0, 4, 5, 5]), scores).summary()
    assert (summary["accuracy"], summary["top5_accuracy"]) == (0.25, 0.5)


def test_the_report_names_what_was_measured_and_shows_pictures_that_are_there(
    tmp_path: Path, gate: Predictions
) -> None:
    write_report(tmp_path / "deep" / "out", gate, {"data": "frames"}, HISTORY)
    out = tmp_path / "deep" / "out"
    assert {path.name for path in out.iterdir()} == {
        "report.md", "per_class.csv", "confusion_matrix.png", "training_curves.png",
    }  # fmt: skip
    text = (out / "report.md").read_text()
    assert "| data | frames |" in text
    assert "**70.00%** (7 of 10 pictures)" in text
    assert "| closed | open \\| ajar | 2 | 33.33% |" in text
    assert "| 2 | 0.5000 | 50.00% | 1.0000 | 75.00% | 0.0001 |" in text
    assert sorted(re.findall(r"\]\((.*?)\)", text)) == ["confusion_matrix.png", "training_curves.png"]


def test_without_a_history_there_are_no_curves(tmp_path: Path, gate: Predictions) -> None:
    write_report(tmp_path, gate, {})
    assert not (tmp_path / "training_curves.png").exists()
    assert "training_curves" not in (tmp_path / "report.md").read_text()


STRANGE = ("\u05db\u05dc\u05d1", "\u0643\u0644\u0628", "\U00016b59 pahawh", "$5 or $10_x^", "line\nbreak", "caf\u00e9")


def test_a_name_that_cannot_be_drawn_is_a_number_that_the_report_explains(tmp_path: Path) -> None:
    """Hebrew, Arabic, a script that no font has, a formula to matplotlib; a warning would fail the test."""
    names = plot_names(STRANGE)
    assert names.names == ("#1", "#2", "#3", "$5 or $10_x^", "#5", "caf\u00e9")
    write_report(tmp_path, predictions(STRANGE, [(index, index) for index in range(6)]), {})
    text = (tmp_path / "report.md").read_text()
    assert "numbers in the place of names that cannot be drawn" in text
    assert f"| #3 | {STRANGE[2]} |" in text
    assert "| #5 | line break |" in text


def test_a_name_is_drawn_by_the_font_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A font that matplotlib brings along stands for one of the system."""
    arc = "\u2312"
    plain = [font for font in font_manager.fontManager.ttflist if font.style == "normal" and font.weight == 400]
    default, other = (next(font for font in plain if font.name == name) for name in ("DejaVu Sans", "DejaVu Sans Mono"))
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [default])
    assert plot_names(["a", arc]).names == ("a", "#2")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [default, other])
    assert plot_names(["a", arc]) == PlotNames(("a", arc), ("DejaVu Sans", "DejaVu Sans Mono"), ())


@pytest.mark.process
def test_a_home_that_cannot_be_written_is_no_matter_for_the_terminal() -> None:
    """matplotlib would tell that it has no place for its cache."""
    environment = {**os.environ, "MPLCONFIGDIR": "/proc/none"}
    command = [sys.executable, "-c", "import trainer.report.plots"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stderr == ""


@pytest.mark.slow
def test_a_thousand_classes_with_long_names_can_be_drawn() -> None:
    """Not all have room for their names."""
    labels = [f"class {index} {'x' * 300}" for index in range(1000)]
    assert Image.open(BytesIO(draw_confusion(plot_names(labels), np.eye(1000, dtype=np.int64)))).width > 3000


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path, gate: Predictions) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match=r"taken.*--out"):
        write_report(tmp_path / "taken", gate, {})
