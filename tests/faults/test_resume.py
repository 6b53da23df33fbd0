"""Recordings that another run goes on with: real files at every place where a run can be interrupted."""

import signal
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.cli.stream_names import streams_of
from daemon.settings.load import load
from stages.errors import ConfigError, OutputError
from stages.output.recorder import Recorder
from stages.testsrc.world import ShapesWorld
from stages.types import Clock, Frame, Image
from tests.output.test_recorder import header, record_and_die
from tests.support.media import write_video
from tests.support.program import Program, lines_of, pictures_in, recorded, wait_until

WORLD = ShapesWorld(seed=1)
LINES = "gate.masks.jsonl"


def write(recorder: Recorder, *indices: int, picture: Image | None = None, **more: Any) -> None:
    for index in indices:
        image = WORLD.render(index)[0] if picture is None else picture
        recorder.write(header(index) | more, image, b"jpeg %d" % index)
    recorder.close()


def numbers(file: Path) -> list[int]:
    return [line["frame"] for line in lines_of(file)]


def contents(folder: Path) -> dict[str, bytes]:
    """The recording's files: not the database, which also keeps what happens without one."""
    files = [
        path for path in folder.rglob("*") if path.is_file() and not path.name.strip(".").startswith("maskcast.db")
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.process
def test_a_killed_recording_goes_on_with_every_frame_once_and_what_was_there_stays(tmp_path: Path) -> None:
    record_and_die(tmp_path, 70)
    before = contents(tmp_path)
    recorder = Recorder(tmp_path, "gate", 30.0, resume=True)
    assert recorder.next_frame == 70
    write(recorder, *range(70, 100))
    assert numbers(tmp_path / LINES) == list(range(100))
    after = contents(tmp_path)
    assert after[LINES].startswith(before[LINES])
    assert after["gate.mp4"] == before["gate.mp4"]
    assert sorted(after) == ["gate+from70.mp4", LINES, "gate.mp4"]
    assert (pictures_in(tmp_path / "gate.mp4"), pictures_in(tmp_path / "gate+from70.mp4")) == (60, 30)


def test_a_recording_goes_on_as_often_as_it_is_interrupted(tmp_path: Path) -> None:
    for start in (0, 5, 10):
        recorder = Recorder(tmp_path, "gate", 30.0, resume=True)
        assert recorder.next_frame == start
        write(recorder, *range(start, start + 5))
    assert numbers(tmp_path / LINES) == list(range(15))
    videos = {path.name: pictures_in(path) for path in tmp_path.glob("*.mp4")}
    assert videos == {"gate.mp4": 5, "gate+from5.mp4": 5, "gate+from10.mp4": 5}


@pytest.mark.parametrize("text", ["", "x" * 300_000], ids=["short", "long"])
@pytest.mark.parametrize("torn", [1, 20, -1], ids=["a byte", "a part", "all but the line feed"])
def test_a_torn_last_line_is_cut_off_and_its_frame_comes_again(tmp_path: Path, text: str, torn: int) -> None:
    write(Recorder(tmp_path, "gate", 30.0), *range(3), text=text)
    whole = (tmp_path / LINES).read_bytes()
    with (tmp_path / LINES).open("ab") as file:
        file.write(whole.splitlines(keepends=True)[-1][:torn])
    recorder = Recorder(tmp_path, "gate", 30.0, resume=True)
    assert recorder.next_frame == 3
    assert (tmp_path / LINES).read_bytes() == whole
    write(recorder, 3, 4)
    assert numbers(tmp_path / LINES) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("left", [None, b"", b'{"frame":0,"ep'], ids=["no lines", "empty", "torn"])
def test_without_a_whole_line_a_recording_begins_anew(tmp_path: Path, left: bytes | None) -> None:
    if left is not None:
        (tmp_path / LINES).write_bytes(left)
        (tmp_path / "gate.mp4").write_bytes(b"torn")
        (tmp_path / "gate-frames").mkdir()
    recorder = Recorder(tmp_path, "gate", 30.0, frames=True, resume=True)
    assert recorder.next_frame == 0
    write(recorder, 0, 1)
    assert numbers(tmp_path / LINES) == [0, 1]
    assert pictures_in(tmp_path / "gate.mp4") == 2
    assert len(list(tmp_path.glob("earlier-*Z/gate.mp4"))) == (left is not None)


@pytest.mark.parametrize("last", [b"nonsense", b"[]", b"7", b"{}", b'{"frame":"7"}', b'{"frame":-1}', b"\xff", b""])
def test_lines_that_are_no_recording_are_one_clear_line_and_stay_as_they_are(tmp_path: Path, last: bytes) -> None:
    (tmp_path / LINES).write_bytes(b'{"frame":0}\n' + last + b"\n")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=f"^cannot go on with {tmp_path}/{LINES}: its last line is not") as raised:
        Recorder(tmp_path, "gate", 30.0, resume=True)
    assert "\n" not in str(raised.value)
    assert contents(tmp_path) == before


