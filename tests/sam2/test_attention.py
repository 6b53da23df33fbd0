"""Memory attention as GPUs run it gives what sam2's own layers give, and so does attention in parts."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sam2.modeling.position_encoding import apply_rotary_enc
from sam2.modeling.sam.transformer import RoPEAttention

from stages.sam2.attention import LeanAttention, LeanOptions, MaskableAttention, rotary_codes
from stages.sam2.load import load_segmenter
from stages.sam2.split_attention import (
    Splitting,
    attend_in_parts,
    attend_plainly,
    attend_with_cudnn,
    splitting_of,
    why_wrong,
)
from stages.tracking.memory.bank import MemoryBank
from stages.tracking.memory.recall import Recall
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Window

CPU = torch.device("cpu")
SIDE, POINTERS, DIM, MEMORY_DIM = 6, 8, 64, 16
HOPPER = 132  # multiprocessors
SPLIT = LeanOptions(splitting=Splitting(attend_plainly, HOPPER))
WAYS = [LeanOptions(), LeanOptions(narrow=False), SPLIT]
IDS = ["narrow", "wide", "split"]
EXACT = TrackerOptions(max_objects=8, gate=False, memory_dtype=torch.float32)


def cross_attention(heads: int = 1) -> RoPEAttention:
    """sam2's layer of a cross attention to memories, with random weights and biases."""
    torch.manual_seed(0)
    layer = RoPEAttention(
        embedding_dim=DIM, num_heads=heads, kv_in_dim=MEMORY_DIM, rope_k_repeat=True, feat_sizes=(SIDE, SIDE)
    )
    for weights in layer.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return layer.requires_grad_(False)


def lean(layer: RoPEAttention, options: LeanOptions) -> LeanAttention:
    codes = rotary_codes(layer.compute_cis, SIDE)
    layer.__class__ = LeanAttention
    layer.prepare(*codes, options)
    return layer


