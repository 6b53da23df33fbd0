"""A classifier's card (everything needed besides its weights), and the preprocessing of its images."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from stages.types import Image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LARGEST = 4096  # pixels; a card with a larger size is broken


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Converts images to the network's input; evaluation, serving and export all use it.

    Resizing is torchvision's, on uint8 with antialias: bit-exact on every CPU, independent of the rest of the batch; on
    a GPU it may differ by one of 255 levels.
    """

    size: int  # side of the network's input, pixels
    resize: int | None = None  # short side before the centre crop; None: both sides are resized to ``size``, no crop
    mean: tuple[float, ...] = IMAGENET_MEAN  # RGB, for values in [0, 1]
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        """Raises ValueError for values that no image can be converted with."""
        InterpolationMode(self.interpolation)
        if not 1 <= self.size <= (self.resize or self.size) <= LARGEST:
            raise ValueError(f"a picture of {self.size} pixels cut from one of {self.resize}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and standard deviation {self.std} are not those of RGB")

    def __call__(self, images: torch.Tensor | Sequence[Image], device: torch.device | None = None) -> torch.Tensor:
        """``images``, uint8, (B, 3, H, W) or a list of (H, W, 3) RGB whose sizes may differ -> (B, 3, size, size).

        The result is float32, normalised, on ``device`` if given, else on the device of the images.
        """
        if isinstance(images, torch.Tensor):
            return self.normalise(self.fit(images.to(device)))
        pictures = [torch.from_numpy(image.copy()).to(device).permute(2, 0, 1)[None] for image in images]
        if not pictures:
            return torch.empty(0, 3, self.size, self.size, device=device)
        return self.normalise(torch.cat([self.fit(picture) for picture in pictures]))

    def fit(self, images: torch.Tensor) -> torch.Tensor:
        """Resize and crop: (B, 3, H, W) -> (B, 3, size, size) of the same dtype."""
        if self.resize is None:
            target = [self.size, self.size]
        else:
            height, width = images.shape[-2:]
            # crop images longer than twice their short side first: resized they would be huge, and are cropped anyway
            images = F.center_crop(images, [min(height, 2 * width), min(width, 2 * height)])
            target = [self.resize]
        # contiguous, because torchvision chooses its kernel by the memory layout
        fitted: torch.Tensor = F.resize(images.contiguous(), target, InterpolationMode(self.interpolation))
        return fitted if self.resize is None else F.center_crop(fitted, [self.size, self.size])

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8, or floats in [0, 1] -> float32, minus the mean, divided by the standard deviation."""
        normalised: torch.Tensor = F.normalize(F.to_dtype(images, torch.float32, scale=True), self.mean, self.std)
        return normalised


@dataclass(frozen=True, slots=True)
class Card:
    """The description of a model in its checkpoint; plain types only, so that it loads with ``weights_only=True``."""

    model: str  # torchvision's name, such as "vit_b_16", or "compact_vit"
    labels: tuple[str, ...]  # in the order of the network's outputs
    preprocessing: Preprocessing
    metrics: Mapping[str, Any] = field(default_factory=dict)  # measured when the checkpoint was written
    options: Mapping[str, Any] = field(default_factory=dict)  # arguments of the architecture that are not its defaults
    seed: int | None = None  # of the training; it selects the validation images of a folder without val

    def to_dict(self) -> dict[str, Any]:
        """The card as plain types, for a checkpoint or JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, card: Mapping[str, Any]) -> "Card":
        """The card of a dictionary, in which lists may replace tuples, as in JSON.

        Raises KeyError, TypeError or ValueError for a dictionary that is not a card.
        """
        fields = dict(card["preprocessing"])
        preprocessing = Preprocessing(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
        labels = tuple(card["labels"])
        if len(labels) < 2 or len(set(labels)) < len(labels) or not all(isinstance(name, str) for name in labels):
            raise ValueError("its labels are not two or more different names")
        seed = card.get("seed")  # the embedded classifier's card has none
        return cls(str(card["model"]), labels, preprocessing, dict(card["metrics"]), dict(card["options"]), seed)
