"""Streams are admitted while the memory budget lasts, and refused with the figures when it does not."""

import gc
import os
import threading
from mmap import mmap
from pathlib import Path

import pytest
import torch

from daemon.limits.memory_budget import MemoryBudget, budget_bytes, bytes_in_use, machine_bytes, stream_bytes
from stages.errors import ConfigError

CPU, MIB, GIB = torch.device("cpu"), 1 << 20, 1 << 30


class Held:
    """Memory in use that a test sets."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self) -> int:
        return self.size


def test_streams_are_admitted_until_the_budget_is_used_up():
    admission = MemoryBudget(10 * GIB, Held(4 * GIB))
    for name in ("a", "b", "c"):
        admission.admit(name, 2 * GIB, 64)
    assert admission.left == 0
    with pytest.raises(ConfigError):
        admission.admit("d", 1, 64)


def test_a_refusal_is_one_line_with_the_figures_and_what_to_do():
    admission = MemoryBudget(int(9.6 * GIB), Held(9 * GIB))
    with pytest.raises(ConfigError) as refused:
        admission.admit("gate", int(1.2 * GIB), 64)
    assert str(refused.value) == (
        "stream gate needs 1.2 GiB for 64 objects, 614.4 MiB of 9.6 GiB are left; "
        "lower tracking.max_objects or raise limits.gpu_memory"
    )


def test_a_stream_that_was_refused_takes_nothing_from_the_others():
    admission = MemoryBudget(10 * GIB, Held(0))
    with pytest.raises(ConfigError):
        admission.admit("large", 11 * GIB, 640)
    admission.admit("small", 10 * GIB, 64)


def test_a_stream_that_has_ended_makes_room_for_the_next():
    admission = MemoryBudget(10 * GIB, Held(0))
    admission.admit("a", 6 * GIB, 64)
    with pytest.raises(ConfigError):
        admission.admit("b", 6 * GIB, 64)
    admission.release("a")
    admission.release("never admitted")
    admission.admit("b", 6 * GIB, 64)


def test_a_stream_that_is_admitted_again_counts_once():
    admission = MemoryBudget(10 * GIB, Held(0))
    admission.admit("a", 6 * GIB, 64)
    admission.admit("a", 6 * GIB, 64)
    assert admission.left == 4 * GIB


def test_what_is_promised_counts_before_it_is_taken_and_only_once_when_it_is():
    held = Held(2 * GIB)
    admission = MemoryBudget(10 * GIB, held)
    admission.admit("a", 3 * GIB, 64)
    assert admission.left == 5 * GIB
    held.size = 5 * GIB
    assert admission.left == 5 * GIB


def test_what_others_take_meanwhile_counts_too():
    held = Held(2 * GIB)
    admission = MemoryBudget(10 * GIB, held)
    held.size = 9 * GIB
    with pytest.raises(ConfigError, match=r"1\.0 GiB of 10\.0 GiB are left"):
        admission.admit("a", 2 * GIB, 64)


def test_of_many_that_come_at_once_no_more_are_admitted_than_fit():
    admission, refused, start = MemoryBudget(10 * GIB, Held(0)), [], threading.Barrier(16)

    def come(name: str) -> None:
        start.wait()
        try:
            admission.admit(name, GIB, 64)
        except ConfigError:
            refused.append(name)

    threads = [threading.Thread(target=come, args=(f"s{number}",)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 6
    assert admission.left == 0


def test_a_stream_needs_its_tracker_and_on_a_cpu_its_frames_in_flight():
    assert stream_bytes(5 * MIB, CPU, 40, (720, 1280, 3)) == 5 * MIB + 40 * 720 * 1280 * 3
    assert stream_bytes(5 * MIB, CPU, 40, None) == 5 * MIB
    assert stream_bytes(5 * MIB, CPU, 40, None, past=2 * MIB) == 7 * MIB
    assert stream_bytes(5 * MIB, torch.device("cuda"), 40, (720, 1280, 3)) == 5 * MIB, "frames wait elsewhere"


def test_a_budget_is_a_share_or_a_size_and_never_more_than_there_is():
    total = machine_bytes()
    assert budget_bytes("100%", CPU) == total
    assert budget_bytes("25%", CPU) == total // 4
    assert budget_bytes("512MiB", CPU) == 512 * MIB
    assert budget_bytes("0.5GiB", CPU) == 512 * MIB
    assert budget_bytes("100000GiB", CPU) == total


def test_memory_in_use_on_a_cpu_is_what_this_process_holds():
    gc.collect()  # Python 3.12 may collect what other tests left between any two lines
    before = bytes_in_use(CPU)
    with mmap(-1, 200 * MIB) as held:  # the allocator might give what an earlier test has freed
        held[::4096] = b"1" * (len(held) // 4096)
        assert 190 * MIB < bytes_in_use(CPU) - before < 300 * MIB


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_what_torch_only_holds_in_reserve_is_not_in_the_way():
    device = torch.device("cuda", 0)
    assert budget_bytes("100%", device) == torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    admission = MemoryBudget(bytes_in_use(device) + GIB, lambda: bytes_in_use(device))
    held = torch.zeros(GIB // 2, dtype=torch.uint8, device=device)
    with pytest.raises(ConfigError):
        admission.admit("a", int(0.7 * GIB), 64)
    del held
    admission.admit("a", int(0.7 * GIB), 64)


# the machine's memory


def own_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cgroup(folder: Path, lines: str, **limits: str) -> int:
    """machine_bytes of a process with such a /proc/self/cgroup and files (path with __ for /, and . as it is)."""
    (folder / "cgroup").write_text(lines)
    for name, value in limits.items():
        file = folder / "fs" / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    return machine_bytes(folder / "cgroup", folder / "fs")


def test_the_machines_memory_is_no_more_than_it_has():
    assert 0 < machine_bytes() <= own_memory()


def test_the_limit_of_a_cgroup_counts(tmp_path: Path):
    files = {"maskcast.service__memory.max": "1073741824"}
    assert cgroup(tmp_path, "0::/maskcast.service\n", **files) == GIB


def test_the_tightest_limit_of_a_cgroup_and_those_above_it_counts(tmp_path: Path):
    files = {"memory.max": "max", "a__memory.max": "1073741824", "a__b__memory.max": "2147483648"}
    assert cgroup(tmp_path, "0::/a/b\n", **files) == GIB


def test_inside_a_container_the_group_is_the_root(tmp_path: Path):
    assert cgroup(tmp_path, "0::/docker/1234\n", **{"memory.max": "1073741824"}) == GIB


def test_the_limit_of_an_old_cgroup_counts(tmp_path: Path):
    lines = "5:cpu,cpuacct:/x\n4:hugetlb,memory:/jobs/7\n0::/\n"
    assert cgroup(tmp_path, lines, **{"memory__jobs__7__memory.limit_in_bytes": "1073741824"}) == GIB


def test_no_limit_is_the_machines_memory(tmp_path: Path):
    files = {"memory.max": "max", "memory__memory.limit_in_bytes": "9223372036854771712"}
    assert cgroup(tmp_path, "4:memory:/\n0::/\n", **files) == own_memory()
    assert machine_bytes(tmp_path / "none", tmp_path) == own_memory()
