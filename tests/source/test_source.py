"""Sources: what is read from files, networks and the built-in test source."""

import re
import threading
import time
from contextlib import suppress
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from stages.errors import ConfigError, SourceError
from stages.source.address import is_live, redact
from stages.source.gpu_decoder import cuda_decoder
from stages.source.source import open_source
from stages.testsrc.world import ShapesWorld
from stages.types import Clock
from tests.support.media import free_port, http_server, numbered, numbers, quarters, turn, write_video
from tests.support.program import PATIENCE

CLIPS = Path(__file__).parents[3] / "shared" / "data" / "clips"


def read(url):
    source = open_source(str(url))
    return source, list(source.frames())


# --- files


@pytest.mark.parametrize("name", ["video.mp4", "video.mkv", "video.ts", "video.avi", "video.mov"])
def test_a_file_gives_every_frame_in_order_and_says_so_beforehand(tmp_path, name):
    source, frames = read(write_video(tmp_path / name, numbered(30)))
    assert numbers(frames) == list(range(30))
    assert [frame.index for frame in frames] == list(range(30))
    assert (source.live, source.rate, source.decode_errors) == (False, 25.0, 0)
    assert source.frames_expected == pytest.approx(30, abs=1)
    assert {frame.dropped_before for frame in frames} == {0}


def test_a_file_keeps_the_containers_time_stamps_and_counts_seconds_from_its_first_frame(tmp_path):
    path = write_video(tmp_path / "video.ts", numbered(10))
    with av.open(str(path)) as container:
        expected = [(picture.pts, picture.time_base) for picture in container.decode(video=0)]
    _, frames = read(path)
    assert expected[0][0] > 0
    assert [(frame.pts, frame.time_base) for frame in frames] == expected
    assert [frame.captured_at for frame in frames] == pytest.approx([index / 25 for index in range(10)])
    assert {frame.clock for frame in frames} == {Clock.FILE}


def test_a_variable_frame_rate_keeps_its_true_times(tmp_path):
    milliseconds = [0, 40, 45, 300, 2000, 2001, 2500]
    _, frames = read(write_video(tmp_path / "video.mkv", numbered(7), milliseconds=milliseconds))
    assert [round(frame.captured_at * 1000) for frame in frames] == milliseconds
    assert numbers(frames) == list(range(7))


def test_frames_without_time_stamps_are_counted_on_at_the_nominal_rate(tmp_path):
    bare = write_video(tmp_path / "video.h264", numbered(10), codec_options={"bf": "0"})
    source, frames = read(bare)
    assert {frame.pts for frame in frames} == {None}
    assert [frame.captured_at for frame in frames] == pytest.approx([i / source.rate for i in range(10)])


def test_where_joined_recordings_start_their_time_stamps_anew_the_clock_goes_on(tmp_path):
    part = write_video(tmp_path / "part.ts", numbered(50))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 2)
    _, frames = read(joined)
    assert numbers(frames) == [*range(50), *range(50)]
    assert frames[50].pts == frames[0].pts
    assert [frame.captured_at for frame in frames] == pytest.approx([index / 25 for index in range(100)])


@pytest.mark.parametrize(
    ("size", "codec", "pix_fmt"),
    [
        ((1, 1), "ffv1", "yuv420p"),
        ((1, 1), "libx264rgb", "rgb24"),
        ((1279, 719), "libx264", "yuv444p"),
        ((1279, 719), "ffv1", "yuv420p"),
        ((64, 48), "libx264", "yuv420p10le"),
        ((65, 49), "ffv1", "gray16le"),
        ((65, 49), "ffv1", "gray"),
        ((65, 49), "ffv1", "bgra"),
        ((64, 48), "mjpeg", "yuvj420p"),
        ((64, 48), "libvpx-vp9", "yuv420p"),
    ],
)
def test_every_size_and_pixel_format_becomes_contiguous_8_bit_rgb(tmp_path, size, codec, pix_fmt):
    width, height = size
    _, frames = read(write_video(tmp_path / "video.mkv", numbered(3, width, height), codec=codec, pix_fmt=pix_fmt))
    assert {(f.image.shape, f.image.dtype.name, f.image.flags.c_contiguous) for f in frames} == {
        ((height, width, 3), "uint8", True)
    }
    assert numbers(frames) == [0, 1, 2]


