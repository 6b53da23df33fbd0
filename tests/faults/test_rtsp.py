"""Cameras: a real RTSP server that dies, freezes and changes its mind, and peers that never send a frame."""

import io
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import pytest

from stages.errors import SourceError, SourceStalled
from stages.source.patience import Timeouts
from stages.source.source import open_source
from stages.types import Clock, Frame
from tests.support.media import free_port, http_server, numbered, numbers_of_whole_pictures, write_video
from tests.support.program import PATIENCE
from tests.support.rtsp import RtspServer, frameless_server, needs_rtsp_server, silent_server

SHORT = Timeouts(open=10, first=1, read=0.5, decode=1)
HALF_SECOND_GOP = {"g": "12", "sc_threshold": "0", "bf": "0", "crf": "10"}
LOGIN = "//user:hunter2@"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds, numbered pictures 0 to 49."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered(50), codec_options=HALF_SECOND_GOP)


@pytest.fixture(scope="module")
def server(clip: Path) -> Iterator[RtspServer]:
    """For tests that leave it as it was."""
    with RtspServer(clip) as running:
        yield running


def first(url: str, count: int) -> list[Frame]:
    source = open_source(url)
    frames = list(islice(source.frames(), count))
    source.close()
    return frames


# --- a camera that works


@pytest.mark.process
@needs_rtsp_server
def test_a_camera_is_live_and_its_frames_carry_rising_times_of_arrival(server):
    before = time.time()
    source = open_source(server.url)
    frames = list(islice(source.frames(), 75))
    source.close()
    assert (source.live, source.frames_expected) == (True, None)
    assert (source.rate, source.decoder, source.decode_errors) == (25.0, "software", 0)
    assert [frame.index for frame in frames] == list(range(75))
    assert all(later == (one + 1) % 50 for one, later in pairwise(numbers_of_whole_pictures(frames)))
    assert {frame.clock for frame in frames} == {Clock.ARRIVAL}
    times = [frame.captured_at for frame in frames]
    assert before <= times[0] <= times[-1] <= time.time()
    assert all(one < other for one, other in pairwise(times))
    # once one has come without delay: what waited while the source was opened comes all at once
    assert [other - one for one, other in pairwise(times[50:])] == pytest.approx([0.04] * 24, abs=0.03)


@pytest.mark.process
@needs_rtsp_server
def test_two_may_watch_one_camera(server):
    sources = [open_source(server.url) for _ in range(2)]
    readers = [source.frames() for source in sources]
    assert all(len(list(islice(reader, 10))) == 10 for reader in readers)
    for source in sources:
        source.close()


@pytest.mark.process
@needs_rtsp_server
def test_a_camera_that_changes_its_resolution_gives_each_frame_in_its_own(tmp_path):
    small = write_video(tmp_path / "small.mp4", numbered(25), codec_options=HALF_SECOND_GOP)
    large = write_video(tmp_path / "large.mp4", numbered(25, 128, 96), codec_options=HALF_SECOND_GOP)
    with RtspServer(small, large) as server:
        frames = first(server.url, 60)
    assert [frame.image.shape[:2] for frame in frames[:55]] == [(48, 64)] * 25 + [(96, 128)] * 25 + [(48, 64)] * 5
    assert numbers_of_whole_pictures(frames) == [n % 25 for n in range(60)]


@pytest.mark.process
@needs_rtsp_server
@pytest.mark.parametrize("slices", [1, 3])
def test_pictures_arrive_whole_in_however_many_slices_they_are_sent(tmp_path, slices):
    options = HALF_SECOND_GOP | {"x264-params": f"sliced-threads=0:slices={slices}"}
    path = write_video(tmp_path / "clip.mp4", numbered(30, 160, 120), codec_options=options)
    with RtspServer(path) as server:
        assert numbers_of_whole_pictures(first(server.url, 30)) == list(range(30))


@pytest.mark.process
@needs_rtsp_server
def test_rtp_time_stamps_that_wrap_do_not_disturb_the_times(clip):
    """2**32 ticks are 13 hours; this camera gets there within two seconds."""
    with RtspServer(clip, options=("--timestamp", str(2**32 - 3 * 45_000))) as server:
        before = time.time()
        frames = first(server.url, 75)
    assert_times_of_arrival(frames, before)


@pytest.mark.process
@needs_rtsp_server
def test_the_first_frame_may_lack_a_pts(server):
    """FFmpeg knows RTP time only from the second packet on."""
    assert [frame.pts is None for frame in first(server.url, 3)] == [True, False, False]


