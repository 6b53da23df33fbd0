"""Time and floating-point operations of a model's stages, and the device's peak FLOP/s."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

Mark = torch.cuda.Event | float


def _attention_flop(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


# torch's counter knows CUDA's attention kernels, but not the CPU's
_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop}


def settle(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def now(device: torch.device) -> float:
    """Seconds: CPU time with a single CPU thread, so that other processes have little influence; else wall time."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.thread_time() if alone else time.perf_counter()


class Stopwatch:
    """Measures the time in watched methods; on CUDA with events, which do not synchronise."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._spans: dict[str, list[tuple[Mark, Mark]]] = defaultdict(list)

    def watch(self, stage: str, owner: Any, method: str) -> None:
        """From now on, measure the calls of ``owner.method`` as ``stage``."""
        original = getattr(owner, method)

        def watched(*arguments: Any, **named: Any) -> Any:
            began = self._mark()
            result = original(*arguments, **named)
            self._spans[stage].append((began, self._mark()))
            return result

        setattr(owner, method, watched)

    def take(self) -> dict[str, float]:
        """Milliseconds by stage since the last call."""
        settle(self._device)
        taken = {stage: sum(_milliseconds(*span) for span in spans) for stage, spans in self._spans.items()}
        self._spans.clear()
        return taken

    def _mark(self) -> Mark:
        if self._device.type == "cpu":
            return now(self._device)
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _milliseconds(began: Any, ended: Any) -> float:
    return (ended - began) * 1000 if isinstance(began, float) else began.elapsed_time(ended)


@contextmanager
def counted_flops(owner: Any, method: str) -> Iterator[list[int]]:
    """Floating-point operations of each call of ``owner.method`` in the block, which runs without compilation."""
    original, calls = getattr(owner, method), []

    def counted(*arguments: Any, **named: Any) -> Any:
        with FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter:
            result = original(*arguments, **named)
        calls.append(counter.get_total_flops())
        return result

    setattr(owner, method, counted)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield calls
    finally:
        setattr(owner, method, original)


def peak_flops(device: torch.device, dtype: torch.dtype, tries: int = 8) -> float:
    """FLOP/s of a large square matrix product, the best of ``tries``."""
    side = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = left @ right
    watch, best = Stopwatch(device), float("inf")
    for _ in range(tries):
        began = watch._mark()
        torch.matmul(left, right, out=product)
        ended = watch._mark()
        settle(device)
        best = min(best, _milliseconds(began, ended))
    return 2 * side**3 / (best / 1000)
