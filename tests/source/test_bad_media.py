"""Bad input: each case is one clear line, and damage costs only what it covers."""

import os
import socket
import time
import traceback

import numpy as np
import pytest

from stages.errors import ConfigError, MaskcastError, SourceError, SourceStalled
from stages.source.patience import Timeouts
from stages.source.source import open_source
from tests.support.media import free_port, http_server, numbered, numbers, write_sound, write_video

EVERY_PICTURE_IS_KEY = {"g": "1", "bf": "0"}
SHORT = Timeouts(open=0.3, first=0.3, read=0.3)


def read(path, timeouts=None):
    """The source and its frames, also those before a SourceError."""
    source, frames = open_source(str(path), timeouts=timeouts), []
    frames.extend(source.frames())
    return source, frames


def refusal(url, kind: type[MaskcastError] = SourceError, timeouts=None) -> str:
    with pytest.raises(kind) as caught:
        read(url, timeouts)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


def zeroed(data: bytes, start: float, end: float) -> bytes:
    """``data`` with zeros between two fractions of its length."""
    first, last = int(len(data) * start), int(len(data) * end)
    return data[:first] + bytes(last - first) + data[last:]


# --- what cannot be opened


def text(folder):
    path = folder / "notes.txt"
    path.write_text("not a video\n" * 100)
    return path


def text_named_as_video(folder):
    return text(folder).rename(folder / "notes.mp4")


def empty(folder):
    path = folder / "empty.mp4"
    path.touch()
    return path


def noise(folder):
    path = folder / "noise.bin"
    path.write_bytes(np.random.default_rng(0).bytes(100_000))
    return path


def directory(folder):
    return folder


def missing(folder):
    return folder / "missing.mp4"


def pipe(folder):
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def without_index(folder):
    path = write_video(folder / "cut.mp4", numbered(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert b"moov" not in path.read_bytes()
    return path


def sound(folder):
    return write_sound(folder / "sound.mp3")


def sound_with_cover(folder):
    return write_sound(folder / "sound.mp3", cover=numbered(1)[0])


def subtitles(folder):
    path = folder / "video.srt"
    path.write_text("1\n00:00:01,000 --> 00:00:02,000\nhello\n\n")
    return path


def all_zero_pictures(folder):
    path = write_video(folder / "zero.mp4", numbered(20), container_options={"movflags": "faststart"})
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(len(data) - start))
    return path


def nul(folder):
    return f"{folder}/video\0.mp4"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "no such file or directory; check the path"),
        (nul, "not a path; check the path"),
        (directory, "the folder is empty; put pictures into it"),
        (pipe, "a pipe cannot be read; write to a file"),
        (empty, "the file is empty; record or copy it again"),
        (text, "a text file, not a video"),
        (text_named_as_video, "a text file, not a video"),
        (noise, "no video that FFmpeg can read"),
        (without_index, "cut off before its index; copy or export it again"),
        (sound, "no video in it, only sound (mp3)"),
        (sound_with_cover, "no video in it, only sound (mp3)"),
        (subtitles, "a text file, not a video"),
        (all_zero_pictures, "no picture in it could be decoded"),
    ],
)
def test_a_file_that_is_no_video_is_refused_in_one_line_that_names_it(tmp_path, make, message):
    path = make(tmp_path)
    said = refusal(path)
    assert message in said
    assert str(path) in said


def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    path = write_video(tmp_path / "video.mp4", numbered(2))
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read everything: be nobody for a moment
        os.seteuid(65534)
    try:
        said = refusal(path)
    finally:
        os.seteuid(user)
    assert "permission denied; check the path and its permissions" in said


def test_an_empty_source_is_refused():
    assert "the source is empty" in refusal("", ConfigError)


def test_an_unknown_scheme_is_refused_with_the_known_ones_and_without_the_password():
    said = refusal("rstp://user:secret@cam.local/stream1", ConfigError)
    assert "unknown scheme in rstp://cam.local/***" in said
    assert "rtsp://" in said
    assert "secret" not in said


def test_a_camera_that_is_not_there_is_refused():
    assert "no such file or directory" in refusal("v4l2:///dev/no-such-video")


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp", "http", "tcp"])
def test_a_refused_connection_says_so_and_never_shows_the_password(scheme):
    url = f"{scheme}://user:secret@127.0.0.1:{free_port()}/stream1?key=secret"
    with pytest.raises(SourceError, match="connection refused; check host and port") as caught:
        open_source(url)
    assert "127.0.0.1" in str(caught.value)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("status", "message"), [(401, "access denied; check user and password"), (404, "the server does not have it")]
)
def test_a_server_that_says_no_is_quoted_in_plain_words(status, message):
    with http_server(lambda request: request.send_error(status)) as place:
        said = refusal(f"http://user:secret@{place}/video.mp4")
    assert message in said
    assert "secret" not in said


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp", "rtmp"])
def test_a_server_that_never_answers_is_given_up(scheme):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"{scheme}://user:secret@127.0.0.1:{server.getsockname()[1]}/x"
        said = refusal(url, SourceStalled, SHORT)
    assert "no video came, or not in time" in said
    assert "secret" not in said


