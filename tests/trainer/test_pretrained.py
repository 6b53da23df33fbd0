"""Fine-tuning starts from ImageNet weights, through torchvision's own call and cache."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.models as zoo

from stages.classification.card import Card
from stages.classification.classifier import build_model
from stages.errors import ModelError
from tests.trainer.training import two_colours
from trainer.data.datasets import load_data
from trainer.data.images import ImageDataset
from trainer.training.machine import new_accelerator
from trainer.training.recipe import Recipe, new_card
from trainer.training.training import Training

pytestmark = pytest.mark.slow


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torchvision's folder of downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_the_recipe_starts_from_imagenet_weights_and_leaves_the_frozen_ones_alone(cache: Path, tmp_path: Path) -> None:
    """A checkpoint of the full vit_b_16 as torchvision publishes it; a step changes what trains and nothing else."""
    torch.manual_seed(7)
    published = zoo.vit_b_16(weights=None).state_dict()
    assert published["heads.head.weight"].shape == (1000, 768)
    torch.save(published, cache / Path(zoo.ViT_B_16_Weights.IMAGENET1K_V1.url).name)
    recipe = Recipe(batch_size=4)
    data = load_data(str(two_colours(tmp_path / "pictures", 4)), seed=0)
    card = new_card(recipe, data.labels)
    model = build_model(card.model, 2, weights=True, options=card.options)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    body = {name for name in before if not name.startswith("heads")}
    assert all(torch.equal(before[name], published[name]) for name in body)
    training = Training(new_accelerator("cpu", "float32", 0, 4), recipe, card, model, data, workers=0)
    for _ in range(2):  # the warm-up's first step has a rate of 0
        training.try_step(2)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(changed) == 3 * 12 + 2 + 2
    assert isinstance(training.state()["card"], dict)
    assert Card.from_dict(training.state()["card"]) == card


def test_what_the_frozen_half_makes_of_the_validation_pictures_is_kept_and_changes_nothing(tmp_path: Path) -> None:
    recipe = Recipe("swin_t", from_scratch=True, unfreeze=1, batch_size=4)
    data = load_data(str(two_colours(tmp_path, 4)), seed=0)
    card = new_card(recipe, data.labels)
    accelerator = new_accelerator("cpu", "float32", 0, 4)
    training = Training(accelerator, recipe, card, build_model("swin_t", 2), data, workers=0)
    kept: list[torch.Tensor] = []
    batches = training.loader(data.val)
    first = training.predict(batches, kept)
    assert len(kept) == len(batches) == 1
    assert torch.equal(training.predict(batches, kept)[0], first[0])
    kept[0] += 1
    assert not torch.equal(training.predict(batches, kept)[0], first[0])  # so they are what is used


def test_a_small_last_batch_is_not_kept_in_the_place_of_one_that_did_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of batches of 4, 4 and 1 the second is too much: the first alone is kept, and the logits stay what they were."""
    recipe = Recipe("swin_t", from_scratch=True, unfreeze=1, batch_size=4)
    data = load_data(str(two_colours(tmp_path, 5)), seed=0)
    card = new_card(recipe, data.labels)
    accelerator = new_accelerator("cpu", "float32", 0, 4)
    training = Training(accelerator, recipe, card, build_model("swin_t", 2), data, workers=0)
    nine = ImageDataset([*data.train.images, *data.val.images][:9], np.arange(9) % 2)
    kept: list[torch.Tensor] = []
    expected, _ = training.predict(training.loader(nine), kept)
    assert [len(features) for features in kept] == [4, 4, 1]
    monkeypatch.setattr("trainer.training.training.CACHE_BYTES", 5 * kept[2].nbytes)
    kept.clear()
    for _ in range(2):
        assert torch.equal(training.predict(training.loader(nine), kept)[0], expected)
        assert [len(features) for features in kept] == [4]


def test_without_weights_and_network_the_error_says_where_to_put_them(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(ModelError, match=f"https://.*vit_b_16-.*pth and put it at {cache}"):
        build_model("vit_b_16", 2, weights=True)


def refuse(*_: object, **__: object) -> None:
    raise OSError("no network")
