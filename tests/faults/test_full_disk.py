"""The real program on a real disk that fills up while it records."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.support.program import PATIENCE, Program, get, lines_of, pictures_in
from tests.support.small_disk import small_disk

pytestmark = pytest.mark.process

FRAMES = 90
SOURCE = f"testsrc://shapes?frames={FRAMES}&size=256x256"
# the JPEGs of so many pictures are larger than the disk
SETTINGS = {
    "MASKCAST_PUBLISH__WAIT_FOR": "1",
    "MASKCAST_PUBLISH__WHEN_FULL": "wait",
    "MASKCAST_PUBLISH__JPEG_QUALITY": "100",
}


class FullDisk:
    """One run, as a subscriber, a scraper and whoever looks at the disk afterwards saw it."""

    def __init__(self, folder: Path) -> None:
        record = ("--record", str(folder / "small"), "--frames")
        program = Program(SOURCE, "--prompt", "red circle", *record, before=small_disk(folder), **SETTINGS)
        self.disk, self.kept, self.metrics = folder / "small", folder / "kept", ""
        self.masks: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        try:
            self._listen(program.address("masks"), program.address("metrics"))
            self.code, _, self.wrong = program.end()
        finally:
            program.process.terminate()

    def _listen(self, endpoint: str, metrics_url: str) -> None:
        for header in _messages(endpoint):
            if header["schema"].endswith("/masks"):
                self.masks.append(header)
            elif header["schema"].endswith("/event"):
                self.events.append(header)
                if header["type"] == "error":
                    self.metrics = get(metrics_url)[1]


def _messages(endpoint: str) -> Iterator[dict[str, Any]]:
    """All headers until the source is down."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set(zmq.RCVTIMEO, PATIENCE * 1000)
        socket.subscribe("v1/")
        socket.connect(endpoint)
        header: dict[str, Any] = {}
        while header.get("type") != "source_down":
            header = json.loads(socket.recv_multipart()[1])
            yield header


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FullDisk:
    return FullDisk(tmp_path_factory.mktemp("disk"))


def test_the_stream_goes_on_without_a_hole(run: FullDisk) -> None:
    assert [header["frame"] for header in run.masks] == list(range(FRAMES))
    assert [header["seq"] for header in run.masks] == list(range(FRAMES))


def test_the_event_and_the_metric_tell_once_that_the_recording_has_ended(run: FullDisk) -> None:
    [error] = [event for event in run.events if event["type"] == "error"]
    assert error["reason"].startswith(f"cannot record into {run.disk}: No space left on device")
    assert 'maskcast_record_errors_total{stream="shapes"} 1.0' in run.metrics


def test_what_was_recorded_is_whole(run: FullDisk) -> None:
    recorded = [header["frame"] for header in lines_of(run.kept / "shapes.masks.jsonl")]
    assert recorded == list(range(len(recorded)))
    assert 0 < len(recorded) < FRAMES
    assert run.masks[: len(recorded)] == lines_of(run.kept / "shapes.masks.jsonl")
    assert len(recorded) - 30 <= pictures_in(run.kept / "shapes.mp4") <= len(recorded) + 1, "a second may be missing"
    jpegs = [path.read_bytes() for path in (run.kept / "shapes-frames").iterdir()]
    assert len(recorded) <= len(jpegs) <= len(recorded) + 1
    assert {jpeg[:2] + jpeg[-2:] for jpeg in jpegs} == {b"\xff\xd8\xff\xd9"}


def test_the_exit_code_says_that_the_recording_is_not_complete(run: FullDisk) -> None:
    assert run.code == 1
    [warning, error] = (line for line in run.wrong if "maskcast.db" not in line)  # that is on the full disk, too
    assert warning.startswith(f"maskcast: warning: stream shapes: cannot record into {run.disk}: No space left")
    assert error.startswith(f"maskcast: error: stream shapes: cannot record into {run.disk}: No space left")
