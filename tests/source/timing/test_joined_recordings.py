"""Files whose time stamps jump, are equal or are missing: the recording of one lasts as long as what it shows."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from stages.source.source import Source, open_source
from stages.types import Frame
from tests.support.media import numbered, numbers, write_video

RATE = 20
WRAP = 2**33  # of MPEG-TS, in 1/90,000 s


def part(path: Path, first: int, count: int, start: float, codec_options: dict[str, str] | None = None) -> bytes:
    """A transport stream of the pictures from ``first`` on, the first at ``start`` seconds."""
    options = {"g": "10", "bf": "0", "sc_threshold": "0"} | (codec_options or {})
    with av.open(str(path), "w", format="mpegts", options={"avoid_negative_ts": "disabled"}) as out:
        stream = out.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n, image in enumerate(numbered(50)[first : first + count]):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = n, Fraction(1, RATE)
            for packet in stream.encode(picture):
                mux(out, stream, packet, start)
        for packet in stream.encode():
            mux(out, stream, packet, start)
    return path.read_bytes()


def mux(out: av.container.OutputContainer, stream: av.VideoStream, packet: av.Packet, start: float) -> None:
    ticks = round(start * 90_000)
    packet.pts, packet.dts = (stamp * 90_000 // RATE + ticks for stamp in (packet.pts, packet.dts))
    packet.time_base, packet.stream = Fraction(1, 90_000), stream
    out.mux(packet)


def joined(folder: Path, *starts: float, codec_options: dict[str, str] | None = None) -> Path:
    """Parts of 16 pictures, 0.8 s each, one after another in one file."""
    parts = (part(folder / "part.ts", 16 * n, 16, start, codec_options) for n, start in enumerate(starts))
    path = folder / "joined.ts"
    path.write_bytes(b"".join(parts))
    return path


def read(path: Path) -> tuple[Source, list[Frame]]:
    source = open_source(str(path))
    return source, list(source.frames())


def steps(frames: list[Frame]) -> list[float]:
    return [round(after.captured_at - before.captured_at, 3) for before, after in pairwise(frames)]


@pytest.mark.parametrize(
    "starts",
    [(5, 640), (640, 5), (7200, 30), (5, 640, 90), (5, 5), (5, 5.5), (5, 80_000), (WRAP / 90_000 - 20, 3)],
    ids=["ahead", "back", "hours back", "both", "anew", "back a little", "a day ahead", "ahead over the wrap"],
)
@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_recordings_that_were_joined_last_as_long_as_their_frames(tmp_path, starts, b_frames):
    source, frames = read(joined(tmp_path, *starts, codec_options={"bf": b_frames}))
    assert numbers(frames) == list(range(16 * len(starts)))
    assert steps(frames) == pytest.approx([1 / RATE] * (len(frames) - 1), abs=0.001)
    expected = source.frames_expected
    assert expected is None or expected <= 20 * len(starts)


def test_a_gap_that_can_be_true_stays_in_a_transport_stream(tmp_path):
    _, frames = read(joined(tmp_path, 5, 5.8 + 7.5))
    assert sorted(steps(frames))[-2:] == pytest.approx([0.05, 7.55])


@pytest.mark.parametrize("name", ["video.mkv", "video.mp4"])
@pytest.mark.parametrize("gap", [25, 30_000])
def test_a_gap_of_any_length_stays_where_the_format_allows_no_jumps(tmp_path, name, gap):
    milliseconds = [*range(0, 500, 50), *range(500 + gap * 1000, 1000 + gap * 1000, 50)]
    _, frames = read(write_video(tmp_path / name, numbered(20), milliseconds=milliseconds))
    assert [round(frame.captured_at * 1000) for frame in frames] == milliseconds


def test_a_transport_stream_whose_time_stamps_wrap_goes_on(tmp_path):
    path = tmp_path / "wrap.ts"
    path.write_bytes(part(path, 0, 40, WRAP / 90_000 - 1))
    _, frames = read(path)
    assert numbers(frames) == list(range(40))
    assert steps(frames) == pytest.approx([0.05] * 39, abs=0.001)


def test_one_frame_that_is_stamped_hours_away_moves_no_other(tmp_path):
    """Some recorders do that every few seconds: https://github.com/bluenviron/mediamtx/pull/6255"""
    path = tmp_path / "stray.ts"
    pieces = [(0, 15, 5.0), (15, 1, 9800.0), (16, 15, 5.8), (31, 1, 37_600.0), (32, 15, 6.6)]
    path.write_bytes(b"".join(part(path, *piece) for piece in pieces))
    _, frames = read(path)
    assert numbers(frames) == list(range(47))
    assert steps(frames) == pytest.approx([0.05] * 46, abs=0.001)


def test_equal_and_rounded_time_stamps_are_kept(tmp_path):
    milliseconds = [0, 0, 100, 100, 100, 133, 133, 400]
    _, frames = read(write_video(tmp_path / "equal.mkv", numbered(8), codec="ffv1", milliseconds=milliseconds))
    assert [round(frame.captured_at * 1000) for frame in frames] == milliseconds


def test_the_first_frame_is_at_0_also_where_time_stamps_begin_below(tmp_path):
    path = write_video(tmp_path / "negative.mkv", numbered(6), milliseconds=[-500, -450, -400, -350, -300, -250])
    _, frames = read(path)
    assert [round(frame.captured_at * 1000) for frame in frames] == [0, 50, 100, 150, 200, 250]


def test_an_avi_which_has_no_presentation_time_stamps_is_evenly_timed(tmp_path):
    path = write_video(
        tmp_path / "video.avi", numbered(40), codec="mpeg4", rate=RATE, codec_options={"bf": "2", "b": "4M"}
    )
    _, frames = read(path)
    assert numbers(frames) == list(range(40))
    assert steps(frames) == pytest.approx([0.05] * 39, abs=0.001)


@pytest.mark.parametrize(("start", "other"), [(5, 640), (7200, 30)])
def test_the_number_of_frames_that_a_jump_suggests_is_not_believed(tmp_path, start, other):
    assert open_source(str(joined(tmp_path, start, other))).frames_expected is None
