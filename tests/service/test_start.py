"""A start: what it consists of is told, and models.compile decides what is compiled in it."""

import os
import re
import time
from pathlib import Path

import psutil
import pytest

from daemon.metrics.registry import Metrics
from daemon.service.build_models import COMPILED, build_segmenter
from daemon.service.start_times import StartTimes, process_age
from daemon.settings.schema import Models


def start_seconds(metrics: Metrics) -> dict[str, float]:
    samples = (sample for family in metrics.registry.collect() for sample in family.samples)
    return {s.labels["part"]: s.value for s in samples if s.name == "maskcast_start_seconds"}


def test_the_age_of_the_process_counts_from_its_start():
    assert process_age() == pytest.approx(time.time() - psutil.Process().create_time(), abs=1.0)


def test_the_parts_of_a_start_make_up_the_whole_in_one_line_and_as_metrics(caplog):
    metrics = Metrics()
    times = StartTimes(metrics)
    before = process_age()
    with times.part("detector"):
        time.sleep(0.03)
    for part in ("imports", "segmenter", "warm-up"):
        with times.part(part):
            pass
    assert set(start_seconds(metrics).values()) == {0.0}
    with caplog.at_level("INFO", logger="daemon"):
        times.ready()
    [line] = caplog.messages
    told = re.fullmatch(r"ready ([\d.]+) s after the start: (.*)", line)
    assert told
    parts = dict(part.rsplit(" ", 2)[:2] for part in told[2].split(", "))
    assert list(parts) == ["imports", "detector", "segmenter", "warm-up", "other"]
    found = start_seconds(metrics)
    assert list(found) == ["imports", "models", "warm_up", "other"]
    assert before <= sum(found.values()) <= process_age()
    assert sum(found.values()) == pytest.approx(float(told[1]), abs=0.06)
    assert found["models"] >= 0.03


def test_only_compilation_that_was_asked_for_makes_shapes_static_and_lasts(tmp_path: Path, monkeypatch):
    """Nothing is compiled before the first window."""
    monkeypatch.setenv(COMPILED, "")  # so that it is put back
    monkeypatch.delenv(COMPILED)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for value in ("auto", False):
        assert not build_segmenter(Models(segmenter="embedded", device="cpu", compile=value)).static
        assert COMPILED not in os.environ
    assert build_segmenter(Models(segmenter="embedded", device="cpu", compile=True)).static
    assert os.environ[COMPILED] == str(tmp_path / "maskcast" / "inductor")
    monkeypatch.setenv(COMPILED, str(tmp_path / "elsewhere"))
    build_segmenter(Models(segmenter="embedded", device="cpu", compile=True))
    assert os.environ[COMPILED] == str(tmp_path / "elsewhere")
