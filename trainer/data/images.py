"""Images from files to preprocessed and augmented batches on the device."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from torchvision.transforms import v2

from stages.classification.card import Preprocessing
from stages.errors import SourceError
from stages.pictures import read_picture

Batch = TypeVar("Batch")

GROUP = 8  # images that share one random augmentation: few enough for variety, enough to keep a GPU busy


def read_image(path: Path) -> torch.Tensor:
    """uint8 (3, H, W) RGB of `read_picture`. Raises SourceError when the image cannot be read."""
    return torch.from_numpy(read_picture(path)).permute(2, 0, 1)


def unwrap_read_errors(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield ``batches``; reduce a worker's SourceError, into whose text torch puts a traceback, to its last line."""
    try:
        yield from batches
    except SourceError as error:
        *others, line = str(error).splitlines()
        raise SourceError(line.partition(": ")[2] if others else line) from None


class ImageDataset(Dataset[tuple[torch.Tensor, int]]):
    """Labelled images. Item i is image i, uint8 (3, H, W) RGB, and the index of its class; files are decoded lazily."""

    def __init__(self, images: "Sequence[Path] | NDArray[np.uint8]", targets: NDArray[np.int64]) -> None:
        self.images = images  # paths, or (N, H, W, 3)
        self.targets = targets  # (N,) index of the class

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, target = self.images[index], int(self.targets[index])
        if isinstance(image, Path):
            return read_image(image), target
        return torch.from_numpy(image).permute(2, 0, 1), target

    def take(self, indices: NDArray[np.int64]) -> "ImageDataset":
        """The images at ``indices``, in that order."""
        if isinstance(self.images, np.ndarray):
            return ImageDataset(self.images[indices], self.targets[indices])
        return ImageDataset([self.images[index] for index in indices], self.targets[indices])


class Collate:
    """Collates items to batches: uint8 (B, 3, H, W) and int64 (B,).

    Small images of one size keep their size and are resized on the device, as a batch. All others are resized here, in
    the loader's processes, so that no large image is sent between processes.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing

    def __call__(self, items: Sequence[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        images, targets = zip(*items, strict=True)
        shapes = {image.shape for image in images}
        if len(shapes) > 1 or max(images[0].shape[1:]) >= self._preprocessing.size:
            batch = torch.cat([self._preprocessing.fit(image[None]) for image in images])
        else:
            batch = torch.stack(images)
        return batch, torch.tensor(targets)


class Prepare:
    """Applies ``Preprocessing`` to a batch of ``Collate``: float32 (B, 3, size, size), the network's input."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return self._preprocessing.normalise(self._fit(batch))

    def _fit(self, batch: torch.Tensor) -> torch.Tensor:
        size = self._preprocessing.size
        return batch if batch.shape[-2:] == (size, size) else self._preprocessing.fit(batch)


class Augment(Prepare):
    """``Prepare`` with random augmentation: crop, flip, rotation, colour jitter, random erasing.

    torchvision's transforms run on the tensor's device. They draw random numbers once per tensor, so a batch is
    augmented in groups of ``GROUP`` images. They use torch's global random generator.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__(preprocessing)
        size = preprocessing.size
        self._transform = v2.Compose(
            [
                v2.RandomCrop(size, padding=size // 8),
                v2.RandomHorizontalFlip(),
                v2.RandomRotation(15, v2.InterpolationMode.BILINEAR),
                v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05),
            ]
        )
        self._erase = v2.RandomErasing(p=0.25)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        groups = self._fit(batch).split(GROUP)
        return torch.cat([self._erase(self._preprocessing.normalise(self._transform(group))) for group in groups])
