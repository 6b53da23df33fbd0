"""SAM 2 in the format of transformers loads, and its masks are those of transformers' own Sam2VideoModel."""

from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
import torch
from transformers.models.sam2_video import modeling_sam2_video

from stages.sam2.load import build, config_file, load_segmenter
from stages.sam2.transformers_names import of_sam2_package
from stages.testsrc.world import ShapesWorld
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Clock, Detections, Frame, Window
from tests.sam2.parity import torch_without_bfloat16
from tests.support.checkpoints import SAM2_SIZES, sam2_of_transformers

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SIDE = 1024
BOX = np.array([260, 300, 700, 640], np.float32)
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
CASES = [*(("2.1", size) for size in SAM2_SIZES), ("2", "tiny")]


def shapes(state):
    return {name: tuple(weights.shape) for name, weights in state.items()}


@pytest.mark.parametrize(("version", "size"), CASES)
def test_each_weight_of_each_size_has_its_name_in_the_sam2_package(version, size):
    with torch.device("meta"):
        theirs = sam2_of_transformers(size, version).state_dict()
    ours = build(config_file(version, SAM2_SIZES[size])).state_dict()
    assert shapes(of_sam2_package(theirs)) == shapes(ours)


def random_model(seed):
    """Weights that let every layer matter, as trained ones do; transformers' initial ones nearly vanish."""
    torch.manual_seed(seed)
    model = sam2_of_transformers("tiny")
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim > 1 and not name.endswith("positional_embedding"):
                weights.normal_(std=0.7 * weights[0].numel() ** -0.5)
            elif "norm" not in name:
                weights.normal_(std=0.1)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(8.0)
        positions = model.prompt_encoder.shared_embedding.positional_embedding
        model.shared_image_embedding.positional_embedding.copy_(positions)  # the same in every published model
    # parts of upstream's post-processing, which is off on our side: another mask for an unstable one, and memories of
    # binary masks
    model.mask_decoder.dynamic_multimask_via_stability = False
    encode = model._encode_new_memory
    model._encode_new_memory = lambda **inputs: encode(**inputs | {"is_mask_from_pts": False})
    return model


@torch.inference_mode()
def their_masks(model, frames):
    """Logits (256, 256) of one object, from a box on the first frame and propagated to the others."""
    pixels = torch.stack([(torch.from_numpy(frame).float() / 255 - MEAN) / STD for frame in frames]).permute(0, 3, 1, 2)
    session = modeling_sam2_video.Sam2VideoInferenceSession(pixels, SIDE, SIDE, dtype=torch.float32)
    corners = {"point_coords": torch.from_numpy(BOX).reshape(1, 1, 2, 2), "point_labels": torch.tensor([[[2, 3]]])}
    session.add_point_inputs(session.obj_id_to_idx(1), 0, corners)
    session.obj_with_new_inputs = [1]
    with mock.patch.object(modeling_sam2_video, "torch", torch_without_bfloat16()):  # which rounds memories
        return [model(session, frame_idx=t).pred_masks[0, 0] for t in range(len(frames))]


def our_masks(segmenter, frames):
    tracker = Tracker(segmenter, TrackerOptions(max_objects=1, gate=False, memory_dtype=torch.float32))
    found = Detections(BOX[None], np.ones(1, np.float32), np.zeros(1, np.int64))
    window = Window(0, tuple(Frame(t, t, Fraction(1), t, Clock.FILE, f) for t, f in enumerate(frames)), True)
    return [result.masks[0] for result in tracker.step(window, found)]


def test_a_folder_of_transformers_gives_the_masks_of_transformers(tmp_path):
    model = random_model(3)
    model.save_pretrained(tmp_path)
    frames = [ShapesWorld(11, SIDE, SIDE, objects=3).render(t)[0] for t in (0, 4)]
    theirs, ours = their_masks(model, frames), our_masks(load_segmenter(str(tmp_path), CPU, torch.float32), frames)
    for mine, other in zip(ours, theirs, strict=True):
        assert 0.05 < (other > 0).float().mean() < 0.95
        assert (mine - other).abs().max() < 1e-3 * other.std()
