"""Training samples of the detector: images of the test source with captions."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torchvision.ops import box_convert

from stages.testsrc.bodies import COLOURS, LABELS, SHAPES
from stages.testsrc.truth import World
from trainer.embedded.grounding_dino import CLS, DOT, SEP, UNK
from trainer.embedded.worlds import MEAN, STD

CLEARLY_VISIBLE = 0.3  # visible share from which on a shape counts as an object; below, its phrase is not used
UNKNOWN = -1  # a phrase of words that are not in the vocabulary


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and its caption: phrases as indices into LABELS, or UNKNOWN."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    phrases: list[int]
    boxes: torch.Tensor  # (N, 4) cxcywh in [0, 1]
    phrase_of_box: torch.Tensor  # (N,) index into phrases


def draw_sample(rng: np.random.Generator, world: World, max_phrases: int = 6) -> Sample:
    """A random frame of ``world`` with random phrases, present and absent ones."""
    image, truth = world.render(int(rng.integers(0, 600)))
    labels = [LABELS.index(label) for label in truth.labels]
    unclear = {n for n, share in zip(labels, truth.visible, strict=True) if 0.02 < share < CLEARLY_VISIBLE}
    present = {n for n, share in zip(labels, truth.visible, strict=True) if share >= CLEARLY_VISIBLE}
    phrases = draw_phrases(
        rng, sorted(present - unclear), sorted(set(range(len(LABELS))) - present - unclear), max_phrases
    )
    keep = [i for i, n in enumerate(labels) if n in phrases and truth.visible[i] >= CLEARLY_VISIBLE]
    boxes = torch.from_numpy(truth.boxes[keep] / np.array([world.width, world.height] * 2, np.float32))
    return Sample(
        image,
        phrases,
        box_convert(boxes.view(-1, 4), "xyxy", "cxcywh"),
        torch.tensor([phrases.index(labels[i]) for i in keep], dtype=torch.long),
    )


def draw_phrases(rng: np.random.Generator, present: list[int], absent: list[int], most: int) -> list[int]:
    """Some present phrases, and absent ones that mostly share a colour or shape with a present one (hard negatives)."""
    present = list(rng.permutation(present)) if present else []
    positives = [int(n) for n in present[: int(rng.integers(0 if rng.random() < 0.15 else 1, 5))]]
    similar = [
        n
        for n in absent
        if any(n // len(SHAPES) == s // len(SHAPES) or n % len(SHAPES) == s % len(SHAPES) for s in present)
    ]
    phrases = list(positives)
    for _ in range(int(rng.integers(0 if positives else 1, max(2, most - len(positives) + 1)))):
        if rng.random() < 0.08:
            phrases.append(UNKNOWN)
        else:
            negative = int(rng.choice(similar if similar and rng.random() < 0.65 else absent))
            if negative not in phrases:
                phrases.append(negative)
    return [int(n) for n in rng.permutation(phrases)]


def encode_captions(rng: np.random.Generator, samples: list[Sample], words: dict[str, int]) -> torch.Tensor:
    """(B, L) token ids, padded with 0. Some phrases get an article or a plural, as in real prompts."""
    rows = []
    for sample in samples:
        row = [CLS]
        for phrase in sample.phrases:
            if phrase == UNKNOWN:
                known = [words[w] for w in (*COLOURS, *SHAPES)]
                row += [[UNK], [UNK, UNK], [int(rng.choice(known)), UNK]][int(rng.integers(3))]
            else:
                if rng.random() < 0.05:
                    row.append(words[str(rng.choice(["a", "the"]))])
                row += [words[word] for word in LABELS[phrase].split()]
                if rng.random() < 0.05:
                    row.append(words["##s"])
            row.append(DOT)
        rows.append([*row, SEP])
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for padded, row in zip(ids, rows, strict=True):
        padded[: len(row)] = torch.tensor(row)
    return ids


class Inputs(NamedTuple):
    """B pictures and captions as the model takes them, and what it is to find."""

    pixels: torch.Tensor  # (B, 3, size, size), normalised
    ids: torch.Tensor  # (B, L) tokens, padded with 0
    targets: list[dict[str, torch.Tensor]]  # "boxes" (N, 4) cxcywh in [0, 1], "class_labels" (N,) index of the phrase

    @property
    def mask(self) -> torch.Tensor:
        """(B, L) 1 for each token of a caption."""
        return (self.ids != 0).long()

    def to(self, device: torch.device) -> "Inputs":
        """The same on a device."""
        targets = [{name: value.to(device) for name, value in each.items()} for each in self.targets]
        return Inputs(self.pixels.to(device), self.ids.to(device), targets)


def encode(samples: list[Sample], ids: torch.Tensor, size: int) -> Inputs:
    """The samples with their captions ``ids`` (B, L) for a model with inputs of this size."""
    targets = [{"class_labels": sample.phrase_of_box, "boxes": sample.boxes} for sample in samples]
    return Inputs(_pixels(samples, size), ids, targets)


def _pixels(samples: list[Sample], size: int) -> torch.Tensor:
    """(B, 3, size, size), resized and normalised as by the saved processor."""
    images = (torch.from_numpy(s.image.copy()).permute(2, 0, 1)[None].float() / 255 for s in samples)
    resized = [F.interpolate(image, (size, size), mode="bilinear", antialias=True) for image in images]
    return (torch.cat(resized) - MEAN) / STD
