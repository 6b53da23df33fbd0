"""``maskcast watch``: what a subscriber sees of a real publisher."""

import json
import signal
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import zmq

from daemon.commands import watch
from stages.errors import ConfigError, OutputError, WireError
from stages.output import wire
from stages.output.masks import Masks
from stages.output.wire import Kind
from stages.types import Clock, Frame, Label, Result, StreamEvent, Track, TrackChange, TrackState
from tests.support.program import PATIENCE

JPEG = b"\xff\xd8 a picture \xff\xd9"


class Station:
    """A bound XPUB socket that knows when its subscriber has come."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.XPUB)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.RCVTIMEO, PATIENCE * 1000)
        self.endpoint = f"tcp://127.0.0.1:{self.socket.bind_to_random_port('tcp://127.0.0.1')}"

    def wait(self) -> str:
        """The prefix that the subscriber asked for."""
        message: bytes = self.socket.recv()
        assert message[:1] == b"\x01"
        return message[1:].decode()

    def masks(self, stream: str, seq: int, session: str = "s", **more: object) -> None:
        result = seen(seq)
        masks = Masks.from_full(result.masks.numpy() > 0)
        prompts = ["car", "person"]
        header = wire.masks_header(
            result, masks, stream=stream, session=session, seq=seq, prompts=prompts, published_at=2.0
        )
        self.socket.send_multipart(wire.pack(wire.topic(stream, Kind.MASKS), header | more))

    def event(self, stream: str, seq: int, event: TrackChange | StreamEvent, reason: str) -> None:
        about = {"stream": stream, "session": "s", "epoch": 0, "seq": seq, "published_at": 2.0}
        self.socket.send_multipart(wire.pack(wire.topic(stream, Kind.EVENT), wire.event_header(event, reason, **about)))

    def picture(self, stream: str, seq: int) -> None:
        header = wire.frame_header(seen(seq), stream=stream, session="s", seq=seq, published_at=2.0)
        self.socket.send_multipart(wire.pack(wire.topic(stream, Kind.FRAME), header, JPEG))


def seen(index: int) -> Result:
    """Frame ``index`` with a car, and a person who is hidden."""
    frame = Frame(index, index, Fraction(1, 30), index / 30, Clock.FILE, np.zeros((8, 12, 3), np.uint8))
    tracks = (
        Track(7, 0, 0, index, TrackState.TRACKED, 0.62, 0.99),
        Track(9, 1, 0, 0, TrackState.OCCLUDED, 0.8, 0.01),
        Track(11, None, 0, index, TrackState.NEW, 1.0, 0.9),
    )
    return Result(frame, 0, False, tracks, torch.ones(3, 8, 12), classes=(Label("daylight", 0.93),))


@pytest.fixture
def station() -> Iterator[Station]:
    with zmq.Context() as context:
        station = Station(context)
        yield station
        station.socket.close()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def start(executor: ThreadPoolExecutor, *arguments: str) -> Future[int]:
    """The command, running in a thread."""
    parser = ArgumentParser()
    watch.add_arguments(parser)
    return executor.submit(watch.run, parser.parse_args(arguments))


def test_each_frame_is_a_line_of_ids_prompts_scores_and_classes(
    station: Station, executor: ThreadPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start(executor, station.endpoint, "--count", "2")
    station.wait()
    station.masks("gate", 0)
    station.picture("gate", 0)
    station.masks("gate", 1)
    assert running.result(PATIENCE) == 0
    objects = "7 car 0.62, 9 person 0.80 occluded, 11 object 1.00 new | daylight 0.93"
    assert capsys.readouterr().out == f"gate 0: {objects}\ngate 1: {objects}\n"


def test_stream_narrows_the_subscription_itself(station: Station, executor: ThreadPoolExecutor) -> None:
    running = start(executor, station.endpoint, "--stream", "gate", "--count", "1")
    assert {station.wait(), station.wait()} == {"v1/gate/masks", "v1/gate/event"}
    station.masks("gate", 0)
    assert running.result(PATIENCE) == 0


def test_what_happens_to_a_stream_is_a_line_too_but_not_what_happens_to_its_tracks(
    station: Station, executor: ThreadPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start(executor, station.endpoint, "--stream", "gate", "--count", "1")
    station.wait(), station.wait()
    station.event("gate", 0, TrackChange.STARTED, "detected")
    station.event("gate", 1, StreamEvent.SOURCE_DOWN, "connection refused")
    station.masks("gate", 0)
    assert running.result(PATIENCE) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "gate: source_down: connection refused"
    assert second.startswith("gate 0: ")


def test_json_prints_every_header_as_it_came(
    station: Station, executor: ThreadPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start(executor, station.endpoint, "--json", "--count", "1")
    station.wait()
    station.picture("gate", 0)
    station.masks("gate", 0)
    assert running.result(PATIENCE) == 0
    frame, masks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (frame["schema"], masks["schema"]) == ("maskcast/v1/frame", "maskcast/v1/masks")
    assert masks["objects"][0]["mask"]["size"] == [8, 12]


def test_save_writes_the_annotated_frames_byte_for_byte(
    station: Station, executor: ThreadPoolExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "pictures"
    running = start(executor, station.endpoint, "--save", str(folder), "--stream", "gate", "--count", "2")
    assert {station.wait(), station.wait()} == {"v1/gate/frame", "v1/gate/event"}
    station.picture("gate", 41)
    station.picture("gate", 42)
    assert running.result(PATIENCE) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "gate-000041.jpg": JPEG,
        "gate-000042.jpg": JPEG,
    }
    assert capsys.readouterr().out.splitlines()[1] == str(folder / "gate-000042.jpg")


def test_hole_in_seq_is_reported_as_lost_messages(
    station: Station,
    executor: ThreadPoolExecutor,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_HINT_AFTER", PATIENCE * 1000)  # no hint, however slow the machine is
    running = start(executor, station.endpoint, "--count", "5")
    station.wait()
    for stream, seq, session in (
        ("gate", 5, "a"),
        ("yard", 9, "a"),
        ("gate", 9, "a"),
        ("gate", 2, "b"),
        ("gate", 3, "b"),
    ):
        station.masks(stream, seq, session)
    assert running.result(PATIENCE) == 0
    assert capsys.readouterr().err == "maskcast: gate: 3 masks messages lost before 9\n"


def test_what_an_older_publisher_sends_is_not_shown(
    station: Station, executor: ThreadPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start(executor, station.endpoint, "--count", "3")
    station.wait()
    for seq, session, fence in ((1, "a", 1), (7, "b", 2), (2, "a", 1), (8, "b", 2)):
        station.masks("gate", seq, session, fence=fence)
    assert running.result(PATIENCE) == 0
    shown = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["gate 1", "gate 7", "gate 8"]


def test_folder_that_cannot_be_written_is_an_error(
    station: Station, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    running = start(executor, station.endpoint, "--save", str(tmp_path / "file"))
    station.wait()
    station.picture("gate", 0)
    with pytest.raises(OutputError, match=r"cannot write .*; choose another folder with --save"):
        running.result(PATIENCE)


def test_name_from_the_network_cannot_choose_the_folder(
    station: Station, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    running = start(executor, station.endpoint, "--save", str(tmp_path / "in"))
    station.wait()
    station.picture("../outside", 0)
    with pytest.raises(OutputError, match="no name for a file"):
        running.result(PATIENCE)
    assert not list(tmp_path.iterdir())


def test_other_publisher_is_an_error(station: Station, executor: ThreadPoolExecutor) -> None:
    running = start(executor, station.endpoint)
    station.wait()
    station.socket.send_multipart([b"v1/weather", b"rain"])
    with pytest.raises(WireError, match="is this a maskcast endpoint"):
        running.result(PATIENCE)


@pytest.mark.parametrize("arguments", [["127.0.0.1:5555"], ["tcp://nowhere"], ["--count", "0"]])
def test_wrong_argument_is_a_configuration_error(executor: ThreadPoolExecutor, arguments: list[str]) -> None:
    with pytest.raises(ConfigError):
        start(executor, *arguments).result(PATIENCE)


def test_a_stream_that_is_not_there_is_told_with_the_nearest_and_may_still_come(
    station: Station, executor: ThreadPoolExecutor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_HINT_AFTER", 1)
    monkeypatch.setattr(watch, "_LOOK", 2000)
    running = start(executor, station.endpoint, "--stream", "gatte", "--count", "1")
    assert {station.wait() for _ in range(3)} == {"v1/gatte/masks", "v1/gatte/event", "v1/"}
    for stream in ("yard", "gate"):
        station.masks(stream, 0)
    assert station.socket.recv() == b"\x00v1/"
    station.masks("gatte", 0)
    assert running.result(PATIENCE) == 0
    shown = capsys.readouterr()
    told = f"no stream gatte at {station.endpoint} yet; there are gate, yard; did you mean gate?"
    assert shown.err == f"maskcast: {told}\n"
    assert shown.out.startswith("gatte 0: ")


@pytest.mark.process
def test_silence_is_explained_and_interrupt_ends_with_success() -> None:
    command = [sys.executable, "-m", "daemon", "watch", "tcp://127.0.0.1:9"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    hint = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=PATIENCE)
    assert hint == "maskcast: nothing from tcp://127.0.0.1:9 yet; does `maskcast run` publish there?\n"
    assert (process.returncode, out, rest) == (0, "", "")
