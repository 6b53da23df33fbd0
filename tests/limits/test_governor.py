"""The governor steps down under pressure, up after quiet, and says what it does."""

import gc
import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch

from daemon.limits.governor import LONGEST, QUIET, SETTLE, Governor
from daemon.limits.out_of_memory import free_memory_of, is_out_of_memory
from daemon.settings.schema import Tracking


@pytest.fixture
def governor() -> Governor:
    return Governor(Tracking(window=8, max_objects=64))


def pace(governor: Governor) -> tuple[int, float, int, int]:
    return governor.window, governor.scale, governor.max_objects, governor.step


def press(governor: Governor, reason: str, times: int) -> list[str | None]:
    """Pressure that never ends, each time just when a step could have shown."""
    return [governor.pressed(reason, number * SETTLE) for number in range(times)]


def test_without_pressure_all_is_as_configured(governor):
    assert pace(governor) == (8, 1.0, 64, 0)
    assert governor.rested(1e6) is None
    assert governor.steps == 3


def test_an_overloaded_stream_gives_up_detail_then_objects(governor):
    """It keeps its windows: smaller ones would not make it any faster."""
    assert press(governor, "overload", 3) == [
        "overloaded: pictures at 50% of the model's input size instead of 100% (step 1 of 3)",
        "overloaded: at most 32 objects instead of 64 (step 2 of 3)",
        None,
    ]
    assert pace(governor) == (8, 0.5, 32, 2)


def test_a_stream_short_of_memory_gives_up_only_what_takes_memory(governor):
    assert press(governor, "memory", 4) == [
        "short of memory: windows of 4 frames instead of 8 (step 1 of 3)",
        "short of memory: pictures at 50% of the model's input size instead of 100% (step 2 of 3)",
        "short of memory: at most 32 objects instead of 64 (step 3 of 3)",
        None,
    ]
    assert pace(governor) == (4, 0.5, 32, 3)


def test_both_pressures_share_the_ladder(governor):
    governor.pressed("overload", 0)
    governor.pressed("memory", 1)
    assert pace(governor) == (4, 0.5, 64, 2)
    assert governor.pressed("overload", 10) == "overloaded: at most 32 objects instead of 64 (step 3 of 3)"
    assert pace(governor) == (4, 0.5, 32, 3)


def test_overload_waits_until_the_last_step_can_show_and_a_shortage_of_memory_does_not(governor):
    assert governor.pressed("overload", 100)
    assert governor.pressed("overload", 100 + SETTLE - 0.1) is None
    assert governor.pressed("memory", 100 + SETTLE - 0.1)
    assert governor.pressed("overload", 100 + SETTLE) is None, "the step for memory has to show as well"
    assert governor.pressed("overload", 100 + 2 * SETTLE)
    assert governor.step == 3


def test_steps_that_would_change_nothing_are_left_out():
    governor = Governor(Tracking(window=1, max_objects=1))
    assert governor.steps == 1
    assert press(governor, "memory", 2) == [
        "short of memory: pictures at 50% of the model's input size instead of 100% (step 1 of 1)",
        None,
    ]
    assert pace(governor) == (1, 0.5, 1, 1)


def test_halves_of_odd_numbers_are_rounded_down_but_never_to_nothing():
    governor = Governor(Tracking(window=3, max_objects=2))
    press(governor, "memory", 3)
    assert (governor.window, governor.max_objects) == (1, 1)


def test_after_quiet_it_climbs_one_step_at_a_time_in_reverse_order(governor):
    governor.pressed("overload", 0)
    governor.pressed("memory", 1)
    assert governor.rested(1 + QUIET - 0.1) is None
    assert governor.rested(1 + QUIET) == "quiet for 30 s: windows of 8 frames instead of 4 (step 1 of 3)"
    assert governor.rested(1 + 2 * QUIET - 0.1) is None
    assert governor.rested(1 + 2 * QUIET) == (
        "quiet for 30 s: pictures at 100% of the model's input size instead of 50% (step 0 of 3)"
    )
    assert pace(governor) == (8, 1.0, 64, 0)
    assert governor.rested(1 + 9 * QUIET) is None


def test_pressure_that_no_step_answers_still_breaks_the_quiet(governor):
    press(governor, "memory", 3)
    assert governor.pressed("memory", 100) is None
    assert governor.rested(100 + QUIET - 0.1) is None
    assert governor.rested(100 + QUIET)


