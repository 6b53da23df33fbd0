"""The readers of deploy/clients/readers with CURVE keys, by the lines that their README gives."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from zmq.auth.thread import ThreadAuthenticator

from tests.clients.clients import CLIENTS, SOURCES, build, reading
from tests.golden.make import FOLDER
from tests.support.program import PATIENCE

pytestmark = pytest.mark.process

SERVER, CLIENT, STRANGER = zmq.curve_keypair(), zmq.curve_keypair(), zmq.curve_keypair()
MESSAGE = [(FOLDER / "masks-one-pixel-rle" / part).read_bytes() for part in ("topic", "header.json")]


@pytest.fixture
def guarded() -> Iterator["zmq.Socket[bytes]"]:
    """A publisher that lets in one key."""
    with zmq.Context() as context:
        doorman = ThreadAuthenticator(context)
        doorman.start()
        doorman.configure_curve_callback(credentials_provider=OneKey())
        with context.socket(zmq.XPUB) as socket:
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.RCVTIMEO, PATIENCE * 1000)
            socket.curve_secretkey, socket.curve_publickey, socket.curve_server = SERVER[1], SERVER[0], True
            socket.bind("tcp://127.0.0.1:0")
            yield socket
        doorman.stop()


class OneKey:
    def callback(self, domain: str, key: bytes) -> bool:
        return key == CLIENT[0]


def put_keys(place: Path) -> None:
    """The README's lines, before the one that connects."""
    language = place.name
    source = place / SOURCES[language]
    section = (CLIENTS / "README.md").read_text().split("### Keys of a reader")[1]
    [lines] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    text = source.read_text()
    connects = re.search(r"^\s*socket\.connect", text, re.MULTILINE)
    assert connects
    source.write_text(text[: connects.start()] + lines + text[connects.start() :])


@pytest.mark.parametrize("language", list(SOURCES))
def test_a_reader_with_the_right_keys_reads_and_one_with_others_gets_nothing(
    language: str, tmp_path: Path, guarded: "zmq.Socket[bytes]"
) -> None:
    place = build(language, tmp_path, put_keys)
    endpoint = guarded.get_string(zmq.LAST_ENDPOINT)
    keys = {"SERVER_KEY": SERVER[0].decode()}
    right, wrong = ({"PUBLIC_KEY": own[0].decode(), "SECRET_KEY": own[1].decode()} for own in (CLIENT, STRANGER))
    with (
        reading(language, place, endpoint, "golden", **keys, **wrong) as stranger,
        reading(language, place, endpoint, "golden", **keys, **right) as reader,
    ):
        assert guarded.recv() == b"\x01v1/golden/masks"
        assert not guarded.poll(1500), "a stranger could subscribe"
        guarded.send_multipart(MESSAGE)
        assert reader.lines(2)
        assert stranger.silent()
