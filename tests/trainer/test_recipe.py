"""The recipe to the letter: what trains, how much, at which rate."""

import pytest
import torch
from torch import nn

from stages.classification.classifier import build_model
from stages.errors import ConfigError
from trainer.commands.train import new_recipe
from trainer.training.freezing import count_parameters, freeze
from trainer.training.recipe import FINE_TUNING, Recipe, new_card
from trainer.training.training import class_weights, new_schedule


def test_defaults_are_the_recipe() -> None:
    recipe = new_recipe({})
    assert recipe == Recipe(
        model="vit_b_16", from_scratch=False, unfreeze=3, epochs=7, warm_up=3, batch_size=128, lr=1e-4,
        weight_decay=0.01, label_smoothing=0.1, clip=1.0, class_weights=False, patience=7, seed=0,
    )  # fmt: skip
    assert new_card(recipe, ("a", "b")).preprocessing.size == 224


def test_vit_b_16_has_as_many_parameters_as_the_recipe_says() -> None:
    """85.8 M, of which 21.3 M or 24.79 % train: three blocks, the norm behind them, the head."""
    model = build_model("vit_b_16", 10)
    freeze(model, FINE_TUNING.unfreeze)
    everything, trained = count_parameters(model)
    assert (everything, trained) == (85_806_346, 21_272_842)
    assert f"{trained / everything:.2%}" == "24.79%"
    named = {name.split(".weight")[0].split(".bias")[0] for name, p in model.named_parameters() if p.requires_grad}
    roots = {".".join(name.split(".")[: 3 if "layers" in name else 2]) for name in named}
    last = {f"encoder.layers.encoder_layer_{block}" for block in (9, 10, 11)}
    assert roots == {".".join(name.split(".")[:3]) for name in last} | {"encoder.ln", "heads.head"}


@pytest.mark.parametrize(
    ("unfreeze", "first"), [(0, "norm"), (2, "features.7.0"), (3, "features.5.5"), (12, "features.1.0")]
)
def test_blocks_of_a_swin_are_counted_from_its_end_across_its_stages(unfreeze: int, first: str) -> None:
    """swin_t has 2 + 2 + 6 + 2 blocks; a layer that merges patches trains when a block before it does."""
    model = build_model("swin_t", 4)
    freeze(model, unfreeze)
    names = [name for name, _ in model.named_parameters()]
    training = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert training == names[names.index(training[0]) :]
    assert training[0].startswith(f"{first}.")


@pytest.mark.parametrize("name", ["compact_vit", "swin_t", "swin_v2_t", "vit_b_32"])
def test_both_halves_together_are_the_model_to_the_bit(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, 4)
    frozen, trained = freeze(model, 2)
    model.eval()
    nn.init.normal_(model.get_parameter(list(dict(model.named_parameters()))[-2]))  # a head that says something
    size = new_card(Recipe(name, from_scratch=True), ("a", "b")).preprocessing.size
    pictures = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert torch.equal(trained(frozen(pictures)), model(pictures))


def test_nothing_of_the_frozen_half_is_recorded_or_drawn_at_random() -> None:
    model = build_model("swin_t", 4)
    frozen, trained = freeze(model, 1)
    trained.train()
    pictures = torch.randn(1, 3, 64, 64)
    first, second = frozen(pictures), frozen(pictures)
    assert not first.requires_grad
    assert torch.equal(first, second)


def test_without_a_number_everything_trains() -> None:
    model = build_model("compact_vit", 4)
    frozen, _ = freeze(model, None)
    assert len(frozen) == 0
    assert count_parameters(model)[0] == count_parameters(model)[1]


def test_more_blocks_than_there_are_is_an_error() -> None:
    with pytest.raises(ConfigError, match="--unfreeze 13: the model has 12 blocks"):
        freeze(build_model("vit_b_32", 2), 13)


def rates(recipe: Recipe, steps: int = 10) -> list[float]:
    """At the beginning of each epoch, and at the end of the last, as shares of the highest rate."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], recipe.lr)
    schedule = new_schedule(optimizer, recipe, steps)
    found = [optimizer.param_groups[0]["lr"]]
    for step in range(1, recipe.epochs * steps + 1):
        optimizer.step()
        schedule.step()
        if step % steps == 0:
            found.append(optimizer.param_groups[0]["lr"])
    return [round(rate / recipe.lr, 4) for rate in found]


def test_rate_rises_for_three_epochs_and_falls_along_a_cosine() -> None:
    assert rates(FINE_TUNING) == [0, 0.3333, 0.6667, 1, 0.8536, 0.5, 0.1464, 0]


def test_a_short_training_warms_up_for_half_of_it() -> None:
    assert rates(Recipe(epochs=2)) == [0, 1, 0]
    assert rates(Recipe(epochs=1)) == [1, 0]


def test_weights_make_all_classes_count_the_same() -> None:
    import numpy as np

    targets = np.array([0] * 6 + [1] * 2 + [2] * 4)
    weights = class_weights(targets, 3)
    assert torch.allclose(weights, torch.tensor([4 / 6, 4 / 2, 4 / 4]))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"epochs": 0}, "--epochs 0: give a number above 0"),
        ({"lr": float("nan")}, "--lr nan: give a number above 0"),
        ({"batch_size": -1}, "--batch-size -1: give a number above 0"),
        ({"unfreeze": -1}, "--unfreeze -1: give 0"),
        ({"model": "compact_vit"}, "no pretrained weights: train it with --from-scratch"),
        ({"from_scratch": True, "unfreeze": 2}, "from scratch everything trains"),
    ],
)
def test_impossible_numbers_are_refused(given: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        new_recipe(given)


@pytest.mark.parametrize("name", ["resnet50", "vit", "../best.pt"])
def test_a_model_that_is_no_vit_or_swin_of_torchvision_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no such ViT or Swin"):
        new_card(new_recipe({"model": name}), ("a", "b"))
