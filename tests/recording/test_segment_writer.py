"""Segments: real files, written as a live stream's are and read back with PyAV and json."""

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stages.errors import OutputError
from stages.recording.leftover import read_segment
from stages.recording.segment import Segment, lines_of, pictures_of, start_of, videos
from stages.recording.segment_writer import SegmentWriter
from stages.types import Image
from tests.support.program import lines_of as headers_of
from tests.support.program import pictures_in

NOON = 1795867200.0  # 2026-11-28 12:00:00 UTC
RATE = 10.0


class Camera:
    """A live stream "gate" of 10 frames a second, recorded in segments of 2 seconds."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder, self.closed = folder, list[Segment]()
        self.writer = SegmentWriter(folder, "gate", RATE, 2.0, closed=self.closed.append, **more)
        self.next = self.writer.next_frame

    def show(self, count: int, since: float | None = None, side: int = 64) -> None:
        """Write frames, the first captured at ``since``."""
        since = NOON + self.next / RATE if since is None else since
        for number in range(count):
            header = {"frame": self.next, "captured_at": since + number / RATE}
            self.writer.write(header, picture(self.next, side), b"jpeg")
            self.next += 1

    @property
    def videos(self) -> list[Path]:
        return list(videos(self.folder, "gate"))


def picture(number: int, side: int = 64) -> Image:
    """A picture whose brightness is the number's, modulo 200."""
    return np.full((side, side, 3), number % 200 + 20, np.uint8)


def numbers(folder: Path) -> list[int]:
    """Of the frames of all segments, in the order of their names."""
    return [header["frame"] for video in videos(folder, "gate") for header in headers_of(lines_of(video))]


def test_every_frame_is_in_one_segment_and_each_begins_with_a_key_picture(tmp_path: Path) -> None:
    """Names, lines, pictures and what is told of each agree; the joints have no gap and no doubled picture."""
    camera = Camera(tmp_path)
    camera.show(55)
    camera.writer.close()
    assert [str(path.relative_to(tmp_path)) for path in camera.videos] == [
        f"gate/2026-11-28/12-00-{second:02}Z.mp4" for second in (0, 2, 4)
    ]
    assert numbers(tmp_path) == list(range(55))
    shown = []
    for path in camera.videos:
        with av.open(str(path)) as container:
            assert next(container.demux(video=0)).is_keyframe
        with av.open(str(path)) as container:
            shown += [
                (start_of(path) + frame.time, int(frame.to_ndarray(format="rgb24").mean()))
                for frame in container.decode(video=0)
            ]
    assert [time for time, _ in shown] == pytest.approx([NOON + number / RATE for number in range(55)], abs=1e-3)
    assert [light for _, light in shown] == pytest.approx([picture(number).mean() for number in range(55)], abs=3)
    assert camera.closed == [read_segment("gate", path) for path in camera.videos]
    assert [(part.start, part.frames) for part in camera.closed] == [(NOON, 20), (NOON + 2, 20), (NOON + 4, 15)]


def test_a_clock_that_is_set_back_and_forth_breaks_no_name_and_no_time(tmp_path: Path) -> None:
    """Each step back begins a segment; two of one second have two names; the times within each only rise."""
    camera = Camera(tmp_path)
    for since in (NOON, NOON - 3600, NOON, NOON + 86400, NOON - 3600, 0.0):
        camera.show(5, since)
    camera.writer.close()
    assert len(camera.closed) == 6
    assert sorted(numbers(tmp_path)) == list(range(30))
    assert len({path.name for path in camera.videos}) == 5, "noon's second one is 12-00-00Z+1"
    for path in camera.videos:
        with av.open(str(path)) as container:
            times = [frame.time for frame in container.decode(video=0)]
        assert len(times) == 5
        assert all(before < after for before, after in pairwise(times))
    assert Camera(tmp_path).next == 30, "numbered on from the segment that was begun last, whatever its name"