def test_a_video_without_lines_is_not_taken_for_a_recording(tmp_path: Path) -> None:
    (tmp_path / "gate.mp4").write_bytes(b"the source")
    with pytest.raises(OutputError, match=r"gate\.mp4 is there and was not recorded by maskcast"):
        Recorder(tmp_path, "gate", 30.0, resume=True)
    assert contents(tmp_path) == {"gate.mp4": b"the source"}


def test_a_recording_that_is_complete_stays_as_it_is(tmp_path: Path) -> None:
    write(Recorder(tmp_path, "gate", 30.0), *range(5))
    before = contents(tmp_path)
    recorder = Recorder(tmp_path, "gate", 30.0, resume=True)
    assert recorder.next_frame == 5
    recorder.close()
    assert contents(tmp_path) == before


def test_jpegs_go_on_beside_those_that_are_there(tmp_path: Path) -> None:
    write(Recorder(tmp_path, "gate", 30.0, frames=True), 0, 1)
    (tmp_path / "gate-frames" / "000002.part").write_bytes(b"to")
    (tmp_path / "gate-frames" / "000002.jpg").write_bytes(b"without its line")
    write(Recorder(tmp_path, "gate", 30.0, frames=True, resume=True), 2, 3)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "gate-frames").iterdir()}
    assert kept == {f"{index:06d}.jpg": b"jpeg %d" % index for index in range(4)}


def test_a_video_whose_run_was_killed_before_its_first_line_is_made_anew(tmp_path: Path) -> None:
    write(Recorder(tmp_path, "gate", 30.0), 0, 1)
    (tmp_path / "gate+from2.mp4").write_bytes(b"torn")
    write(Recorder(tmp_path, "gate", 30.0, resume=True), 2, 3, 4)
    assert pictures_in(tmp_path / "gate+from2.mp4") == 3


def test_a_new_picture_size_in_a_run_that_goes_on_has_a_video_of_its_own(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "gate", 30.0)
    for index in (0, 1, 2):
        recorder.write(header(index, epoch=index > 0), np.zeros((48, 64 + 16 * (index > 0), 3), np.uint8))
    recorder.close()
    recorder = Recorder(tmp_path, "gate", 30.0, resume=True)
    for index in (3, 4, 5):
        recorder.write(header(index, epoch=index > 3), np.zeros((48, 80 + 16 * (index > 3), 3), np.uint8))
    recorder.close()
    videos = {path.name: pictures_in(path) for path in tmp_path.glob("*.mp4")}
    assert videos == {"gate.mp4": 1, "gate+from1.mp4": 2, "gate+from3.mp4": 1, "gate+from4.mp4": 2}


def test_without_resume_all_of_a_resumed_recording_is_moved_aside(tmp_path: Path) -> None:
    write(Recorder(tmp_path, "gate", 30.0), 0)
    write(Recorder(tmp_path, "gate", 30.0, resume=True), 1)
    Recorder(tmp_path, "gate", 30.0).close()
    (earlier,) = tmp_path.glob("earlier-*Z")
    assert sorted(path.name for path in earlier.iterdir()) == ["gate+from1.mp4", LINES, "gate.mp4"]
    assert contents(tmp_path)[LINES] == b""


def test_a_recording_that_another_program_is_writing_is_not_written_twice(tmp_path: Path) -> None:
    running = Recorder(tmp_path, "gate", 30.0)
    running.write(header(0), WORLD.render(0)[0])
    told = f"^cannot record into {tmp_path}: another program is recording {LINES}; "
    with pytest.raises(OutputError, match=told):
        Recorder(tmp_path, "gate", 30.0, resume=True)
    write(running, 1)
    assert numbers(tmp_path / LINES) == [0, 1]
    assert Recorder(tmp_path, "gate", 30.0, resume=True).next_frame == 2


PICTURE = np.zeros((48, 64, 3), np.uint8)
LAST = Frame(1, 512, Fraction(1, 12800), 0.04, Clock.FILE, PICTURE)


@pytest.mark.parametrize(
    ("frame", "wrong"),
    [
        (LAST, None),
        (replace(LAST, index=0, pts=7), None),
        (replace(LAST, pts=513), "pts 512 and not 513"),
        (replace(LAST, time_base=Fraction(1, 90000)), r"time_base \[1, 12800\] and not \[1, 90000\]"),
        (replace(LAST, image=PICTURE[:40]), "height 48 and not 40"),
        (replace(LAST, image=PICTURE[:, :32]), "width 64 and not 32"),
        (replace(LAST, clock=Clock.ARRIVAL), "clock file and not arrival"),
    ],
)
def test_the_last_frame_recorded_tells_whether_the_source_is_the_same(
    tmp_path: Path, frame: Frame, wrong: str | None
) -> None:
    picture = {"pts": 512, "time_base": [1, 12800], "clock": "file", "width": 64, "height": 48}
    write(Recorder(tmp_path, "gate", 25.0), 0, 1, picture=PICTURE, **picture)
    recorder = Recorder(tmp_path, "gate", 25.0, resume=True)
    if wrong is None:
        recorder.skip(frame)
    else:
        with pytest.raises(OutputError, match=f"it is of another source, frame 1 has {wrong}; name the source"):
            recorder.skip(frame)
    recorder.close()


