"""Signals that ask a command to stop: those of one request end the work in order, a later one ends it at once."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daemon.commands import watch
from stages import stop_signals
from stages.recording.segment import videos
from stages.stop_signals import SAME_REQUEST, StopSignals
from tests.support.program import PATIENCE, Program, pictures_in, recorded, wait_until

pytestmark = pytest.mark.process

PAIRS = (
    (signal.SIGTERM, signal.SIGTERM),
    (signal.SIGINT, signal.SIGTERM),
    (signal.SIGHUP, signal.SIGTERM),
)


@pytest.fixture(autouse=True)
def same_handlers_after_the_test() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_two_signals_at_once_are_one_request_and_the_recording_is_whole(tmp_path: Path) -> None:
    source = "testsrc://shapes?seed=23&live=1&frames=100000&size=96x96"
    folders = [tmp_path / str(number) for number in range(len(PAIRS))]
    programs = [Program(source, "--prompt", "red circle", "--record", str(folder)) for folder in folders]
    for folder in folders:
        wait_until(lambda folder=folder: len(recorded(folder, "shapes")) > 3)
    for program, signals in zip(programs, PAIRS, strict=True):
        for number in signals:
            program.process.send_signal(number)
            time.sleep(0.05)  # else the kernel makes one of two that are the same
    for program, folder in zip(programs, folders, strict=True):
        code, out, wrong = program.end()
        assert (code, wrong) == (0, [])
        frames = len(recorded(folder, "shapes"))
        assert re.fullmatch(rf"shapes: {frames} frames, .*", out.splitlines()[-1])
        assert sum(map(pictures_in, videos(folder, "shapes"))) == frames


def test_training_that_gets_two_signals_is_saved(tmp_path: Path) -> None:
    """SIGHUP, of a closed terminal, is a request to stop, too."""
    from tests.trainer.training import two_colours

    data, out = two_colours(tmp_path / "pictures", 24), tmp_path / "out"
    options = ("--from-scratch", "--batch-size", "2", "--epochs", "500", "--device", "cpu", "--workers", "0")
    command = [sys.executable, "-m", "daemon", "train", "--data", str(data), "--out", str(out), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 1/500: loss" in line:
                process.send_signal(signal.SIGHUP)
                process.send_signal(signal.SIGTERM)
                break
        last = process.stderr.read().splitlines()[-1]
    assert process.wait(PATIENCE) == 130
    assert last.endswith(f"and saved; go on with: maskcast train --resume --out {out}")


def test_signal_ends_a_subscription_wherever_it_waits(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "daemon", "watch", f"ipc://{tmp_path}/none"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("maskcast: nothing from ")  # it waits
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.stderr.read() == ""
    assert process.wait(PATIENCE) == 0


def test_later_signal_means_now_and_one_of_the_same_request_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 50.0
    monkeypatch.setattr(stop_signals.time, "monotonic", lambda: moment)
    hurried: list[int] = []
    with StopSignals(now=hurried.append) as signals:
        assert not signals.requested
        for moment in (50.0, 50.2, 50.0 + SAME_REQUEST):  # noqa: B007 - read by the clock
            os.kill(os.getpid(), signal.SIGTERM)
        assert (signals.requested, signals.number, hurried) == (True, signal.SIGTERM, [])
        moment = 50.1 + SAME_REQUEST
        os.kill(os.getpid(), signal.SIGINT)
        assert hurried == [signal.SIGINT]


def test_rest_of_a_request_does_not_kill_the_program_that_ends() -> None:
    hurried: list[int] = []
    with StopSignals(now=hurried.append):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)  # without a handler, this process would be dead
    assert hurried == []


def test_without_a_request_the_handlers_are_those_of_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with watch._signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_another_thread_leaves_the_handlers_as_they_are() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def handler() -> object:
        with StopSignals(now=print):
            return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(handler).result() == before


def test_signal_that_another_part_of_the_program_uses_is_left_to_it() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with StopSignals(now=print) as signals:
        os.kill(os.getpid(), signal.SIGHUP)
    assert not signals.requested