# --- a camera that fails


@pytest.mark.process
@needs_rtsp_server
def test_a_killed_camera_ends_its_frames_and_may_be_opened_again_when_it_is_back(clip):
    with RtspServer(clip) as server:
        source = open_source(server.url)
        frames = source.frames()
        next(frames)
        server.kill()
        with suppress(SourceError):  # mostly they just end
            assert len(list(frames)) < 250
        with pytest.raises(SourceError, match="connection refused"):
            open_source(server.url)
        server.start()
        assert len(first(server.url, 10)) == 10


@pytest.mark.process
@needs_rtsp_server
def test_a_camera_that_is_stopped_with_its_connection_open_has_stalled(clip):
    with RtspServer(clip) as server:
        source = open_source(server.url, timeouts=SHORT)
        frames = source.frames()
        next(frames)
        server.pause()
        with pytest.raises(SourceStalled, match="broke off: no video came, or not in time"):
            list(frames)
        with pytest.raises(SourceStalled, match="cannot open"):
            open_source(server.url, timeouts=SHORT)
        server.resume()
        assert len(first(server.url, 10)) == 10


@pytest.mark.process
@needs_rtsp_server
def test_a_camera_that_ends_its_stream_ends_the_frames(clip):
    with RtspServer(clip, options=("--once",)) as server:
        assert numbers_of_whole_pictures(list(open_source(server.url).frames())) == list(range(50))


@pytest.mark.process
@needs_rtsp_server
def test_a_camera_that_sends_sound_but_no_more_pictures_has_stalled(clip):
    """Packets come all the time: it is not the read that times out."""
    with RtspServer(clip, options=("--sound", "--freeze-after", "40")) as server:
        source, frames = open_source(server.url, timeouts=SHORT), []
        with pytest.raises(SourceStalled, match="data came, but for 1 s no picture"):
            frames.extend(source.frames())
    assert numbers_of_whole_pictures(frames) == list(range(39))  # the last one waits for its successor


@pytest.mark.process
@needs_rtsp_server
def test_closing_is_noticed_while_only_sound_comes(clip):
    with RtspServer(clip, options=("--sound", "--freeze-after", "40")) as server:
        source = open_source(server.url, timeouts=Timeouts(decode=1000))
        read_to_end = threading.Event()

        def read():
            list(source.frames())
            read_to_end.set()

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        time.sleep(2)  # 40 frames last 1.6 s
        assert not read_to_end.is_set()
        source.close()
        thread.join(PATIENCE)
        assert read_to_end.is_set()


@pytest.mark.parametrize("peer", [silent_server, frameless_server])
def test_a_peer_that_takes_the_connection_and_sends_no_frame_has_stalled(peer):
    with peer() as url, pytest.raises(SourceStalled, match="no video came, or not in time") as caught:
        list(open_source(url, timeouts=SHORT).frames())
    assert url.replace("stream", "***") in str(caught.value)


# --- secrets


@pytest.fixture
def everything_said(monkeypatch, capfd) -> Iterator[Callable[[str], str]]:
    """What can be seen of opening a URL that fails, where another library has turned on all messages of FFmpeg."""
    logged = io.StringIO()
    for name in (None, "libav"):
        monkeypatch.setattr(logging.getLogger(name), "level", 1)
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(logged)])
    av.logging.set_level(av.logging.TRACE)

    def opening(url: str) -> str:
        with pytest.raises(SourceError) as caught:
            open_source(url)
        said = [logged.getvalue(), *capfd.readouterr()]
        error: BaseException | None = caught.value
        while error is not None:
            said += [str(error), repr(error), repr(vars(error))]
            error = error.__cause__ or error.__context__
        return "".join(said)

    yield opening
    av.logging.set_level(None)


def test_a_refused_connection_tells_nobody_the_password(everything_said):
    said = everything_said(f"rtsp:{LOGIN}127.0.0.1:{free_port()}/stream?key=hunter2")
    assert "connection refused" in said
    assert "hunter2" not in said


@pytest.mark.process
@needs_rtsp_server
def test_a_camera_that_wants_another_password_tells_nobody_the_one_it_got(clip, everything_said):
    with RtspServer(clip, options=("--login", "user:right")) as server:
        said = everything_said(server.url.replace("//", LOGIN))
        assert "access denied; check user and password" in said
        assert "hunter2" not in said
        assert "dXNlcjpodW50ZXIy" not in said  # user:hunter2 as HTTP's base64
        assert len(first(server.url.replace("//", "//user:right@"), 3)) == 3


