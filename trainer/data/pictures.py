"""Pictures on their way from files to batches on the device."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from PIL import ImageOps
from torch.utils.data import Dataset
from torchvision.transforms import v2

from stages.classification.card import Preprocessing
from stages.errors import SourceError

Batch = TypeVar("Batch")

DRAW = 8  # pictures that share one draw of the augmentation: few enough to vary, enough to keep a GPU busy


def read_picture(path: Path) -> torch.Tensor:
    """uint8 (3, H, W) RGB, turned upright as its EXIF says. Raises SourceError for what is no whole picture."""
    try:
        with PIL.Image.open(path) as file:
            pixels = np.array(ImageOps.exif_transpose(file).convert("RGB"))
    except Exception as error:  # each format's reader raises its own
        system = error.strerror if isinstance(error, OSError) else None
        raise SourceError(f"cannot read {path}: {system or 'not a picture that Pillow knows, or damaged'}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def as_read(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches. What a loader's process could not read is one line again: torch sends it as a traceback."""
    try:
        yield from batches
    except SourceError as error:
        *others, line = str(error).splitlines()
        raise SourceError(line.partition(": ")[2] if others else line) from None


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Item i is picture i, uint8 (3, H, W) RGB, and the index of its class. Files are decoded as they are asked for."""

    def __init__(self, pictures: "Sequence[Path] | NDArray[np.uint8]", targets: NDArray[np.int64]) -> None:
        self.pictures = pictures  # paths, or (N, H, W, 3)
        self.targets = targets  # (N,)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        picture, target = self.pictures[index], int(self.targets[index])
        if isinstance(picture, Path):
            return read_picture(picture), target
        return torch.from_numpy(picture).permute(2, 0, 1), target

    def take(self, indices: NDArray[np.int64]) -> "Pictures":
        """Some of the pictures, in the given order."""
        if isinstance(self.pictures, np.ndarray):
            return Pictures(self.pictures[indices], self.targets[indices])
        return Pictures([self.pictures[index] for index in indices], self.targets[indices])


class Collate:
    """Makes batches: uint8 (B, 3, H, W) and int64 (B,).

    Small pictures of one size stay as they are, to be enlarged by the batch on the device; all others are fitted here,
    in the loader's processes, so that no large picture travels.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing

    def __call__(self, items: Sequence[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        pictures, targets = zip(*items, strict=True)
        shapes = {picture.shape for picture in pictures}
        if len(shapes) > 1 or max(pictures[0].shape[1:]) >= self._preprocessing.size:
            batch = torch.cat([self._preprocessing.fit(picture[None]) for picture in pictures])
        else:
            batch = torch.stack(pictures)
        return batch, torch.tensor(targets)


class Prepare:
    """A batch of ``Collate`` to what the network reads, as ``Preprocessing`` does it: float32 (B, 3, size, size)."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return self._preprocessing.normalise(self._fit(batch))

    def _fit(self, batch: torch.Tensor) -> torch.Tensor:
        size = self._preprocessing.size
        return batch if batch.shape[-2:] == (size, size) else self._preprocessing.fit(batch)


class Augment(Prepare):
    """The same for training, at random: cropped, flipped, turned, recoloured, a piece erased.

    torchvision's transforms work on whole tensors where they are, so on the GPU if there is one. They draw once for a
    tensor, hence a batch is augmented in groups of ``DRAW`` pictures. All chance is torch's own generator.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__(preprocessing)
        size = preprocessing.size
        self._move = v2.Compose(
            [
                v2.RandomCrop(size, padding=size // 8),
                v2.RandomHorizontalFlip(),
                v2.RandomRotation(15, v2.InterpolationMode.BILINEAR),
                v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05),
            ]
        )
        self._erase = v2.RandomErasing(p=0.25)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        groups = self._fit(batch).split(DRAW)
        return torch.cat([self._erase(self._preprocessing.normalise(self._move(group))) for group in groups])
