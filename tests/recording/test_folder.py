"""What is kept of segments: real files in a real folder, and on a real disk that fills up and is freed again."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from daemon.metrics.registry import Metrics
from daemon.metrics.stream_metrics import StreamMetrics
from daemon.recording.folder import Folder, Policy
from daemon.recording.folders import Folders
from daemon.recording.segment_recorder import SegmentRecorder
from stages.errors import ConfigError
from stages.recording.segment import Segment, lines_of, video_path, videos
from tests.support.small_disk import on_small_disk

SIZE = 8192  # bytes of each segment here


class Seen(list[tuple[str, str]]):
    """A SegmentObserver."""

    def segment_closed(self, segment: Segment) -> None:
        self.append(("closed", segment.video.name))

    def segment_removed(self, stream: str, video: Path) -> None:
        self.append(("removed", video.name))


def segment(folder: Path, stream: str, start: float) -> Segment:
    """The files of a segment."""
    video = video_path(folder, stream, start)
    video.parent.mkdir(parents=True, exist_ok=True)
    video.write_bytes(bytes(SIZE // 2))
    lines_of(video).write_bytes(bytes(SIZE // 2))
    return Segment(stream, video, start, start + 60, 60, SIZE)


def starts(folder: Path, now: float, stream: str = "gate") -> list[int]:
    """How many minutes ago the segments of a stream began."""
    from stages.recording.segment import start_of

    return [round((now - (start_of(video) or 0)) / 60) for video in videos(folder, stream)]


def test_older_segments_go_and_those_of_streams_that_are_gone_with_the_longest_kept(tmp_path: Path) -> None:
    """Each stream has its own time; the folder of a day goes with its last segment."""
    now = time.time()
    for stream in ("gate", "yard", "gone"):
        for minutes in (5, 20, 100, 3000):
            segment(tmp_path, stream, now - 60 * minutes)
    folder, seen = Folder(tmp_path), Seen()
    folder = Folder(tmp_path, [seen])
    folder._policies |= {"gate": Policy(keep=600), "yard": Policy(keep=3600)}
    folder.look()
    assert starts(tmp_path, now) == [5]
    assert starts(tmp_path, now, "yard") == starts(tmp_path, now, "gone") == [20, 5]
    assert {what for what, _ in seen} == {"removed"}
    assert len(seen) == 7
    assert all(any(day.iterdir()) for day in tmp_path.glob("*/*"))


def test_the_bytes_of_all_streams_are_bounded_and_the_oldest_go_first(tmp_path: Path) -> None:
    """The segment that is being written counts, and stays; what was deleted by hand is not missed."""
    now = time.time()
    folder = Folder(tmp_path)
    folder._policies |= {"gate": Policy(keep_bytes=4 * SIZE), "yard": Policy()}
    for minutes in (50, 40, 30, 20, 10):
        folder.closed(segment(tmp_path, "yard" if minutes in (40, 20) else "gate", now - 60 * minutes))
    folder.writes("gate", segment(tmp_path, "gate", now).video, SIZE)
    folder.look()
    assert (starts(tmp_path, now), starts(tmp_path, now, "yard")) == ([30, 10, 0], [20])
    next(videos(tmp_path, "gate")).unlink()
    folder.closed(segment(tmp_path, "gate", now - 60))
    folder.look()
    assert (starts(tmp_path, now), starts(tmp_path, now, "yard")) == ([10, 1, 0], [20])
    shutil.rmtree(tmp_path)
    folder.closed(segment(tmp_path, "gate", now))
    folder.look()


def test_of_a_large_bound_only_what_the_next_segment_needs_is_given_up(tmp_path: Path) -> None:
    """190 of 200 GB, in files without blocks, stay when a stream of small segments goes on."""
    folder, told = Folder(tmp_path), list[str]()
    for minutes in range(19):
        old = segment(tmp_path, "yard", time.time() - 60 * minutes)
        os.truncate(old.video, 10 << 30)
        folder.closed(old)
    policy = Policy(keep=1e6, keep_bytes=200 << 30)
    recorder = SegmentRecorder(
        folder, "gate", 10.0, 2.0, False, policy, StreamMetrics(Metrics(), "gate", []), told.append
    )
    folder.look()
    for number in range(45):
        recorder.write({"frame": number, "captured_at": time.time() + number / 10}, np.zeros((64, 64, 3), np.uint8))
    recorder.close()
    assert (len(list(videos(tmp_path, "yard"))), len(list(videos(tmp_path, "gate"))), told) == (19, 3, [])


def test_where_nothing_is_set_nothing_goes(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder._policies |= {"gate": Policy()}
    for minutes in (500_000, 50):
        segment(tmp_path, "gate", time.time() - 60 * minutes)
    folder.look()
    assert len(list(videos(tmp_path, "gate"))) == 2
    assert folder.most_bytes is None


def test_a_second_daemon_is_refused_in_one_line_until_the_first_has_ended(tmp_path: Path) -> None:
    """Also where the folder was removed and made again meanwhile."""
    first, second = Folders(), Folders()
    folder = first.of(tmp_path / "out")
    assert first.of(tmp_path / "out") is folder
    told = f"^{tmp_path}/out: another daemon records into it; give each a record.dir of its own, or stop one$"
    with pytest.raises(ConfigError, match=told):
        second.of(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    folder.lock.hold()
    with pytest.raises(ConfigError, match=told):
        second.of(tmp_path / "out")
    folder.lock.release()
    second.of(tmp_path / "out")


DISK = """
import json, sys, time
from pathlib import Path
import numpy as np
from daemon.metrics.registry import Metrics
from daemon.metrics.stream_metrics import StreamMetrics
from daemon.recording.folder import Folder, Policy
from daemon.recording.segment_recorder import SegmentRecorder
from daemon.recording import segment_recorder
from stages.errors import OutputError
from stages.recording.segment import videos

