"""What a training is: the numbers that decide its result, and the card of the model that comes of it."""

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from stages.errors import ConfigError

if TYPE_CHECKING:
    from stages.classification.card import Card

COMPACT = "compact_vit"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Fine-tuning of ViT-B/16 that reaches 97.28 % on CIFAR-10 in 7 epochs; each value can be changed."""

    model: str = "vit_b_16"
    from_scratch: bool = False
    unfreeze: int | None = 3  # blocks that train, from the end, with the last norm and the head; None: everything
    epochs: int = 7
    warm_up: int = 3  # epochs
    batch_size: int = 128  # over all GPUs together
    lr: float = 1e-4
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    clip: float = 1.0  # largest norm of the gradient
    class_weights: bool = False  # every class counts the same, however many pictures it has
    patience: int = 7  # epochs without a better validation accuracy until the training ends
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ConfigError for numbers that no training can have."""
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
        """A short training spends at most half of its epochs on it."""
        return min(self.warm_up, self.epochs // 2)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """Raises KeyError where one is missing."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})


FINE_TUNING = Recipe()
FROM_SCRATCH = Recipe(
    COMPACT, from_scratch=True, unfreeze=None, epochs=60, warm_up=5, lr=1e-3, weight_decay=0.05, patience=20
)


def new_card(recipe: Recipe, labels: tuple[str, ...]) -> "Card":
    """The card of a model that is yet to be trained. Raises ConfigError for a name that torchvision does not know.

    A picture is squeezed whole to the network's size: what matters in a camera's view may well stand at its edge.
    """
    from stages.classification.card import Card, Preprocessing
    from stages.classification.classifier import model_names, published_weights

    if recipe.model == COMPACT:
        return Card(COMPACT, labels, Preprocessing(size=32), seed=recipe.seed)
    if recipe.model not in model_names():
        raise ConfigError(
            f"--model {recipe.model}: torchvision has no such ViT or Swin; there are {', '.join(model_names())}"
        )
    look = published_weights(recipe.model).transforms()
    [size] = look.crop_size
    options = {"image_size": size} if recipe.model.startswith("vit_") and size != 224 else {}
    preprocessing = Preprocessing(
        size, mean=tuple(look.mean), std=tuple(look.std), interpolation=look.interpolation.value
    )
    return Card(recipe.model, labels, preprocessing, options=options, seed=recipe.seed)
