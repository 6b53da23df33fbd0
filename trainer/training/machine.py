"""The hardware and process of a training: accelerator, batch size that fits into memory, signals."""

import gc
import os
import signal
from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DynamoBackend, find_executable_batch_size

from stages.errors import ConfigError
from stages.stop_signals import StopSignals

PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}  # our name: accelerate's name


def default_workers() -> int:
    """Number of data loading processes: one less than cores, at most 8."""
    return min(len(os.sched_getaffinity(0)) - 1, 8)


def new_accelerator(device: str, precision: str, seed: int, batch_size: int) -> Accelerator:
    """The accelerator of this process. With ``torchrun`` or ``accelerate launch``, each process has its own GPU and
    gets its share of every batch.

    Raises ConfigError when there is no such device, or the batch cannot be divided.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: this machine has no CUDA GPU that PyTorch can use; give --device cpu")
    cuda = device != "cpu" and torch.cuda.is_available()
    if precision == "auto":
        # emulated bfloat16, as on a T4, is slower than float16
        half = "bfloat16" if cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        precision = half if cuda else "float32"
    if precision == "float16" and not cuda:
        raise ConfigError("--precision float16 needs a GPU; give float32 or bfloat16")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    accelerator = Accelerator(
        cpu=not cuda,
        mixed_precision=PRECISIONS[precision],
        dynamo_backend=DynamoBackend.INDUCTOR if cuda else DynamoBackend.NO,
        dataloader_config=DataLoaderConfiguration(
            split_batches=True, use_seedable_sampler=True, data_seed=seed, non_blocking=True
        ),
    )
    if batch_size % accelerator.num_processes:
        raise ConfigError(
            f"--batch-size {batch_size} cannot be divided among {accelerator.num_processes} processes; give a multiple"
        )
    return accelerator


def largest_batch(attempt: Callable[[int], object], below: int) -> int:
    """The largest of ``below`` / 2, / 4, ... for which ``attempt`` does not run out of memory; 0 when all do."""
    size = below // 2

    def halve() -> int:
        nonlocal size
        size //= 2
        return size

    def once(batch_size: int) -> int:
        attempt(batch_size)
        return batch_size

    gc.collect()  # reference cycles still hold the tensors of the failed step
    try:
        fits: int = find_executable_batch_size(once, size, halve)()
    except RuntimeError:
        return 0
    return fits


def stop_signals() -> StopSignals:
    """Ctrl-C, SIGTERM and SIGHUP as a request to stop, checked between steps; one that comes later interrupts at once.

    ``torchrun`` forwards a signal that the terminal has also sent to its processes: both count as one request.
    """

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    return StopSignals(now=interrupt)


def leave_signals_to_parent(_: int) -> None:
    """Ignore Ctrl-C in a data loading process: it gets the signal too, and the training still needs its batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
