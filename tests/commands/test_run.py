"""``maskcast run``: the real program, real subscribers, real files, real signals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import pytest

from stages.recording.segment import videos
from stages.stop_signals import SAME_REQUEST
from stages.testsrc.world import ShapesWorld
from tests.support.media import http_server, write_video
from tests.support.program import PATIENCE, Program, deaf_subscriber, get, lines_of, pictures_in, recorded, wait_until

pytestmark = pytest.mark.process

FRAMES = 20
NAMES = [*dict.fromkeys(ShapesWorld(0, 128, 128).labels)]  # of what the test source shows
WRITTEN = [name.title() for name in NAMES]
WAITS = {"MASKCAST_PUBLISH__WAIT_FOR": "1", "MASKCAST_PUBLISH__WHEN_FULL": "wait"}
SHAPES = f"testsrc://shapes?frames={FRAMES}&size=128x128"

# Receives all there is until every stream named in argv[2:] says that its source is down; prints topic and header.
SUBSCRIBER = """
import json, sys, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.setsockopt(zmq.RCVTIMEO, 600_000)
socket.subscribe("v1/")
socket.connect(sys.argv[1])
waiting = set(sys.argv[2:])
while waiting:
    topic, header, *blobs = socket.recv_multipart()
    header = json.loads(header)
    print(json.dumps([topic.decode(), header, [blob[:2].hex() + blob[-2:].hex() for blob in blobs]]), flush=True)
    if header.get("type") == "source_down":
        waiting.discard(header["stream"])
