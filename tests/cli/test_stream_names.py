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
        ("rtsp://user:secret@camera.local:554/stream1", "camera.local"),
        ("testsrc://shapes?seed=1", "shapes"),
        ("v4l2:///dev/video0", "video0"),
        ("udp://@:5000", "5000"),
        ("rtsp://[fe80::1]/a", "fe80-1"),
        ("rtsp://[broken/a", "a"),
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