def test_pressure_that_comes_before_the_last_step_can_show_breaks_the_quiet_too(governor):
    governor.pressed("overload", 0)
    assert governor.pressed("overload", SETTLE - 1) is None
    assert governor.rested(SETTLE - 1 + QUIET - 0.1) is None
    assert governor.rested(SETTLE - 1 + QUIET)


def first_climb(governor: Governor, start: float) -> float:
    """When it climbs, if it is asked every half second from ``start`` on."""
    now = start
    while governor.rested(now) is None:
        now += 0.5
    return now


def test_each_climb_that_pressure_follows_soon_doubles_the_quiet_before_the_next(governor):
    governor.pressed("overload", 0)
    now, waits = 0.0, []
    for _ in range(8):
        climbed = first_climb(governor, now)
        waits.append(climbed - now)
        now = climbed + 2
        assert governor.pressed("overload", now), "what was just taken back is given up at once"
    assert waits == [30, 60, 120, 240, 480, LONGEST, LONGEST, LONGEST]


def test_pressure_long_after_a_climb_is_a_new_one_and_quiet_is_short_again(governor):
    governor.pressed("overload", 0)
    climbed = first_climb(governor, 0)
    governor.pressed("overload", climbed + 1)
    climbed = first_climb(governor, climbed + 1)
    governor.pressed("overload", climbed + QUIET)
    assert first_climb(governor, climbed + QUIET) - climbed - QUIET == QUIET


def test_several_steps_down_after_one_climb_double_the_quiet_once(governor):
    governor.pressed("overload", 0)
    now = first_climb(governor, 0) + 1
    for number in range(2):
        assert governor.pressed("overload", now + number * SETTLE)
    last = now + SETTLE
    assert first_climb(governor, last) - last == 2 * QUIET


def test_a_stream_at_its_limit_does_not_see_saw(governor):
    """An hour of a machine that holds step 2 but not step 1: it tries ever more seldom, and never sinks below."""
    steps = []
    for now in range(3600):
        if governor.step < 2:
            governor.pressed("overload", now)
        else:
            governor.rested(now)
        steps.append(governor.step)
    climbs = sum(after < before for before, after in pairwise(steps))
    assert max(steps) == 2
    assert 5 <= climbs <= 8
    assert steps.count(2) > 3500


# running out of memory


def failed_on_a_cpu() -> BaseException:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    return caught.value


def failed_in_numpy() -> BaseException:
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 55, np.uint8)
    return caught.value


@pytest.mark.parametrize("fail", [failed_on_a_cpu, failed_in_numpy])
def test_allocations_that_really_fail_are_known_for_what_they_are(fail):
    assert is_out_of_memory(fail())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_that_is_full_is_known_for_what_it_is():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, device="cuda")
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("FIND was unable to find an engine to execute this computation"),
    ],
)
def test_what_libraries_say_for_it_is_known(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        ValueError("out of memory"),
    ],
)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


def test_an_error_raised_from_it_is_known_too():
    def fail() -> None:
        try:
            torch.empty(1 << 50)
        except RuntimeError as error:
            raise ValueError("the window failed") from error

    with pytest.raises(ValueError, match="window") as caught:
        fail()
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("said", [True, False], ids=["raised from another", "raised while handling another"])
def test_an_error_that_is_kept_no_longer_keeps_the_tensors_of_what_failed(said):
    """Neither those of its own frames nor those of the error before it; its text stays."""
    held = []

    def fail() -> None:
        tensor = torch.zeros(1000)
        held.append(weakref.ref(tensor))
        raise MemoryError("no room")

    def pass_on() -> None:
        tensor = torch.zeros(1000)
        held.append(weakref.ref(tensor))
        try:
            fail()
        except MemoryError as error:
            failed = RuntimeError("the window failed")
            if said:
                raise failed from error
            raise failed  # noqa: B904 (what Python notes by itself)

    with pytest.raises(RuntimeError) as caught:
        pass_on()
    kept = caught.value
    gc.collect()
    assert all(tensor() is not None for tensor in held), "otherwise this shows nothing"
    free_memory_of(kept)
    assert all(tensor() is None for tensor in held)
    assert str(kept) == "the window failed"


def test_one_frame_and_one_object_are_singular():
    governor = Governor(Tracking(window=2, max_objects=2))
    assert "windows of 1 frame instead of 2 " in str(governor.pressed("memory", 0))
    governor.pressed("memory", 10)
    assert "at most 1 object instead of 2 " in str(governor.pressed("memory", 20))