def corners(image):
    """The four quarters of a picture by their colours, row by row."""
    names = {(True, False, False): "red", (False, True, False): "green", (False, False, True): "blue"}
    height, width = image.shape[:2]
    centres = [(y, x) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [names.get(tuple(bool(value > 128) for value in image[centre]), "white") for centre in centres]


def test_colours_are_in_the_order_red_green_blue(tmp_path):
    _, frames = read(write_video(tmp_path / "video.mp4", [quarters()] * 2))
    assert corners(frames[0].image) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((1, 0, 0, 1), ["red", "green", "blue", "white"]),
        ((0, 1, -1, 0), ["blue", "red", "white", "green"]),  # a quarter to the right: a phone held upright
        ((0, -1, 1, 0), ["green", "white", "red", "blue"]),  # a quarter to the left
        ((-1, 0, 0, -1), ["white", "blue", "green", "red"]),  # upside down
        ((-1, 0, 0, 1), ["green", "red", "white", "blue"]),  # mirrored
        ((0, 1, 1, 0), ["red", "blue", "green", "white"]),  # mirrored and turned
    ],
)
def test_a_phones_video_is_turned_upright(tmp_path, matrix, upright):
    path = turn(write_video(tmp_path / "phone.mp4", [quarters()] * 2), matrix)
    _, frames = read(path)
    assert corners(frames[0].image) == upright
    assert frames[0].image.shape == ((64, 96, 3) if matrix[0] else (96, 64, 3))
    assert frames[0].image.flags.c_contiguous


def test_a_video_that_changes_its_size_gives_each_frame_in_its_own(tmp_path):
    small = write_video(tmp_path / "small.h264", numbered(4, 64, 48))
    large = write_video(tmp_path / "large.h264", numbered(4, 128, 96))
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    _, frames = read(both)
    assert [frame.image.shape[:2] for frame in frames] == [(48, 64)] * 4 + [(96, 128)] * 4
    assert numbers(frames) == [0, 1, 2, 3] * 2


@pytest.mark.parametrize("name", ["12:30.mp4", "http:cam.mp4", "100% füllt.mp4", "with space #1?.mp4"])
def test_any_file_name_is_a_path(tmp_path, name):
    _, frames = read(write_video(tmp_path / "plain.mp4", numbered(2)).rename(tmp_path / name))
    assert numbers(frames) == [0, 1]


def test_a_file_url_is_a_file(tmp_path):
    path = write_video(tmp_path / "with space.mp4", numbered(2))
    source, frames = read(path.as_uri())
    assert numbers(frames) == [0, 1]
    assert not source.live


def test_closing_ends_the_frames_and_may_be_repeated(tmp_path):
    source = open_source(str(write_video(tmp_path / "video.mp4", numbered(20))))
    frames = source.frames()
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    source.close()
    source.close()
    assert list(frames) == []


def test_another_thread_may_close_a_source_that_is_being_read(tmp_path):
    path = write_video(tmp_path / "video.mp4", numbered(50))
    for _ in range(20):
        source = open_source(str(path))
        started, read_to_end = threading.Event(), []

        def reader(source=source, started=started, read_to_end=read_to_end):
            for _ in source.frames():
                started.set()
            read_to_end.append(True)

        thread = threading.Thread(target=reader, daemon=True)
        thread.start()
        assert started.wait(PATIENCE)
        source.close()
        thread.join(PATIENCE)
        assert read_to_end == [True]


@pytest.mark.parametrize(
    ("name", "count", "rate"),
    [("cups.mp4", 300, 30000 / 1001), ("dog.mp4", 289, 30000 / 1001), ("driving.mp4", 124, 24)],
)
def test_real_clips_are_read_whole(name, count, rate):
    if not (CLIPS / name).exists():
        pytest.skip(f"the clip {name} is not beside this checkout")
    source = open_source(str(CLIPS / name))
    seen = [(frame.index, frame.captured_at, frame.image.shape) for frame in source.frames()]
    assert source.rate == pytest.approx(rate)
    assert (source.frames_expected, source.decode_errors) == (count, 0)
    assert [index for index, _, _ in seen] == list(range(count))
    assert [at for _, at, _ in seen] == pytest.approx([index / rate for index in range(count)])
    assert {shape for _, _, shape in seen} == {(720, 1280, 3)}


