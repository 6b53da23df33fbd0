"""Resident memory of the whole daemon against frames, on the test source with the embedded models.

python -m tests.benchmarks.rss [--world plain|hard|wild] [--frames N] [--samples N]

Prints a table and the slope after the first fifth, in bytes per frame.
"""

import argparse
import os
import subprocess
import sys
import time
import urllib.request

import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from stages.testsrc.open_world import KINDS, open_world


def published(url: str) -> int:
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "maskcast_frames_total" and sample.labels["stage"] == "published":
                return int(sample.value)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rss", description=__doc__.splitlines()[0])
    parser.add_argument("--world", choices=KINDS, default="plain")
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=20)
    arguments = parser.parse_args()
    names = ", ".join(dict.fromkeys(open_world(arguments.world, 0).labels))
    source = f"testsrc://shapes?frames={arguments.frames}" + {"plain": ""}.get(arguments.world, f"&{arguments.world}=1")
    command = [sys.executable, "-m", "daemon", "run", source, "--prompt", names]
    models = ["--detector", "embedded", "--segmenter", "embedded", "--device", "cpu"]
    ports = ["--publish", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0"]
    program = subprocess.Popen(
        [*command, *models, *ports], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    url = next(line.split()[-1] for line in program.stdout if line.startswith("metrics: "))
    process, began, rows = psutil.Process(program.pid), time.monotonic(), []
    print(f"{'frames':>8} {'RSS MiB':>9} {'FPS':>6} {'threads':>8} {'files':>6}")
    while program.poll() is None and len(rows) < arguments.samples:
        due = (len(rows) + 1) * arguments.frames // (arguments.samples + 1)
        frames = published(url)
        if frames < due:
            time.sleep(0.2)
            continue
        rows.append((frames, process.memory_info().rss))
        fps = frames / (time.monotonic() - began)
        print(
            f"{frames:8d} {rows[-1][1] / 2**20:9.1f} {fps:6.1f} {process.num_threads():8d} {process.num_fds():6d}",
            flush=True,
        )
    program.wait()
    frames, rss = np.array(rows[len(rows) // 5 :], float).T
    print(f"slope after warm-up: {np.polyfit(frames, rss, 1)[0]:.0f} bytes a frame, on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
