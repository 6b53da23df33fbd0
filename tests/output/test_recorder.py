"""Recordings: real files, written by the recorder and read back with PyAV and json."""

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stages.errors import OutputError
from stages.output.atomic_file import AtomicFile
from stages.output.recorder import Recorder
from stages.testsrc.bodies import COLOURS
from stages.testsrc.world import ShapesWorld
from stages.types import Image
from tests.support.small_disk import full_at, on_small_disk

WORLD = ShapesWorld(seed=1)
ADVICE = "free some space or choose another folder"


def header(frame: int, captured_at: float | None = None, epoch: int = 0) -> dict[str, Any]:
    return {"frame": frame, "epoch": epoch, "captured_at": frame / 30 if captured_at is None else captured_at}


def lines(path: Path) -> list[dict[str, Any]]:
    """The headers of a file that must end in a whole line."""
    text = path.read_text()
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def video(path: Path) -> tuple[list[float], list[Image]]:
    """Times in seconds and RGB pictures."""
    with av.open(str(path)) as container:
        frames = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return [time for time, _ in frames], [picture for _, picture in frames]


def test_every_frame_is_in_the_video_and_has_its_line(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "new" / "folder", "gate", 30.0)
    for index in range(40):
        recorder.write(header(index), WORLD.render(index)[0])
    recorder.close()
    assert lines(tmp_path / "new/folder/gate.masks.jsonl") == [header(index) for index in range(40)]
    _, pictures = video(tmp_path / "new/folder/gate.mp4")
    assert len(pictures) == 40
    for index in (0, 39):
        difference = np.abs(pictures[index].astype(float) - WORLD.render(index)[0])
        assert difference.mean() < 6


def test_colours_come_out_as_they_went_in(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "gate", 30.0)
    picture = np.repeat(np.array(list(COLOURS.values()), np.uint8), 32, axis=0)[None].repeat(64, axis=0)
    recorder.write(header(0), picture)
    recorder.close()
    shown = video(tmp_path / "gate.mp4")[1][0]
    for number, colour in enumerate(COLOURS.values()):
        assert shown[32, 32 * number + 16] == pytest.approx(colour, abs=6)


