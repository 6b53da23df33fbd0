"""read_recording of maskcast_client: whole lines only, sessions, and errors that name the line."""

import json
from pathlib import Path

import pytest

from maskcast_client import MaskcastError, VersionError, read_recording
from tests.clients import golden

HEADER = golden.header_of("masks-foreign")


def written(folder: Path, *headers: dict, end: str = "\n") -> Path:
    path = folder / "gate.masks.jsonl"
    path.write_text("\n".join(json.dumps(header, ensure_ascii=False) for header in headers) + end)
    return path


def test_frames_come_in_order_with_losses_and_restarts(tmp_path: Path) -> None:
    again = HEADER | {"seq": 0, "session": "5d0c8a1e-3f52-4b7a-9c11-2e6f8d40b7a3"}
    path = written(tmp_path, HEADER | {"seq": 1}, HEADER | {"seq": 4}, again)
    assert [(frame.lost, frame.restarted) for frame in read_recording(path)] == [(0, False), (2, False), (0, True)]


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER, HEADER)
    path.write_bytes(path.read_bytes()[:-100])
    assert len(list(read_recording(path))) == 1


def test_recorded_pictures_belong_to_their_frames(tmp_path: Path) -> None:
    (tmp_path / "gate-frames").mkdir()
    (tmp_path / "gate-frames" / "000007.jpg").write_bytes(golden.parts_of("frame-foreign")[2])
    first, second = read_recording(written(tmp_path, HEADER | {"frame": 7}, HEADER | {"frame": 8}))
    assert first.image is not None
    assert first.image.shape[2] == 3
    assert second.image is None


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("nonsense", MaskcastError, "line 2: not a message of maskcast"),
        ('{"schema": "maskcast/v7/masks"}', VersionError, "line 2: the daemon speaks version 7"),
        (json.dumps(HEADER | {"objects": [{}]}), MaskcastError, "line 2: a masks message is damaged"),
    ],
)
def test_a_wrong_line_is_named(line: str, error: type[Exception], says: str, tmp_path: Path) -> None:
    path = written(tmp_path, HEADER, end=f"\n{line}\n")
    frames = read_recording(path)
    next(frames)
    with pytest.raises(error, match=says):
        next(frames)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MaskcastError, match="no such file or directory; name a "):
        next(read_recording(tmp_path / "gate.masks.jsonl"))
