"""The memory budget: a stream that does not fit is refused, with the figures."""

import os
import threading
from collections.abc import Callable
from math import prod
from pathlib import Path

import torch

from stages.errors import ConfigError

_UNITS = {"MiB": 1 << 20, "GiB": 1 << 30}


class MemoryBudget:
    """Keeps the streams within ``budget`` bytes; make it once the models are loaded, and before any stream.

    ``in_use`` tells the bytes that are taken now, by the models and all else. What has been promised to streams counts
    from the moment it is: a tracker's memory is only taken bit by bit. Any thread may call.
    """

    def __init__(self, budget: int, in_use: Callable[[], int]) -> None:
        self.budget = budget
        self._in_use = in_use
        self._models = in_use()
        self._admitted: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """Bytes that another stream may take."""
        promised = self._models + sum(self._admitted.values())
        return max(0, self.budget - max(promised, self._in_use()))

    def admit(self, name: str, needed: int, objects: int) -> None:
        """Promise a stream the ``needed`` bytes for its ``objects``. Raises ConfigError where they are not there."""
        with self._lock:
            self._admitted.pop(name, None)
            if needed > self.left and torch.cuda.is_initialized():
                torch.cuda.empty_cache()  # what torch only holds in reserve is not in use
            left = self.left
            if needed > left:
                raise ConfigError(
                    f"stream {name} needs {in_words(needed)} for {objects} objects, {in_words(left)} of "
                    f"{in_words(self.budget)} are left; lower tracking.max_objects or raise limits.gpu_memory"
                )
            self._admitted[name] = needed

    def release(self, name: str) -> None:
        """The stream has ended and its tracker is gone; of one that was never admitted nothing is known."""
        with self._lock:
            self._admitted.pop(name, None)


def stream_bytes(tracker: int, device: torch.device, frames: int, picture: tuple[int, ...] | None) -> int:
    """What a stream needs: its ``tracker``'s bytes and its ``frames`` in flight, each of shape ``picture`` if known.

    Frames wait in the machine's memory, so that they count only where that is the budget.
    """
    return tracker + (frames * prod(picture) if picture is not None and device.type == "cpu" else 0)


def budget_bytes(limit: str, device: torch.device) -> int:
    """``limits.gpu_memory``, "80%" or "12GiB", in bytes: of the GPU's memory, on a CPU of the machine's; never more."""
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else machine_bytes()
    if limit.endswith("%"):
        return int(total * float(limit[:-1]) / 100)
    return min(total, int(float(limit[:-3]) * _UNITS[limit[-3:]]))


def bytes_in_use(device: torch.device) -> int:
    """What torch holds of the GPU's memory; on a CPU what this process holds of the machine's."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    resident = Path("/proc/self/statm").read_text().split()[1]
    return int(resident) * os.sysconf("SC_PAGE_SIZE")


def machine_bytes(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """The machine's memory, or what this process may use of it: its cgroup's limit, or that of one above, v1 or v2."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for line in proc.read_text().splitlines() if proc.exists() else []:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            limits += _limits(root, group, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(root / "memory", group, "memory.limit_in_bytes")
    return min(limits)


def _limits(root: Path, group: str, name: str) -> list[int]:
    """Those of a group and of all above it; inside a container the group itself is the root."""
    inner = root / group.lstrip("/")
    files = [folder / name for folder in (inner, *inner.parents) if folder.is_relative_to(root)]
    values = [file.read_text().strip() for file in files if file.exists()]
    return [int(value) for value in values if value.isdigit()]  # "max" is none


def in_words(size: int) -> str:
    """Bytes for people."""
    unit = "GiB" if size >= _UNITS["GiB"] else "MiB"
    return f"{size / _UNITS[unit]:.1f} {unit}"
