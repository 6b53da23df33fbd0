"""The machine a training runs on: accelerate's view of its GPUs, and how much fits."""

import gc
import os
import signal
import time
from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DynamoBackend, find_executable_batch_size

from stages.errors import ConfigError

AGAIN = 1.0  # seconds until a second Ctrl-C counts as one
PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}  # our word: accelerate's


def default_workers() -> int:
    """Processes that read pictures beside the one that trains; at most 8 for each."""
    return min(len(os.sched_getaffinity(0)) - 1, 8)


def new_accelerator(device: str, precision: str, seed: int, batch_size: int) -> Accelerator:
    """``torchrun`` or ``accelerate launch`` give each process its GPU; a batch is divided among them.

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
    """The largest of ``below`` / 2, / 4, ... with which ``attempt`` does not run out of memory; 0 when none is."""
    size = below // 2

    def halve() -> int:
        nonlocal size
        size //= 2
        return size

    def once(batch_size: int) -> int:
        attempt(batch_size)
        return batch_size

    gc.collect()  # the step that failed lives on in cycles
    try:
        fits: int = find_executable_batch_size(once, size, halve)()
    except RuntimeError:
        return 0
    return fits


class Interrupt:
    """Ctrl-C or SIGTERM as a request, to be looked at between steps; asked again later, it interrupts at once.

    ``torchrun`` passes on what the terminal has sent to its processes already: that is the same request.
    """

    def __init__(self) -> None:
        self._since: float | None = None

    @property
    def asked(self) -> bool:
        return self._since is not None

    def __enter__(self) -> "Interrupt":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_: object) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif now - self._since > AGAIN:
            raise KeyboardInterrupt


def leave_signals_to_parent(_: int) -> None:
    """For the loader's processes: Ctrl-C reaches them too, and the batch they work on is still wanted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
