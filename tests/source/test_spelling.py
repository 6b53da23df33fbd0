"""Sources as people write them: each works, or the error says what to write instead."""

import os
import socket
import threading
import zipfile
from contextlib import closing
from itertools import islice

import av
import numpy as np
import pytest

from stages.errors import ConfigError, SourceError
from stages.source.patience import Timeouts
from stages.source.source import open_source
from tests.support.media import free_port, http_server, numbered, numbers, write_sound, write_video
from tests.support.program import PATIENCE


def read(source, timeouts=None):
    with closing(open_source(str(source), timeouts=timeouts)) as opened:
        return list(opened.frames())


def refusal(source, kind=SourceError):
    with pytest.raises(kind) as caught:
        read(source)
    said = str(caught.value)
    assert "\n" not in said
    return said


# --- other spellings


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("0", "for a camera at this machine write v4l2:///dev/video0"),
        ("2", "for a camera at this machine write v4l2:///dev/video2"),
        ("/dev/video7", "for a camera at this machine write v4l2:///dev/video7"),
        ("webcam", "for a camera at this machine write v4l2:///dev/video0"),
        ("rtsp:camera", "two slashes belong after rtsp: as in rtsp://HOST/PATH"),
        ("rtsp:/user:hush@camera/x", "two slashes belong after rtsp:"),
        ("HTTP:/camera/snap.jpg", "two slashes belong after http:"),
        ("camera:554/x", "an address needs its scheme: rtsp://camera:554/PATH"),
        ("camera.local:8080/video", "an address needs its scheme: http://camera.local:8080/PATH"),
        ("user:hush@192.168.1.20:554/hush", "an address needs its scheme: rtsp://192.168.1.20:554/PATH"),
        ("192.168.1.20", "rtsp://192.168.1.20/PATH or http://192.168.1.20/PATH"),
        ("10.0.0.5:9000/live", "rtsp://10.0.0.5:9000/PATH or http://10.0.0.5:9000/PATH"),
        (r"C:\clips\gate one.mp4", "a path of Windows; under WSL it is /mnt/c/clips/gate one.mp4"),
        ("d:/gate.mp4", "a path of Windows; under WSL it is /mnt/d/gate.mp4"),
        ("-", "a pipe cannot be read; write to a file, or send it with ffmpeg"),
        (' "rtsp://user:hush@camera/x" ', "write the address without quotes and spaces around it"),
        ("https://www.youtube.com/watch?v=dQw4", "a web page, not a video; `yt-dlp -g PAGE` prints the address"),
        ("http://youtu.be/dQw4", "a web page, not a video"),
    ],
)
def test_what_is_written_in_another_way_is_refused_with_the_right_one(source, advice):
    said = refusal(source, ConfigError)
    assert advice in said
    assert "hush" not in said


@pytest.mark.parametrize("written", ["gate.mp4 ", " gate.mp4", '"gate.mp4"', "'gate.mp4'", "\u201cgate.mp4\u201d"])
def test_spaces_and_quotes_that_were_left_in_a_name_are_seen(tmp_path, monkeypatch, written):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "gate.mp4", numbered(2))
    assert "there is a file gate.mp4: write it without quotes and spaces" in refusal(written, ConfigError)


def test_a_path_from_a_configuration_is_found_as_a_shell_or_ffmpeg_would_find_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "gate.mp4", numbered(2))
    assert numbers(read("~/gate.mp4")) == [0, 1]
    assert numbers(read("file:gate.mp4")) == [0, 1]


@pytest.mark.parametrize("name", ["0", "webcam", "rtsp:x.mp4", "192.168.1.20", "gate.mp4 ", "~gate.mp4"])
def test_a_file_of_such_a_name_is_a_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "plain.mp4", numbered(2)).rename(tmp_path / name)
    assert numbers(read(name)) == [0, 1]


def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe cannot be read; write to a file" in refusal(tmp_path / "pipe")


# --- what a local file is


def archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("gate.mp4", "x")


def of_unknown_codec(path):
    data = write_video(path.with_suffix(".mp4"), numbered(3)).read_bytes()
    path.write_bytes(data.replace(b"avc1", b"zzz9"))


