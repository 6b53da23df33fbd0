"""What a GPU needs: few tensor shapes, reused graphs, and no device synchronisation inside a window."""

import numpy as np
import pytest
import torch
from sam2.modeling.position_encoding import PositionEmbeddingSine
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stages.sam2.attention import LeanOptions
from stages.sam2.load import EMBEDDED, build, load_segmenter
from stages.sam2.segmenter import Sam2Segmenter
from stages.sam2.split_attention import Splitting, attend_with_cudnn
from stages.segmentation.outputs import Heads
from stages.tracking.state import TrackerOptions, TrackerState
from stages.tracking.tracker import Tracker
from stages.types import Window

CPU = torch.device("cpu")


def boxes(count: int) -> list[np.ndarray]:
    """Random boxes in a picture of 256 x 256."""
    corners = np.random.default_rng(0).uniform(0, 180, (count, 2)).astype(np.float32)
    return list(np.concatenate([corners, corners + 70], axis=1))


def run(segmenter, world, shapes_frame, objects: int, frames: int = 22):
    tracker, results = Tracker(segmenter, TrackerOptions(gate=False, max_objects=8)), []
    tracker.step(Window(0, (shapes_frame(world, 0),), False), None)
    for box in boxes(objects):
        tracker.add(box=box)
    for t in range(1, frames):
        results += tracker.step(Window(0, (shapes_frame(world, t),), False), None)
    return results


def test_padding_changes_nothing(segmenter, world, shapes_frame, monkeypatch):
    """Five objects run as eight: the same logits, also once the memory is full and the key mask is left out."""
    plain = run(segmenter, world, shapes_frame, objects=5)
    monkeypatch.setattr(segmenter, "static", True)
    padded = run(segmenter, world, shapes_frame, objects=5)
    assert max(float((a.masks - b.masks).abs().max()) for a, b in zip(plain, padded, strict=True)) < 5e-3
    assert all(((a.masks > 0) == (b.masks > 0)).all() for a, b in zip(plain, padded, strict=True))


def test_the_key_mask_is_left_out_once_all_are_full(segmenter, world, shapes_frame, monkeypatch):
    monkeypatch.setattr(segmenter, "static", True)
    masks = []
    propagate = segmenter.propagate

    def spy(frame, groups):
        [memory] = groups
        masks.append(memory.tokens.valid)
        return propagate(frame, groups)

    monkeypatch.setattr(segmenter, "propagate", spy)
    run(segmenter, world, shapes_frame, objects=2)
    full = segmenter.recent_pointers
    assert all(mask is not None for mask in masks[:full])
    assert all(mask is None for mask in masks[full:])


def test_the_encoder_is_compiled_once_for_a_batch_size(graphs):
    segmenter = load_segmenter("embedded", CPU, torch.float32, compiled=True)
    for _ in range(3):
        segmenter.encode([np.zeros((64, 64, 3), np.uint8)])
    assert len(graphs) == 1


@pytest.mark.slow
def test_objects_that_come_and_go_compile_nothing_anew(world, shapes_frame, graphs):
    """After one, two and four objects have run, with partial and full memory, every graph has been compiled."""
    segmenter = load_segmenter("embedded", CPU, torch.float32, compiled=True)
    for objects in (1, 2, 4):
        run(segmenter, world, shapes_frame, objects)
    known = len(graphs)
    assert known > 3
    tracker = Tracker(segmenter, TrackerOptions(gate=False, max_objects=8))
    bank = tracker._state.bank
    places = bank._memories.values.data_ptr(), bank._pointers.values.data_ptr()
    tracker.step(Window(0, (shapes_frame(world, 0),), False), None)
    first, second = boxes(4), boxes(3)
    ids = [tracker.add(box=box) for box in first]
    for t, number in zip(range(1, 25), [3, 2, 4, 1, 3, 4] * 4, strict=True):
        while len(ids) > number:
            tracker.remove(ids.pop(0))
        while len(ids) < number:
            ids.append(tracker.add(box=second[len(ids) % 3]))
        tracker.step(Window(0, (shapes_frame(world, t),), False), None)
    assert len(graphs) == known
    assert (bank._memories.values.data_ptr(), bank._pointers.values.data_ptr()) == places


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")  # the tensors are fake, and so is the device
def test_a_frame_needs_no_device_synchronisation(monkeypatch):
    """With fake tensors, an operation that needs a value raises; tracking a whole frame raises nothing."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # fakes cannot be pinned
    model = build(EMBEDDED / "segmenter.yaml")
    with FakeTensorMode() as mode:
        for module in model.modules():
            if isinstance(module, PositionEmbeddingSine):
                module.cache = {(1, 1): mode.from_tensor(torch.zeros(2, 1, 1))}  # as sam2 keeps them: on another device
            if hasattr(module, "freqs_cis"):
                module.freqs_cis = mode.from_tensor(module.freqs_cis).to("cuda")
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    fake = mode.from_tensor(tensor).detach().to("cuda")
                    held[name] = torch.nn.Parameter(fake, False) if held is module._parameters else fake
        model.to = lambda _: model  # it is there already
        lean = LeanOptions(splitting=Splitting(attend_with_cudnn, multiprocessors=132))
        segmenter = Sam2Segmenter(model, torch.device("cuda"), torch.bfloat16, lean=lean)
        codes = [module.cache[1, 1] for module in model.modules() if isinstance(module, PositionEmbeddingSine)]
        assert {code.device.type for code in codes} == {"cuda"}
        state = TrackerState(segmenter, TrackerOptions(max_objects=4))
        features = segmenter.encode([np.zeros((64, 64, 3), np.uint8)])[0]
        empty = segmenter.empty_heads()
        heads = Heads(*(torch.zeros(3, *part.shape[1:], device=segmenter.device) for part in empty))
        for prompt in (0, 0, 1):
            state.table.start(prompt, 0, 0.9, True, 100, "detected")
        state.start(0, features, heads, segmenter.encode_memory(features, heads))
        state.update_rivals()
        for _ in range(3):
            state.clock += 1
            found = state.propagate(features)
            state.store_memories(features, found, torch.ones_like(found.presence, dtype=torch.bool))
            state.masks = found.masks
            assert found.masks.device.type == "cuda"
        state.bank.set_conditioning(1, state.clock, torch.zeros(()), torch.zeros(()), clear=False)
        state.bank.sync_counts([16, 16, 3])
        assert len(state.bank.groups()) == 3
        state.propagate(features)
        state.bank.sync_counts([17, 17, 4])  # the next window
        with CopiesFromTheHost() as copies:
            state.propagate(features)
        assert not copies.operations


class CopiesFromTheHost(TorchDispatchMode):
    """Operations on the GPU that need a tensor of the host."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        devices = [
            {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor) and leaf.ndim}
            for tree in ((args, kwargs), out)
        ]
        if "cpu" in devices[0] and "cuda" in devices[1]:
            self.operations.append(str(func))
        return out