# --- networks


def test_a_udp_stream_is_live_and_joined_in_the_middle_without_counting_errors(tmp_path):
    sent = write_video(tmp_path / "video.ts", numbered(50) * 20, codec_options={"g": "10", "sc_threshold": "0"})
    url = f"udp://127.0.0.1:{free_port()}?pkt_size=1316"
    stop = threading.Event()

    def send_for_ever():
        with av.open(str(sent)) as video, av.open(url, "w", format="mpegts") as out:
            stream = out.add_stream_from_template(video.streams.video[0])
            for packet in video.demux(video=0):
                if stop.wait(0.02) or packet.dts is None:
                    return
                packet.stream = stream
                out.mux(packet)

    sender = threading.Thread(target=send_for_ever, daemon=True)
    sender.start()
    before = time.time()
    source = open_source(url)
    frames = list(islice(source.frames(), 10))
    source.close()
    stop.set()
    sender.join(PATIENCE)
    assert (source.live, source.frames_expected, source.decode_errors) == (True, None, 0)
    assert all(later == (first + 1) % 50 for first, later in pairwise(numbers(frames)))
    assert {frame.clock for frame in frames} == {Clock.ARRIVAL}
    arrivals = [frame.captured_at for frame in frames]
    assert arrivals == sorted(arrivals)
    assert before <= arrivals[0] <= arrivals[-1] <= time.time()


def test_an_http_stream_of_unknown_length_is_live(tmp_path):
    sent = write_video(tmp_path / "video.ts", numbered(20)).read_bytes()

    def answer(request):
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for part in (sent, b""):
            request.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))

    with http_server(answer) as place:
        source, frames = open_source(f"http://{place}/stream"), []
        with suppress(SourceError):  # newer releases of FFmpeg take the end of such a stream for an error
            frames.extend(source.frames())
        source.close()
    assert (source.live, source.frames_expected) == (True, None)
    assert numbers(frames) == list(range(20))
    assert {frame.clock for frame in frames} == {Clock.ARRIVAL}


def test_an_http_file_of_known_length_is_a_file(tmp_path):
    sent = write_video(tmp_path / "video.mp4", numbered(20), container_options={"movflags": "faststart"}).read_bytes()

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Length", str(len(sent)))
        request.end_headers()
        request.wfile.write(sent)

    with http_server(answer) as place:
        source, frames = read(f"http://{place}/video.mp4")
    assert (source.live, source.frames_expected) == (False, 20)
    assert numbers(frames) == list(range(20))
    assert {frame.clock for frame in frames} == {Clock.FILE}


# --- the test source


def test_the_test_source_is_the_shapes_world():
    source, frames = read("testsrc://shapes?seed=7&frames=5&size=96x64&fps=12.5&objects=3")
    world = ShapesWorld(seed=7, width=96, height=64, objects=3, fps=12.5)
    assert (source.live, source.rate, source.frames_expected) == (False, 12.5, 5)
    assert all(np.array_equal(frame.image, world.render(frame.index)[0]) for frame in frames)
    assert [(f.index, f.pts, f.time_base, f.captured_at) for f in frames] == [
        (i, i, Fraction(2, 25), i / 12.5) for i in range(5)
    ]


def test_hard_asks_for_a_hard_world():
    _, frames = read("testsrc://shapes?seed=7&frames=2&size=96x64&hard=1")
    world = ShapesWorld(seed=7, width=96, height=64, hard=True)
    assert all(np.array_equal(frame.image, world.render(frame.index)[0]) for frame in frames)


def test_without_a_number_of_frames_the_test_source_is_endless():
    source = open_source("testsrc://shapes?size=32x32")
    assert source.frames_expected is None
    assert [frame.index for frame in islice(source.frames(), 300)] == list(range(300))


def test_a_live_test_source_never_runs_ahead_of_the_wall_clock():
    before = time.time()
    source, frames = read("testsrc://shapes?frames=6&size=32x32&fps=50&live=1")
    assert (source.live, source.frames_expected) == (True, 6)
    assert {frame.clock for frame in frames} == {Clock.ARRIVAL}
    assert all(frame.captured_at > before + frame.index / 50 - 0.01 for frame in frames)


