"""How the GPU's work is summed up, the cameras, and the stacks of a silent daemon."""

from contextlib import closing
from itertools import islice

import pytest

from stages.source.source import open_source
from stages.testsrc.world import ShapesWorld
from tests.benchmarks.support.gpu_work import GpuWork, summary
from tests.gpu.load import watch
from tests.gpu.load.cameras import cameras
from tests.gpu.load.daemon_load import _clip, _repeated
from tests.gpu.load.watch import SILENCE, Silence, relayed
from tests.support.measured import MeasuredProgram, subscriber
from tests.support.program import wait_until

pytestmark = pytest.mark.process


def event(category: str, name: str, began: float, lasted: float) -> dict[str, object]:
    return {"ph": "X", "cat": category, "name": name, "ts": began, "dur": lasted}


def test_the_gpus_time_counts_once_where_kernels_overlap_and_launches_are_those_of_kernels_and_graphs():
    events = [
        event("kernel", "gemm", 1000, 500),
        event("kernel", "softmax", 1200, 100),  # inside of the first
        event("gpu_memcpy", "Memcpy DtoH", 1400, 300),  # 200 more
        event("kernel", "add", 9000, 50),
        event("cuda_runtime", "cudaLaunchKernel", 0, 5),
        event("cuda_runtime", "cudaLaunchKernelExC", 10, 5),
        event("cuda_driver", "cuLaunchKernel", 20, 5),
        event("cuda_runtime", "cudaGraphLaunch", 30, 5),
        event("cuda_runtime", "cudaMemcpyAsync", 40, 5),
        event("cuda_runtime", "cudaStreamSynchronize", 50, 9000),
        event("user_annotation", "window", 0, 10_000),
        {"ph": "i", "cat": "kernel", "name": "no span", "ts": 5},
    ]
    assert summary(events) == GpuWork(milliseconds=0.75, kernels=3, launches=4)


def test_cameras_send_the_clip_again_and_again_and_files_repeat_it(tmp_path):
    bare = _clip(tmp_path / "clip.h264", ShapesWorld(0, 128, 96, objects=2), 6)
    source = open_source(str(_repeated(bare, tmp_path / "clip.mp4", 3)))
    assert len(list(source.frames())) == 3 * 12
    with cameras(bare, 2, rate=60) as addresses:
        for address in addresses:
            with closing(open_source(address)) as camera:
                assert camera.live
                assert len(list(islice(camera.frames(), 30))) == 30


def test_a_silent_daemon_shows_what_its_threads_do(monkeypatch, capsys):
    """Without py-spy too. It goes on afterwards, and one silence is told once."""
    monkeypatch.setattr(watch, "find_py_spy", lambda: None)
    asked = ("testsrc://shapes?live=1&fps=5", "--prompt", "red circle", "--detector", "embedded", "--device", "cpu")
    models = ("--segmenter", "embedded")
    program = MeasuredProgram(*asked, *models, module="tests.gpu.load.watched_daemon", OMP_NUM_THREADS="1")
    with closing(program), relayed(program), subscriber(program, "v1/shapes/masks") as messages:
        next(messages)
        silence = Silence(program, "no frame")
        for _ in range(2):
            silence.look(last=-SILENCE)
        wait_until(lambda: b"in main_loop" in program.stderr(), "the daemon's stacks")
        next(messages)
    said = capsys.readouterr().out
    assert said.count("- no frame for 5 s") == 1
    assert "Thread 0x" in said
    assert "in main_loop" in said
