"""Numbers in summaries and progress: the nouns agree with them, and loading is told once."""

import time

import pytest

from daemon.cli import progress
from daemon.cli.progress import ProgressLines
from daemon.service.status import Report
from stages.plural import plural


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "gate: 0 frames, 9.0 FPS, latency 0.10 s (p95 0.20 s), 0 tracks, 0 frames dropped"),
        (1, "gate: 1 frame, 9.0 FPS, latency 0.10 s (p95 0.20 s), 1 track, 1 frame dropped"),
        (2, "gate: 2 frames, 9.0 FPS, latency 0.10 s (p95 0.20 s), 2 tracks, 2 frames dropped"),
    ],
)
def test_summary_of_a_stream(number: int, expected: str) -> None:
    report = Report("gate", number, None, number, 9.0, 0.1, 0.2, number, None)
    assert str(report) == expected


def test_a_damaged_source_is_told_in_its_summary() -> None:
    report = Report("gate", 2, None, 0, 9.0, 0.1, 0.2, 0, None, decode_errors=1)
    assert str(report).endswith(", 1 decode error: the source is damaged")


def test_plural_that_is_not_made_by_an_s() -> None:
    assert [plural(number, "class", "classes") for number in (0, 1, 2)] == ["classes", "class", "classes"]


class Loading:
    """A service whose models are being loaded."""

    models_loaded = False
    streams: dict[str, object] = {"gate": object()}  # noqa: RUF012 - never changed


def test_loading_is_told_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    lines = ProgressLines()
    for _ in range(3):
        time.sleep(0.001)
        lines.tick(Loading())  # type: ignore[arg-type]
    assert capsys.readouterr().err == "maskcast: loading the models\n"
