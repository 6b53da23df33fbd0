"""What has to be known of a classifier beside its weights; and the preprocessing that training and serving share."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from stages.types import Image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LARGEST = 4096  # pixels; a card that asks for more is broken


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Pictures to what the network reads; evaluation, serving and export all call this one function.

    Resizing is torchvision's, on uint8 with antialias: equal to the bit on every CPU, whatever else is in the batch; on
    a GPU it may differ by one of 255 levels.
    """

    size: int  # side of the network's input, pixels
    resize: int | None = None  # the short side before ``size`` is cut from the middle; None: squeezed whole to ``size``
    mean: tuple[float, ...] = IMAGENET_MEAN  # RGB, of values in [0, 1]
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        """Raises ValueError for what no picture can be brought to."""
        InterpolationMode(self.interpolation)
        if not 1 <= self.size <= (self.resize or self.size) <= LARGEST:
            raise ValueError(f"a picture of {self.size} pixels cut from one of {self.resize}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and standard deviation {self.std} are not those of RGB")

    def __call__(self, images: torch.Tensor | Sequence[Image], device: torch.device | None = None) -> torch.Tensor:
        """``images``, uint8, (B, 3, H, W) or a list of (H, W, 3) RGB whose sizes may differ -> (B, 3, size, size).

        float32, normalised, on ``device`` if given, else where the images are.
        """
        if isinstance(images, torch.Tensor):
            return self.normalise(self.fit(images.to(device)))
        pictures = [torch.from_numpy(image.copy()).to(device).permute(2, 0, 1)[None] for image in images]
        if not pictures:
            return torch.empty(0, 3, self.size, self.size, device=device)
        return self.normalise(torch.cat([self.fit(picture) for picture in pictures]))

    def fit(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, 3, size, size), of the same dtype."""
        if self.resize is None:
            target = [self.size, self.size]
        else:
            height, width = images.shape[-2:]
            # what is more than twice as long as wide would become huge, and its ends are cut off anyway
            images = F.center_crop(images, [min(height, 2 * width), min(width, 2 * height)])
            target = [self.resize]
        # contiguous: the memory's layout chooses the kernel
        fitted: torch.Tensor = F.resize(images.contiguous(), target, InterpolationMode(self.interpolation))
        return fitted if self.resize is None else F.center_crop(fitted, [self.size, self.size])

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8, or floats in [0, 1] -> float32 with the mean taken off, over the standard deviation."""
        normalised: torch.Tensor = F.normalize(F.to_dtype(images, torch.float32, scale=True), self.mean, self.std)
        return normalised


@dataclass(frozen=True, slots=True)
class Card:
    """All that a checkpoint says of its model, in plain types, so that it loads with ``weights_only=True``."""

    model: str  # torchvision's name, such as "vit_b_16", or "compact_vit"
    labels: tuple[str, ...]  # in the order of the network's outputs
    preprocessing: Preprocessing
    metrics: Mapping[str, Any] = field(default_factory=dict)  # how good it was when it was written
    options: Mapping[str, Any] = field(default_factory=dict)  # of the model, where they differ from its defaults
    seed: int | None = None  # of its training: it decides which pictures of a folder without val were held out

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, card: Mapping[str, Any]) -> "Card":
        """Lists may stand for tuples, as in JSON. Raises KeyError, TypeError or ValueError for what is no card."""
        look = dict(card["preprocessing"])
        preprocessing = Preprocessing(**{**look, "mean": tuple(look["mean"]), "std": tuple(look["std"])})
        labels = tuple(card["labels"])
        if len(labels) < 2 or len(set(labels)) < len(labels) or not all(isinstance(name, str) for name in labels):
            raise ValueError("its labels are not two or more different names")
        seed = card.get("seed")  # which the embedded one does not have
        return cls(str(card["model"]), labels, preprocessing, dict(card["metrics"]), dict(card["options"]), seed)
