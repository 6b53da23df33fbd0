"""RTP over TCP and over UDP: which is used, what is lost, and what is said where neither works. Cameras are real."""

import re
import subprocess
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from stages.errors import SourceError, SourceStalled
from stages.source.patience import Timeouts
from stages.source.rtsp_transport import RtspTransport, Transport
from stages.source.source import Source, open_source
from stages.types import Frame
from tests.support.media import free_port, numbered, numbers_of_whole_pictures, write_video
from tests.support.program import PATIENCE, wait_until
from tests.support.rtsp import RtspServer, changed, needs_rtsp_server
from tests.support.tools import needs_tool

pytestmark = [pytest.mark.process, needs_rtsp_server]

UDP, TCP = ("--transport", "udp"), ("--transport", "tcp")
HALF_SECOND_GOP = {"g": "12", "sc_threshold": "0", "bf": "0", "crf": "10"}
SIGNS = "a#b/c?d@e%f:g"  # a password as people choose it


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds; a key picture takes several packets."""
    return write_video(
        tmp_path_factory.mktemp("clip") / "clip.mp4", numbered(50, 160, 120), codec_options=HALF_SECOND_GOP
    )


@pytest.fixture(scope="module")
def udp_camera(clip: Path) -> Iterator[RtspServer]:
    """It answers 461 to TCP, as some intercoms and encoders do."""
    with RtspServer(clip, options=UDP) as running:
        yield running


def connected(url: str, wanted: Transport = "auto") -> Source:
    """Its source, once it can be opened: GStreamer's server is busy for a moment after it has refused a transport."""
    transport, deadline = RtspTransport(wanted), time.monotonic() + PATIENCE
    while True:
        try:
            return open_source(url, transport=transport)
        except SourceError:
            if time.monotonic() > deadline:
                raise


def some(source: Source, count: int = 40) -> list[Frame]:
    frames = list(islice(source.frames(), count))
    source.close()
    return frames


def in_order(frames: list[Frame]) -> bool:
    found = numbers_of_whole_pictures(frames)
    return found == [(found[0] + n) % 50 for n in range(len(found))]


def test_a_camera_that_refuses_tcp_is_watched_over_udp(udp_camera):
    assert in_order(some(connected(udp_camera.url)))


@pytest.mark.parametrize(
    ("options", "wanted", "said"),
    [
        (UDP, "tcp", 'refuses to send over TCP; set transport = "udp" or "auto"'),
        (TCP, "udp", 'refuses to send over UDP; set transport = "tcp" or "auto"'),
    ],
)
def test_a_transport_that_was_chosen_and_is_refused_is_named_with_the_other(clip, options, wanted, said):
    with RtspServer(clip, options=options) as camera, pytest.raises(SourceError, match=said):
        open_source(camera.url, transport=RtspTransport(wanted))


def test_what_has_worked_is_tried_first_and_after_a_failure_everything_again(clip):
    transport = RtspTransport()
    with RtspServer(clip, options=UDP) as camera:
        wait_until(lambda: opened(camera.url, transport))
        assert transport.order == ("udp",)
        port = camera.port
    with RtspServer(clip, port=port, options=TCP) as camera:  # its settings were changed
        assert transport.order == ("udp",)
        assert not opened(camera.url, transport)
        assert transport.order == ("tcp", "udp")
        wait_until(lambda: opened(camera.url, transport))
        assert transport.order == ("tcp",)


def opened(url: str, transport: RtspTransport) -> bool:
    try:
        open_source(url, transport=transport).close()
    except SourceError:
        return False
    return True


def bad_request(answer: bytes) -> bytes:
    return re.sub(rb"^RTSP/1.0 461 .*", b"RTSP/1.0 400 Bad Request\r", answer)


def not_acceptable(answer: bytes) -> bytes:
    """As reported of a real camera."""
    return re.sub(rb"^RTSP/1.0 461 .*", b"RTSP/1.0 406 TCP TRANSPORT IS NOT SUPPORTED\r", answer)


def hang_up(answer: bytes) -> bytes | None:
    return None if answer.startswith(b"RTSP/1.0 461") else answer


@pytest.mark.parametrize("answer", [bad_request, not_acceptable, hang_up])
def test_a_refusal_of_tcp_may_be_another_status_or_the_end_of_the_connection(udp_camera, answer):
    with changed(udp_camera, answer=answer) as url:
        assert in_order(some(connected(url)))


def test_a_third_of_the_packets_lost_costs_frames_which_are_counted_and_not_the_connection(clip):
    with RtspServer(clip, options=(*UDP, "--network", "drop-probability=0.33")) as camera:
        source = connected(camera.url)
        frames = some(source, 30)
    assert source.decode_errors >= sum(frame.dropped_before for frame in frames) > 5
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})


def test_packets_that_come_late_and_out_of_order_cost_nothing(clip):
    network = "delay-probability=0.5 min-delay=1 max-delay=60 allow-reordering=true"

    def all_came() -> bool:
        source = connected(camera.url)
        return in_order(some(source)) and source.decode_errors == 0

    with RtspServer(clip, options=(*UDP, "--network", network)) as camera:
        assert any(all_came() for _ in range(5))  # a busy machine loses datagrams of its own


def test_where_no_packet_arrives_the_error_names_the_transport_and_the_firewall(udp_camera):
    elsewhere = f"client_port={free_port() & ~1}".encode()

    def behind_a_firewall(request: bytes) -> bytes:
        return re.sub(rb"client_port=\d+", elsewhere, request)

    said = 'over UDP no packet came, .* no firewall holds UDP back, or set transport = "tcp"'
    with changed(udp_camera, ask=behind_a_firewall) as url, pytest.raises(SourceStalled, match=said):
        some(open_source(url, timeouts=Timeouts(open=2, first=2), transport=RtspTransport("udp")))


@pytest.mark.parametrize("options", [(), ("--digest",), ("--digest", *UDP)], ids=["basic", "digest", "digest, UDP"])
def test_a_password_may_hold_the_signs_that_divide_an_address(clip, options):
    with RtspServer(clip, options=("--login", f"admin:{SIGNS}", *options)) as camera:
        assert in_order(some(connected(camera.url.replace("//", f"//admin:{SIGNS}@")), 20))
        with pytest.raises(SourceError, match="access denied; check user and password") as caught:
            open_source(camera.url.replace("//", f"//admin:not-{SIGNS}@"))
        assert not any(part in str(caught.value) for part in ("a#b", "c?d", "e%f", "%23"))


@needs_tool("openssl", "openssl")
def test_rtsps_is_rtsp_within_tls(clip, tmp_path):
    pem = tmp_path / "camera.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=camera"]
    subprocess.run([*request, "-keyout", pem, "-out", pem], check=True, capture_output=True)
    with RtspServer(clip, options=("--certificate", str(pem))) as camera:
        url = camera.url.replace("rtsp://", "rtsps://")
        assert in_order(some(open_source(url)))


def test_a_camera_that_ends_sessions_without_a_sign_of_life_gets_it_in_time(clip):
    """Sessions of 6 s; the camera ends one after 6 s without a request."""
    asked = [time.monotonic()]

    def note(request: bytes) -> bytes:
        asked.append(time.monotonic())
        return request

    def short_session(answer: bytes) -> bytes | None:
        return answer.replace(b";timeout=60", b";timeout=6 ") if time.monotonic() - asked[-1] < 6 else None

    with RtspServer(clip) as camera, changed(camera, ask=note, answer=short_session) as url:
        assert in_order(some(connected(url), 250))
