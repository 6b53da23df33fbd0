"""Damaged media files: whatever was done to a file, it is read to its end or refused in one line."""

import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from stages.errors import SourceError
from tests.faults.mutations import readings
from tests.faults.mutations_clips import CONTAINERS, DAMAGES, Clips
from tests.faults.mutations_reader import Reader, read
from tests.support.fakes import frames
from tests.support.media import numbered, write_video

pytestmark = pytest.mark.process  # most of these tests


@pytest.fixture
def reader():
    reader = Reader()
    yield reader
    reader.close()


def test_a_hundred_damaged_files_neither_crash_nor_hang_and_are_read_or_refused(tmp_path):
    """MP4, MPEG-TS and MKV; frames have no holes, errors are counted; no file or thread of a source stays behind."""
    done = list(readings(tmp_path, 0, 100))
    assert [(number, reading) for number, _, reading in done if reading.verdict in ("wrong", "crash", "hang")] == []
    assert Counter(damaged.container for _, damaged, _ in done).keys() == set(CONTAINERS)
    assert Counter(damaged.damage for _, damaged, _ in done).keys() == set(DAMAGES)
    verdicts = Counter(reading.verdict for _, _, reading in done)
    assert min(verdicts[verdict] for verdict in ("clean", "counted", "refused")) > 0
    assert {(reading.files, reading.threads) for _, _, reading in done} == {(done[0][2].files, done[0][2].threads)}


@pytest.mark.parametrize("number", [109, 595, 613, 667])
def test_a_transport_stream_in_which_another_stream_comes_up_is_read_to_its_end(tmp_path, reader, number):
    """Flipped bits made a second stream of it, at which PyAV raises an IndexError when all packets are read."""
    reading = reader.read(Clips(tmp_path).damaged(number).path, 60)
    assert (reading.verdict, reading.detail) == ("counted", "")


def test_the_whole_clips_are_read_without_an_error(tmp_path, reader):
    """So that what goes wrong with the damaged ones is the damage's doing."""
    whole = Clips(tmp_path)
    for clip in (*whole.shapes, *whole.real):
        reading = reader.read(clip, 60)
        assert (reading.verdict, reading.errors) == ("clean", 0), clip
        assert reading.frames >= 36


def test_a_damaged_file_is_the_same_every_time(tmp_path):
    """Its number is enough to make it again, and it differs from the whole clip."""
    clips = Clips(tmp_path)
    for number in range(len(CONTAINERS) * len(DAMAGES)):
        made = clips.damaged(number)
        first = made.path.read_bytes()
        assert clips.damaged(number).path.read_bytes() == first
        assert (tmp_path / made.clip).read_bytes() != first


@pytest.mark.parametrize(
    ("does", "verdict", "detail"),
    [
        ("import os; input(); os.abort()", "crash", "exit code -6"),
        ("import ctypes; input(); ctypes.string_at(0)", "crash", "Segmentation fault"),
        ("import time; input(); time.sleep(300)", "hang", "no answer in 2 s"),
    ],
)
def test_a_reading_process_that_dies_or_is_silent_is_told_and_replaced(tmp_path, does, verdict, detail):
    bad = Reader((sys.executable, "-X", "faulthandler", "-c", does))
    for _ in range(2):  # the second time by a new one
        reading = bad.read(tmp_path, 2 if verdict == "hang" else 60)
        assert reading.verdict == verdict
        assert detail in reading.detail
    bad.close()


def test_a_sound_file_is_clean_and_a_text_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("not a video\n" * 100)
    sound = read(str(write_video(tmp_path / "video.mp4", numbered(5))))
    assert (sound.verdict, sound.frames, sound.errors) == ("clean", 5, 0)
    assert read(str(tmp_path / "notes.txt")).verdict == "refused"


FIRST, SECOND = frames(0, 1)


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        ((), "no frame and no error"),
        ((FIRST, FIRST), "frame 0 came at place 1"),
        ((SECOND,), "frame 1 came at place 0"),
        ((FIRST, replace(SECOND, captured_at=-1.0)), "captured at -1.0"),
        ((replace(FIRST, image=FIRST.image.astype(np.float32)),), "float32"),
        ((replace(FIRST, image=FIRST.image[:, :, 0]),), "uint8 (8, 8)"),
        ((replace(FIRST, image=FIRST.image.transpose(1, 0, 2)[:, ::2]),), "contiguous False"),
        ((replace(FIRST, image=FIRST.image[:0]),), "8 x 0 pixels"),
        ((replace(FIRST, dropped_before=1),), "frame 0 came at place 1"),
        ((replace(SECOND, dropped_before=1),), "frames told of 1 losses, 0 were counted"),
        ((FIRST, SourceError("two\nlines")), "not one line"),
        ((FIRST, ValueError("odd")), "ValueError: odd"),
    ],
)
def test_a_source_that_breaks_a_promise_is_wrong(tmp_path, monkeypatch, given, detail):
    """Else a hundred good verdicts would mean nothing."""

    def broken(self):
        for one in given:
            if isinstance(one, Exception):
                raise one
            yield one

    monkeypatch.setattr("stages.source.ffmpeg.MediaSource.frames", broken)
    reading = read(str(write_video(tmp_path / "video.mp4", numbered(5))))
    assert reading.verdict == "wrong"
    assert detail in reading.detail