def memory(objects: int = 2, maps: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values of some spatial memories and object pointers."""
    generator = torch.Generator().manual_seed(1)
    keys = maps * SIDE**2 + POINTERS
    shapes = (SIDE**2, DIM), (keys, MEMORY_DIM), (keys, MEMORY_DIM)
    queries, keys, values = (torch.randn(objects, *shape, generator=generator) for shape in shapes)
    return queries, keys, values


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("options", WAYS, ids=IDS)
def test_lean_attention_is_sam2s(options, heads):
    theirs, ours = cross_attention(heads), lean(cross_attention(heads), options)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    expected = theirs(*memory(), num_k_exclude_rope=POINTERS)
    torch.testing.assert_close(ours(*memory(), POINTERS), expected, atol=2e-5, rtol=0)
    assert expected.std() > 0.1


def test_attention_to_the_picture_itself_is_sam2s():
    queries = memory()[0]
    theirs = RoPEAttention(embedding_dim=DIM, num_heads=1, feat_sizes=(SIDE, SIDE)).requires_grad_(False)
    expected = theirs(queries, queries, queries)
    torch.testing.assert_close(lean(theirs, SPLIT)(queries, queries, queries), expected, atol=1e-5, rtol=0)


def test_real_rotations_are_the_complex_ones():
    """For queries, and for keys of several feature maps, which sam2 calls ``rope_k_repeat``."""
    layer = cross_attention()
    queries, keys = torch.randn(2, 1, SIDE**2, DIM), torch.randn(2, 1, 3 * SIDE**2, DIM)
    expected = apply_rotary_enc(queries, keys, layer.compute_cis(end_x=SIDE, end_y=SIDE), repeat_freqs_k=True)
    lean(layer, LeanOptions())
    for rotated, complex_one in zip((queries, keys), expected, strict=True):
        layer._rotate(rotated)
        torch.testing.assert_close(rotated, complex_one, atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", [None, *WAYS], ids=["cpu", *IDS])
def test_keys_that_are_masked_count_as_left_out(options):
    layer = cross_attention()
    if options is None:
        layer.__class__ = MaskableAttention
    else:
        lean(layer, options)
    queries, keys, values = memory(maps=3)
    places = SIDE**2
    valid = torch.ones(keys.shape[:2], dtype=torch.bool)
    valid[:, places : 2 * places] = False
    without = torch.cat([keys[:, :places], keys[:, 2 * places :]], 1)
    values_without = torch.cat([values[:, :places], values[:, 2 * places :]], 1)
    masked = layer(queries, keys, values, POINTERS, valid)
    torch.testing.assert_close(masked, layer(queries, without, values_without, POINTERS), atol=1e-5, rtol=0)


# parts


def heads_of_one(keys: int = 60) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries large enough to weight parts differently; values have fewer channels."""
    generator = torch.Generator().manual_seed(2)
    shapes = (50, 32), (keys, 32), (keys, 8)
    queries, keys, values = (torch.randn(2, 1, *shape, generator=generator) for shape in shapes)
    return 4 * queries, keys, values


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_attention_in_parts_is_whole_attention(parts):
    torch.testing.assert_close(
        attend_in_parts(*heads_of_one(), parts, attend_plainly), F.scaled_dot_product_attention(*heads_of_one())
    )


def without_the_last_part(queries, keys, values):
    out, logsumexp = attend_plainly(queries, keys, values)
    return out, torch.cat([logsumexp[:, :-1], torch.full_like(logsumexp[:, -1:], -torch.inf)], 1)


def with_equal_weights(queries, keys, values):
    out, logsumexp = attend_plainly(queries, keys, values)
    return out, torch.zeros_like(logsumexp)


def in_another_base(queries, keys, values):
    out, logsumexp = attend_plainly(queries, keys, values)
    return out, logsumexp / np.log(2)


def with_nothing_in_it(queries, keys, values):
    return tuple(torch.full_like(part, torch.nan) for part in attend_plainly(queries, keys, values))


@pytest.mark.parametrize("wrong", [without_the_last_part, with_equal_weights, in_another_base, with_nothing_in_it])
def test_a_part_that_is_left_out_or_merged_wrongly_is_noticed(wrong):
    """By the comparison above, and by the trial of the kernel when a model is loaded, also in bfloat16."""
    out = attend_in_parts(*heads_of_one(), 3, wrong)
    assert not torch.allclose(out, F.scaled_dot_product_attention(*heads_of_one()), atol=0.01)
    assert "off by" in why_wrong(wrong, CPU, torch.bfloat16, 256, 64)
    assert why_wrong(attend_plainly, CPU, torch.bfloat16, 256, 64) is None


def test_keys_are_split_only_as_far_as_there_are_multiprocessors_without_work():
    """SAM 2 at 1024 px: 4096 queries; the keys of one and of two conditioning frames."""
    splitting = Splitting(attend_plainly, HOPPER)
    full, twice = 7 * 4096 + 64, 8 * 4096 + 68
    for keys in (full, twice):
        assert [splitting.parts(objects, 4096, keys) for objects in (1, 2, 4, 16)] == [4, 2, 1, 1]
    assert splitting.parts(1, 4096, 28_737) == 3  # 3 x 9,579
    assert splitting.parts(1, 4096, 28_723) == 1  # a prime
    assert Splitting(attend_plainly, 40).parts(1, 4096, full) == 1


def test_where_the_kernel_does_not_run_keys_stay_whole_and_one_warning_says_why(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(multi_processor_count=HOPPER))
    with caplog.at_level(logging.WARNING):
        assert splitting_of(CPU, torch.bfloat16, 256, 64) is None  # cuDNN on a CPU
    [record] = caplog.records
    assert "without splitting keys" in record.message
    assert "_scaled_dot_product_cudnn_attention" in record.message


# for compilers


@pytest.mark.parametrize("options", WAYS, ids=IDS)
def test_a_compiler_can_trace_lean_attention(options):
    """As one graph of real numbers."""
    arguments = (*memory(objects=1), POINTERS)
    graph = torch.export.export(lean(cross_attention(), options), arguments).graph
    values = [node.meta["val"] for node in graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    assert len(values) > 10
    assert not any(value.is_complex() for value in values)


def test_the_kernel_for_parts_has_the_results_that_are_read_from_it():
    """Its second result is the log-sum-exp, whose last dimension is 1 or missing."""
    with torch.device("meta"):
        queries, keys, values = (
            torch.empty(1, 4, n, c, dtype=torch.bfloat16) for n, c in ((64, 256), (9, 256), (9, 64))
        )
    out, logsumexp = attend_with_cudnn(queries, keys, values)
    assert out.shape == (1, 4, 64, 64)
    assert (logsumexp.shape, logsumexp.dtype) == ((1, 4, 64, 1), torch.float32)


# the whole model


def free_running(segmenter, world, shapes_frame, frames: int = 22) -> list[torch.Tensor]:
    """The logits of two objects from the first frame on, and of one that joins on frame 17, when those are full."""
    truth = world.render(0)[1].boxes
    tracker, masks = Tracker(segmenter, EXACT), []
    for t in range(frames):
        masks.append(tracker.step(Window(0, (shapes_frame(world, t),), False), None)[0].masks)
        for number in {0: (0, 1), 17: (2,)}.get(t, ()):
            tracker.add(box=np.asarray(truth[number], np.float32))
    return masks[1:]


def largest_difference(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("options", WAYS, ids=IDS)
def test_the_lean_model_gives_the_same_masks(options, segmenter, world, shapes_frame):
    ours = free_running(load_segmenter("embedded", CPU, torch.float32, lean=options), world, shapes_frame)
    expected = free_running(segmenter, world, shapes_frame)
    assert largest_difference(ours, expected) < 1e-4
    assert all(((a > 0) == (b > 0)).all() for a, b in zip(ours, expected, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("options", [None, SPLIT], ids=["cpu", "lean"])
def test_rows_in_groups_get_the_masks_that_one_group_with_a_key_mask_gives(options, world, shapes_frame, monkeypatch):
    """Two full rows and a young one; in one group all have a key mask."""
    model = load_segmenter("embedded", CPU, torch.float32, lean=options)
    grouped = free_running(model, world, shapes_frame)
    monkeypatch.setattr(MemoryBank, "groups", lambda bank: [list(range(bank.count))])
    assert largest_difference(grouped, free_running(model, world, shapes_frame)) < 1e-4
    read = Recall.__call__
    monkeypatch.setattr(Recall, "__call__", lambda recall, *of: replace(read(recall, *of), valid=None))
    assert largest_difference(grouped, free_running(model, world, shapes_frame)) > 1e-3
