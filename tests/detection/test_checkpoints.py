"""Which checkpoints the detector loads, and the errors for those that it refuses."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from safetensors.torch import load_file, save_file
from torchvision.ops import box_iou
from transformers import (
    BertConfig,
    BertModel,
    DetrConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
)
from transformers.utils import logging

from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.detection.prompts import parse_prompts
from stages.errors import ModelError, WindowError
from stages.testsrc.world import ShapesWorld
from tests.support.checkpoints import write_grounding_dino

CPU = torch.device("cpu")
PROMPTS = parse_prompts(["red circle", "blue square"])
TIES_ALL_HEADS = Version(transformers.__version__) < Version(
    "5.21"
)  # of an MM-Grounding-DINO, whatever its config says


NOT_PUBLISHED = {f"model.backbone.conv_encoder.model.swin.layernorm.{part}" for part in ("weight", "bias")}  # not used


def _load(model: str | Path) -> GroundingDino:
    return GroundingDino(model, CPU, torch.float32)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the embedded checkpoint, to be damaged."""
    return Path(shutil.copytree(EMBEDDED, tmp_path / "checkpoint"))


def _edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# --- A full-size checkpoint


@dataclass(frozen=True)
class Written:
    """A folder with a checkpoint, and what its weights were before they were written."""

    folder: Path
    digests: dict[str, str]


