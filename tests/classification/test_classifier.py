"""The classifier: scores, and checkpoints that load whole or not at all."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stages.classification.card import Card, Preprocessing
from stages.classification.classifier import EMBEDDED, Classifier, build_model, checkpoint, load_checkpoint, load_model
from stages.errors import ModelError, WindowError
from stages.testsrc.world import ShapesWorld
from stages.types import Image
from trainer.embedded.classifier import score

CPU = torch.device("cpu")
OPTIONS = {"image_size": 16, "stem": [8, 8], "hidden_dim": 16, "num_layers": 1, "num_heads": 2, "mlp_dim": 16}
CARD = Card("compact_vit", ("closed", "open"), Preprocessing(16), {"accuracy": 0.5}, OPTIONS, seed=7)


def picture(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def saved(folder: Path, **changes: Any) -> Path:
    """A checkpoint of a tiny network, with other values under some of its keys."""
    path = folder / "best.pt"
    torch.save({**checkpoint(CARD, build_model("compact_vit", 2, options=OPTIONS)), **changes}, path)
    return path


def served(path: Path) -> Classifier:
    return Classifier(path, CPU, torch.float32)


def test_a_card_survives_json_and_a_checkpoint_that_holds_plain_types_only(tmp_path: Path) -> None:
    assert Card.from_dict(json.loads(json.dumps(CARD.to_dict()))) == CARD
    card, contents = load_checkpoint(saved(tmp_path))
    assert card == CARD
    assert contents["model"]["heads.head.weight"].shape == (2, 16)


@pytest.mark.parametrize(("name", "parameters"), [("vit_b_16", 85_806_346), ("swin_v2_t", 27_590_260)])
def test_a_head_of_dropout_and_a_linear_layer_replaces_torchvision_s(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = build_model(name, 10)
    assert sum(weights.numel() for weights in model.parameters()) == parameters
    dropout, linear = list(model.modules())[-2:]
    assert isinstance(dropout, nn.Dropout)
    assert dropout.p == 0.1
    assert isinstance(linear, nn.Linear)
    assert linear.out_features == 10


def test_scores_are_a_softmax_best_first_for_pictures_of_any_sizes(tmp_path: Path) -> None:
    classifier = served(saved(tmp_path))
    pictures = [picture(20, 30, seed) for seed in range(40)] + [picture(64, 48)]
    named = classifier.classify(pictures)
    assert len(named) == 41
    for classes in named:
        assert {label.label for label in classes} == {"closed", "open"}
        assert classes[0].score >= classes[1].score
        assert sum(label.score for label in classes) == pytest.approx(1)
    [[alone]] = classifier.classify(pictures[-1:], top=1)
    assert (alone.label, alone.score) == (named[-1][0].label, pytest.approx(named[-1][0].score, abs=1e-5))
    assert classifier.classify([]) == []


def test_scores_that_are_not_numbers_are_an_error_of_the_window(tmp_path: Path) -> None:
    classifier = served(saved(tmp_path))
    classifier._network = lambda pictures: torch.full((len(pictures), 2), torch.nan)
    with pytest.raises(WindowError, match="not numbers"):
        classifier.classify([picture(20, 20)])


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


def test_a_file_that_would_run_something_is_refused_and_does_not(tmp_path: Path) -> None:
    (tmp_path / "trap.pt").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    torch.save({"maskcast": 1, "card": Trap(tmp_path / "sprung")}, tmp_path / "trap2.pt")
    for name in ("trap.pt", "trap2.pt"):
        with pytest.raises(ModelError, match=r"could run code|no checkpoint of PyTorch"):
            served(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def _card(**changes: Any) -> dict[str, Any]:
    return {"card": {**CARD.to_dict(), **changes}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"maskcast": 2}, "format 2, this version reads 1"),
        (_card(labels=["open"]), "labels"),
        (_card(labels=["open", "open"]), "labels"),
        (_card(labels=["shut", "ajar", "open"]), "do not fit their card"),
        (_card(model="resnet50"), "no model is named resnet50"),
        (_card(model="vit_b_32", options={}), "do not fit their card"),
        (_card(options={"depth": 3}), "depth"),
        (_card(preprocessing={"size": 32}), "the card in .* is broken"),
        (_card(preprocessing={**CARD.to_dict()["preprocessing"], "size": 0}), "the card in .* is broken"),
        ({"card": None}, "the card in .* is broken"),
        ({"model": {"a": torch.zeros(1)}}, "do not fit their card"),
        ({"model": {}}, "do not fit their card"),
    ],
)
def test_a_checkpoint_that_does_not_fit_together_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    path = saved(tmp_path, **changes)
    with pytest.raises(ModelError, match=says) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value) or "resnet50" in says


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = build_model("compact_vit", 2, options=OPTIONS)
    with torch.no_grad():
        model.class_token[:] = torch.inf
    with pytest.raises(ModelError, match="class_token has values that are not finite"):
        served(saved(tmp_path, model=model.state_dict()))


def test_a_network_that_cannot_read_what_the_card_promises_is_refused_at_once(tmp_path: Path) -> None:
    path = saved(tmp_path, **_card(preprocessing={**CARD.to_dict()["preprocessing"], "size": 32}))
    with pytest.raises(ModelError, match="cannot read pictures of 32 x 32"):
        served(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        (b"", "is empty, as after a download that failed: fetch it again"),
        (b"no checkpoint", "is a text, not the weights: give a file of weights"),
        ({"model": {}}, "another kind of checkpoint"),
        ([1, 2], "holds a list"),
        ({"conv_proj.weight": 0, "encoder.layers.encoder_layer_0.ln_1.bias": 0}, "is a ViT of torchvision; give a"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_to_do(tmp_path: Path, content: Any, says: str) -> None:
    path = tmp_path / "other.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        as_weights = isinstance(content, dict) and "model" not in content
        torch.save({name: torch.zeros(1) for name in content} if as_weights else content, path)
    with pytest.raises(ModelError, match=says):
        served(path)


def test_a_training_folder_is_refused_with_the_name_of_its_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"is a folder; give the file in it, such as {tmp_path}/best.pt"):
        served(tmp_path)


def test_a_checkpoint_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="is cut off after"):
        served(path)


@pytest.fixture(scope="module")
def frames() -> list[Image]:
    return [ShapesWorld(seed).render(0)[0] for seed in range(6)]


@pytest.fixture(scope="module")
def embedded() -> Classifier:
    return Classifier("embedded", CPU, torch.float32)


def test_the_embedded_classifier_knows_held_out_frames_and_crops() -> None:
    accuracy = score(load_model(EMBEDDED)[1], worlds=8, every=50)
    assert accuracy["clear_frames"] > 0.8
    assert accuracy["clear_crops"] > 0.8


def test_bfloat16_names_the_same(embedded: Classifier, frames: list[Image]) -> None:
    coarse = Classifier("embedded", CPU, torch.bfloat16).classify(frames)
    for exact, rounded in zip(embedded.classify(frames), coarse, strict=True):
        assert rounded[0].label == exact[0].label
        assert rounded[0].score == pytest.approx(exact[0].score, abs=0.05)


@pytest.mark.slow
def test_an_exported_classifier_names_the_same_with_the_same_scores(
    tmp_path: Path, embedded: Classifier, frames: list[Image]
) -> None:
    pytest.importorskip("onnxruntime")
    from trainer.export import export

    export("embedded", tmp_path / "shapes.onnx")
    exported = served(tmp_path / "shapes.onnx")
    assert exported.labels == embedded.labels
    for theirs, ours in zip(exported.classify(frames), embedded.classify(frames), strict=True):
        assert [label.label for label in theirs] == [label.label for label in ours]
        assert [label.score for label in theirs] == pytest.approx([label.score for label in ours], abs=1e-4)


@pytest.mark.parametrize("content", [None, b"", b"no network"])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match="does not exist" if content is None else "is no ONNX model"):
        served(path)


def test_an_onnx_file_without_a_card_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    helper = pytest.importorskip("onnx").helper
    kind = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", [kind("x", 1, [1])], [kind("y", 1, [1])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="no labels in its metadata"):
        served(tmp_path / "x.onnx")
