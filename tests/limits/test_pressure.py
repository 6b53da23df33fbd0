"""What gives way when the machine cannot keep up or has no memory left. The models are fakes, the rest is real."""

from collections.abc import Callable

import pytest
import torch

from daemon.engine.models import Models
from daemon.lane.lane import Lane
from daemon.lane.outcome import Notice
from daemon.limits import overload
from stages.errors import ConfigError
from stages.types import StreamEvent, Window
from tests.engine.test_engine import Bench, indices, new_bench, outcomes  # noqa: F401 - a fixture
from tests.support.fakes import FakeDetector, FakeTracker, models, window
from tests.support.program import Program, lines_of


def told(found: list, event: StreamEvent) -> list[str]:
    return [notice.reason for outcome in found for notice in outcome.notices if notice.event is event]


def out_of_memory_at(*moments: int) -> Callable[[Window], None]:
    def fail(window: Window) -> None:
        if window.frames[0].index in moments:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return fail


@pytest.mark.parametrize(("burst", "steps"), [(0.0, 1), (60.0, 0)])
def test_windows_lost_one_after_the_other_bring_smaller_pictures_but_a_burst_does_not(
    new_bench,  # noqa: F811
    monkeypatch,
    burst,
    steps,
):
    """A camera that has just connected sends a second's frames at once."""
    monkeypatch.setattr(overload, "BURST", burst)
    lanes: list[Lane] = []

    def lose(window: Window) -> None:
        if window.frames[0].index == 1:
            lanes[0].overload.add()

    bench: Bench = new_bench(models(FakeTracker(lose)))
    lanes.append(bench.lane("a", *(window(i, keyframe=True) for i in range(4)), longest=8))
    bench.go()
    found = outcomes(lanes[0])
    assert indices(found) == [0, 1, 2, 3]
    if not steps:
        assert told(found, StreamEvent.GOVERNOR) == []
        assert lanes[0].governor.scale == 1.0
        return
    [step] = told(found, StreamEvent.GOVERNOR)
    assert step == "overloaded: pictures at 50% of the model's input size instead of 100% (step 1 of 3)"
    assert found[2].notices == (Notice(StreamEvent.GOVERNOR, step),)
    assert lanes[0].governor.scale == 0.5
    assert bench.value("governor_step", stream="a") == 1


def test_what_was_lost_while_the_models_were_loaded_is_no_overload(new_bench):  # noqa: F811
    bench: Bench = new_bench()
    lane = bench.lane("a", window(0), window(1))
    lane.overload.add()
    bench.go()
    assert told(outcomes(lane), StreamEvent.GOVERNOR) == []
    assert bench.value("governor_step", stream="a") == 0


def test_running_out_of_memory_costs_a_window_and_the_next_ones_take_less(new_bench):  # noqa: F811
    """First the window, then the size of pictures, then the number of objects; the tracker is told each time."""
    tracker = FakeTracker(out_of_memory_at(1, 3, 5))
    bench: Bench = new_bench(models(tracker))
    lane = bench.lane("a", *(window(i, keyframe=True) for i in range(7)), longest=8)
    bench.go()
    found = outcomes(lane)
    assert indices(found) == [0, 2, 4, 6]
    assert len(told(found, StreamEvent.ERROR)) == 3
    first, second, third = told(found, StreamEvent.GOVERNOR)
    assert first.startswith("short of memory: windows of 4 frames instead of 8")
    assert second.startswith("short of memory: pictures at 50% of the model's input size instead of 100%")
    assert third.startswith("short of memory: at most 32 objects instead of 64")
    assert tracker.sizes == [(1.0, 64), (0.5, 64), (0.5, 32)]
    assert bench.value("frames_dropped_total", stream="a", reason="error") == 3


def test_an_error_that_is_no_lack_of_memory_changes_nothing_about_the_pace(new_bench):  # noqa: F811
    def fail(window: Window) -> None:
        if window.frames[0].index == 1:
            raise RuntimeError("odd shapes")

    bench: Bench = new_bench(models(FakeTracker(fail)))
    lane = bench.lane("a", window(0), window(1), window(2))
    bench.go()
    assert told(outcomes(lane), StreamEvent.GOVERNOR) == []


def test_a_stream_that_is_not_admitted_ends_with_the_reason_and_the_others_go_on(new_bench):  # noqa: F811
    released: list[str] = []

    def admit(name: str, *_: object) -> None:
        if name == "greedy":
            raise ConfigError("stream greedy needs 9.0 GiB")

    trackers = Models(FakeDetector(), lambda *_: FakeTracker(), admit, released.append)
    bench: Bench = new_bench(trackers)
    greedy, modest = bench.lane("greedy", window(0), closed=False), bench.lane("modest", window(0), window(1))
    bench.go()
    assert told(outcomes(greedy), StreamEvent.ERROR) == ["stream greedy needs 9.0 GiB"]
    assert isinstance(greedy.error, ConfigError)
    assert indices(outcomes(modest)) == [0, 1]
    assert sorted(released) == ["greedy", "modest"]


@pytest.mark.process
@pytest.mark.parametrize("limit", ["80%", "2GiB"])
def test_the_program_refuses_a_stream_that_does_not_fit_with_the_figures(tmp_path, limit):
    file = tmp_path / "maskcast.toml"
    source = "testsrc://shapes?size=64x64&frames=20"
    stream = f'[[streams]]\nname = "{{}}"\nsource = "{source}"\nprompts = ["red circle"]\n'
    greedy = stream.format("greedy") + "tracking.max_objects = 90000000\n"
    file.write_text(
        f'[record]\ndir = "{tmp_path}"\n[limits]\ngpu_memory = "{limit}"\n{stream.format("modest")}{greedy}'
    )
    code, _, wrong = Program("--config", str(file)).end()
    assert code == 2
    [line] = [line for line in wrong if "error" in line]
    assert "stream greedy needs " in line
    assert "GiB for 90000000 objects" in line
    assert line.endswith("are left; lower tracking.max_objects or raise limits.gpu_memory")
    assert len(lines_of(tmp_path / "modest.masks.jsonl")) == 20