def _digests(network: Any) -> dict[str, str]:
    return {key: hashlib.sha256(tensor.numpy()).hexdigest() for key, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    """The architecture of grounding-dino-tiny (Swin-T, BERT base), random weights, in the files' format of the hub."""
    folder = tmp_path_factory.mktemp("full_size")
    network = write_grounding_dino(folder)
    yield Written(folder, _digests(network))
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def full_size_detector(full_size: Written) -> GroundingDino:
    return _load(full_size.folder)


@pytest.mark.slow
def test_full_size_checkpoint_is_loaded_key_for_key(full_size: Written, full_size_detector: GroundingDino) -> None:
    """All of the 172 million weights that were written, under their names of 2024, are in the model, bit for bit."""
    assert sum(p.numel() for p in full_size_detector.network.parameters()) > 172_000_000
    loaded = _digests(full_size_detector.network)
    assert {name for name in loaded if loaded[name] != full_size.digests[name]} <= NOT_PUBLISHED
    assert loaded.keys() == full_size.digests.keys()


def test_full_size_checkpoint_detects(full_size_detector: GroundingDino) -> None:
    """The picture is processed at its own shape; the detections are well formed, if random."""
    image, _ = ShapesWorld(3, 320, 192).render(0)
    (found,) = full_size_detector.detect([image], PROMPTS, 0, 0)
    assert 100 < len(found) <= 900
    assert set(found.prompts) <= {0, 1}
    assert (found.boxes >= 0).all()
    assert (found.boxes <= (320, 192, 320, 192)).all()


def test_full_size_and_embedded_share_one_path(full_size_detector: GroundingDino) -> None:
    """Both use the same classes of transformers."""
    embedded = _load(EMBEDDED)
    assert type(full_size_detector.network) is type(embedded.network) is GroundingDinoForObjectDetection
    assert full_size_detector.captions(PROMPTS)[0].input_ids == (101, 2417, 4418, 1012, 2630, 2675, 1012, 102)
    assert embedded.captions(PROMPTS)[0].prompt_of_token == full_size_detector.captions(PROMPTS)[0].prompt_of_token


# --- How checkpoints of the hub differ


SMALL = {
    "backbone_config": {
        "model_type": "swin",
        "embed_dim": 12,
        "depths": [1, 1, 2, 1],
        "num_heads": [1, 2, 2, 4],
        "out_features": ["stage2", "stage3", "stage4"],
        "out_indices": [2, 3, 4],
    },
    "text_config": {
        "model_type": "bert",
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    },
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 3,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_queries": 20,
    "max_text_len": 64,
}
FIRST, SECOND = "bbox_embed.0.", "model.decoder.bbox_embed.0."


def _under_the_second_name(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if name.startswith(FIRST)]:
        weights[name.replace(FIRST, SECOND)] = weights.pop(name)


def _under_every_name(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if name.startswith(FIRST)]:
        for layer in range(SMALL["decoder_layers"]):
            for prefix in (FIRST, SECOND):
                weights[name.replace(FIRST, prefix.replace("0", str(layer)))] = weights[name].clone()


def _with_position_ids(weights: dict[str, torch.Tensor]) -> None:
    weights["model.text_backbone.embeddings.position_ids"] = torch.arange(512)[None]


def _as_it_was(weights: dict[str, torch.Tensor]) -> None:
    """As published, with the tables of indices and without the norm that nothing uses."""
    assert any(name.endswith("attention.self.relative_position_index") for name in weights)
    assert not any("model.layernorm" in name for name in weights)


@pytest.mark.parametrize("change", [_as_it_was, _under_the_second_name, _under_every_name, _with_position_ids])
def test_a_checkpoint_of_the_hub_is_loaded_key_for_key(
    change: Callable[[dict[str, torch.Tensor]], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Names of 2024, the heads of boxes under either of their names or both, tables that are no longer saved."""
    written = _digests(write_grounding_dino(tmp_path, **SMALL))
    _edit_weights(tmp_path, change)
    loaded = _digests(_load(tmp_path).network)
    assert {name for name in loaded if loaded[name] != written[name]} <= NOT_PUBLISHED
    assert len({loaded[name] for name in loaded if "bbox_embed" in name and name.endswith("layers.1.weight")}) == 2
    assert not caplog.records


def test_an_unused_head_of_a_fine_tuned_checkpoint_is_one_warning(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The rest is loaded and detects as before; the warning names how many weights are not used, and some of them."""
    heads = {f"score_head.layers.{layer}.{part}": torch.ones(4) for layer in range(2) for part in ("weight", "bias")}
    _edit_weights(copy, lambda weights: weights.update(heads))
    image = ShapesWorld(500, objects=3).render(0)[0]
    (found,), (expected,) = (_load(model).detect([image], PROMPTS, 0, 0) for model in (copy, EMBEDDED))
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    shown = "score_head.layers.0.bias, score_head.layers.0.weight, score_head.layers.1.bias, ..."
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == (
        f"detector {copy}: 4 of its weights are not used, since its config.json has no part for them: {shown}"
    )


# --- Models of the family, and others


def test_mm_grounding_dino_is_of_the_family(copy: Path) -> None:
    """A checkpoint of MM Grounding DINO loads and detects in the same way."""
    plain = GroundingDinoConfig.from_pretrained(copy).to_dict()
    config = MMGroundingDinoConfig.from_dict(plain | {"model_type": "mm-grounding-dino"})
    MMGroundingDinoForObjectDetection(config).save_pretrained(copy)
    detector = _load(copy)
    assert isinstance(detector.network, MMGroundingDinoForObjectDetection)
    assert len(detector.detect([ShapesWorld(0).render(0)[0]], PROMPTS, 0, 0)[0])


def test_another_type_of_model_is_refused_by_its_name(tmp_path: Path) -> None:
    """A BERT or a DETR is refused, and the error says what to give."""
    bert = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20)
    BertModel(bert).save_pretrained(tmp_path / "bert")
    DetrConfig().save_pretrained(tmp_path / "detr")
    for kind in ("bert", "detr"):
        with pytest.raises(ModelError, match=f"{kind} is {kind.upper()}; give the folder or the hub id of a Grounding"):
            _load(tmp_path / kind)


def _as_llmdet_published_it(folder: Path) -> dict[str, torch.Tensor]:
    """LLMDet's first format: a Grounding DINO by its config.json, with a bias of shape (1,) on each text score."""
    plain = GroundingDinoConfig.from_pretrained(folder).to_dict() | {"model_type": "mm-grounding-dino"}
    network = MMGroundingDinoForObjectDetection(
        MMGroundingDinoConfig.from_dict(plain | {"decoder_cls_embed_share": False})
    )
    weights = network.state_dict()
    for key, value in weights.items():
        if "class_embed" in key:
            weights[key] = torch.full((1,), -4.6 + 0.1 * sum(map(ord, key.removeprefix("model.decoder."))) % 1)
        elif value.ndim > 1:
            torch.nn.init.normal_(value, std=0.05)
    kept = {key: value.clone() for key, value in weights.items() if not key.startswith("model.decoder.bbox_embed")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return weights


def test_llmdet_in_its_first_format_loads_as_the_same_mm_grounding_dino(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as fushh7/llmdet_swin_tiny_hf: its biases and all other weights are kept; one weight more is a warning."""
    weights = _as_llmdet_published_it(copy)
    _edit_weights(copy, lambda saved: saved.update(extra=torch.zeros(1)))
    if TIES_ALL_HEADS:
        with pytest.raises(ModelError, match=r"loads only in part; install transformers 5\.21 or newer$"):
            _load(copy)
        return
    detector = _load(copy)
    assert "1 of its weights is not used, since its config.json has no part for them: extra" in caplog.text
    assert isinstance(detector.network, MMGroundingDinoForObjectDetection)
    loaded = detector.network.state_dict()
    biases = [key for key in weights if key.startswith("class_embed.")]
    assert len(biases) > 1
    assert all(torch.equal(loaded[key].reshape(1), weights[key]) for key in biases)
    assert all(torch.equal(loaded[key], weights[key]) for key in loaded if "_embed" not in key)
    assert len(detector.detect([ShapesWorld(0).render(0)[0]], PROMPTS, 0, 0)[0])


def test_a_file_in_place_of_a_folder_is_named(copy: Path, tmp_path: Path) -> None:
    """The weights inside a model's folder, the original groundingdino_swint_ogc.pth, and it alone in a folder."""
    with pytest.raises(ModelError, match=f"is a file of a model; give its folder, {copy}$"):
        _load(copy / "model.safetensors")
    original = tmp_path / "original" / "groundingdino_swint_ogc.pth"
    original.parent.mkdir()
    names = ["transformer.level_embed", "bert.embeddings.word_embeddings.weight", "feat_map.weight", "backbone.0.x"]
    torch.save({"model": {f"module.{name}": torch.zeros(1) for name in names}}, original)
    for given in (original, original.parent):
        with pytest.raises(ModelError, match="format of its own repository; give it in the format of transformers: "):
            _load(given)


def test_other_detectors_are_named(tmp_path: Path) -> None:
    for model_type, name in (("owlv2", "OWLv2"), ("omdet-turbo", "OmDet-Turbo"), ("florence2", "Florence-2")):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
        with pytest.raises(ModelError, match=f"is {name}; give the folder or the hub id of a Grounding DINO"):
            _load(tmp_path)


def test_pictures_of_different_shapes_are_padded_together(copy: Path) -> None:
    """A checkpoint that keeps a picture's shape, as the full-size ones do: padding a batch does not move the boxes."""
    size = json.loads((copy / "processor_config.json").read_text())["image_processor"]["size"]["height"]
    pictures = {"image_processor_type": "GroundingDinoImageProcessor", "do_pad": True}
    keep_shape = {"shortest_edge": size, "longest_edge": 2 * size}
    _edit(copy / "processor_config.json", image_processor=pictures | {"size": keep_shape})
    detector = _load(copy)
    wide, tall = ShapesWorld(600, 420, 256).render(0)[0], ShapesWorld(601, 256, 330).render(0)[0]
    seen = kept = 0
    for seed in range(500, 510):
        image, truth = ShapesWorld(seed, objects=3).render(0)
        prompts = parse_prompts(truth.labels)
        alone = detector.detect([image], prompts, 0.4, 0.4)[0]
        padded = detector.detect([wide, image, tall], prompts, 0.2, 0.2)[1]
        for box, prompt in zip(alone.boxes, alone.prompts, strict=True):
            same = torch.from_numpy(padded.boxes[padded.prompts == prompt])
            kept += bool((box_iou(same, torch.from_numpy(box[None])) > 0.5).any())
            seen += 1
    assert seen > 15
    assert kept >= 0.8 * seen


# --- Damage


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (
            lambda d: [file.unlink() for file in (d / "config.json", d / "model.safetensors")],
            "the folder holds no model (no config.json)",
        ),
        (lambda d: (d / "config.json").unlink(), "model.safetensors is Grounding DINO; give"),
        (lambda d: (d / "config.json").write_text("{"), "not a valid JSON file"),
        (lambda d: _edit(d / "config.json", model_type="flying-dino"), "model type `flying-dino`"),
        (lambda d: _edit(d / "config.json", d_model="wide"), "Field 'd_model' expected int"),
        (lambda d: (d / "model.safetensors").unlink(), "no file named model.safetensors"),
        (
            lambda d: os.truncate(d / "model.safetensors", 100_000),
            "not whole: model.safetensors is cut off: it has 100,000 of 3,",
        ),
        (
            lambda d: (d / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1"),
            "run `git lfs pull`",
        ),
        (lambda d: (d / "processor_config.json").unlink(), "Can't load image processor"),
        (lambda d: (d / "tokenizer.json").unlink(), "its tokenizer files are missing"),
        (lambda d: _edit(d / "config.json", encoder_layers=2), "50 missing weights, such as model.encoder.layers.1."),
        (lambda d: _edit(d / "config.json", decoder_ffn_dim=128), "6 mismatched weights, such as model.decoder."),
        (
            lambda d: _edit_weights(d, lambda w: w.pop("model.level_embed")),
            "1 missing weight, such as model.level_embed",
        ),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_line(
    copy: Path, damage: Callable[[Path], object], problem: str
) -> None:
    """A missing, truncated or misshapen file raises a ModelError that names the checkpoint and the problem."""
    damage(copy)
    with pytest.raises(ModelError) as error:
        _load(copy)
    text = str(error.value)
    assert text.startswith(f"detector {copy}")
    assert problem in text
    assert "\n" not in text


def test_a_vocabulary_larger_than_the_model_is_refused(copy: Path) -> None:
    """A token id without an embedding would end the process on a GPU."""
    file = copy / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["vocab"]["zebra"] = 1030
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="another model's"):
        _load(copy)


def test_scores_that_are_not_numbers_are_an_error(copy: Path) -> None:
    """A checkpoint with NaN weights loads, and every detection raises a WindowError."""
    _edit_weights(copy, lambda weights: weights["model.decoder.layer_norm.weight"].fill_(np.nan))
    detector = _load(copy)
    with pytest.raises(WindowError, match=r"^detector .*: scores are not numbers; try precision float32$"):
        detector.detect([ShapesWorld(0).render(0)[0]], PROMPTS, 0.3, 0.3)


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "a/b/c", "~/nothing"])
def test_a_path_that_is_no_folder_is_not_looked_up_on_the_hub(name: str) -> None:
    """The error says at once that there is no such folder."""
    with pytest.raises(ModelError, match=f"^detector {name}: no such folder; give a model folder or a hub id"):
        _load(name)


def test_loading_leaves_the_log_and_progress_bars_as_they_were(capfd: pytest.CaptureFixture[str], copy: Path) -> None:
    """Nothing is printed, even of a checkpoint that is refused, and the library's settings are restored."""
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    _load(EMBEDDED)
    _edit(copy / "config.json", encoder_layers=2)
    with pytest.raises(ModelError):
        _load(copy)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")