def test_a_connection_that_breaks_off_leaves_no_password_behind_the_error():
    with frameless_server() as url, pytest.raises(SourceStalled) as caught:
        list(open_source(url.replace("//", LOGIN), timeouts=SHORT).frames())
    error: BaseException | None = caught.value
    assert error.__cause__ is error.__context__ is None
    assert "hunter2" not in "".join(traceback.format_exception(error))


# --- time stamps that other protocols carry


@contextmanager
def transport_stream(folder: Path, *starts: int) -> Iterator[str]:
    """A live MPEG-TS over HTTP in parts of 25 numbered pictures, the first of each at a PTS in 1/90,000 s."""
    bare = write_video(folder / "bare.h264", numbered(25 * len(starts)), codec_options=HALF_SECOND_GOP | {"g": "25"})
    with av.open(str(bare)) as video:
        pictures = [packet for packet in video.demux(video=0) if packet.size]
        for part, start in enumerate(starts):
            with av.open(str(folder / f"{part}.ts"), "w", options={"avoid_negative_ts": "disabled"}) as out:
                stream = out.add_stream_from_template(video.streams.video[0])
                for n, packet in enumerate(pictures[25 * part : 25 * (part + 1)]):
                    packet.pts = packet.dts = start + 3600 * n
                    packet.time_base, packet.stream = Fraction(1, 90_000), stream
                    out.mux(packet)
    path = folder / "live.ts"
    path.write_bytes(b"".join((folder / f"{part}.ts").read_bytes() for part in range(len(starts))))
    with live_over_http(path) as url:
        yield url


@contextmanager
def live_over_http(path: Path) -> Iterator[str]:
    """A stream of unknown length that ends with the file; yields its URL."""

    def answer(request):
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for part in (path.read_bytes(), b""):
            request.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))

    with http_server(answer) as place:
        yield f"http://{place}/stream"


def all_frames(url: str) -> list[Frame]:
    source, frames = open_source(url), []
    with suppress(SourceError):  # newer releases of FFmpeg take the end of such a stream for an error
        frames.extend(source.frames())
    assert source.live
    return frames


def assert_times_of_arrival(frames: list[Frame], before: float) -> None:
    times = [frame.captured_at for frame in frames]
    assert before <= times[0] <= times[-1] <= time.time()
    assert times == sorted(times)


HOUR = 90_000 * 3600


@pytest.mark.parametrize(
    "starts",
    [
        (HOUR, HOUR + 90_000),
        (HOUR, 2 * HOUR),
        (2 * HOUR, HOUR),
        (HOUR, HOUR),
        (2**33 - 12 * 3600, 13 * 3600),  # MPEG-TS counts to 2**33
    ],
    ids=["even", "an hour ahead", "an hour back", "anew", "wrapping"],
)
def test_pts_that_jump_or_wrap_lose_no_frame_and_no_time(tmp_path, starts):
    before = time.time()
    with transport_stream(tmp_path, *starts) as url:
        frames = all_frames(url)
    assert numbers_of_whole_pictures(frames) == list(range(50))
    assert_times_of_arrival(frames, before)


def test_a_stream_without_any_pts_is_timed_by_arrival(tmp_path):
    before = time.time()
    with live_over_http(write_video(tmp_path / "bare.h264", numbered(50), codec_options=HALF_SECOND_GOP)) as url:
        frames = all_frames(url)
    assert numbers_of_whole_pictures(frames) == list(range(50))
    assert {frame.pts for frame in frames} == {None}
    assert_times_of_arrival(frames, before)


# --- a stream that becomes another one


def program(path: Path, codec: str, start: float) -> bytes:
    """100 numbered pictures as MPEG-TS, from ``start`` on, in seconds."""
    options = {"g": "10", "bf": "0"} | ({"sc_threshold": "0"} if codec == "libx264" else {})
    with av.open(str(path), "w", format="mpegts") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n, image in enumerate(numbered(50) * 2):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = round(start * 25) + n, Fraction(1, 25)
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    return path.read_bytes()


def test_a_change_of_codec_ends_the_connection(tmp_path):
    """The next one begins a new epoch. FFmpeg itself goes on with the old decoder, which finds nothing to decode."""
    path = tmp_path / "live.ts"
    path.write_bytes(program(tmp_path / "0.ts", "mpeg2video", 1) + program(tmp_path / "1.ts", "libx264", 5))
    frames = []
    with live_over_http(path) as url:
        source = open_source(url)
        with pytest.raises(SourceError, match="its video became another one"):
            frames.extend(source.frames())
    assert 95 <= len(frames) <= 100
