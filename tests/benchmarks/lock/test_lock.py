"""The benchmark of the interpreter lock: what it makes of py-spy's samples, and a run of the daemon."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.benchmarks.lock.__main__ import Samples, evaluate, read_stacks
from tests.support.program import PATIENCE

HELD = """\
thread (12): gate-writer;run (thread.py:1);draw (draw.py:7) 6
thread (12): gate-writer;run (thread.py:1);send (send.py:3) 2
thread (13): engine;run (thread.py:1);step (engine.py:9) 30
"""
RUNNING = """\
thread (12): gate-writer;run (thread.py:1);draw (draw.py:8) 32
thread (13): engine;run (thread.py:1);step (engine.py:9) 40
thread (14): gate-source-0;run (thread.py:1);read (read.py:2) 10
"""


def test_samples_become_milliseconds_of_cpu_time_a_frame():
    """The writer used 2 s for 100 frames and had the lock in 8 of its 32 samples: 5 of its 20 ms a frame."""
    cpu = Counter({12: 2.0, 13: 4.0, 14: 0.5, 15: 0.1})
    rows = evaluate(Samples(read_stacks(HELD), read_stacks(RUNNING), cpu, 100.0), functions=1)
    assert {kind: row.cpu for kind, row in rows.items()} == pytest.approx(
        {"writer": 20, "engine": 40, "reader": 5, "http": 0, "other": 1}
    )
    assert {kind: row.lock for kind, row in rows.items()} == pytest.approx(
        {"writer": 5, "engine": 30, "reader": 0, "http": 0, "other": 0}
    )
    assert rows["writer"].functions == pytest.approx({"draw (draw.py:7)": 3.75})


def test_threads_of_one_kind_are_added_up():
    """Two writers: each had the lock in half of its samples."""
    held, running = (f"thread (1): a-writer;f (m.py:1) {n}\nthread (2): b-writer;f (m.py:1) {n}\n" for n in (5, 10))
    rows = evaluate(Samples(read_stacks(held), read_stacks(running), Counter({1: 1.0, 2: 3.0}), 10.0), functions=2)
    assert (rows["writer"].cpu, rows["writer"].lock) == pytest.approx((400, 200))
    assert rows["writer"].functions == pytest.approx({"f (m.py:1)": 200})


@pytest.mark.process
def test_the_lock_benchmark_looks_at_the_running_daemon():
    """Frames were published meanwhile; each kind of thread has its CPU time and no more than that with the lock."""
    small = ["--streams", "1", "--size", "160x90", "--objects", "2", "--seconds", "3", "--frames", "4000"]
    command = [sys.executable, "-m", "tests.benchmarks.lock", *small, "--functions", "3", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    if "the right to trace" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["frames"] > 0
    assert set(report["threads"]) == {"writer", "engine", "reader", "http", "other"}
    assert all(0 <= row["lock"] <= row["cpu"] for row in report["threads"].values())
    assert report["threads"]["writer"]["cpu"] > 0
    assert report["threads"]["engine"]["lock"] > 0