"""


class Broadcast:
    """One run over two files, as a subscriber, a scraper and the disk saw it."""

    def __init__(self, folder: Path) -> None:
        world = ShapesWorld(3, 160, 96)
        clip = write_video(folder / "clip.mp4", [world.render(index)[0] for index in range(FRAMES)])
        self.record = folder / "out"
        prompts = ("--prompt", ", ".join(WRITTEN) + ".")
        program = Program(
            SHAPES, str(clip), *prompts, "--every", "10", "--record", str(self.record), "--frames", **WAITS
        )
        endpoint, self.metrics_url = program.address("masks"), program.address("metrics")
        ready = self.metrics_url.replace("/metrics", "/readyz")
        wait_until(lambda: get(ready)[0] == 200)
        self.idle = get(self.metrics_url)[1]  # the files wait for a subscriber
        subscriber = [sys.executable, "-c", SUBSCRIBER, endpoint, "shapes", "clip"]
        done = subprocess.run(subscriber, capture_output=True, text=True, timeout=PATIENCE, check=True)
        self.messages: dict[str, list[tuple[dict[str, Any], list[str]]]] = defaultdict(list)
        for topic, header, blobs in map(json.loads, done.stdout.splitlines()):
            self.messages[topic].append((header, blobs))
        self.code, self.out, self.wrong = program.end()

    def headers(self, topic: str) -> list[dict[str, Any]]:
        return [header for header, _ in self.messages[topic]]


@pytest.fixture(scope="module")
def broadcast(tmp_path_factory: pytest.TempPathFactory) -> Broadcast:
    return Broadcast(tmp_path_factory.mktemp("broadcast"))


BOTH = pytest.mark.parametrize("stream", ["shapes", "clip"])


@BOTH
def test_every_frame_of_a_file_arrives_once_and_in_order(broadcast, stream):
    masks = broadcast.headers(f"v1/{stream}/masks")
    assert [header["frame"] for header in masks] == list(range(FRAMES))
    assert [header["seq"] for header in masks] == list(range(FRAMES))
    assert {header["dropped_before"] for header in masks} == {0}


@BOTH
def test_keyframes_come_when_they_are_due(broadcast, stream):
    masks = broadcast.headers(f"v1/{stream}/masks")
    assert [header["frame"] for header in masks if header["keyframe"]] == [0, 10]


@BOTH
def test_an_annotated_frame_is_a_jpeg_and_carries_the_seq_of_its_masks(broadcast, stream):
    pictures = broadcast.messages[f"v1/{stream}/frame"]
    assert [header["seq"] for header, _ in pictures] == list(range(FRAMES))
    assert [header["frame"] for header, _ in pictures] == list(range(FRAMES))
    assert {blob for _, [blob] in pictures} == {"ffd8ffd9"}  # how a JPEG starts and ends


@BOTH
def test_a_stream_says_when_its_source_is_up_and_down_and_events_have_no_holes(broadcast, stream):
    events = broadcast.headers(f"v1/{stream}/event")
    assert events[0]["type"] == "source_up"
    assert (events[-1]["type"], events[-1]["reason"]) == ("source_down", "the source has ended")
    assert [event["seq"] for event in events] == list(range(len(events)))


@BOTH
def test_the_recording_holds_the_published_masks_and_every_picture(broadcast, stream):
    assert lines_of(broadcast.record / f"{stream}.masks.jsonl") == broadcast.headers(f"v1/{stream}/masks")
    assert pictures_in(broadcast.record / f"{stream}.mp4") == FRAMES
    assert len(list((broadcast.record / f"{stream}-frames").glob("*.jpg"))) == FRAMES


def test_objects_are_found_and_keep_to_the_prompts_as_written(broadcast):
    found = {item["prompt"] for header in broadcast.headers("v1/shapes/masks") for item in header["objects"]}
    assert found
    assert found <= set(WRITTEN)


def test_sessions_differ_between_streams_and_stay_within_one(broadcast):
    sessions = {t: {header["session"] for header in broadcast.headers(f"v1/{t}/masks")} for t in ("shapes", "clip")}
    assert all(len(ids) == 1 for ids in sessions.values())
    assert sessions["shapes"] != sessions["clip"]


def test_files_wait_for_the_subscribers_that_were_asked_for(broadcast):
    for stream in ("shapes", "clip"):
        assert f'maskcast_frames_total{{stage="published",stream="{stream}"}} 0.0' in broadcast.idle
        assert f'maskcast_source_up{{stream="{stream}"}} 1.0' in broadcast.idle
    assert "maskcast_subscribers 0.0" in broadcast.idle


def test_models_that_are_loaded_say_how_long_it_took(broadcast):
    assert 'maskcast_model_load_seconds{model="segmenter"} 0.0\n' not in broadcast.idle
    for part in ("imports", "models"):
        assert f'maskcast_start_seconds{{part="{part}"}} ' in broadcast.idle
        assert f'maskcast_start_seconds{{part="{part}"}} 0.0\n' not in broadcast.idle
    assert 'maskcast_build_info{decoder="software",device="cpu"' in broadcast.idle


def test_the_end_of_all_files_is_the_end_of_the_program(broadcast):
    assert (broadcast.code, broadcast.wrong) == (0, [])
    for stream in ("shapes", "clip"):
        assert f"{stream}: {FRAMES} frames, " in broadcast.out


class Live:
    """One live stream, faster than the machine, until a signal ends it."""

    def __init__(self, folder: Path) -> None:
        source = "testsrc://shapes?live=1&fps=900&size=96x96"
        program = Program(source, "--prompt", "red circle", "--record", str(folder), "--json")
        wait_until(lambda: segment_lines(folder) and segment_lines(folder)[0].read_text().count("\n") > 20)
        program.process.send_signal(signal.SIGTERM)
        self.code, self.out, self.wrong = program.end()
        [self.video], [self.lines] = videos(folder, "shapes"), segment_lines(folder)


def segment_lines(folder: Path) -> list[Path]:
    return [*folder.glob("shapes/*/*.masks.jsonl")]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    return Live(tmp_path_factory.mktemp("live"))


def test_a_signal_ends_a_live_stream_well_and_closes_its_recording(live):
    late = "maskcast: warning: not all results could leave within 5 s; the rest is dropped"  # on a busy machine
    assert (live.code, [line for line in live.wrong if line != late]) == (0, [])
    assert pictures_in(live.video) == len(lines_of(live.lines)) > 20


def test_frames_that_a_busy_daemon_drops_are_told_by_the_next_one(live):
    frames = lines_of(live.lines)
    assert sum(header["dropped_before"] for header in frames) > 0
    gone = -1
    for header in frames:
        assert header["frame"] == gone + 1 + header["dropped_before"]
        gone = header["frame"]


def test_with_json_stdout_is_one_object_and_counts_what_was_dropped(live):
    [stream] = json.loads(live.out)["streams"]
    assert stream["name"] == "shapes"
    assert stream["frames"] == len(lines_of(live.lines))
    assert stream["dropped"] >= sum(header["dropped_before"] for header in lines_of(live.lines))
    assert stream["error"] is None


def test_a_stream_that_breaks_is_one_line_and_the_others_go_on(tmp_path):
    program = Program(str(tmp_path / "missing.mp4"), SHAPES, "--prompt", "red circle", "--record", str(tmp_path))
    code, out, [wrong] = program.end()
    assert code == 1
    assert wrong.startswith("maskcast: error: stream missing: cannot open ")
    assert len(lines_of(tmp_path / "shapes.masks.jsonl")) == FRAMES
    assert f"shapes: {FRAMES} frames" in out


def test_a_second_signal_leaves_at_once(tmp_path):
    lines, seen = tmp_path / "shapes.masks.jsonl", [0]

    def is_stuck() -> bool:
        """The writer has begun and then waited for two seconds for the subscriber that never reads."""
        time.sleep(2)
        seen.append(lines.read_text().count("\n") if lines.exists() else 0)
        return seen[-1] == seen[-2] > 0

    with deaf_subscriber(tmp_path) as endpoint:
        places = ("--publish", endpoint, "--record", str(tmp_path))
        program = Program(
            "testsrc://shapes?size=640x480", "--prompt", "red circle", *places, **WAITS, MASKCAST_PUBLISH__SEND_HWM="1"
        )
        wait_until(is_stuck)
        program.process.send_signal(signal.SIGTERM)
        time.sleep(SAME_REQUEST + 0.5)
        assert program.process.poll() is None, "it ended without waiting for the subscriber"
        program.process.send_signal(signal.SIGTERM)
        assert program.end()[0] == 128 + signal.SIGTERM


def test_a_live_test_source_with_a_length_ends_the_program_when_it_is_over():
    program = Program("testsrc://shapes?live=1&frames=10&size=64x64", "--prompt", "red circle")
    code, _, wrong = program.end()
    assert (code, wrong) == (0, [])


def test_a_source_that_is_not_there_is_told_before_the_models_are_loaded(tmp_path):
    """The process ends although the detector, which would have to be downloaded, never came."""
    missing = str(tmp_path / "absent.mp4")
    program = Program(missing, "--prompt", "car", "--detector", "nobody/has-this")
    code, _, [line] = program.end()
    assert code == 1
    assert missing in line


def test_pictures_and_a_cameras_snapshots_run_side_by_side_and_max_fps_leaves_out_frames(tmp_path):
    """Also where a file's name is not UTF-8."""
    world = ShapesWorld(3, 160, 96)
    pictures = [cv2.imencode(".png", world.render(index)[0][..., ::-1])[1].tobytes() for index in range(FRAMES)]
    (tmp_path / "frames").mkdir()
    for index, picture in enumerate(pictures):
        (tmp_path / "frames" / f"{index + 7}.png").write_bytes(picture)
    (tmp_path / "frames" / "9.png").write_bytes(b"damaged")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    shutil.copy(write_video(tmp_path / "plain.mp4", [world.render(index)[0] for index in range(FRAMES)]), odd)
    asked = []

    def snapshot(request):
        picture = pictures[len(asked) % FRAMES]
        asked.append(request.path)
        request.send_response(200)
        request.send_header("Content-Type", "image/png")
        request.send_header("Content-Length", str(len(picture)))
        request.end_headers()
        request.wfile.write(picture)

    record = tmp_path / "out"
    with http_server(snapshot) as place:
        program = Program(
            f"{tmp_path}/frames/%d.png", odd, f"http://{place}/snap.png?key=hush", "--prompt", NAMES[0],
            "--record", str(record), MASKCAST_TRACKING__MAX_FPS="5",
        )  # fmt: skip
        files = [record / f"{name}.masks.jsonl" for name in ("frames", "caf")]
        wait_until(lambda: all(file.exists() and len(lines_of(file)) >= 4 for file in files))
        wait_until(lambda: len(recorded(record, "127.0.0.1-snap")) >= 4)
        program.process.send_signal(signal.SIGTERM)
        code, said, wrong = program.end()
    assert code == 0
    assert "hush" not in said
    assert len(wrong) == 1
    assert "9.png" in wrong[0]
    stills, clip = map(lines_of, files)
    live = recorded(record, "127.0.0.1-snap")
    for lines in (stills, clip):
        assert [(line["frame"], line["dropped_before"]) for line in lines] == [(0, 0), (5, 4), (10, 4), (15, 4)]
        assert [line["captured_at"] for line in lines] == pytest.approx([0, 0.2, 0.4, 0.6])
    assert {line["clock"] for line in live} == {"arrival"}
    assert {line["epoch"] for line in live} == {0}
    assert len(live) <= len(asked)