def test_a_live_test_source_skips_what_nobody_asked_for_in_time_and_counts_it():
    """A reader that sleeps gets the newest frame, not the next one."""
    source = open_source("testsrc://shapes?size=32x32&fps=100&live=1")
    frames, last = source.frames(), None
    for _ in range(5):
        frame = next(frames)
        seen = -1 if last is None else last.index
        assert frame.index == seen + 1 + frame.dropped_before
        assert frame.pts == frame.index
        assert last is None or frame.dropped_before >= 18
        assert last is None or frame.captured_at >= last.captured_at
        last = frame
        time.sleep(0.2)
    source.close()
    assert np.array_equal(last.image, ShapesWorld(0, 32, 32, fps=100).render(last.index)[0])


def test_a_live_test_source_ends_when_its_time_is_over_however_few_frames_were_asked_for():
    source = open_source("testsrc://shapes?frames=20&size=32x32&fps=100&live=1")
    frames = source.frames()
    assert next(frames).index < 20
    time.sleep(0.3)
    assert list(frames) == []


def test_all_who_open_a_test_source_with_a_time_of_birth_see_the_same_world_at_the_same_time():
    """``pts`` counts the world's frames, ``index`` those since it was opened."""
    url = f"testsrc://shapes?size=32x32&fps=20&live=1&since={time.time() - 100:.6f}"
    opened = time.time()
    one = open_source(url)
    first = next(one.frames())
    other = open_source(url)
    second = next(other.frames())
    assert first.index == second.index == 0
    assert 2000 <= first.pts <= second.pts <= 2000 + 20 * (time.time() - opened) + 1
    assert opened <= first.captured_at <= second.captured_at <= time.time()
    assert np.array_equal(second.image, ShapesWorld(0, 32, 32, fps=20).render(second.pts)[0])
    one.close()
    other.close()


def test_a_test_source_that_is_not_born_yet_waits_for_its_first_frame():
    born = time.time() + 0.5
    source = open_source(f"testsrc://shapes?size=32x32&fps=20&live=1&since={born:.6f}")
    frame = next(source.frames())
    assert time.time() >= born
    assert frame.index == frame.pts == frame.dropped_before
    source.close()


def test_closing_wakes_a_live_test_source_that_waits_for_its_next_frame():
    source = open_source("testsrc://shapes?size=32x32&fps=0.001&live=1")
    frames = source.frames()
    next(frames)
    threading.Timer(0.1, source.close).start()
    assert list(frames) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "testsrc://shapes?colour=red",
            "unknown key 'colour'.*seed, frames, size, fps, objects, live, hard, wild, since",
        ),
        ("testsrc://shapes?fps=0", "fps=0 .*number above 0"),
        ("testsrc://shapes?since=5", "since=5 .*only live=1 has a clock"),
        ("testsrc://shapes?live=1&since=yesterday", "since=yesterday .*Unix seconds"),
        ("testsrc://shapes?fps=nan", "fps=nan .*number above 0"),
        ("testsrc://shapes?fps=-1", "fps=-1 .*number above 0"),
        ("testsrc://shapes?frames=0", "frames=0 .*whole number from 1"),
        ("testsrc://shapes?frames=", "frames= .*whole number from 1"),
        ("testsrc://shapes?seed=x", "seed=x .*whole number"),
        ("testsrc://shapes?size=640", "size=640 .*WIDTHxHEIGHT"),
        ("testsrc://shapes?size=0x5", "size=0x5 .*WIDTHxHEIGHT"),
        ("testsrc://shapes?objects=1e9", "objects=1e9 .*whole number"),
        ("testsrc://shapes?live=yes", "live=yes .*0 or 1"),
        ("testsrc://shapes?hard=yes", "hard=yes .*0 or 1"),
        ("testsrc://shapes?objects=4&hard=1", "hard .*4 objects: give objects=8 or more"),
        ("testsrc://bars", "only one is testsrc://shapes"),
        ("testsrc://", "only one is testsrc://shapes"),
    ],
)
def test_a_wrong_test_source_is_refused_with_what_would_be_right(url, message):
    with pytest.raises(ConfigError, match=message) as caught:
        open_source(url)
    assert "\n" not in str(caught.value)


# --- decoders