def test_to_resume_needs_a_folder(bare_machine: None) -> None:
    overrides = {**streams_of(["gate.mp4"], ["car"]), "record": {"resume": True}}
    told = r'stream "gate" resumes a recording but has no folder; set record.dir \(--record DIR\)'
    with pytest.raises(ConfigError, match=told):
        load(None, overrides)
    assert load(None, {**overrides, "record": {"resume": True, "dir": "out"}}).record.resume


FRAMES = 120
ASKED = ("--prompt", "red circle", "--every", "10")


def clip(file: Path, side: int) -> Path:
    world = ShapesWorld(3, side, side)
    return write_video(file, [world.render(index)[0] for index in range(FRAMES)])


def killed(source: str, file: Path, lines: int, *more: str) -> bytes:
    """Record ``source``, kill the program once its ``file`` has that many lines: what the file then holds."""
    program = Program(source, *ASKED, "--record", str(file.parent), *more)
    try:
        wait_until(lambda: program.process.poll() is not None or (file.exists() and count(file) >= lines))
    finally:
        program.process.kill()
    code, _, wrong = program.end()
    assert (code, wrong) == (-signal.SIGKILL, [])
    return file.read_bytes()


def count(file: Path) -> int:
    return file.read_bytes().count(b"\n")


class Resumed:
    """A file recorded by three runs of the program: the first two were killed, the last reached the file's end."""

    def __init__(self, folder: Path) -> None:
        self.source, self.out = str(clip(folder / "gate.mp4", 96)), folder / "out"
        self.first = killed(self.source, self.out / LINES, 5, "--frames")
        self.second = killed(self.source, self.out / LINES, self.first.count(b"\n") + 5, "--frames", "--resume")
        self.code, self.wrong = self.again()

    def again(self) -> tuple[int, list[str]]:
        """Exit code and errors of one more run to the end."""
        code, _, wrong = Program(self.source, *ASKED, "--record", str(self.out), "--frames", "--resume").end()
        return code, wrong


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    return Resumed(tmp_path_factory.mktemp("resumed"))


@pytest.mark.process
def test_a_file_whose_runs_were_killed_has_every_frame_once_and_in_order(resumed: Resumed) -> None:
    assert (resumed.code, resumed.wrong) == (0, [])
    assert numbers(resumed.out / LINES) == list(range(FRAMES))
    assert (resumed.out / LINES).read_bytes().startswith(resumed.second)
    assert resumed.second.startswith(resumed.first)
    assert {path.name for path in (resumed.out / "gate-frames").iterdir()} == {f"{i:06d}.jpg" for i in range(FRAMES)}


@pytest.mark.process
def test_every_video_of_killed_runs_plays(resumed: Resumed) -> None:
    middle, start = resumed.first.count(b"\n"), resumed.second.count(b"\n")
    assert start < FRAMES, "the second run was killed before its end"
    videos = {path.name: pictures_in(path) for path in resumed.out.glob("*.mp4")}
    assert set(videos) == {"gate.mp4", f"gate+from{middle}.mp4", f"gate+from{start}.mp4"}
    assert videos[f"gate+from{start}.mp4"] == FRAMES - start


@pytest.mark.process
def test_each_run_has_a_session_of_its_own_because_ids_are_counted_anew(resumed: Resumed) -> None:
    runs = [line["session"] for line in lines_of(resumed.out / LINES)]
    middle, start = resumed.first.count(b"\n"), resumed.second.count(b"\n")
    assert [len(set(part)) for part in (runs, runs[:middle], runs[middle:start], runs[start:])] == [3, 1, 1, 1]


@pytest.mark.process
def test_the_program_leaves_a_complete_recording_as_it_is(resumed: Resumed) -> None:
    before = contents(resumed.out)
    assert resumed.again() == (0, [])
    assert contents(resumed.out) == before


@pytest.mark.process
def test_the_program_does_not_go_on_with_the_recording_of_another_file(resumed: Resumed, tmp_path: Path) -> None:
    other, before = clip(tmp_path / "gate.mp4", 64), contents(resumed.out)
    code, _, [wrong] = Program(str(other), *ASKED, "--record", str(resumed.out), "--resume").end()
    assert code == 1
    assert f"it is of another source, frame {FRAMES - 1} has width 96 and not 64" in wrong
    assert contents(resumed.out) == before


@pytest.mark.process
def test_a_live_source_that_was_killed_goes_on_in_new_segments_and_its_frames_are_numbered_on(tmp_path: Path) -> None:
    source = "testsrc://shapes?live=1&fps=200&size=64x64"
    for more in ((), ("--resume",)):
        before = len(recorded(tmp_path, "shapes"))
        program = Program(source, *ASKED, "--record", str(tmp_path), *more)
        try:
            wait_until(lambda before=before: len(recorded(tmp_path, "shapes")) >= before + 10)
        finally:
            program.process.kill()
        assert program.end()[0] == -signal.SIGKILL
    gone = -1
    for line in recorded(tmp_path, "shapes"):
        assert line["frame"] == gone + 1 + line["dropped_before"]
        gone = line["frame"]
