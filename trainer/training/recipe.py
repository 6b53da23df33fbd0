"""Hyperparameters of a training, and the card of the model that it produces."""

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from stages.errors import ConfigError

if TYPE_CHECKING:
    from stages.classification.card import Card

COMPACT = "compact_vit"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters. The defaults fine-tune ViT-B/16, to 97.28 % on CIFAR-10 in 7 epochs."""

    model: str = "vit_b_16"
    from_scratch: bool = False
    unfreeze: int | None = 3  # last blocks to train, with the norm after them and the head; None: everything
    epochs: int = 7
    warm_up: int = 3  # epochs
    batch_size: int = 128  # over all GPUs together
    lr: float = 1e-4
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    clip: float = 1.0  # maximum norm of the gradient
    class_weights: bool = False  # weight the loss by class, so that all classes count the same
    patience: int = 7  # epochs without a better validation accuracy before early stopping
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ConfigError for invalid values."""
        for name in ("epochs", "batch_size", "lr"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: give a number above 0")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"--seed {self.seed}: give a number from 0 to {2**32 - 1}")
        if self.unfreeze is not None and self.unfreeze < 0:
            raise ConfigError(f"--unfreeze {self.unfreeze}: give 0 (the head alone) or more")
        if self.model == COMPACT and not self.from_scratch:
            raise ConfigError(f"--model {COMPACT} has no pretrained weights: train it with --from-scratch")

    @property
    def warm_up_epochs(self) -> int:
        """Epochs of warm-up: at most half of all epochs."""
        return min(self.warm_up, self.epochs // 2)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """Raises KeyError when a value is missing."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})


FINE_TUNING = Recipe()
FROM_SCRATCH = Recipe(
    COMPACT, from_scratch=True, unfreeze=None, epochs=60, warm_up=5, lr=1e-3, weight_decay=0.05, patience=20
)


def new_card(recipe: Recipe, labels: tuple[str, ...]) -> "Card":
    """The card of a model to train. Raises ConfigError for a model name that torchvision does not know.

    The preprocessing resizes without cropping: in a camera's view, objects at the edge may matter.
    """
    from stages.classification.card import Card, Preprocessing
    from stages.classification.classifier import model_names, published_weights

    if recipe.model == COMPACT:
        return Card(COMPACT, labels, Preprocessing(size=32), seed=recipe.seed)
    if recipe.model not in model_names():
        raise ConfigError(
            f"--model {recipe.model}: torchvision has no such ViT or Swin; there are {', '.join(model_names())}"
        )
    transforms = published_weights(recipe.model).transforms()
    [size] = transforms.crop_size
    options = {"image_size": size} if recipe.model.startswith("vit_") and size != 224 else {}
    preprocessing = Preprocessing(
        size, mean=tuple(transforms.mean), std=tuple(transforms.std), interpolation=transforms.interpolation.value
    )
    return Card(recipe.model, labels, preprocessing, options=options, seed=recipe.seed)
