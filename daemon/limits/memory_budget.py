"""The memory budget: a stream that does not fit is refused, with the figures."""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import torch

from stages.errors import ConfigError
from stages.plural import plural

_UNITS = {"MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of the budget, of what is used or reserved of it, and of each stream's reservation."""

    budget: int = 0
    used: int = 0
    streams: Mapping[str, int] = field(default_factory=dict)


class MemoryBudget:
    """Admits streams while their memory fits ``budget`` bytes. Create it after the models and before any stream.

    ``in_use`` returns the bytes in use now, by the models and all else. A stream's bytes count from its admission on,
    since its tracker allocates them little by little. Any thread may call.
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
        return max(0, self.budget - self._used())

    def use(self) -> MemoryUse:
        """What the budget is used for now."""
        with self._lock:
            return MemoryUse(self.budget, self._used(), dict(self._admitted))

    def _used(self) -> int:
        return max(self._models + sum(self._admitted.values()), self._in_use())

    def admit(self, name: str, needed: int, objects: int) -> None:
        """Reserve ``needed`` bytes for a stream of ``objects``. Raises ConfigError when they do not fit."""
        with self._lock:
            self._admitted.pop(name, None)
            if needed > self.left and torch.cuda.is_initialized():
                torch.cuda.empty_cache()  # torch's unused reserve is not in use
            left = self.left
            if needed > left:
                raise ConfigError(
                    f"stream {name} needs {in_words(needed)} for {objects} {plural(objects, 'object')}, "
                    f"{in_words(left)} of {in_words(self.budget)} are left; lower tracking.max_objects or raise "
                    "limits.gpu_memory"
                )
            self._admitted[name] = needed

    def release(self, name: str) -> None:
        """Free the bytes of a stream whose tracker is gone; does nothing for one that was never admitted."""
        with self._lock:
            self._admitted.pop(name, None)


def stream_bytes(
    tracker: int, device: torch.device, frames: int, picture: tuple[int, ...] | None, past: int = 0
) -> int:
    """Bytes that a stream needs: its ``tracker``'s, ``frames`` in flight of shape ``picture``, if known, and ``past``.

    Frames in flight and ``past``, the bytes of past pictures that are kept, are in the machine's memory: they count
    only where the budget is one of the machine's memory.
    """
    if device.type != "cpu":
        return tracker
    return tracker + past + (frames * prod(picture) if picture is not None else 0)


def budget_bytes(limit: str, device: torch.device) -> int:
    """``limits.gpu_memory``, "80%" or "12GiB", in bytes: of the GPU's memory or, on a CPU, of the machine's."""
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else machine_bytes()
    if limit.endswith("%"):
        return int(total * float(limit[:-1]) / 100)
    return min(total, int(float(limit[:-3]) * _UNITS[limit[-3:]]))


def bytes_in_use(device: torch.device) -> int:
    """Bytes of GPU memory that torch holds; on a CPU, bytes of the machine's memory that this process holds."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    resident = Path("/proc/self/statm").read_text().split()[1]
    return int(resident) * os.sysconf("SC_PAGE_SIZE")


def machine_bytes(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of the machine's memory that this process may use: the least limit of its cgroups, v1 or v2."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for line in proc.read_text().splitlines() if proc.exists() else []:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            limits += _limits(root, group, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(root / "memory", group, "memory.limit_in_bytes")
    return min(limits)


def _limits(root: Path, group: str, name: str) -> list[int]:
    """The limits of a cgroup and its parents; inside a container the cgroup itself is the root."""
    inner = root / group.lstrip("/")
    files = [folder / name for folder in (inner, *inner.parents) if folder.is_relative_to(root)]
    values = [file.read_text().strip() for file in files if file.exists()]
    return [int(value) for value in values if value.isdigit()]  # "max" is no limit


def in_words(size: int) -> str:
    """A size in MiB or GiB, for messages."""
    unit = "GiB" if size >= _UNITS["GiB"] else "MiB"
    return f"{size / _UNITS[unit]:.1f} {unit}"