def test_the_video_is_h264_with_a_keyframe_a_second_at_the_sources_rate(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "gate", 30000 / 1001)
    for index in range(70):
        recorder.write(header(index, index * 1001 / 30000), WORLD.render(0)[0])
    recorder.close()
    with av.open(str(tmp_path / "gate.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == pytest.approx(29.97, rel=0.01)
        assert [packet.is_keyframe for packet in container.demux(stream) if packet.size].index(True, 1) == 30


def test_frames_keep_their_true_distances(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "gate", 30.0)
    captured = [1795459200.0, 1795459200.04, 1795459200.05, 1795459202.5, 1795459202.6]
    for index, captured_at in enumerate(captured):
        recorder.write(header(index, captured_at), WORLD.render(index)[0])
    recorder.close()
    times, _ = video(tmp_path / "gate.mp4")
    assert times == pytest.approx([0, 0.04, 0.05, 2.5, 2.6], abs=1e-4)


def test_a_clock_that_steps_back_costs_no_frame_and_no_order(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "gate", 25.0)
    for index, captured_at in enumerate([10.0, 10.04, 3.0, 3.04]):
        recorder.write(header(index, captured_at), WORLD.render(index)[0])
    recorder.close()
    times, _ = video(tmp_path / "gate.mp4")
    assert times == pytest.approx([0, 0.04, 0.08, 0.12], abs=1e-4)


def test_frames_of_equal_time_come_a_tick_apart_and_the_video_lasts_as_long_as_its_source(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "gate", 20.0)
    captured = [7.0, 7.0, 7.0, 7.1, 7.1, 7.1000001, 7.35, 7.35]
    for index, captured_at in enumerate(captured):
        recorder.write(header(index, captured_at), WORLD.render(index)[0])
    recorder.close()
    tick = 1 / 60_000
    expected = [0, tick, 2 * tick, 0.1, 0.1 + tick, 0.1 + 2 * tick, 0.35, 0.35 + tick]
    assert video(tmp_path / "gate.mp4")[0] == pytest.approx(expected, abs=1e-6)
    with av.open(str(tmp_path / "gate.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(0.4, abs=0.001)
    assert [line["captured_at"] for line in lines(tmp_path / "gate.masks.jsonl")] == captured


@pytest.mark.parametrize(("width", "height"), [(65, 48), (64, 49), (65, 49)])
def test_odd_sizes_are_padded_by_a_pixel(tmp_path: Path, width: int, height: int) -> None:
    recorder = Recorder(tmp_path, "gate", 30.0)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, -1] = picture[-1, :] = 200
    recorder.write(header(0), picture)
    recorder.close()
    shown = video(tmp_path / "gate.mp4")[1][0]
    assert shown.shape == (height + height % 2, width + width % 2, 3)
    assert shown[-1, -1] == pytest.approx([200] * 3, abs=12), "the edge is repeated, not black"


def test_a_new_picture_size_goes_on_in_a_video_named_after_its_first_frame(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "gate", 30.0)
    for index in range(3):
        recorder.write(header(index), np.zeros((48, 64, 3), np.uint8))
    for index in range(3, 8):
        recorder.write(header(index, epoch=1), np.zeros((96, 128, 3), np.uint8))
    recorder.close()
    assert len(video(tmp_path / "gate.mp4")[1]) == 3
    times, pictures = video(tmp_path / "gate+from3.mp4")
    assert (len(pictures), pictures[0].shape, times[0]) == (5, (96, 128, 3), 0)
    assert len(lines(tmp_path / "gate.masks.jsonl")) == 8


def test_after_an_hour_without_a_frame_the_video_goes_on_in_another_file(tmp_path: Path) -> None:
    """An MP4 with a gap of ten hours cannot be played."""
    recorder = Recorder(tmp_path, "gate", 30.0)
    captured = [0, 0.1, 3600, 3600.1, 3600 + 11 * 3600, 15 * 3600, 14 * 3600]
    for index, captured_at in enumerate(captured):
        recorder.write(header(index, captured_at), WORLD.render(index)[0])
    recorder.close()
    videos = {path.name: len(video(path)[1]) for path in tmp_path.glob("*.mp4")}
    assert videos == {"gate.mp4": 4, "gate+from4.mp4": 1, "gate+from5.mp4": 2}


def test_the_video_has_no_index_and_can_be_searched_all_the_same(tmp_path: Path) -> None:
    """The muxer would remember every fragment for it until the recording ends."""
    recorder = Recorder(tmp_path, "gate", 10.0)
    for index in range(60):
        recorder.write(header(index, index / 10), WORLD.render(index)[0])
    recorder.close()
    assert b"mfra" not in (tmp_path / "gate.mp4").read_bytes()
    with av.open(str(tmp_path / "gate.mp4")) as container:
        assert container.duration == 6_000_000
        for seconds in (4, 1, 5, 0):
            container.seek(seconds * 1_000_000)
            assert next(container.decode(video=0)).time == seconds


def test_frames_are_kept_as_the_jpegs_that_were_given(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "gate", 30.0, frames=True)
    for index in (0, 1, 12):
        recorder.write(header(index), WORLD.render(index)[0], b"jpeg %d" % index)
    recorder.close()
    files = {path.name: path.read_bytes() for path in (tmp_path / "gate-frames").iterdir()}
    assert files == {"000000.jpg": b"jpeg 0", "000001.jpg": b"jpeg 1", "000012.jpg": b"jpeg 12"}


def test_without_frames_no_jpeg_is_written(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "gate", 30.0)
    recorder.write(header(0), WORLD.render(0)[0], b"jpeg")
    recorder.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate.masks.jsonl", "gate.mp4"]


def test_an_earlier_recording_is_moved_aside_and_other_streams_stay(tmp_path: Path) -> None:
    for text in ("first", "second"):
        other = Recorder(tmp_path, f"gate.{text}", 30.0)
        recorder = Recorder(tmp_path, "gate", 30.0, frames=True)
        recorder.write(header(0) | {"text": text}, WORLD.render(0)[0], b"jpeg")
        recorder.close()
        other.close()
    (earlier,) = tmp_path.glob("earlier-*Z")
    assert sorted(path.name for path in earlier.iterdir()) == ["gate-frames", "gate.masks.jsonl", "gate.mp4"]
    assert lines(earlier / "gate.masks.jsonl")[0]["text"] == "first"
    assert lines(tmp_path / "gate.masks.jsonl")[0]["text"] == "second"
    assert (tmp_path / "gate.first.masks.jsonl").exists()


def test_a_video_that_is_no_recording_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "gate.mp4").write_bytes(b"the source")
    for _ in range(2):
        with pytest.raises(
            OutputError,
            match=r"gate\.mp4 is there and was not recorded by maskcast; move what is there or choose another folder$",
        ):
            Recorder(tmp_path, "gate", 30.0)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the source"]


def test_without_x264_the_video_is_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    recorder = Recorder(tmp_path, "gate", 29.97)
    for index in range(5):
        recorder.write(header(index, index / 29.97), WORLD.render(index)[0])
    recorder.close()
    times, pictures = video(tmp_path / "gate.mp4")
    assert times == pytest.approx([index / 29.97 for index in range(5)], abs=1e-4)
    assert np.abs(pictures[4].astype(float) - WORLD.render(4)[0]).mean() < 12


def record_and_die(folder: Path, frames: int, fps: float = 30.0) -> None:
    """A process records ``frames`` frames as "gate" and is killed with SIGKILL."""
    script = """
import sys
from pathlib import Path
from stages.output.recorder import Recorder
from stages.testsrc.world import ShapesWorld

frames, fps = int(sys.argv[2]), float(sys.argv[3])
world, recorder = ShapesWorld(seed=1), Recorder(Path(sys.argv[1]), "gate", fps)
for index in range(frames):
    recorder.write({"frame": index, "epoch": 0, "captured_at": index / fps}, world.render(index)[0])
print("written", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(folder), str(frames), str(fps)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


@pytest.mark.process
def test_a_killed_recording_can_be_read_up_to_its_last_second(tmp_path: Path) -> None:
    record_and_die(tmp_path, 150)
    assert [line["frame"] for line in lines(tmp_path / "gate.masks.jsonl")] == list(range(150))
    times, pictures = video(tmp_path / "gate.mp4")
    assert 120 <= len(pictures) <= 150
    assert times == pytest.approx([index / 30 for index in range(len(times))], abs=1e-4)


@pytest.mark.process
@pytest.mark.parametrize("frames", [1, 2, 11, 12])
def test_wherever_a_recording_is_killed_its_video_opens_and_its_lines_are_whole(tmp_path: Path, frames: int) -> None:
    record_and_die(tmp_path, frames, fps=10.0)
    assert len(lines(tmp_path / "gate.masks.jsonl")) == frames
    assert len(video(tmp_path / "gate.mp4")[1]) == (10 if frames > 10 else 0)


def test_nothing_of_a_file_is_on_disk_before_it_is_marked_as_whole(tmp_path: Path) -> None:
    """Else a kill could leave half a fragment of a video: players stumble over it."""
    file = AtomicFile(tmp_path / "file")
    sizes = []
    for step in (lambda: file.write(b"a" * 70_000), lambda: file.write(b"b"), file.commit, lambda: file.write(b"c")):
        step()
        sizes.append((tmp_path / "file").stat().st_size)
    file.close()
    assert sizes == [0, 0, 70_001, 70_001]
    assert (tmp_path / "file").read_bytes() == b"a" * 70_000 + b"b"


def test_the_video_on_disk_always_ends_with_a_whole_fragment(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "gate", 10.0)
    sizes = set()
    for index in range(35):
        recorder.write(header(index, index / 10), noise(128))
        sizes.add((tmp_path / "gate.mp4").stat().st_size)
    recorder.close()
    content, ends = (tmp_path / "gate.mp4").read_bytes(), [0]
    while ends[-1] < len(content):
        ends.append(ends[-1] + int.from_bytes(content[ends[-1] : ends[-1] + 4], "big"))
    kinds = {end: content[start + 4 : start + 8] for start, end in pairwise(ends)}
    assert len(sizes) == 4
    assert {kinds[size] for size in sizes} == {b"moov", b"mdat"}


def noise(side: int) -> Image:
    return np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)


@pytest.mark.parametrize(
    ("limit", "side", "text", "jpeg"),
    [(250_000, 128, "", b"jpeg"), (50_000, 16, "x" * 3000, b"jpeg"), (60_000, 16, "", b"j" * 70_000)],
    ids=["video", "lines", "frames"],
)
def test_a_full_disk_is_one_clear_line_and_leaves_whole_files(
    tmp_path: Path, limit: int, side: int, text: str, jpeg: bytes
) -> None:
    recorder = Recorder(tmp_path, "gate", 10.0, frames=True)
    told = f"^cannot record into {tmp_path}: File too large; {ADVICE}$"

    def write_until_full() -> None:
        for index in range(1000):
            recorder.write(header(index, index / 10) | {"text": text}, noise(side), b"j" if index < 15 else jpeg)

    with full_at(limit):
        with pytest.raises(OutputError, match=told):
            write_until_full()
        with pytest.raises(OutputError, match=told):
            recorder.write(header(1000), noise(side))
        recorder.close()
    headers = lines(tmp_path / "gate.masks.jsonl")
    written = len(headers)
    assert [line["frame"] for line in headers] == list(range(written))
    assert 15 <= written < 1000
    _, pictures = video(tmp_path / "gate.mp4")
    assert written - 10 <= len(pictures) <= written + 1, "at most the last fragment, a second, is lost"
    assert not list((tmp_path / "gate-frames").glob("*.part"))
    assert {path.read_bytes() for path in (tmp_path / "gate-frames").iterdir()} <= {b"j", jpeg}


def test_a_disk_that_fills_up_at_the_end_is_told_by_close(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "gate", 10.0)
    for index in range(15):
        recorder.write(header(index, index / 10), noise(128))
    with full_at((tmp_path / "gate.mp4").stat().st_size + 100), pytest.raises(OutputError, match="File too large"):
        recorder.close()
    assert len(video(tmp_path / "gate.mp4")[1]) == 10
    assert len(lines(tmp_path / "gate.masks.jsonl")) == 15


FILL_A_DISK = """
import sys
from pathlib import Path
from stages.errors import OutputError
from stages.output.recorder import Recorder
from tests.output.test_recorder import header, noise

folder = Path(sys.argv[1])
(folder / "ballast").write_bytes(bytes(1_000_000))
recorder = Recorder(folder, "gate", 10.0, frames=True)
try:
    for index in range(1000):
        recorder.write(header(index, index / 10), noise(128), b"j" * 5000)
except OutputError as error:
    print(error)
recorder.close()
(folder / "ballast").unlink()
again = Recorder(folder, "gate", 10.0, frames=True, resume=True)
print(again.next_frame)
for index in range(again.next_frame, again.next_frame + 12):
    again.write(header(index, index / 10), noise(128), b"j" * 5000)
again.close()
"""


@pytest.mark.process
def test_a_disk_that_is_full_breaks_a_recording_off_whole_and_it_goes_on_once_there_is_room(tmp_path: Path) -> None:
    script = [sys.executable, "-c", FILL_A_DISK, str(tmp_path / "small")]
    code, out, err = on_small_disk(tmp_path, script)
    assert (code, err) == (0, "")
    told, next_frame = out.splitlines()
    assert told == f"cannot record into {tmp_path}/small: No space left on device; {ADVICE}"
    assert int(next_frame) > 30
    kept, total = tmp_path / "kept", int(next_frame) + 12
    assert [line["frame"] for line in lines(kept / "gate.masks.jsonl")] == list(range(total))
    assert int(next_frame) - 10 <= len(video(kept / "gate.mp4")[1]) <= int(next_frame) + 1
    assert len(video(kept / f"gate+from{next_frame}.mp4")[1]) == 12
    jpegs = {path.name: path.stat().st_size for path in (kept / "gate-frames").iterdir()}
    assert jpegs == {f"{index:06d}.jpg": 5000 for index in range(total)}


@pytest.mark.process
def test_a_file_system_that_is_read_only_is_one_clear_line(tmp_path: Path) -> None:
    script = """
import subprocess, sys
from pathlib import Path
from stages.errors import OutputError
from stages.output.recorder import Recorder

Recorder(Path(sys.argv[1]), "gate", 10.0).close()
subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
for resume in (False, True):
    try:
        Recorder(Path(sys.argv[1]), "gate", 10.0, resume=resume)
    except OutputError as error:
        print(error)
"""
    code, out, err = on_small_disk(tmp_path, [sys.executable, "-c", script, str(tmp_path / "small")])
    assert (code, err) == (0, "")
    advice = "choose a folder that may be written"
    assert out.splitlines() == [f"cannot record into {tmp_path}/small: Read-only file system; {advice}"] * 2


@pytest.mark.parametrize("frames", [True, False])
def test_a_folder_that_vanishes_is_one_clear_line(tmp_path: Path, frames: bool) -> None:
    recorder = Recorder(tmp_path / "out", "gate", 10.0, frames=frames)
    recorder.write(header(0), noise(16), b"jpeg")
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(OutputError, match=f"^cannot record into {tmp_path}/out: .*; choose another folder$"):
        recorder.write(header(1), noise(16), b"jpeg")
    recorder.close()
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_moved_takes_the_recording_with_it(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "out", "gate", 10.0)
    recorder.write(header(0), noise(16))
    (tmp_path / "out").rename(tmp_path / "moved")
    recorder.write(header(1), noise(16))
    recorder.close()
    assert len(lines(tmp_path / "moved/gate.masks.jsonl")) == len(video(tmp_path / "moved/gate.mp4")[1]) == 2


def test_a_folder_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=f"cannot record into {tmp_path}/file/x: Not a directory") as raised:
        Recorder(tmp_path / "file" / "x", "gate", 30.0)
    assert "\n" not in str(raised.value)


def test_recordings_of_streams_with_like_names_leave_each_other_alone(tmp_path: Path) -> None:
    """Two runs of "video" and "video.1" at the same time: nothing of either run is lost."""
    for _ in range(2):
        recorders = [Recorder(tmp_path, name, 10) for name in ("video", "video.1")]
        for recorder in recorders:
            recorder.close()
        (tmp_path / "video.mp4").touch()
        (tmp_path / "video.1.mp4").touch()
    names = sorted(path.name for path in tmp_path.rglob("*") if path.is_file() and path.parent != tmp_path)
    assert {"video.masks.jsonl", "video.mp4", "video.1.masks.jsonl", "video.1.mp4"} <= set(names)
    assert {"video.mp4", "video.1.mp4", "video.masks.jsonl", "video.1.masks.jsonl"} <= {
        p.name for p in tmp_path.iterdir()
    }
