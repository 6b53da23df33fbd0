"""CURVE on the publishing socket, with real sockets: who has no key receives nothing, and is counted."""

import resource
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from stages.errors import ConfigError, OutputError
from stages.output.curve_auth import CurveAuth
from stages.output.curve_keys import new_server
from stages.output.publisher import Publisher
from tests.output.keys import Keys, Pair, eventually, stranger, subscriber
from tests.support.program import PATIENCE

MESSAGE = [b"v1/gate/masks", b"{}", b"x" * 200_000]
Context = zmq.Context[zmq.Socket[bytes]]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def context() -> Iterator[Context]:
    context: Context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def publisher(keys: Keys) -> Iterator[Publisher]:
    publisher = Publisher("tcp://127.0.0.1:0", curve_dir=keys.folder)
    yield publisher
    publisher.close()


def let_in(publisher: Publisher, context: Context, pair: Pair, server: bytes) -> zmq.Socket[bytes]:
    before = publisher.subscribers
    known = subscriber(context, publisher.endpoint, pair, server)
    assert eventually(lambda: publisher.subscribers == before + 1)
    return known


def test_a_client_whose_key_is_in_the_folder_receives_everything(
    publisher: Publisher, context: Context, keys: Keys
) -> None:
    known = let_in(publisher, context, keys.client("gate"), keys.server)
    for _ in range(20):
        assert publisher.send(MESSAGE)
    assert [known.recv_multipart() for _ in range(20)] == [MESSAGE] * 20
    assert publisher.refused == 0


@pytest.mark.parametrize("wrong", ["no key", "an unknown key", "another daemon's key"])
def test_who_has_no_right_key_receives_nothing_is_no_subscriber_and_is_counted(
    publisher: Publisher, context: Context, keys: Keys, tmp_path: Path, wrong: str
) -> None:
    pair = keys.client("gate")
    known = let_in(publisher, context, pair, keys.server)
    new_server(tmp_path / "other")
    refused = {
        "no key": lambda: subscriber(context, publisher.endpoint),
        "an unknown key": lambda: subscriber(context, publisher.endpoint, stranger(), keys.server),
        "another daemon's key": lambda: subscriber(context, publisher.endpoint, pair, stranger()[0]),
    }[wrong]()
    assert eventually(lambda: publisher.refused)
    for _ in range(10):
        assert publisher.send(MESSAGE)
        assert known.recv_multipart() == MESSAGE
        assert publisher.subscribers == 1
    assert not refused.poll(300)


def test_a_new_client_gets_in_without_a_restart(publisher: Publisher, context: Context, keys: Keys) -> None:
    first = let_in(publisher, context, keys.client("gate"), keys.server)
    late = let_in(publisher, context, keys.client("late"), keys.server)
    publisher.send(MESSAGE)
    assert first.recv_multipart() == late.recv_multipart() == MESSAGE


def test_a_removed_client_keeps_its_connection_and_gets_no_other(
    publisher: Publisher, context: Context, keys: Keys
) -> None:
    pair = keys.client("gate")
    open_one = let_in(publisher, context, pair, keys.server)
    keys.remove("gate")
    refused = subscriber(context, publisher.endpoint, pair, keys.server)
    assert eventually(lambda: publisher.refused == 1)
    publisher.send(MESSAGE)
    assert open_one.recv_multipart() == MESSAGE
    assert not refused.poll(200)


def test_broken_files_among_the_clients_and_a_folder_that_goes_let_nobody_in_by_mistake(
    publisher: Publisher, context: Context, keys: Keys
) -> None:
    (keys.folder / "clients" / "broken.key").write_bytes(b"\xff\x00nonsense")
    (keys.folder / "clients" / "empty.key").touch()
    pair = keys.client("gate")
    _early = let_in(publisher, context, pair, keys.server)
    server = keys.server
    shutil.rmtree(keys.folder)
    _refused = subscriber(context, publisher.endpoint, pair, server)
    assert eventually(lambda: publisher.refused == 1)
    new_server(keys.folder)
    shutil.copy(keys.root / "gate.key_secret", keys.folder / "clients" / "gate.key")
    _late = let_in(publisher, context, pair, server)


def test_nothing_of_a_message_can_be_read_on_the_way(publisher: Publisher, context: Context, keys: Keys) -> None:
    """A relay between the two sees every byte."""
    pair = keys.client("gate")
    port = int(publisher.endpoint.rsplit(":", 1)[1])
    seen = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as relay:
        known = subscriber(context, f"tcp://127.0.0.1:{relay.getsockname()[1]}", pair, keys.server)
        near = relay.accept()[0]
        far = socket.create_connection(("127.0.0.1", port))

        def forward(source: socket.socket, sink: socket.socket) -> None:
            while data := source.recv(65536):
                seen.extend(data)
                sink.sendall(data)

        for ends in ((near, far), (far, near)):
            threading.Thread(target=forward, args=ends, daemon=True).start()
        assert eventually(lambda: publisher.subscribers == 1)
        publisher.send([b"v1/gate/masks", b"a header that says a lot"])
        assert known.recv_multipart()[1] == b"a header that says a lot"
        assert b"CURVE" in seen
        assert b"says a lot" not in seen
        assert b"v1/gate" not in seen
        for end in (near, far):
            end.shutdown(socket.SHUT_RDWR)
            end.close()


