"""Sources on the command line become streams."""

import pytest

from daemon.cli.stream_names import stream_name, streams_of
from daemon.settings.schema import Settings
from stages.errors import ConfigError


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("videos/gate.mp4", "gate"),
        ("my holiday (2).mkv", "my-holiday-2"),
        ("rtsp://user:secret@camera.local:554/stream1", "camera.local-stream1"),
        ("rtsp://user:secret@10.0.0.5:554/Streaming/Channels/101?auth=secret", "10.0.0.5-101"),
        ("http://10.0.0.5/snap.jpg?user=secret", "10.0.0.5-snap"),
        ("rtsp://user:sec/ret#?@camera.local/main", "camera.local-main"),
        ("rtsp://user:sec@ret/secret@camera.local/main", "rtsp"),
        ("rtsp://camera.local/user=secret&channel=1", "camera.local"),
        ("rtsp://camera.local/password=sec@ret&channel=1", "rtsp"),
        ("rtsp://user:secret@camera.local/x?mail=secret@example.org", "camera.local-x"),
        ("rtsps://camera.local:7441/7xZ8vW0w4XXlkYVm?enableSrtp", "camera.local"),
        ("rtmp://camera.local/live/secret", "camera.local"),
        ("user:secret@10.0.0.5", "10.0.0"),
        ("file:///videos/caf%E9.mp4", "caf"),
        ("caf\udce9.mp4", "caf"),
        ("holiday/%04d.png", "holiday"),
        ("holiday/*.jpg", "holiday"),
        ("testsrc://shapes?seed=1", "shapes"),
        ("v4l2:///dev/video0", "video0"),
        ("udp://@:5000", "5000"),
        ("rtsp://[fe80::1]/a", "fe80-1-a"),
        ("rtsp://[broken/a", "rtsp"),
        ("/", "stream"),
        ("a" * 100 + ".mp4", "a" * 56),
    ],
)
def test_source_on_the_command_line_names_its_stream(source: str, name: str) -> None:
    assert stream_name(source) == name


def test_streams_of_the_command_line_have_unique_names_and_the_same_prompts() -> None:
    overrides = streams_of(["a/gate.mp4", "b/gate.mp4", "gate-2.mp4"], ["person", "car"])
    streams = Settings(**overrides).streams
    assert [stream.name for stream in streams] == ["gate", "gate-2", "gate-2-2"]
    assert {tuple(prompt.written for prompt in stream.prompts) for stream in streams} == {("person", "car")}


def test_prompt_without_a_source_is_an_error() -> None:
    with pytest.raises(ConfigError, match="--prompt needs a SOURCE"):
        streams_of([], ["person"])


def test_a_folder_of_pictures_names_its_stream(tmp_path, monkeypatch) -> None:
    (tmp_path / "take.2" / "frames").mkdir(parents=True)
    assert stream_name(str(tmp_path / "take.2")) == "take.2"
    assert stream_name(f"{tmp_path}/take.2/") == "take.2"
    monkeypatch.chdir(tmp_path / "take.2")
    assert [stream_name(source) for source in (".", "frames/..", "%04d.png")] == ["take.2"] * 3


def test_several_single_pictures_are_an_error_that_says_how_to_name_them() -> None:
    """A shell makes them of frames/*.jpg."""
    with pytest.raises(ConfigError, match=r"3 pictures are named.*name their folder"):
        streams_of(["a/1.jpg", "a/2.JPG", "gate.mp4", "a/3.png"], ["person"])
    assert len(streams_of(["a/1.jpg", "gate.mp4"], ["person"])["streams"]) == 2


def test_a_path_that_is_not_utf_8_becomes_a_url(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    [stream] = Settings(**streams_of(["caf\udce9.mp4"], ["person"])).streams
    assert (stream.name, stream.source) == ("caf", f"file://{tmp_path}/caf%E9.mp4")