segment_recorder.SHORT = 0.05
folder, told, keep = Path(sys.argv[1]), [], float(sys.argv[2]) or None
metrics = Metrics()
stream = StreamMetrics(metrics, "gate", ["car"])
recorder = SegmentRecorder(Folder(folder), "gate", 10.0, 60.0, False, Policy(keep), stream, told.append)
random, number, missed = np.random.default_rng(0), 0, 0

def value(name):
    return metrics.registry.get_sample_value("maskcast_record_" + name, {"stream": "gate"})

def show(count):
    global number, missed
    for _ in range(count):
        image = random.integers(0, 255, (128, 128, 3), np.uint8)
        if recorder.wants():
            recorder.write({"frame": number, "captured_at": 1795867200.0 + number / 10}, image)
        missed += bool(recorder.trouble)
        number += 1

def say(**more):
    told_now, told[:] = list(told), []
    print(json.dumps({"told": told_now, "broken": value("broken"), "trouble": recorder.trouble, "missed": missed,
                      "kept": len(list(videos(folder, "gate"))), "number": number, **more}), flush=True)

time.sleep(0.2)  # the folder's first look
show(400)
say()
other = folder / "other"
with other.open("wb", buffering=0) as file:
    while not recorder.trouble:
        try:
            file.write(bytes(100_000))
        except OSError:
            pass
        show(3)
say()
other.unlink()
time.sleep(0.1)
show(50)
say(free=value("free_bytes"))
try:
    recorder.close()
except OutputError as error:
    assert str(error) == recorder.trouble
"""


@pytest.mark.process
@pytest.mark.parametrize("keep", [86400, 0], ids=["old ones go", "nothing may go"])
def test_a_full_disk_is_held_by_retention_or_pauses_the_recording_which_comes_back_by_itself(
    tmp_path: Path, keep: int
) -> None:
    """2 MB, and noise for 5 MB. Then another program fills what is left, and frees it again."""
    code, out, err = on_small_disk(tmp_path, [sys.executable, "-c", DISK, str(tmp_path / "small"), str(keep)])
    assert (code, err.count("Traceback")) == (0, 0), err
    full, filled, freed = map(json.loads, out.splitlines())
    if keep:
        assert (full["told"], full["missed"], full["trouble"]) == ([], 0, "")
        assert 2 <= full["kept"] <= 12
    paused = (filled if keep else full)["told"][-1]
    assert paused.startswith(f"cannot record into {tmp_path}/small: No space left on device; free some space")
    assert paused.endswith("; the recording pauses and goes on by itself")
    assert filled["broken"] == 1
    assert f"{filled['trouble']}; " in paused
    if keep:
        [back] = freed["told"]
        assert back.startswith("the recording goes on after ")
        assert (freed["broken"], freed["trouble"]) == (0, "")
    frames = [
        json.loads(line)["frame"]
        for video in videos(tmp_path / "kept", "gate")
        for line in lines_of(video).read_text().splitlines()
    ]
    assert frames == sorted(set(frames))
    assert frames[-1] == (freed["number"] - 1 if keep else len(frames) - 1)
