"""maskcast-client for Node: the golden pixels, losses, restarts, pictures, keys, and a real daemon."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from stages.output.curve_keys import key_pair, new_client, new_server, server_public
from stages.output.publisher import Publisher
from tests.clients import golden
from tests.clients.clients import CLIENTS
from tests.clients.golden import Station, event_message, frame_message, masks_message
from tests.clients.javascript.node import installed, running
from tests.support.program import PATIENCE, Program, lines_of, wait_until

pytestmark = pytest.mark.process

SESSION, OTHER = "5d0c8a1e-3f52-4b7a-9c11-2e6f8d40b7a3", "c2b7e9f4-81d6-4e03-a5b8-7f1d9a60c3e5"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("node"))


@pytest.fixture
def station() -> Iterator[Station]:
    with golden.station() as publisher:
        yield publisher


def pixels(mask: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(mask["mask"]), np.uint8).reshape(mask["size"]) > 0


def test_every_golden_mask_has_the_pixels_of_its_picture(place: Path, station: Station) -> None:
    with running(place, station.endpoint, stream="golden") as program:
        station.heard("v1/golden/masks")
        names = [entry["name"] for entry in golden.INDEX if (entry["kind"], entry["stream"]) == ("masks", "golden")]
        found = []
        for name in names:
            station.send(golden.parts_of(name))
            found += program.next()["masks"]
    expected = [mask for name, _, mask in golden.masks() if name.rpartition("-")[0] in names]
    assert len(expected) > 100
    for mask, picture in zip(found, expected, strict=True):
        assert np.array_equal(pixels(mask), picture)
        rows, columns = np.nonzero(picture)
        crop = mask["crop"]
        assert crop["pixels"] == crop["width"] * crop["height"]
        if rows.size:
            assert (crop["x"], crop["y"]) == (columns.min(), rows.min())
            assert (crop["width"], crop["height"]) == (np.ptp(columns) + 1, np.ptp(rows) + 1)


def test_losses_restarts_and_the_end_of_a_file_are_told(place: Path, station: Station) -> None:
    with running(place, station.endpoint, stream=["gate", "yard"], timeout=PATIENCE) as program:
        station.heard("v1/yard/masks")
        station.send(masks_message(session=SESSION, seq=1), masks_message(session=SESSION, seq=4))
        station.send(masks_message(session=OTHER, seq=5), masks_message("gate-2"), masks_message("yard", seq=9))
        station.send(event_message("gate"), event_message("yard"))
        *frames, end = program.rest()
    assert end == "end"
    told = [(frame["stream"], frame["lost"], frame["restarted"]) for frame in frames]
    assert told == [("gate", 0, False), ("gate", 2, False), ("gate", 5, True), ("yard", 0, False)]


def test_what_an_older_publisher_sends_is_dropped_from_the_first_newer_message_on(
    place: Path, station: Station
) -> None:
    with running(place, station.endpoint, stream="gate", timeout=PATIENCE) as program:
        station.heard("v1/gate/masks")
        old, new = {"session": SESSION, "fence": 4}, {"session": OTHER, "fence": 6, "predecessor": SESSION}
        station.send(masks_message(seq=0, **old), event_message(kind="source_up", seq=0, **new))
        station.send(masks_message(seq=1, **old), masks_message(seq=0, **new), event_message(seq=3, **old))
        station.send(masks_message(seq=2, session=SESSION), event_message(seq=1, **new))
        *frames, _ = program.rest()
    told = [(frame["seq"], frame["fence"], frame["predecessor"]) for frame in frames]
    assert told == [(0, 4, None), (0, 6, SESSION), (2, None, None)]


def test_pictures_are_joined_by_seq(place: Path, station: Station) -> None:
    with running(place, station.endpoint, stream="gate", images=True) as program:
        station.heard("v1/gate/masks")
        of = {"session": SESSION}
        station.send(masks_message(seq=0), frame_message(seq=0, jpeg=b"zero", **of), masks_message(seq=1))
        station.send(masks_message(seq=2), frame_message(seq=1, jpeg=b"late", **of), event_message())
        *frames, _ = program.rest()
    pictures = [frame["jpeg"] and base64.b64decode(frame["jpeg"]) for frame in frames]
    assert pictures == [b"zero", None, None]


def test_events_come_without_masks(place: Path, station: Station) -> None:
    with running(place, station.endpoint, "events", stream="gate") as program:
        station.heard("v1/gate/event")
        station.send(event_message(kind="track_started", track=4, prompt="car", seq=3), event_message(seq=6))
        first, second = program.next(), program.next()
    assert (first["type"], first["track"], first["prompt"], first["lost"]) == ("track_started", 4, "car", 0)
    assert (second["type"], second["lost"]) == ("source_down", 2)


@pytest.mark.parametrize(
    ("message", "error", "says"),
    [
        ([b"v2/gate/masks", b"{}"], "VersionError", "version 2 of the mask stream"),
        ([b"v1/gate/masks", b'{"schema": "maskcast/v3/masks"}'], "VersionError", "version 3 of the mask stream"),
        ([b"v1/gate/masks", b"\xff"], "MessageError", "is this a maskcast daemon?"),
        ([b"v1/gate/masks"], "MessageError", "is this a maskcast daemon?"),
        (masks_message(objects=[{"mask": {"size": [2, 2], "counts": [5]}}]), "MessageError", "do not fill"),
        (masks_message(objects=[{"mask": {"size": [2, 2], "counts": "oooooooooo"}}]), "MessageError", "do not fill"),
    ],
)
def test_what_cannot_be_read_is_an_error(
    message: list[bytes], error: str, says: str, place: Path, station: Station
) -> None:
    with running(place, station.endpoint, stream="gate") as program:
        station.heard("v1/gate/masks")
        station.send(message)
        [thrown] = program.rest()
    assert thrown["error"] == error
    assert says in thrown["message"]


def test_silence_and_wrong_arguments_are_errors(place: Path, station: Station) -> None:
    for endpoint, options, error in (
        (station.endpoint, {"stream": "gate", "timeout": 0.2}, "NothingReceivedError"),
        ("gpu:5555", {}, "MaskcastError"),
        (station.endpoint, {"stream": "gate/masks"}, "MaskcastError"),
        (station.endpoint, {"keys": {"server": "x", "public": "y", "secret": "z"}}, "KeysError"),
    ):
        with running(place, endpoint, **options) as program:
            assert [thrown["error"] for thrown in program.rest()] == [error]


def test_keys_open_a_daemon_and_others_are_refused(place: Path, tmp_path: Path) -> None:
    new_server(tmp_path)
    _, own = new_client(tmp_path, "wall", tmp_path)
    server = server_public(tmp_path / "server.key").decode()
    right, wrong = ([key.decode() for key in key_pair(path, "")] for path in (own, tmp_path / "server.key_secret"))
    publisher = Publisher(f"ipc://{tmp_path}/masks", curve_dir=tmp_path)
    try:
        for pair, first in ((right, 0), (wrong, "KeysError")):
            keys = {"server": server, "public": pair[0], "secret": pair[1]}
            with running(place, f"ipc://{tmp_path}/masks", stream="gate", keys=keys) as program:
                if pair is right:
                    wait_until(lambda: publisher.wants(b"v1/gate/masks"))
                    publisher.send(masks_message(seq=0))
                shown = program.next()
                assert shown.get("error", shown.get("seq")) == first
    finally:
        publisher.close()


def test_a_live_daemon_is_read_to_the_end_of_its_file(place: Path, tmp_path: Path) -> None:
    settings = {"MASKCAST_PUBLISH__WAIT_FOR": "1", "MASKCAST_PUBLISH__WHEN_FULL": "wait"}
    source = "testsrc://shapes?seed=12&frames=20&size=256x256"
    daemon = Program(source, "--prompt", "purple star, red circle", "--record", str(tmp_path), "--frames", **settings)
    with ExitStack() as stack:
        stack.callback(daemon.process.kill)
        program = stack.enter_context(running(place, daemon.address("masks"), stream="shapes", images=True))
        *frames, end = program.rest()
        assert daemon.end()[0] == 0
    assert end == "end"
    assert [frame["header"] for frame in frames] == lines_of(tmp_path / "shapes.masks.jsonl")
    assert all(pixels(mask).sum() == mask["area"] for frame in frames for mask in frame["masks"])
    pictures = sorted((tmp_path / "shapes-frames").glob("*.jpg"))
    assert [base64.b64decode(frame["jpeg"]) for frame in frames] == [picture.read_bytes() for picture in pictures]


def test_the_types_fit_a_program_and_refuse_a_wrong_one(place: Path) -> None:
    """The README's program, by tsc --strict; and every field that the types name is there."""
    [example] = [block for block in readme_blocks() if "subscribe(" in block]
    (place / "example.ts").write_text(example.replace('"maskcast-client"', '"./index.js"'))
    checked = check_types(place, "example.ts")
    assert checked.returncode == 0, checked.stdout
    (place / "wrong.ts").write_text(
        'import { subscribe } from "./index.js";\nsubscribe("tcp://x", { strem: "gate" });\n'
    )
    assert "strem" in check_types(place, "wrong.ts").stdout


def check_types(place: Path, program: str) -> "subprocess.CompletedProcess[str]":
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2023,dom"]
    command = [str(place / "node_modules" / ".bin" / "tsc"), *options, program]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=PATIENCE)


def readme_blocks() -> list[str]:
    text = (CLIENTS / "README.md").read_text()
    return [block.split("```")[0] for block in text.split("```javascript\n")[1:]]


def test_the_package_holds_what_it_imports(place: Path) -> None:
    npm = shutil.which("npm")
    assert npm
    shown = subprocess.run([npm, "pack", "--dry-run", "--json"], cwd=place, capture_output=True, text=True, check=True)
    [packed] = json.loads(shown.stdout)
    files = {file["path"] for file in packed["files"]}
    there = {path.name for path in (CLIENTS / "javascript").iterdir() if path.suffix in {".js", ".ts"}}
    assert there <= files
