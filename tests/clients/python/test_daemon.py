"""maskcast_client on a real daemon: what it gives equals the recording, pictures belong to their frames, keys open."""

import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pycocotools.mask
import pytest

from maskcast_client import Frame, Keys, KeysError, events, read_recording, subscribe
from tests.support.program import PATIENCE, Program, lines_of

pytestmark = pytest.mark.process

FRAMES = 24
SOURCE = f"testsrc://shapes?seed=12&frames={FRAMES}&size=256x256"
PROMPTS = "purple star, orange star, red triangle, red circle"


@pytest.mark.parametrize("encoding", ["rle", "counts"])
def test_frames_events_and_pictures_are_those_of_the_recording(encoding: str, tmp_path: Path) -> None:
    """The daemon waits for its subscribers and loses nothing; the loop ends with the file."""
    publish = {"WAIT_FOR": "2", "WHEN_FULL": "wait", "MASK_ENCODING": encoding}
    settings = {f"MASKCAST_PUBLISH__{key}": value for key, value in publish.items()}
    program = Program(SOURCE, "--prompt", PROMPTS, "--record", str(tmp_path), "--frames", **settings)
    with ExitStack() as stack:
        stack.callback(program.process.kill)
        endpoint = program.address("masks")
        told = events(endpoint, "shapes", timeout=PATIENCE)
        frames = list(subscribe(endpoint, "shapes", images=True, timeout=PATIENCE))
        happened = []
        while not happened or happened[-1] != "source_down":
            happened.append(next(told).type)
        assert program.end()[0] == 0
    headers = lines_of(tmp_path / "shapes.masks.jsonl")
    assert [frame.header for frame in frames] == headers
    assert len(headers) == FRAMES
    assert sum(frame.lost for frame in frames) == 0
    for frame in frames:
        for thing in frame.objects:
            rle = thing.rle if encoding == "rle" else pycocotools.mask.frPyObjects(thing.rle, 256, 256)
            assert np.array_equal(thing.mask, pycocotools.mask.decode(rle)), (frame.index, thing.id)
    pictures = sorted((tmp_path / "shapes-frames").glob("*.jpg"))
    assert [frame.jpeg for frame in frames] == [picture.read_bytes() for picture in pictures]
    assert happened.count("track_started") >= 2
    recorded = list(read_recording(tmp_path / "shapes.masks.jsonl"))
    assert [frame.header for frame in recorded] == headers
    assert all(np.array_equal(one.image, two.image) for one, two in zip(frames, recorded, strict=True))


def test_keys_from_files_open_a_daemon_and_others_do_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "curve"
    for more in ((), ("--client", "wall")):
        command = [sys.executable, "-m", "daemon", "keys", "new", "--dir", str(folder), *more]
        subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, timeout=PATIENCE)
    [own] = tmp_path.rglob("wall.key_secret")
    keys = Keys.read(own, folder / "server.key")
    stranger = Keys.read(folder / "server.key_secret", folder / "server.key")
    source = "testsrc://shapes?seed=12&live=1&frames=100000&size=96x96"
    program = Program(source, "--prompt", PROMPTS, MASKCAST_PUBLISH__CURVE_DIR=str(folder))
    try:
        endpoint = program.address("masks")
        frames = subscribe(endpoint, "shapes", keys=keys, timeout=PATIENCE)
        assert isinstance(next(frames), Frame)
        with pytest.raises(KeysError, match="refuses this key: its public half must stand in the daemon's folder"):
            next(subscribe(endpoint, "shapes", keys=stranger, timeout=PATIENCE))
        without = subscribe(endpoint, "shapes", timeout=2)
        with pytest.raises(KeysError, match=r"does not let us in: does it want keys\?"):
            next(without)
        assert "does not let us in: does it want keys?" in caplog.text
    finally:
        program.process.kill()
        program.process.communicate()


def test_ctrl_c_ends_a_waiting_loop_as_it_ends_any_python_program(tmp_path: Path) -> None:
    """KeyboardInterrupt, at once, past the program's own clean-up, and nothing hangs at exit."""
    code = f"""
from maskcast_client import subscribe
try:
    for frame in subscribe("ipc://{tmp_path}/masks", stream="gate"):
        print("a frame")
except KeyboardInterrupt:
    print("ended", flush=True)
"""
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert program.stderr is not None
    program.stderr.readline()  # the hint that nothing comes: the loop waits
    program.send_signal(signal.SIGINT)
    assert program.communicate(timeout=PATIENCE) == ("ended\n", "")
    assert program.returncode == 0


def test_the_import_loads_nothing_heavy() -> None:
    heavy = ("torch", "cv2", "supervision", "pandas", "PIL", "pycocotools", "matplotlib", "scipy")
    code = f"import sys, maskcast_client; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert shown.stdout == "[]\n"
