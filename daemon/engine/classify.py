"""Which frames of a stream are classified, and what of them: the whole picture or each tracked object."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from daemon.engine.models import Classifier
from daemon.settings.schema import Classification
from stages.classification.crops import object_crops
from stages.types import Result


class ClassifySchedule:
    """Classifies the first frame of each epoch of one stream, and every ``every``-th from there."""

    def __init__(self, settings: Classification) -> None:
        self._settings = settings
        self._epoch: int | None = None
        self._frames = 0  # of this epoch

    def classify(self, classifier: Classifier, results: Sequence[Result]) -> tuple[list[Result], Mapping[str, float]]:
        """The results of one window, in order, with ``classes`` on the scheduled ones; and the seconds it took.

        All of a window's pictures are classified in one batch. After an error the next scheduled frame is tried.
        """
        scheduled = [index for index, result in enumerate(results) if self._is_scheduled(result)]
        if not scheduled:
            return list(results), {}
        started = time.perf_counter()
        classified = classify(classifier, self._settings.target, [results[index] for index in scheduled])
        merged = list(results)
        for index, result in zip(scheduled, classified, strict=True):
            merged[index] = result
        return merged, {"classify": time.perf_counter() - started}

    def _is_scheduled(self, result: Result) -> bool:
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
