"""Clips: cut out of real videos, read back with PyAV."""

from pathlib import Path

import av
import numpy as np
import pytest

from stages.errors import OutputError
from stages.output.mp4 import Mp4Writer
from stages.recording.clip import Piece, cut
from tests.support.small_disk import full_at

pytestmark = pytest.mark.process

RATE = 10  # Hz


def record(path: Path, start: float, frames: int, size: int = 32, close: bool = True) -> Piece:
    """A video whose frames are as bright as their capture time in tenths of a second."""
    writer = Mp4Writer(path, RATE, (size, size), start)
    for number in range(frames):
        bright = round(10 * start) + number
        writer.write(np.full((size, size, 3), bright, np.uint8), start + number / RATE)
    if close:
        writer.close()
    return Piece(path, start)


def shown(path: Path) -> list[tuple[float, int]]:
    """Time and brightness of each frame; no packet may fail to decode."""
    with av.open(str(path)) as video:
        return [(float(f.time), round(float(f.to_ndarray(format="gray").mean()))) for f in video.decode(video=0)]


def captured(path: Path) -> range:
    """Capture times in tenths of a second, by the pictures; checks that the video's own times say the same."""
    frames = shown(path)
    first = round(frames[0][1])
    for number, (time, bright) in enumerate(frames):
        assert time == pytest.approx(number / RATE, abs=1e-3)
        assert bright == pytest.approx(first + number, abs=3)
    return range(first, first + len(frames))


def test_a_clip_goes_over_joints_without_a_gap_or_a_picture_twice(tmp_path):
    """From the key picture before its start, at most a second, to its end."""
    pieces = [record(tmp_path / f"{start}.mp4", start, 20) for start in (5.0, 7.0, 9.0)]
    frames, whole = cut(pieces, 5.5, 9.2, tmp_path / "clip.mp4")
    found = captured(tmp_path / "clip.mp4")
    assert (len(found), True) == (frames, whole)
    assert found.start == pytest.approx(53, abs=5)
    assert found.stop == pytest.approx(93, abs=3)


def test_the_piece_that_is_being_written_gives_what_is_whole_of_it(tmp_path):
    """Seconds that are complete are on the disk."""
    open_one = record(tmp_path / "a.mp4", 5.0, 25, close=False)
    frames, whole = cut([open_one], 6.0, 9.0, tmp_path / "clip.mp4")
    assert not whole
    assert 10 <= frames < 15
    assert captured(tmp_path / "clip.mp4").start == pytest.approx(60, abs=3)


def test_a_clip_ends_where_the_picture_gets_another_size(tmp_path):
    pieces = [record(tmp_path / "a.mp4", 5.0, 20), record(tmp_path / "b.mp4", 7.0, 20, size=64)]
    assert cut(pieces, 5.0, 9.0, tmp_path / "clip.mp4") == (20, False)
    assert len(captured(tmp_path / "clip.mp4")) == 20


def test_what_is_damaged_or_gone_is_passed_over(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 99)
    good = record(tmp_path / "a.mp4", 5.0, 20)
    pieces = [Piece(tmp_path / "bad.mp4", 4.0), Piece(tmp_path / "gone.mp4", 4.5), good]
    assert cut(pieces, 4.0, 9.0, tmp_path / "clip.mp4") == (20, False)
    assert cut(pieces[:2], 4.0, 9.0, tmp_path / "none.mp4") == (0, False)
    assert not (tmp_path / "none.mp4").exists()


def test_a_clip_that_has_no_room_is_refused_in_one_line(tmp_path):
    piece = record(tmp_path / "a.mp4", 5.0, 20)
    with full_at(100), pytest.raises(OutputError, match=r"a clip cannot be written: .*; free some space in the folder"):
        cut([piece], 5.0, 9.0, tmp_path / "clip.mp4")
