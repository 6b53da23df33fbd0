"""What the GPU and the host do for a piece of work: time of the GPU, its kernels, and the launches by the host."""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

_WORKS = ("kernel", "gpu_memcpy", "gpu_memset")  # categories of a trace in which the GPU is at work
_CALLS = ("cuda_runtime", "cuda_driver")
_LAUNCHES = ("cudaLaunchKernel", "cudaLaunchCooperativeKernel", "cudaGraphLaunch", "cuLaunchKernel", "cuGraphLaunch")


@dataclass(frozen=True, slots=True)
class GpuWork:
    """``milliseconds`` in which the GPU did anything, its kernels, and the host's launches of kernels and of graphs."""

    milliseconds: float
    kernels: int
    launches: int


def gpu_work(work: Callable[[], object], device: torch.device) -> GpuWork | None:
    """Profile ``work``; None without CUDA. It runs once, and slower than usual."""
    if device.type != "cuda":
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        work()
        torch.cuda.synchronize(device)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(trace))
        return summary(json.loads(trace.read_text())["traceEvents"])


def summary(events: Iterable[Mapping[str, Any]]) -> GpuWork:
    """Sum up the events of a trace in Chrome's format, whose times are microseconds."""
    events = [event for event in events if event.get("ph") == "X"]
    spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event.get("cat") in _WORKS)
    busy, end = 0.0, float("-inf")
    for began, ended in spans:
        busy += max(0.0, ended - max(began, end))
        end = max(end, ended)
    kernels = sum(event.get("cat") == "kernel" for event in events)
    launches = sum(event.get("cat") in _CALLS and event["name"].startswith(_LAUNCHES) for event in events)
    return GpuWork(busy / 1000, kernels, launches)
