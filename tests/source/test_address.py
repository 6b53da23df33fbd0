"""Addresses: passwords as people write them, and what can never be opened."""

import pytest

from stages.errors import ConfigError
from stages.source.address import normalized, redact


@pytest.mark.parametrize(
    ("written", "opened"),
    [
        ("rtsp://cam.local/stream1", "rtsp://cam.local/stream1"),
        ("rtsp://eve:s#3cret@cam.local/1", "rtsp://eve:s%233cret@cam.local/1"),
        ("rtsp://eve:s/3cret@10.0.0.7:8554/1?x=y#z", "rtsp://eve:s%2F3cret@10.0.0.7:8554/1?x=y#z"),
        ("rtsps://eve:s?3cret@cam.local", "rtsps://eve:s%3F3cret@cam.local"),
        ("https://eve:s@3cret@cam.local/1", "https://eve:s%403cret@cam.local/1"),
        ("rtsp://eve:100%@cam.local/1", "rtsp://eve:100%25@cam.local/1"),
        ("rtsp://eve:100%2541@cam.local/1", "rtsp://eve:100%2541@cam.local/1"),
        ("rtsp://eve:a:b c\u00e9@cam.local/1", "rtsp://eve:a%3Ab%20c%C3%A9@cam.local/1"),
        ("rtsp://eve:s%233cret@cam.local/1", "rtsp://eve:s%233cret@cam.local/1"),
        ("rtsp://eve:s#3/c?r@t@[fe80::1%25eth0]:554/1", "rtsp://eve:s%233%2Fc%3Fr%40t@[fe80::1%25eth0]:554/1"),
        ("rtsp://cam.local/user=eve&password=a@b", "rtsp://cam.local/user=eve&password=a@b"),
        ("udp://@239.0.0.1:5000", "udp://@239.0.0.1:5000"),
        ("srt://:9000?mode=listener", "srt://:9000?mode=listener"),
        ("rtmp://eve:s#3cret@host/live", "rtmp://eve:s#3cret@host/live"),
        ("12:30/a#b@c.mp4", "12:30/a#b@c.mp4"),
        ("file:///a#b@c.mp4", "file:///a#b@c.mp4"),
    ],
)
def test_user_and_password_are_encoded_where_one_reading_is_possible(written, opened):
    assert normalized(written) == opened
    assert normalized(opened) == opened


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("rtsp://eve:s#3@cret/1@cam.local/1", "write # as %23, / as %2F, \\? as %3F, @ as %40 and % as %25"),
        ("rtsp://cam.local:s3cret/1", "rtsp://HOST:PORT/PATH, the port a number up to 65535"),
        ("rtsp://cam.local:0/1", "the port a number"),
        ("rtsp://cam.local:99999999/1", "the port a number"),
        ("rtsp://fe80::1/1", "not a valid address"),
        ("rtsp://", "needs rtsp://HOST/PATH"),
        ("rtsp:///1", "needs rtsp://HOST/PATH"),
        ("http://:80/1", "needs http://HOST/PATH"),
        ("tcp://cam.local", "needs tcp://HOST:PORT"),
        ("rstp://eve:s3cret@cam.local/1", "unknown scheme in rstp://cam.local/"),
        ("", "the source is empty"),
    ],
)
def test_what_can_never_be_opened_is_refused_in_a_line_without_its_password(url, said):
    with pytest.raises(ConfigError, match=said) as caught:
        normalized(url)
    assert "cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_written_as_it_is_leaves_the_host_to_be_shown():
    assert redact(normalized("rtsp://eve:s#3/cret@cam.local:554/1")) == "rtsp://cam.local:554/***"