@pytest.mark.parametrize(
    ("name", "make", "kind"),
    [
        ("a.yuv", lambda path: path.write_bytes(bytes(range(256)) * 99), "raw pictures without a header"),
        ("a.nv12", lambda path: path.write_bytes(bytes(range(256)) * 99), "raw pictures without a header"),
        ("a.zip", archive, "an archive, not a video; unpack it and name a file in it"),
        ("a.mp4", archive, "an archive, not a video"),
        ("a.mp4", lambda path: path.write_text("<!DOCTYPE html>\n<html>404</html>"), "a web page, perhaps what a fail"),
        ("a.mp4", lambda path: path.write_text("not a video\n" * 9), "a text file, not a video"),
        ("a.mp4", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        ("a.mp4", lambda path: path.write_bytes(bytes(9000)), "the file holds only zeros; copy or record it again"),
        ("a.pdf", lambda path: path.write_bytes(b"%PDF-1.7\n\xff\xfe"), "a PDF document, not a video"),
        ("a.npy", lambda path: np.save(path, np.zeros((9, 9))), "a NumPy array, not a video"),
        (
            "a.heic",
            lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99)),
            "a HEIC picture; convert it to JPEG",
        ),
        ("a.mp3", write_sound, "no video in it, only sound (mp3); name a file"),
        ("a.mov", of_unknown_codec, "FFmpeg has no decoder for its video; convert it"),
    ],
)
def test_a_local_file_that_is_no_video_is_called_what_it_is_and_never_an_address(tmp_path, name, make, kind):
    make(tmp_path / name)
    said = refusal(tmp_path / name)
    assert kind in said
    assert name in said
    assert not any(word in said for word in ("address", "reached", "sender", "not in time"))


# --- playlists and session descriptions


def test_a_local_playlist_reads_local_and_remote_segments(tmp_path):
    write_video(tmp_path / "part.ts", numbered(10))
    data = (tmp_path / "part.ts").read_bytes()

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    playlist = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\n{}\n#EXT-X-ENDLIST\n"
    (tmp_path / "local.m3u8").write_text(playlist.format("part.ts"))
    assert numbers(read(tmp_path / "local.m3u8")) == list(range(10))
    with http_server(answer) as place:
        (tmp_path / "remote.m3u8").write_text(playlist.format(f"http://{place}/part.ts"))
        assert numbers(read(tmp_path / "remote.m3u8")) == list(range(10))


def test_a_local_session_description_receives_its_rtp_stream(tmp_path):
    port = free_port(socket.SOCK_DGRAM)
    (tmp_path / "cam.sdp").write_text(
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=cam\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 33\n"
    )
    sent = write_video(tmp_path / "sent.ts", numbered(40), codec="mpeg4", codec_options={"g": "1"})
    stop = threading.Event()

    def send_for_ever():
        with av.open(f"rtp://127.0.0.1:{port}", "w", format="rtp_mpegts") as out, av.open(str(sent)) as video:
            stream = out.add_stream_from_template(video.streams.video[0])
            offset = 0
            while not stop.is_set():
                video.seek(0)
                for packet in video.demux(video=0):
                    if packet.dts is None or stop.wait(0.01):
                        break
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                    last = packet.dts + (packet.duration or 1)
                    out.mux(packet)
                offset = last

    sender = threading.Thread(target=send_for_ever, daemon=True)
    sender.start()
    source = open_source(str(tmp_path / "cam.sdp"), timeouts=Timeouts(open=10, read=10))
    frames = list(islice(source.frames(), 5))
    source.close()
    stop.set()
    sender.join(PATIENCE)
    assert source.live
    assert len(frames) == 5


def test_a_web_page_at_a_video_address_is_called_what_it_may_be():
    def answer(request):
        body = b"<!DOCTYPE html><html>log in</html>" * 50
        request.send_response(200)
        request.send_header("Content-Type", "text/html")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    with http_server(answer) as place:
        said = refusal(f"http://user:hush@{place}/video.mp4")
    assert "what it sent is no video that FFmpeg can read, perhaps a web page; look at it in a browser" in said
    assert "hush" not in said
