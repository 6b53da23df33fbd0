"""Masks on their way from the device to the host: nothing waits but who reads them, and half precision is enough."""

import threading

import numpy as np
import pytest
import torch

from stages.output.masks import full_masks
from stages.sam2.load import load_segmenter
from stages.segmentation.outputs import ABSENT
from stages.tracking.tracker import Tracker
from stages.transfer import Transfer, to_half
from stages.types import Result, Window
from tests.testsrc.truth import truth_detections

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def tracked(segmenter, world, frame, windows: int = 4) -> list[Result]:
    """The results of windows of 4 frames, of which the first is a keyframe."""
    tracker, results = Tracker(segmenter), []
    for start in range(0, 4 * windows, 4):
        frames = tuple(frame(world, t) for t in range(start, start + 4))
        results += tracker.step(Window(0, frames, start == 0), truth_detections(world, 0) if start == 0 else None)
    return results


def test_on_the_cpu_nothing_is_copied():
    values = torch.arange(6.0).reshape(2, 3)
    transfer = Transfer.begin(values)
    assert transfer.wait().data_ptr() == values.data_ptr()
    assert transfer.part(1).wait().data_ptr() == values[1].data_ptr()


def test_on_the_cpu_masks_are_the_models_own(segmenter, world, shapes_frame):
    """They are not rounded, and all frames of a window share its memory."""
    results = tracked(segmenter, world, shapes_frame, windows=1)
    assert {result.masks.dtype for result in results} == {torch.float32}
    assert len({result.masks.untyped_storage().data_ptr() for result in results}) == 1
    assert any((result.masks.half() != result.masks).any() for result in results)


def test_results_give_logits_of_half_precision_as_float32(world, shapes_frame):
    logits = torch.tensor([[[-1.5, 0.25], [3.0, -8.0]]], dtype=torch.float16)
    result = Result(shapes_frame(world, 0), 0, False, (), Transfer.begin(logits))
    assert result.masks.dtype == torch.float32
    assert result.masks.tolist() == logits.tolist()


def test_half_precision_holds_every_logit():
    """What it has no number for stays finite, since enlarging infinite logits would give NaN."""
    logits = torch.tensor([1e6, -1e6, ABSENT, 32.0, 1e-4, -1e-4])
    rounded = to_half(logits)
    assert rounded.dtype == torch.float16
    assert rounded.isfinite().all()
    assert (rounded.sign() == logits.sign()).all()
    assert rounded[2] == ABSENT


def test_half_precision_moves_hardly_a_pixel(segmenter, world, shapes_frame):
    """Of the embedded model's masks at the frame's size, fewer than 1 pixel in 10,000 differ, by an IoU of 0.999."""
    results = tracked(segmenter, world, shapes_frame)
    exact = np.concatenate([full_masks(result).full() for result in results])
    halves = [Result(r.frame, 0, False, r.tracks, to_half(r.masks)) for r in results]
    half = np.concatenate([full_masks(result).full() for result in halves])
    assert exact.sum() > 10_000
    assert (exact != half).sum() < 1e-4 * exact.sum()
    ious = [(a & b).sum() / (a | b).sum() for a, b in zip(exact, half, strict=True) if (a | b).any()]
    assert min(ious) > 0.999


@pytest.mark.gpu
@CUDA
def test_a_transfer_from_a_gpu_is_exact_though_its_source_is_overwritten():
    """Another thread waits for it, in pinned memory that is not used again while a tensor refers to it."""
    device = torch.device("cuda")
    first, second = (torch.randn(8, 16, 256, 256, device=device).half() for _ in range(2))
    expected, values = (first.cpu(), second.cpu()), first.clone()
    transfers = [Transfer.begin(values)]
    values.copy_(second)
    transfers.append(Transfer.begin(values))
    values.zero_()
    arrived: list[torch.Tensor] = []
    reader = threading.Thread(target=lambda: arrived.extend(transfer.part(3).wait() for transfer in transfers))
    reader.start()
    reader.join()
    assert all(tensor.is_pinned() for tensor in arrived)
    assert all(torch.equal(tensor, whole[3]) for tensor, whole in zip(arrived, expected, strict=True))


@pytest.mark.gpu
@CUDA
@pytest.mark.parametrize(("dtype", "least"), [(torch.float32, 0.99), (torch.bfloat16, 0.95)])
def test_results_from_a_gpu_are_those_of_the_cpu(segmenter, world, shapes_frame, dtype, least):
    """The same tracks and visible masks, which float32 models send in float32 and others in half precision."""
    on_cpu = tracked(segmenter, world, shapes_frame)
    on_gpu = tracked(load_segmenter("embedded", torch.device("cuda"), dtype), world, shapes_frame)
    for here, there in zip(on_cpu, on_gpu, strict=True):
        assert [track.id for track in here.tracks] == [track.id for track in there.tracks]
        assert isinstance(there.logits, Transfer)
        assert there.logits.wait().dtype == (torch.float32 if dtype == torch.float32 else torch.float16)
        for a, b in zip(full_masks(here).full(), full_masks(there).full(), strict=True):
            assert (a & b).sum() >= least * (a | b).sum()
