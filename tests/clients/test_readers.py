"""The readers of deploy/clients/readers: ten lines each, and the same pixels as everybody else's."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import pytest
import zmq

from tests.clients.clients import READERS, SOURCES, build, reading
from tests.golden.make import FOLDER
from tests.golden.scenes import FOREIGN, MOVED, STREAM
from tests.support.program import PATIENCE, Program

pytestmark = pytest.mark.process  # most of these tests

INDEX = json.loads((FOLDER / "index.json").read_text())
LANGUAGES = list(SOURCES)
FRAMES = 30


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where each reader has been built, filled as they are."""
    return {}


@pytest.fixture(scope="module")
def place(language: str, places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(language, places, tmp_path_factory)


def built(language: str, places: dict[str, Path], folders: pytest.TempPathFactory) -> Path:
    if language not in places:
        places[language] = build(language, folders.mktemp("client"))
    return places[language]


@pytest.fixture
def station() -> Iterator["zmq.Socket[bytes]"]:
    """A publisher that hears who subscribes."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.set(zmq.LINGER, 0)
        socket.bind("tcp://127.0.0.1:0")
        yield socket


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_reader_has_at_most_ten_lines(language: str) -> None:
    """Blank lines and those with nothing but a closing brace do not count; nobody can read lines of 120 characters."""
    lines = (READERS / language / SOURCES[language]).read_text().splitlines()
    assert len([line for line in lines if line.strip() not in ("", "}")]) <= 10
    assert max(map(len, lines)) < 120


@pytest.mark.parametrize("stream", [STREAM, FOREIGN, MOVED])
def test_a_reader_counts_the_pixels_of_every_golden_mask(
    language: str, place: Path, stream: str, station: "zmq.Socket[bytes]"
) -> None:
    """In both encodings, and whatever else is published; the last message only says that there are no more."""
    endpoint = station.get_string(zmq.LAST_ENDPOINT)
    with reading(language, place, endpoint, stream) as reader:
        assert station.recv() == b"\x01" + f"v1/{stream}/masks".encode()
        expected = []
        for entry in INDEX:
            parts = [(FOLDER / part).read_bytes() for part in entry["parts"]]
            station.send_multipart(parts)
            if (entry["stream"], entry["kind"]) == (stream, "masks"):
                expected += areas(json.loads(parts[1]), entry["masks"])
        end = {"frame": -1, "objects": [{"id": 0, "mask": {"size": [1, 1], "counts": [0, 1]}}]}
        station.send_multipart([f"v1/{stream}/masks".encode(), json.dumps(end).encode()])
        assert reader.until("-1 0 1") == expected
        assert expected


def areas(header: dict, pictures: dict[str, str]) -> list[str]:
    """What a reader has to print, from the pictures."""
    count = {
        number: (cv2.imread(str(FOLDER / file), cv2.IMREAD_UNCHANGED) > 0).sum() for number, file in pictures.items()
    }
    return [f"{header['frame']} {thing['id']} {count[str(thing['id'])]}" for thing in header["objects"]]


@pytest.mark.parametrize("encoding", ["rle", "counts"])
def test_readers_of_a_live_daemon_print_the_areas_of_the_reference_reader(
    encoding: str, places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All at once, on one daemon that waits for them and drops nothing."""
    ready = {name: built(name, places, tmp_path_factory) for name in LANGUAGES}
    publish = {"WAIT_FOR": str(len(ready) + 1), "WHEN_FULL": "wait", "MASK_ENCODING": encoding}
    settings = {f"MASKCAST_PUBLISH__{key}": value for key, value in publish.items()}
    source = f"testsrc://shapes?seed=12&frames={FRAMES}&size=256x256"
    program = Program(source, "--prompt", "purple star, orange star, red triangle, red circle", **settings)
    with ExitStack() as stack:
        stack.callback(program.process.kill)
        endpoint = program.address("masks")
        readers = {name: stack.enter_context(reading(name, place, endpoint, "shapes")) for name, place in ready.items()}
        watch = [sys.executable, "-m", "daemon", "watch", endpoint, "--stream", "shapes", "--json"]
        done = subprocess.run(
            [*watch, "--count", str(FRAMES)], capture_output=True, text=True, check=True, timeout=PATIENCE
        )
        headers = [json.loads(line) for line in done.stdout.splitlines()]
        masks = [header for header in headers if header["schema"] == "maskcast/v1/masks"]
        expected = [
            f"{header['frame']} {thing['id']} {thing['area']}" for header in masks for thing in header["objects"]
        ]
        assert len(expected) >= 2 * FRAMES
        assert {type(thing["mask"]["counts"]).__name__ for header in masks for thing in header["objects"]} == {
            {"rle": "str", "counts": "list"}[encoding]
        }
        for name, reader in readers.items():
            assert reader.lines(len(expected)) == expected, name
        assert program.end()[0] == 0
