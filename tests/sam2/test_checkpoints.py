"""Upstream's own checkpoints load: every size of SAM 2.1 as upstream writes it, key for key, and nothing else."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stages.errors import ModelError
from stages.sam2.load import load_segmenter
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Clock, Detections, Frame, Window
from tests.support.checkpoints import SAM2_SIZES, write_sam2

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", SAM2_SIZES)
def test_a_checkpoint_of_each_size_loads_key_for_key(size, tmp_path):
    """The architecture is inferred from the weights, and every tensor is loaded unchanged."""
    path, written = write_sam2(tmp_path, size)
    loaded = load_segmenter(str(path), CPU, torch.float32).state_dict()
    assert loaded.keys() == written.keys()
    assert all(torch.equal(loaded[key], written[key]) for key in written)


def test_a_checkpoint_of_sam_2_loads_as_well_as_of_sam_2_1(tmp_path):
    path, written = write_sam2(tmp_path, "tiny", version="2")
    assert load_segmenter(str(path), CPU, torch.float32).state_dict().keys() == written.keys()


def test_weights_load_from_safetensors_and_under_other_names_of_their_keys(tmp_path):
    """A flat file, one of a training program, one in half precision in which gamma is named weight, as others share."""
    _, written = write_sam2(tmp_path, "tiny")
    save_file(written, tmp_path / "flat.safetensors")
    torch.save({"model": {f"module.{key}": value for key, value in written.items()}, "epoch": 3}, tmp_path / "ddp.pth")
    renamed = {key.replace(".gamma", ".weight"): value.half() for key, value in written.items()}
    save_file(renamed, tmp_path / "half.safetensors")
    for name, tolerance in (("flat.safetensors", 0), ("ddp.pth", 0), ("half.safetensors", 1e-2)):
        loaded = load_segmenter(str(tmp_path / name), CPU, torch.float32).state_dict()
        assert loaded.keys() == written.keys()
        assert all(torch.allclose(loaded[key], written[key], atol=tolerance, rtol=0) for key in written)


def test_models_that_resemble_sam_2_are_named(tmp_path):
    """EdgeTAM, EfficientTAM, and the SAM 2 that segments single images only."""
    _, state = write_sam2(tmp_path, "tiny")
    embed = "image_encoder.trunk.patch_embed.proj.weight"
    others = {
        "is EdgeTAM; give a SAM 2 or 2.1 with its memory": state | {"spatial_perceiver.latents": torch.zeros(1)},
        "EfficientTAM": state | {embed: torch.zeros(192, 3, 16, 16)},
        "SAM 2 without its memory": {key: value for key, value in state.items() if not key.startswith("memory_")},
    }
    for says, weights in others.items():
        torch.save({"model": weights}, tmp_path / "other.pt")
        with pytest.raises(ModelError, match=says):
            load_segmenter(str(tmp_path / "other.pt"), CPU, torch.float32)


@pytest.mark.slow
def test_a_folder_that_holds_one_checkpoint_stands_for_it_and_frames_of_720p_go_through(tmp_path):
    """Full-size weights run the same path as the embedded ones: two objects prompted, then propagated."""
    write_sam2(tmp_path, "tiny")
    tracker = Tracker(load_segmenter(str(tmp_path), CPU, torch.float32), TrackerOptions(max_objects=2, gate=False))
    picture = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    frames = tuple(Frame(t, t, Fraction(1, 30), t / 30, Clock.FILE, picture) for t in range(2))
    boxes = np.array([[100, 100, 400, 300], [600, 200, 900, 700]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([0, 1]))
    results = tracker.step(Window(0, frames, True), found)
    assert [len(result.tracks) for result in results] == [2, 2]
    assert all(result.masks.shape == (2, 256, 256) and result.masks.isfinite().all() for result in results)


def missing_key(state):
    del state["maskmem_tpos_enc"]


def wrong_shape(state):
    state["maskmem_tpos_enc"] = torch.zeros(3, 1, 1, 64)


def not_a_number(state):
    state["maskmem_tpos_enc"][0] = torch.nan


@pytest.mark.parametrize("damage", [missing_key, wrong_shape, not_a_number])
def test_a_checkpoint_that_is_not_whole_is_refused(damage, tmp_path):
    path, state = write_sam2(tmp_path, "tiny")
    damage(state)
    torch.save({"model": state}, path)
    with pytest.raises(ModelError, match="maskmem_tpos_enc"):
        load_segmenter(str(path), CPU, torch.float32)


def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path):
    """A text file, another model's weights, an empty folder, a folder of two, and an unknown name."""
    text, other, empty = tmp_path / "notes.pt", tmp_path / "other.pt", tmp_path / "empty"
    text.write_text("no weights")
    torch.save({"model": {"fc.weight": torch.zeros(2, 2)}}, other)
    empty.mkdir()
    for name in (text, other, empty, tmp_path, tmp_path / "absent.pt", "facebook/sam3-huge"):
        with pytest.raises(ModelError) as refused:
            load_segmenter(str(name), CPU, torch.float32)
        assert "\n" not in str(refused.value)
        assert str(name) in str(refused.value)
