"""The report of an evaluation: report.md, per_class.csv, confusion_matrix.png and training_curves.png.

Each row of ``history`` is a line of metrics.jsonl: epoch, train_loss, train_accuracy, val_loss, val_accuracy, lr.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support, top_k_accuracy_score

from stages.plural import plural
from trainer.checkpoint import create_folder, write_atomically
from trainer.report.class_names import PlotNames, plot_names
from trainer.report.plots import draw_confusion, draw_curves

_MAX_CONFUSIONS = 10  # in the report


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Predictions of a model, or of an ensemble, for N images."""

    labels: tuple[str, ...]
    truth: NDArray[np.int64]  # (N,) true class, an index into the labels; N > 0
    scores: NDArray[np.float32]  # (N, classes), each row adds up to 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """The confusion matrix, [true class, predicted class]."""
        matrix: NDArray[np.int64] = confusion_matrix(self.truth, self.scores.argmax(1), labels=range(len(self.labels)))
        return matrix

    def summary(self) -> dict[str, float]:
        """accuracy, top5_accuracy with more than 5 classes, macro_f1 over classes with images, log_loss."""
        classes = range(len(self.labels))
        metrics = {"accuracy": float((self.scores.argmax(1) == self.truth).mean())}
        if len(classes) > 5:
            metrics["top5_accuracy"] = float(top_k_accuracy_score(self.truth, self.scores, k=5, labels=classes))
        f1 = [row.f1 for row in self.per_class() if row.images]
        metrics["macro_f1"] = float(np.mean(f1))
        double = self.scores.astype(np.float64)
        metrics["log_loss"] = float(log_loss(self.truth, double / double.sum(1, keepdims=True), labels=classes))
        return metrics

    def per_class(self) -> list["ClassRow"]:
        """One row per class, in the order of the labels."""
        counts, predicted = self.counts, self.scores.argmax(1)
        wrong = counts - np.diag(np.diag(counts))
        precision, recall, f1, images = precision_recall_fscore_support(
            self.truth, predicted, labels=range(len(self.labels)), zero_division=0
        )
        return [
            ClassRow(
                label,
                int(images[i]),
                float(precision[i]),
                float(recall[i]),
                float(f1[i]),
                self.labels[wrong[i].argmax()] if wrong[i].any() else "",
            )
            for i, label in enumerate(self.labels)
        ]


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Metrics of one class."""

    label: str
    images: int
    precision: float
    recall: float
    f1: float
    taken_for: str  # the class most often predicted by mistake; "" if there is none


def write_report(
    folder: Path, predictions: Predictions, about: Mapping[str, str], history: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write the files into ``folder``, each atomically; curves only with a ``history``. Raises OutputError.

    ``about``: rows of the report about the model and the data.
    """
    create_folder(folder, 0)
    if history:
        write_atomically(folder / "training_curves.png", draw_curves(history))
    names = plot_names(predictions.labels)
    write_atomically(folder / "confusion_matrix.png", draw_confusion(names, predictions.counts))
    write_atomically(folder / "per_class.csv", _csv(predictions.per_class()).encode())
    write_atomically(folder / "report.md", _text(predictions, names, about, history).encode())


def _csv(rows: Sequence[ClassRow]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["class", "pictures", "precision", "recall", "f1", "most_often_taken_for"])
    for row in rows:
        metrics = [f"{value:.4f}" for value in (row.precision, row.recall, row.f1)]
        writer.writerow([row.label, row.images, *metrics, row.taken_for])
    return text.getvalue()


def _text(
    predictions: Predictions, names: PlotNames, about: Mapping[str, str], history: Sequence[Mapping[str, Any]]
) -> str:
    metrics = predictions.summary()
    correct, total = int(np.trace(predictions.counts)), len(predictions.truth)
    rows = {
        **about,
        "accuracy": f"**{metrics.pop('accuracy'):.2%}** ({correct:,} of {total:,} {plural(total, 'picture')})",
    }
    if "top5_accuracy" in metrics:
        rows["true class among the best five"] = f"{metrics['top5_accuracy']:.2%}"
    rows |= {"macro F1": f"{metrics['macro_f1']:.4f}", "log loss": f"{metrics['log_loss']:.4f}"}
    parts = [
        "# Report",
        _table(["", ""], list(rows.items())),
        "## Classes",
        _classes(predictions),
        "## Confusions",
        _confusions(predictions),
        "![Confusion matrix](confusion_matrix.png)",
    ]
    if names.numbered:
        rows_of_numbers = [(names.names[index], predictions.labels[index]) for index in names.numbered]
        parts += ["The picture has numbers in the place of names that cannot be drawn on this machine:"]
        parts += [_table(["number", "class"], rows_of_numbers)]
    if history:
        parts += ["## Training", _epochs(history), "![Training curves](training_curves.png)"]
        parts.append(
            "Training figures are taken while the weights change, on augmented pictures, with dropout and smoothed "
            "labels, so they may be worse than those of validation."
        )
    return "\n\n".join(parts) + "\n"


def _classes(predictions: Predictions) -> str:
    rows = [
        (row.label, f"{row.images:,}", f"{row.precision:.2%}", f"{row.recall:.2%}", f"{row.f1:.4f}", row.taken_for)
        for row in predictions.per_class()
    ]
    return _table(["class", "pictures", "precision", "recall", "F1", "most often taken for"], rows)


def _confusions(predictions: Predictions) -> str:
    counts, labels = predictions.counts, predictions.labels
    pairs = [(int(n), true, wrong) for (true, wrong), n in np.ndenumerate(counts) if n and true != wrong]
    if not pairs:
        return "None."
    pairs.sort(key=lambda pair: -pair[0])
    rows = [(labels[true], labels[wrong], n, f"{n / counts[true].sum():.2%}") for n, true, wrong in pairs]
    return _table(["true class", "taken for", "pictures", "of the class"], rows[:_MAX_CONFUSIONS])


def _epochs(history: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            line["epoch"],
            f"{line['train_loss']:.4f}",
            f"{line['train_accuracy']:.2%}",
            f"{line['val_loss']:.4f}",
            f"{line['val_accuracy']:.2%}",
            f"{line['lr']:.3g}",
        )
        for line in history
    ]
    heads = ["epoch", "training loss", "training accuracy", "validation loss", "validation accuracy", "learning rate"]
    return _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; pipes in cells are escaped, line breaks become spaces."""
    lines = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