def test_a_clock_that_stands_still_makes_no_endless_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of pictures over HTTP after the clock was set back: their times may not decrease."""
    now = iter(range(1000))
    monkeypatch.setattr("stages.recording.segment_writer.time.monotonic", lambda: float(next(now)))
    camera = Camera(tmp_path)
    for _ in range(12):
        camera.show(1, NOON)
    camera.writer.close()
    assert sum(part.frames for part in camera.closed) == 12
    assert max(part.frames for part in camera.closed) <= 4


def test_another_size_of_the_picture_and_a_lost_source_begin_a_segment(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    camera.show(3)
    camera.show(3, side=96)
    camera.writer.cut()
    camera.show(3, side=96)
    camera.writer.close()
    assert [pictures_in(path) for path in camera.videos] == [3, 3, 3]
    assert numbers(tmp_path) == list(range(9))


def test_annotated_frames_are_kept_beside_their_segment(tmp_path: Path) -> None:
    camera = Camera(tmp_path, frames=True)
    camera.show(25)
    camera.writer.close()
    kept = [sorted(path.name for path in pictures_of(video).iterdir()) for video in camera.videos]
    assert [name for names in kept for name in names] == [f"{number:06d}.jpg" for number in range(25)]
    assert [len(names) for names in kept] == [20, 5]
    assert camera.closed == [read_segment("gate", path) for path in camera.videos]


def record_and_die(folder: Path, frames: int) -> None:
    """A process records ``frames`` more frames at a third of the nominal rate and is killed with SIGKILL."""
    script = """
import sys
from pathlib import Path
from tests.recording.test_segment_writer import NOON, picture
from stages.recording.segment_writer import SegmentWriter

writer = SegmentWriter(Path(sys.argv[1]), "gate", 30.0, 2.0)
for number in range(writer.next_frame, writer.next_frame + int(sys.argv[2])):
    writer.write({"frame": number, "captured_at": NOON + number / 10}, picture(number))
print("written", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(folder), str(frames)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


@pytest.mark.process
def test_killed_runs_leave_segments_that_play_to_the_last_second_and_frames_number_on(tmp_path: Path) -> None:
    """Killed amid a second, after a fraction of one, and at a torn line: nothing is doubled or missing in the lines."""
    for frames in (47, 3, 38):
        record_and_die(tmp_path, frames)
        last = max(videos(tmp_path, "gate"), key=lambda path: path.stat().st_mtime)
        with lines_of(last).open("ab") as file:
            file.write(b'{"frame": 9')
    camera = Camera(tmp_path)
    assert [part.video for part in camera.closed] == [last], "told of what was being written"
    camera.show(1)
    camera.writer.close()
    assert numbers(tmp_path) == list(range(47 + 38 + 1)), "three frames without a picture on disk are numbered anew"
    for path in camera.videos:
        assert 0 <= len(headers_of(lines_of(path))) - pictures_in(path) <= 10, "a second"
        assert pictures_in(path)


def test_what_is_deleted_by_hand_is_survived(tmp_path: Path) -> None:
    """Other segments, the one that is written, and the whole folder: writing fails once and goes on in a new one."""
    camera = Camera(tmp_path)
    camera.show(25)
    camera.videos[0].unlink()
    camera.show(1)
    camera.videos[-1].unlink()
    with pytest.raises(OutputError, match=f"^cannot record into {tmp_path}: the file that was being written has been"):
        camera.show(20)
    camera.show(3)
    shutil.rmtree(tmp_path)
    with pytest.raises(OutputError):
        camera.show(20)
    camera.show(3, NOON + 60)
    camera.writer.close()
    assert [pictures_in(path) for path in camera.videos] == [3]


def test_without_its_note_the_last_frame_is_found_in_all_segments(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    for since in (NOON, NOON - 3600):
        camera.show(5, since)
    camera.writer.close()
    (tmp_path / "gate" / ".last").write_text("../../etc/passwd\n")
    again = Camera(tmp_path)
    assert (again.next, again.closed) == (10, [])


@pytest.mark.parametrize("damage", [b"nonsense\n", b"[]\n", b'{"frame": "7"}\n', b"\xff\xfe\n", b""])
def test_damaged_lines_stop_no_recording(tmp_path: Path, damage: bytes) -> None:
    camera = Camera(tmp_path)
    camera.show(25)
    camera.writer.close()
    lines_of(camera.videos[-1]).write_bytes(damage)
    again = Camera(tmp_path)
    assert again.next == 20, "numbered on from the segment before"
    again.show(1, NOON + 60)
    again.writer.close()
    assert set(chain.from_iterable(json.loads(line) for line in lines_of(again.videos[-1]).open()))