def test_a_udp_port_that_nobody_sends_to_is_given_up():
    url = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    assert "no video came, or not in time" in refusal(url, SourceStalled, SHORT)


# --- what breaks off


@pytest.mark.parametrize(
    ("name", "options"), [("cut.mp4", {"movflags": "faststart"}), ("cut.mkv", {}), ("cut.ts", {}), ("cut.avi", {})]
)
def test_a_cut_file_gives_what_is_there_and_ends(tmp_path, name, options):
    path = write_video(tmp_path / name, numbered(50), container_options=options, codec_options=EVERY_PICTURE_IS_KEY)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    _, frames = read(path)
    assert 10 <= len(frames) < 50
    assert numbers(frames) == list(range(len(frames)))


def test_a_network_file_that_breaks_off_gives_what_came_and_then_the_error(tmp_path):
    path = write_video(
        tmp_path / "video.mp4",
        [np.random.default_rng(number).integers(0, 256, (240, 320, 3), np.uint8) for number in range(40)],
        container_options={"movflags": "faststart"},
    )
    sent = path.read_bytes()

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Length", str(len(sent)))
        request.end_headers()
        request.wfile.write(sent[: len(sent) // 2])

    frames = []
    with http_server(answer) as place:
        source = open_source(f"http://user:secret@{place}/video.mp4")
        with pytest.raises(SourceError, match="broke off") as caught:
            frames.extend(source.frames())
    assert 5 <= len(frames) < 40
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_sender_that_falls_silent_has_stalled_and_is_no_hang(tmp_path):
    sent = write_video(tmp_path / "video.ts", numbered(50)).read_bytes()

    def answer(request):
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"%x\r\n%b\r\n" % (len(sent), sent))
        time.sleep(2)

    frames = []
    with http_server(answer) as place:
        source = open_source(f"http://{place}/stream", timeouts=SHORT)
        with pytest.raises(SourceStalled, match="broke off: no video came, or not in time"):
            frames.extend(source.frames())
    assert numbers(frames)[:40] == list(range(40))


# --- what is damaged inside


def damaged(tmp_path, name, damage):
    path = write_video(
        tmp_path / name,
        numbered(50, 128, 96),
        container_options={"movflags": "faststart", "cluster_time_limit": "200"},
        codec_options=EVERY_PICTURE_IS_KEY,
    )
    path.write_bytes(damage(path.read_bytes()))
    return read(path)


def assert_gaps_are_told(frames):
    last = -1
    for frame in frames:
        assert frame.index == last + 1 + frame.dropped_before
        last = frame.index


@pytest.mark.parametrize("name", ["video.mp4", "video.mkv", "video.ts"])
def test_a_zeroed_span_costs_only_the_pictures_under_it(tmp_path, name):
    _, frames = damaged(tmp_path, name, lambda data: zeroed(data, 0.5, 0.6))
    assert 35 <= len(frames) < 50
    assert set(numbers(frames)) >= {*range(20), *range(35, 50)}
    assert numbers(frames) == sorted(numbers(frames))
    assert_gaps_are_told(frames)


def test_every_lost_picture_of_an_mp4_is_counted_and_told_by_the_next_frame(tmp_path):
    source, frames = damaged(tmp_path, "video.mp4", lambda data: zeroed(data, 0.5, 0.6))
    assert source.decode_errors == 50 - len(frames) > 0
    assert sum(frame.dropped_before for frame in frames) == source.decode_errors
    assert [frame.index for frame in frames] == numbers(frames)
    assert_gaps_are_told(frames)
    assert [frame.captured_at for frame in frames] == pytest.approx([number / 25 for number in numbers(frames)])


def test_pictures_that_the_decoder_calls_corrupt_are_counted_and_not_delivered(tmp_path):
    pictures = [np.random.default_rng(number).integers(0, 256, (96, 128, 3), np.uint8) for number in range(30)]
    path = write_video(tmp_path / "video.mp4", pictures, container_options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(len(data) // 2, len(data) * 6 // 10, 20):
        data[place] ^= 0xFF
    path.write_bytes(data)
    source, frames = read(path)
    assert 5 < len(frames) < 30
    assert len(frames) + source.decode_errors == 30


@pytest.mark.parametrize("name", ["video.mp4", "video.mkv", "video.ts", "video.avi", "video.h264"])
def test_no_damage_whatever_raises_anything_but_one_line(tmp_path, name):
    whole = write_video(tmp_path / name, numbered(12)).read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(25):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), int(rng.integers(1, 60))):
            data[place] = int(rng.integers(256))
        (tmp_path / name).write_bytes(data[: int(rng.integers(1, len(data) + 1))])
        said, frames = "", []
        try:
            _, frames = read(tmp_path / name)
        except SourceError as error:
            said = str(error)
        assert "\n" not in said
        assert all((frame.image.ndim, frame.image.dtype.name) == (3, "uint8") for frame in frames)
        assert bool(said) != bool(frames)
