"""The preprocessing of images: one function for training, serving and export."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import ViT_B_16_Weights

from stages.classification.card import Card, Preprocessing
from stages.classification.classifier import Classifier
from stages.types import Image
from trainer.data.images import Collate, ImageDataset, Prepare

CPU = torch.device("cpu")
RECIPE = Preprocessing(size=224, resize=256)


def picture(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def stacked(*pictures: Image) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


class Sees(nn.Module):
    """A fake network that records its input."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        self.seen = pictures
        return torch.zeros(len(pictures), 2)


@pytest.mark.parametrize("look", [RECIPE, Preprocessing(64), Preprocessing(64, 64, interpolation="bicubic")])
def test_a_picture_becomes_the_same_bits_alone_in_a_batch_in_a_list_and_as_a_view(look: Preprocessing) -> None:
    pictures = [picture(90, 160, seed) for seed in range(3)]
    batch = look(stacked(*pictures))
    assert (batch.shape, batch.dtype) == ((3, 3, look.size, look.size), torch.float32)
    assert torch.equal(look(pictures), batch)
    assert torch.equal(look([pictures[2], picture(33, 47)])[0], batch[2])
    frame = picture(200, 300)
    frame[50:140, 100:260] = pictures[0]
    assert torch.equal(look([frame[50:140, 100:260]])[0], batch[0])
    assert torch.equal(look(stacked(*pictures).contiguous(memory_format=torch.channels_last)), batch)


def test_it_is_what_torchvision_does_for_its_own_weights_to_the_last_level() -> None:
    """torchvision's resizes floats and rounds once, so that a value may differ by one of 255 levels, even for noise."""
    pictures = stacked(picture(300, 400))
    level = torch.tensor(RECIPE.std).mul(255).reciprocal()[:, None, None]
    apart = (RECIPE(pictures) - ViT_B_16_Weights.IMAGENET1K_V1.transforms()(pictures)).abs()
    assert (apart <= 1.001 * level).all()
    assert (apart < 0.5 * level).float().mean() > 0.5


@pytest.mark.parametrize("look", [RECIPE, Preprocessing(64)])
@pytest.mark.parametrize("size", [(32, 32), (224, 224), (480, 640)])
def test_the_stage_sees_the_bits_that_the_trainer_saw_of_the_same_file(
    tmp_path: Path, look: Preprocessing, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, network = picture(*size), Sees()
    file = tmp_path / "picture.png"
    cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    items = [ImageDataset([file], np.zeros(1, np.int64))[0]]
    trained, _ = Collate(look)(items)
    monkeypatch.setattr(
        "stages.classification.classifier.load_model", lambda _: (Card("any", ("a", "b"), look), network)
    )
    Classifier("any.pt", CPU, torch.float32).classify([image])
    assert torch.equal(Prepare(look)(trained), network.seen)


def test_a_very_narrow_picture_does_not_need_much_memory() -> None:
    assert RECIPE([picture(1, 100_000)]).shape == (1, 3, 224, 224)


def test_no_pictures_make_an_empty_batch() -> None:
    assert RECIPE([]).shape == (0, 3, 224, 224)


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": 64, "resize": 32}, {"size": 9999}, {"size": 8, "std": (0,) * 3}]
)
def test_a_preprocessing_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"picture|deviation"):
        Preprocessing(**wrong)
