"""When a stream's frames are classified, and what of them: the whole picture or each tracked object."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from daemon.settings.schema import Classification
from stages.classification.crops import object_crops
from stages.types import Image, Label, Result


class Classifier(Protocol):
    """stages.classification.classifier.Classifier, as far as the daemon knows it."""

    def classify(self, images: Sequence[Image], top: int = 3) -> list[tuple[Label, ...]]: ...


class ClassifySchedule:
    """The frames of one stream whose turn it is: the first of an epoch, and from there every ``every``-th."""

    def __init__(self, settings: Classification) -> None:
        self._settings = settings
        self._epoch: int | None = None
        self._frames = 0  # of this epoch

    def classify(self, classifier: Classifier, results: Sequence[Result]) -> tuple[list[Result], Mapping[str, float]]:
        """The results of one window, in order, with ``classes`` on those whose turn it is; and the seconds it took.

        All of a window's pictures are classified together. A frame whose turn was lost to an error waits for the next.
        """
        turns = [place for place, result in enumerate(results) if self._is_next(result)]
        if not turns:
            return list(results), {}
        started = time.perf_counter()
        named = classify(classifier, self._settings.target, [results[place] for place in turns])
        told = list(results)
        for place, result in zip(turns, named, strict=True):
            told[place] = result
        return told, {"classify": time.perf_counter() - started}

    def _is_next(self, result: Result) -> bool:
        if result.epoch != self._epoch:
            self._epoch, self._frames = result.epoch, 0
        self._frames += 1
        return (self._frames - 1) % self._settings.every == 0


def classify(classifier: Classifier, target: str, results: Sequence[Result]) -> list[Result]:
    """``results`` with their classes: the best three of the "frame", or the best of each of its "objects"."""
    if target == "frame":
        named = classifier.classify([result.frame.image for result in results])
        return [replace(result, classes=classes) for result, classes in zip(results, named, strict=True)]
    crops = [object_crops(result) for result in results]
    best = iter(classifier.classify([image for found in crops for _, image in found], top=1))
    classes = [tuple(replace(label, id=track) for track, _ in found for label in next(best)) for found in crops]
    return [replace(result, classes=own) for result, own in zip(results, classes, strict=True)]
