"""What is known of a folder's segments."""

import time
from pathlib import Path

import pytest

from daemon.recording.folder import Folder, Policy
from stages.recording.segment import videos
from tests.recording.test_folder import segment


def test_a_folder_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    """As lost+found of a disk; here a day that is no folder. Of the others old segments go, and the room is known."""
    segment(tmp_path, "gate", 60.0)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "2026-11-28").touch()
    folder = Folder(tmp_path)
    folder._policies |= {"gate": Policy(keep=600)}
    assert folder.most_bytes is None
    folder.look()
    assert list(videos(tmp_path, "gate")) == []
    assert folder.most_bytes is not None


def test_a_look_that_fails_is_told_once_and_the_room_is_not_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out").touch()
    folder = Folder(tmp_path / "out")
    folder._policies |= {"gate": Policy(keep=600)}
    for _ in range(3):
        folder._try_to_look()
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{tmp_path}/out: old recordings are not removed: [Errno 20] Not a directory")
    assert folder.most_bytes is None


def test_a_segment_that_is_removed_is_known_no_more_whatever_its_size(tmp_path: Path) -> None:
    """Its files take up more of the disk than they have bytes."""
    folder = Folder(tmp_path)
    part = segment(tmp_path, "gate", time.time())
    part.video.write_bytes(bytes(1000))
    folder.closed(part)
    folder.remove(part)
    assert list(folder._shelf) == []
    assert not part.video.exists()