def test_without_a_gpu_hardware_decoding_falls_back_to_software_by_itself(tmp_path):
    """And with one the frames are the same."""
    path = write_video(tmp_path / "video.mp4", numbered(20))
    source = open_source(str(path), gpu=0)
    frames = list(source.frames())
    assert source.decoder == ("software" if cuda_decoder(0) is None else "cuda")
    assert numbers(frames) == list(range(20))
    assert (frames[0].image.shape, frames[0].image.dtype.name) == ((48, 64, 3), "uint8")


def test_a_source_that_cannot_be_opened_is_refused_in_the_same_words_with_and_without_hardware(tmp_path):
    said = []
    for gpu in (None, 0):
        with pytest.raises(SourceError) as caught:
            open_source(f"rtsp://127.0.0.1:{free_port()}/stream", gpu=gpu)
        said.append(re.sub(r":\d+/", "/", str(caught.value)))
    assert said[0] == said[1]


def test_sources_without_a_codec_say_software():
    assert open_source("testsrc://shapes", gpu=0).decoder == "software"


# --- names


@pytest.mark.parametrize(
    ("url", "live"),
    [
        ("video.mp4", False),
        ("testsrc://shapes?seed=1&live=1", True),
        ("testsrc://shapes?live=0", False),
        ("RTSP://cam.local/stream1", True),
        ("udp://0.0.0.0:5000", True),
        ("v4l2:///dev/video0", True),
        ("https://cam.local/video", False),
        ("file:///videos/live=1", False),
    ],
)
def test_a_url_tells_whether_it_is_surely_live(url, live):
    assert is_live(url) == live


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("video.mp4", "video.mp4"),
        ("/videos/a@b?c.mp4", "/videos/a@b?c.mp4"),
        ("12:30/a@b.mp4", "12:30/a@b.mp4"),
        ("file:///videos/a@b.mp4", "file:///videos/a@b.mp4"),
        ("testsrc://shapes?seed=1", "testsrc://shapes?seed=1"),
        ("rtsp://cam.local:554", "rtsp://cam.local:554"),
        ("rtsp://cam.local:554/stream1", "rtsp://cam.local:554/***"),
        ("rtsp://user:secret@cam.local/stream1", "rtsp://cam.local/***"),
        ("rtsp://user:secret@[fe80::1]:554/stream1", "rtsp://[fe80::1]:554/***"),
        ("udp://@239.0.0.1:5000", "udp://239.0.0.1:5000"),
        ("rtsp://cam:554/user=admin&password=secret&channel=1", "rtsp://cam:554/***"),
        ("rtmp://host/live2/SECRET", "rtmp://host/***"),
        ("http://cam.local/video?user=u&password=secret", "http://cam.local/***"),
        ("http://cam.local#secret", "http://cam.local/***"),
        ("srt://host:9000?passphrase=secret\nsecret", "srt://host:9000/***"),
        ("rtsp://user:secret#secret@secret@cam.local", "rtsp://***"),
        ("rtsp://user:secret/secret@cam.local/x", "rtsp://***"),
        ("rtsp://user:secret?secret@cam.local/x", "rtsp://***"),
        ("rtsp://cam/password=sec@ret&channel=1", "rtsp://***"),
        ("http://user:secret@cam.local/v?mail=secret@example.org", "http://***"),
        ("rtsp://user:secret", "rtsp://***"),
        ("rtsp:/user:secret@cam.local/stream1", "rtsp:/***"),
        ("RTSP:/cam.local/password=secret", "RTSP:/***"),
        ("rstp:/user:secret@cam.local", "***@cam.local"),
        ("user:secret@cam.local/secret", "***@cam.local/***"),
        ("192.168.1.20:554/secret", "192.168.1.20:554/***"),
        ("cam:554/password=secret", "cam:554/***"),
        ("videos/12:30.mp4", "videos/12:30.mp4"),
        ("caf\udce9.mp4", "caf\\xe9.mp4"),
    ],
)
def test_a_redacted_url_keeps_the_place_and_loses_the_secrets(url, shown):
    assert redact(url) == shown


def test_a_url_that_is_taken_for_a_path_does_not_show_its_password():
    with pytest.raises(SourceError, match="no such file or directory") as caught:
        open_source("rstp:/user:secret@cam.local/stream1")
    assert "secret" not in str(caught.value)
