"""The steps of a run, the most important ones first: correctness, then measurements."""

from dataclasses import replace

from tests.gpu.step import Step

OURS, ALL = ("ours", "graphs"), ("ours", "graphs", "upstream")


def plan(device: str) -> list[Step]:
    """All steps for "cuda"; for "cpu" those of a trial, in which each kind of step comes once, with much more time."""
    if device == "cpu":
        return [replace(step, limit=5 * step.limit) for step in (*_correctness(), *_small())]
    return [*_correctness(), *_measurements()]


def _correctness() -> list[Step]:
    return [
        Step("tests marked gpu", "tests.gpu.correctness:gpu_tests", 120, correctness=True),
        Step("bfloat16 against float32", "tests.gpu.correctness:precision", 60, correctness=True),
        Step("graphs against eager", "tests.gpu.correctness:graphs", 90, correctness=True),
        Step("decoder", "tests.gpu.machine:decoder", 60, correctness=True),
        Step("out of memory", "tests.gpu.machine:out_of_memory", 60, correctness=True),
        Step("detector from the hub", "tests.gpu.correctness:hub_detector", 60, correctness=True),
    ]


def _measurements() -> list[Step]:
    return [
        _tracker("l", (1, 16), ALL, 75),
        _tracker("t", (1, 16), ALL, 60),
        _daemon("8 cameras", 90, cameras=8, files=0),
        _daemon("1 file", 60, cameras=0, files=1),
        _daemon("8 files", 75, cameras=0, files=8),
        Step("detection", "tests.gpu.measurements:detection", 45),
        _tracker("l", (4, 64), OURS, 60),
        _tracker("b+", (1, 4, 16, 64), OURS, 60),
        _tracker("s", (1, 4, 16, 64), OURS, 60),
        _tracker("t", (4, 64), OURS, 45),
        _daemon("lock with 8 cameras", 90, cameras=8, files=0, lock=True),
        *(_tracker(size, (1, 4, 16), ("upstream",), 60) for size in ("b+", "s")),
        *(_tracker(size, (4, 64), ("upstream",), 90) for size in ("l", "t")),
        *(_tracker(size, (64,), ("upstream",), 90) for size in ("b+", "s")),
        _tracker("l", (1,), ("vos",), 200),
    ]


def _small() -> list[Step]:
    return [
        _tracker("embedded", (1, 2), ALL, 60),
        _daemon("2 cameras", 120, cameras=2, files=0, lock=True),
        _daemon("2 files", 90, cameras=0, files=2),
        Step("detection", "tests.gpu.measurements:detection", 90),
    ]


def _tracker(size: str, objects: tuple[int, ...], trackers: tuple[str, ...], limit: float) -> Step:
    counts = ", ".join(map(str, objects))
    name = f"tracker {size}, {counts} objects, {' '.join(trackers)}"
    given: dict[str, object] = {"size": size, "objects": list(objects), "trackers": list(trackers)}
    return Step(name, "tests.gpu.measurements:tracker", limit, arguments=given)


def _daemon(what: str, limit: float, **given: object) -> Step:
    return Step(f"daemon, {what}", "tests.gpu.load.daemon_load:load", limit, arguments=given)
