"""The forwarder as a process: killed and back, its file of daemons, wrong usage, and real daemons behind it."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.fleet.forwarder.upstream import write_upstream
from tests.fleet.forwarder.place import knows, message, number, place
from tests.fleet.forwarder.process import COMMAND, running
from tests.output.keys import eventually
from tests.support.media import free_port
from tests.support.program import PATIENCE, Program, get

pytestmark = pytest.mark.process


def test_a_forwarder_that_is_killed_and_comes_back_goes_on_for_the_same_subscriber(tmp_path: Path) -> None:
    """Nobody tells it the daemons again: they stand in the file."""
    file = tmp_path / "upstream.json"
    arguments = ("--bind", f"tcp://127.0.0.1:{free_port()}", "--upstream", str(file))
    with place() as around:
        daemon = around.daemon()
        write_upstream(file, [daemon.endpoint], ["gate"])
        with running(*arguments) as first:
            subscriber = around.subscriber(first.endpoint, "v1/gate/")
            assert knows(daemon, "v1/gate/masks")
            daemon.send(message("gate", 1, fence=3))
            assert number(subscriber.recv_multipart()) == 1
            assert first.end(signal.SIGKILL)[0] == -signal.SIGKILL
            assert eventually(lambda: daemon.subscribers == 0)
        with running(*arguments) as second:
            # libzmq subscribes again when the subscriber next looks for messages
            assert eventually(lambda: not subscriber.poll(1) and daemon.wants(b"v1/gate/masks"))
            daemon.send(message("gate", 2, fence=3))
            assert number(subscriber.recv_multipart()) == 2
            assert second.end(signal.SIGTERM) == (0, "")


def test_the_file_names_the_daemons_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "upstream.json"
    with place() as around, running("--bind", "tcp://127.0.0.1:0", "--upstream", str(file)) as forwarder:
        north, south = around.daemon(), around.daemon()
        subscriber = around.subscriber(forwarder.endpoint, "v1/gate/masks")
        write_upstream(file, [north.endpoint], [])
        assert knows(north, "v1/gate/masks")
        write_upstream(file, [north.endpoint, south.endpoint], [])
        assert knows(south, "v1/gate/masks")
        file.write_text('{"daemons": ["gpu-1"]}')
        assert forwarder.process.stderr is not None
        said = forwarder.process.stderr.readline()
        assert said.startswith(f"maskcast: error: {file}: daemons.")
        assert "the daemons stay as they are" in said
        north.send(message("gate", 8))
        assert number(subscriber.recv_multipart()) == 8
        write_upstream(file, [south.endpoint], [])
        assert eventually(lambda: north.subscribers == 0)
        assert forwarder.figure("daemons") == 1
        assert forwarder.end(signal.SIGINT) == (0, "")


def test_real_daemons_draw_pictures_only_while_somebody_behind_the_forwarder_wants_them() -> None:
    """Two daemons, one address: masks of both streams come, and pictures once they are asked for."""
    sources = [f"testsrc://shapes?seed={seed}&size=128x128&fps=5&live=1" for seed in (3, 4)]
    daemons = [Program(source, "--prompt", "red circle") for source in sources]
    try:
        masks, metrics = zip(*((one.address("masks"), one.address("metrics")) for one in daemons), strict=True)
        with place() as around, running("--bind", "tcp://127.0.0.1:0", "--connect", *masks) as forwarder:
            subscriber = around.subscriber(forwarder.endpoint, "v1/shapes/masks")
            heard = set()
            while len(heard) < 2:
                heard.add(json.loads(subscriber.recv_multipart()[1])["session"])
            assert [drawn(url) for url in metrics] == [0, 0]
            subscriber.subscribe("v1/shapes/frame")
            assert eventually(lambda: all(drawn(url) for url in metrics))
            while len(parts := subscriber.recv_multipart()) < 3:
                pass
            assert parts[0] == b"v1/shapes/frame"
            assert parts[2].startswith(b"\xff\xd8")
    finally:
        for one in daemons:
            one.process.terminate()
            one.end()


def drawn(metrics: str) -> float:
    """Bytes of pictures that the daemon has published."""
    found = re.search(r'^maskcast_publish_bytes_total\{kind="frame".*\} (\S+)$', get(metrics)[1], re.MULTILINE)
    assert found
    return float(found[1])


def test_two_forwarders_of_one_machine_serve_their_own_metrics() -> None:
    with running("--bind", "tcp://127.0.0.1:0") as one, running("--bind", "tcp://127.0.0.1:0") as other:
        assert one.metrics != other.metrics
        assert one.figure("daemons") == other.figure("daemons") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--bind", "tcp://0.0.0.0:0"], 2, "--curve-dir, a folder of keys"),
        (["--bind", "ipc:///no/such/folder/masks"], 1, "use tcp://HOST:PORT or ipc://PATH"),
        (["--bind", "tcp://127.0.0.1:0", "--connect", "gpu-1"], 2, "--connect gpu-1: must be"),
        (["--bind", "tcp://127.0.0.1:0", "--curve-dir", "/nowhere"], 2, "no such folder of CURVE keys"),
        (["--bind", "tcp://127.0.0.1:0", "--key", "/nowhere"], 2, "give --server server.key"),
        (["--bind", "tcp://127.0.0.1:0", "--metrics", "0.0.0.0:0"], 2, "name 127.0.0.1, or give --insecure"),
        (["--bind", "tcp://127.0.0.1:0", "--metrics", "9110"], 2, "write it as in 127.0.0.1:9110"),
        (["--bind", "tcp://127.0.0.1:0", "--send-hwm", "0"], 2, "must be at least 1"),
        (["--bind", "tcp://127.0.0.1:0", "--upstream", "f", "--stream", "gate"], 2, "leave --connect and --stream out"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], code: int, says: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("maskcast: error: ")
    assert says in line


def test_it_loads_no_model_library() -> None:
    """It runs on machines without a GPU, and starts in a moment."""
    script = "import sys, daemon.fleet.forwarder.__main__; print({'torch', 'ray', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
