"""In bfloat16 the weights are rounded once, what needs float32 keeps it, and masks hardly move."""

import numpy as np
import pytest
import torch
from sam2.modeling.sam2_utils import LayerNorm2d

from stages.sam2.attention import LeanOptions
from stages.sam2.load import EMBEDDED, build, config_file, load_segmenter
from stages.sam2.precision import FLOAT32, round_weights
from stages.sam2.split_attention import Splitting, attend_plainly
from stages.testsrc.world import ShapesWorld
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Window

CPU, HALF = torch.device("cpu"), torch.bfloat16
LEAN = LeanOptions(splitting=Splitting(attend_plainly, multiprocessors=132))
SEEDS, FRAMES = (0, 2, 4), 24
LEAST_MEAN, LEAST = 0.997, 0.9  # IoU; on average, and of each mask


@pytest.fixture(scope="module")
def half():
    return load_segmenter("embedded", CPU, HALF)


def free_running(segmenter, seed, shapes_frame, frames=FRAMES) -> torch.Tensor:
    """The masks (frames - 1, 4, 4 S, 4 S) bool of four objects from their boxes on the first frame."""
    world = ShapesWorld(seed, objects=4)
    boxes = world.render(0)[1].boxes
    tracker = Tracker(segmenter, TrackerOptions(max_objects=4, gate=False))
    tracker.step(Window(0, (shapes_frame(world, 0),), False), None)
    for box in boxes[boxes.any(1)]:
        tracker.add(box=np.asarray(box, np.float32))
    steps = (tracker.step(Window(0, (shapes_frame(world, t),), False), None)[0] for t in range(1, frames))
    return torch.stack([result.masks > 0 for result in steps])


@pytest.mark.slow
@pytest.mark.parametrize("lean", [None, LEAN], ids=["as on a CPU", "as on a GPU"])
def test_masks_in_bfloat16_are_those_in_float32(lean, segmenter, shapes_frame):
    """Free-running: what is rounded on a frame is remembered on the next ones."""
    rounded = load_segmenter("embedded", CPU, HALF, lean=lean)
    ious = []
    for seed in SEEDS:
        first, second = free_running(segmenter, seed, shapes_frame), free_running(rounded, seed, shapes_frame)
        both, either = ((first & second).sum((2, 3)), (first | second).sum((2, 3)))
        ious.append(torch.where(either > 0, both / either, 1.0).flatten())
    worst, mean = float(torch.cat(ious).min()), float(torch.cat(ious).mean())
    print(f"mean IoU {mean:.4f}, least {worst:.3f}")
    assert mean > LEAST_MEAN
    assert worst > LEAST
    assert mean < 1  # the weights are rounded


def kept_in_float32(model: torch.nn.Module) -> set[str]:
    return {name for name, weights in model.named_parameters() if weights.dtype == torch.float32}


@pytest.mark.parametrize("config", [EMBEDDED / "segmenter.yaml", config_file("2.1", "t"), config_file("2", "t")])
def test_only_what_is_named_keeps_float32(config):
    """Each name is one of the model's; the activation has no weights."""
    model = build(config)
    shapes = {name: weights.shape for name, weights in model.state_dict().items()}
    round_weights(model, HALF)
    kept = kept_in_float32(model)
    assert all(name.startswith(FLOAT32) for name in kept)
    without_weights = {"sam_mask_decoder.output_upscaling.4"}
    if not model.proj_tpos_enc_in_obj_ptrs:
        without_weights.add("obj_ptr_tpos_proj")
    if not hasattr(model, "mask_downsample"):
        without_weights.add("mask_downsample")
    assert {part for part in FLOAT32 if any(name.startswith(part) for name in kept)} == {*FLOAT32} - without_weights
    assert isinstance(model.sam_mask_decoder.output_upscaling[4], torch.nn.GELU)
    assert {name: weights.shape for name, weights in model.state_dict().items()} == shapes


def in_half(values: torch.Tensor) -> bool:
    """Whether all values are numbers of bfloat16."""
    return torch.equal(values, values.to(HALF).float())


def test_logits_presence_and_pointers_are_computed_in_float32(half, world, shapes_frame):
    """Their values are not among the few of bfloat16. Features and memories are bfloat16."""
    frame = half.encode([shapes_frame(world, 0).image])[0]
    assert {level.dtype for level in frame.vision} == {HALF}
    heads = half.prompt_boxes(frame, torch.tensor([[20.0, 20.0, 90.0, 90.0], [50.0, 60.0, 150.0, 170.0]]))
    for part in heads:
        assert part.dtype == torch.float32
        assert not in_half(part)
    assert half.encode_memory(frame, heads).dtype == HALF
    for codes in (half.memory_position_encoding(), half.memory_time_encoding(), frame.positions):
        assert codes.dtype == torch.float32
        assert not in_half(codes)


def test_the_norm_over_channels_has_statistics_in_float32(half):
    """Channels far from zero, where a mean in bfloat16 is off by more than their spread."""
    norm = half._model.memory_encoder.mask_downsampler.encoder[1]
    plain = LayerNorm2d(len(norm.weight))
    plain.load_state_dict({name: weights.float() for name, weights in norm.state_dict().items()})
    x = (200 + torch.randn(2, len(norm.weight), 5, 5, generator=torch.Generator().manual_seed(0))).to(HALF)
    with torch.inference_mode():
        expected = plain(x.float())
        assert (norm(x) - expected).abs().max() < 0.02 * expected.abs().max()
        assert (plain.to(HALF)(x) - expected).abs().max() > 0.05 * expected.abs().max()


def test_a_model_of_another_size_shares_the_rounded_weights(half, world, shapes_frame):
    smaller = half.scaled(0.5)
    weights, theirs = half.state_dict(), smaller.state_dict()
    assert all(weights[name].data_ptr() == theirs[name].data_ptr() for name in weights)
    assert free_running(smaller, 0, shapes_frame, frames=3).any()


def test_nothing_is_autocast(half, world, shapes_frame, monkeypatch):
    """Not for any kind of prompt, nor for a correction."""
    entered = []
    monkeypatch.setattr(torch.amp.autocast_mode.autocast, "__enter__", lambda cast: entered.append(cast))
    tracker = Tracker(half, TrackerOptions(max_objects=4, gate=False))
    for t in range(3):
        tracker.step(Window(0, (shapes_frame(world, t),), False), None)
        if t == 0:
            mask = np.zeros((256, 256), bool)
            mask[40:120, 50:110] = True
            tracker.add(box=np.array([20, 20, 90, 90], np.float32))
            point = np.array([[60, 60]], np.float32), np.array([1])
            tracker.add(points=point)
            tracker.add(mask=mask)
            tracker.refine(tracker.ids[0], *point)
    tracker.refine(tracker.ids[0], *point)
    assert not entered


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_a_model_can_be_compiled_in_each_precision(dtype, graphs, segmenter, shapes_frame):
    """Each part as one graph of real numbers."""
    model = load_segmenter("embedded", CPU, dtype, compiled=True)
    compiled, plain = (free_running(each, 0, shapes_frame, frames=4) for each in (model, segmenter))
    assert (compiled == plain).float().mean() > 0.999
    assert len(graphs) >= 2, "of the encoder and of the attention"
    values = [node.meta.get("example_value") for graph in graphs for node in graph.graph.nodes]
    assert not any(value.is_complex() for value in values if isinstance(value, torch.Tensor))