def test_unix_sockets_take_keys_too(context: Context, keys: Keys, tmp_path: Path) -> None:
    publisher = Publisher(f"ipc://{tmp_path}/masks", curve_dir=keys.folder)
    known = let_in(publisher, context, keys.client("gate"), keys.server)
    _refused = subscriber(context, publisher.endpoint)
    assert eventually(lambda: publisher.refused)
    publisher.send(MESSAGE)
    assert known.recv_multipart() == MESSAGE
    publisher.close()


def test_two_publishers_in_one_process_have_their_own_clients(context: Context, tmp_path: Path) -> None:
    first, second = Keys(tmp_path / "a"), Keys(tmp_path / "b")
    here, there = (Publisher("tcp://127.0.0.1:0", curve_dir=keys.folder) for keys in (first, second))
    pair = first.client("gate")
    _known = let_in(here, context, pair, first.server)
    _refused = subscriber(context, there.endpoint, pair, second.server)
    assert eventually(lambda: there.refused == 1)
    here.close()
    there.close()


def test_closing_delivers_what_is_on_its_way_and_ends_the_threads(context: Context, keys: Keys) -> None:
    before = set(threading.enumerate())
    publisher = Publisher("tcp://127.0.0.1:0", curve_dir=keys.folder)
    known = let_in(publisher, context, keys.client("gate"), keys.server)
    assert set(threading.enumerate()) - before
    for _ in range(30):
        assert publisher.send(MESSAGE)
    publisher.close()
    publisher.close()
    assert [known.recv_multipart() for _ in range(30)] == [MESSAGE] * 30
    assert set(threading.enumerate()) <= before


def test_nobody_comes_in_while_nobody_answers(context: Context, keys: Keys) -> None:
    """libzmq's own way is to let everybody in then."""
    pair, gate = keys.client("gate"), CurveAuth(keys.folder)
    xpub = context.socket(zmq.XPUB)
    xpub.set(zmq.XPUB_VERBOSE, 1)
    gate.secure(xpub)
    xpub.bind("tcp://127.0.0.1:0")
    endpoint = xpub.get_string(zmq.LAST_ENDPOINT)
    early = subscriber(context, endpoint, pair, keys.server)
    assert xpub.poll(PATIENCE * 1000), "while it answers"
    assert xpub.recv() == b"\x01"
    gate.close()
    late = subscriber(context, endpoint, pair, keys.server)
    assert not xpub.poll(500)
    assert not early.closed
    assert not late.closed


def test_nobody_comes_in_while_the_folder_cannot_be_read_and_the_gate_goes_on(keys: Keys) -> None:
    """As when the process has no more file descriptors."""
    known, gate = keys.client("gate")[0], CurveAuth(keys.folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        answer = gate.callback("", known)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not answer
    assert gate.callback("", known)


def test_closing_while_strangers_knock_ends(context: Context, keys: Keys) -> None:
    publisher = Publisher("tcp://127.0.0.1:0", curve_dir=keys.folder)
    strangers = [subscriber(context, publisher.endpoint, stranger(), keys.server) for _ in range(20)]
    strangers += [subscriber(context, publisher.endpoint) for _ in range(20)]
    assert eventually(lambda: publisher.refused)
    closing = threading.Thread(target=publisher.close)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert len(strangers) == 40


def test_strangers_may_knock_for_long_while_nobody_looks(publisher: Publisher, context: Context, keys: Keys) -> None:
    """libzmq tells of each attempt in a queue, and would stand still, with the stream, if that were full."""
    port = int(publisher.endpoint.rsplit(":", 1)[1])
    for _ in range(1000):
        with socket.create_connection(("127.0.0.1", port)) as stranger_without_zeromq:
            assert stranger_without_zeromq.recv(1), "libzmq answers"
    known = let_in(publisher, context, keys.client("gate"), keys.server)
    assert eventually(lambda: publisher.refused >= 1000)
    publisher.send(MESSAGE)
    assert known.recv_multipart() == MESSAGE


def test_keys_that_are_not_as_they_should_be_keep_the_port_shut(keys: Keys) -> None:
    (keys.folder / "server.key_secret").chmod(0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match="chmod 600"):
        Publisher(f"tcp://127.0.0.1:{port}", curve_dir=keys.folder)
    socket.create_server(("127.0.0.1", port)).close()


def test_a_port_in_use_is_one_clear_line_and_leaves_no_thread(publisher: Publisher, keys: Keys) -> None:
    before = set(threading.enumerate())
    with pytest.raises(OutputError, match="the address is in use"):
        Publisher(publisher.endpoint, curve_dir=keys.folder)
    assert set(threading.enumerate()) <= before
