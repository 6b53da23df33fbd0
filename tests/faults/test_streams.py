"""Streams that break, and a window that fails: the others lose nothing, and the stream itself goes on."""

import json
from pathlib import Path

import pytest
import zmq

from daemon.cli.progress import ProgressLines
from daemon.service.build import build
from daemon.settings.schema import Settings
from stages.testsrc.world import ShapesWorld
from stages.tracking.tracker import Tracker
from tests.support.media import write_video
from tests.support.program import PATIENCE, Program, get, lines_of, pictures_in, wait_until

pytestmark = pytest.mark.process  # most of these tests

FRAMES = 20
GOOD = 6
WAITS = {"MASKCAST_PUBLISH__WAIT_FOR": "1", "MASKCAST_PUBLISH__WHEN_FULL": "wait"}


def clip(path: Path, seed: int) -> Path:
    world = ShapesWorld(seed, 128, 96)
    return write_video(path, [world.render(t)[0] for t in range(FRAMES)], codec_options={"g": "5"})


def test_of_eight_streams_two_are_broken_and_six_lose_nothing(tmp_path):
    """One file is missing and one is cut before its index; every frame of the six is recorded once and in order."""
    good = [clip(tmp_path / f"good-{number}.mp4", number) for number in range(GOOD)]
    cut = clip(tmp_path / "cut.mp4", 9)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    sources = [*good[:3], tmp_path / "missing.mp4", cut, *good[3:]]
    out = tmp_path / "out"
    program = Program(*map(str, sources), "--prompt", "red circle", "--record", str(out))
    code, said, wrong = program.end()
    assert code == 1
    assert sorted(line.partition(": cannot open ")[0] for line in wrong) == [
        "maskcast: error: stream cut",
        "maskcast: error: stream missing",
    ]
    for path in good:
        lines = lines_of(out / f"{path.stem}.masks.jsonl")
        assert [(line["frame"], line["seq"], line["dropped_before"]) for line in lines] == [
            (t, t, 0) for t in range(FRAMES)
        ]
        assert pictures_in(out / f"{path.stem}.mp4") == FRAMES
        assert f"{path.stem}: {FRAMES} frames" in said
    assert not list(out.glob("missing*")) + list(out.glob("cut*"))


def test_a_stream_damaged_in_the_middle_ends_with_what_it_has_and_the_others_lose_nothing(tmp_path):
    """Zeros in place of a third of a transport stream are counted, and its recording says where frames are missing."""
    good, damaged = clip(tmp_path / "good.mp4", 1), clip(tmp_path / "damaged.ts", 2)
    data = bytearray(damaged.read_bytes())
    third = len(data) // 3 // 188 * 188
    data[third : 2 * third] = bytes(third)
    damaged.write_bytes(data)
    code, _, wrong = Program(str(damaged), str(good), "--prompt", "red circle", "--record", str(tmp_path / "out")).end()
    assert (code, wrong) == (0, [])
    assert [line["frame"] for line in lines_of(tmp_path / "out" / "good.masks.jsonl")] == list(range(FRAMES))
    rest = lines_of(tmp_path / "out" / "damaged.masks.jsonl")
    expected = 0
    for line in rest:
        assert line["frame"] == expected + line["dropped_before"]
        expected = line["frame"] + 1
    assert 0 < len(rest) < FRAMES
    assert sum(line["dropped_before"] for line in rest) > 0


def test_a_second_daemon_on_the_same_ports_gives_up_and_the_first_loses_nothing(tmp_path):
    """It says in one line which port is in use."""
    first = Program(
        str(clip(tmp_path / "clip.mp4", 1)), "--prompt", "red circle", "--record", str(tmp_path / "out"), **WAITS
    )
    masks, metrics = first.address("masks"), first.address("metrics")
    wait_until(lambda: get(metrics.replace("/metrics", "/readyz"))[0] == 200)
    http = metrics.removeprefix("http://").removesuffix("/metrics")
    for flags in (("--publish", masks), ("--http", http)):
        code, _, [wrong] = Program("testsrc://shapes", "--prompt", "red circle", *flags).end()
        assert code == 1
        assert flags[1] in wrong
        assert "in use" in wrong
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.connect(masks)
        socket.subscribe("")  # the first one waits for it
        while json.loads(socket.recv_multipart()[1]).get("type") != "source_down":
            pass
    assert (first.end()[0], len(lines_of(tmp_path / "out" / "clip.masks.jsonl"))) == (0, FRAMES)


WIDE = 288  # pixels, of the stream that breaks
FAULT = range(16, 24)  # the window that fails


def shapes(name: str, width: int) -> dict:
    """A stream of the test source, looking for what it shows."""
    labels = dict.fromkeys(ShapesWorld(4, width, 256).labels)
    return {"name": name, "source": f"testsrc://shapes?seed=4&frames=40&size={width}x256", "prompts": [*labels]}


def service_settings(endpoint: str, folder: Path) -> Settings:
    return Settings(
        models={"detector": "embedded", "segmenter": "embedded", "device": "cpu"},
        detection={"share": 0},  # windows of 8 frames, whatever is found
        publish={"endpoint": endpoint, "wait_for": 1, "when_full": "wait"},
        http={"listen": "127.0.0.1:0"},
        record={"dir": str(folder)},
        streams=[shapes("faulty", WIDE), shapes("sound", 256)],
    )


def break_one_window(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    step = Tracker.step

    def broken(self, window, detections):
        first = window.frames[0]
        if first.index == FAULT.start and first.image.shape[1] == WIDE:
            raise error
        return step(self, window, detections)

    monkeypatch.setattr(Tracker, "step", broken)


def test_a_stage_that_raises_on_one_window_costs_that_window_only_and_identities_go_on(tmp_path, monkeypatch):
    """The loss is counted, told by an event and by the next frame, and the tracks after it are those before it."""
    endpoint = f"ipc://{tmp_path}/masks"
    break_one_window(monkeypatch, RuntimeError("a kernel failed"))
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set(zmq.RCVHWM, 0)
        socket.subscribe("v1/faulty/event")
        socket.connect(endpoint)
        service = build(service_settings(endpoint, tmp_path))
        assert service.run(ProgressLines()) == 0
        socket.set(zmq.RCVTIMEO, PATIENCE * 1000)
        events = [json.loads(socket.recv_multipart()[1])]
        while events[-1]["type"] != "source_down":
            events.append(json.loads(socket.recv_multipart()[1]))
    told = [event["reason"] for event in events if event["type"] == "error"]
    assert told == ["RuntimeError: a kernel failed"]
    assert {name: stream.metrics.drops for name, stream in service.streams.items()} == {
        "faulty": len(FAULT),
        "sound": 0,
    }
    faulty, sound = (lines_of(tmp_path / f"{name}.masks.jsonl") for name in ("faulty", "sound"))
    assert [line["frame"] for line in sound] == list(range(40))
    assert [line["frame"] for line in faulty] == [t for t in range(40) if t not in FAULT]
    by_frame = {line["frame"]: line for line in faulty}
    assert by_frame[FAULT.stop]["dropped_before"] == len(FAULT)
    before, after = (
        {thing["id"]: thing["prompt"] for thing in by_frame[t]["objects"]} for t in (FAULT.start - 1, FAULT.stop)
    )
    assert len(before) >= 3
    assert after == before
    assert {line["session"] for line in faulty} == {faulty[0]["session"]}
