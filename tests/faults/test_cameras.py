"""Cameras that fail, with the real daemon, a real RTSP server and real sockets."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from stages.source.source import open_source
from stages.testsrc.world import ShapesWorld
from tests.faults.subscriber import Subscriber, subscribed, whole
from tests.support.clip import make_clip
from tests.support.program import Program, get
from tests.support.rtsp import RtspServer, frameless_server, needs_rtsp_server, silent_server

SECRET = "hush-9f3"

pytestmark = [pytest.mark.process, needs_rtsp_server]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "small.mp4")


@contextmanager
def daemon(folder: Path, **sources: str) -> Iterator[tuple[Program, Subscriber, str]]:
    """The program on its streams, a subscriber, and where its metrics are. It must end well when it is told to."""
    file = folder / "maskcast.toml"
    streams = [f"[[streams]]\nname = {json.dumps(n)}\nsource = {json.dumps(s)}\n" for n, s in sources.items()]
    # a camera that connects sends a burst, and a busy machine's subscriber may be late
    publish = "[publish]\nsend_hwm = 2000\n"
    file.write_text(publish + "".join(f'{stream}prompts = ["red circle"]\n' for stream in streams))
    program = Program("--config", str(file))
    try:
        masks, metrics = program.address("masks"), program.address("metrics")
        with subscribed(masks) as subscriber:
            yield program, subscriber, metrics
            program.process.send_signal(signal.SIGTERM)
            code, said, wrong = program.end()
            assert code == 0
            assert not [line for line in wrong if "warning" not in line]
            assert SECRET not in said + str(wrong)
    finally:
        program.process.kill()


def value(metrics: str, name: str) -> float:
    [line] = [line for line in get(metrics)[1].splitlines() if line.startswith(f"maskcast_{name} ")]
    return float(line.split()[-1])


@pytest.mark.parametrize("size", [(128, 96), (192, 128), (256, 256)])
def test_the_camera_of_these_tests_sends_the_pictures_of_its_clip(tmp_path, size):
    world = ShapesWorld(3, *size, fps=25)
    with RtspServer(make_clip(tmp_path / "clip.mp4", size, seconds=1, seed=3)) as server:
        source = open_source(server.url)
        frames = list(islice(source.frames(), 20))
        source.close()
    for frame in frames:
        # halves one by one: a slice that is missing leaves a half of the picture
        halves = np.abs(frame.image.astype(int) - world.render(frame.index)[0]).reshape(2, -1).mean(axis=1)
        assert halves.max() < 6, f"frame {frame.index} is not as it was sent"


def test_a_camera_that_dies_and_comes_back_twenty_times_goes_on_as_the_same_stream(tmp_path, clip):
    """Each return is a new epoch that starts with a keyframe; frames are numbered on and no identity is used twice."""
    with RtspServer(clip) as server, daemon(tmp_path, gate=server.url) as (_, seen, metrics):
        for restart in range(20):
            seen.wait(lambda: [h for h in seen.masks("gate") if h["epoch"] == restart])  # noqa: B023 - waits at once
            server.kill()
            seen.wait(lambda: len(seen.events("gate", "source_down")) > restart)  # noqa: B023
            server.start()
        seen.wait(lambda: [h for h in seen.masks("gate") if h["epoch"] == 20])
        headers = seen.masks("gate")
        assert value(metrics, 'publish_dropped_total{stream="gate"}') == 0
        assert whole(headers)
        first_of_epoch = [h for before, h in pairwise(headers) if h["epoch"] != before["epoch"]]
        assert [h["epoch"] for h in first_of_epoch] == list(range(1, 21))
        # a busy writer may have dropped a keyframe's window, and said so
        assert all(h["keyframe"] or h["dropped_before"] for h in first_of_epoch)
        assert sum(h["keyframe"] for h in first_of_epoch) >= 10
        assert {h["session"] for h in headers} == {headers[0]["session"]}
        born = [event["track"] for event in seen.events("gate", "track_started")]
        assert len(born) == len(set(born))
        assert [event["type"] for event in seen.events("gate", "source_up", "source_down")] == [
            "source_up",
            *["source_down", "source_up"] * 20,
        ]
        back = [
            value(metrics, f'source_reconnects_total{{reason="{why}",stream="gate"}}') for why in ("ended", "error")
        ]
        assert sum(back) == 20
        assert value(metrics, 'source_up{stream="gate"}') == 1


def test_cameras_that_never_answer_or_never_send_are_told_apart_from_the_one_that_works(tmp_path, clip):
    with silent_server() as silent, frameless_server() as frameless, RtspServer(clip) as good:
        with_password = silent.replace("rtsp://", f"rtsp://admin:{SECRET}@")
        with daemon(tmp_path, silent=with_password, frameless=frameless, good=good.url) as (_, seen, metrics):
            for name in ("silent", "frameless"):
                [down, *_] = seen.wait(lambda: seen.events(name, "source_down"))  # noqa: B023 - waits at once
                assert "not in time" in down["reason"]
                assert value(metrics, f'source_up{{stream="{name}"}}') == 0
            seen.wait(lambda: len(seen.masks("good")) > 50)
            assert whole(seen.masks("good"))
            assert seen.events("good", "source_down") == []
            assert get(metrics.replace("/metrics", "/readyz"))[0] == 200  # to retry is what it is there for
            assert SECRET not in json.dumps(seen.headers) + get(metrics)[1]


def test_a_camera_that_freezes_with_its_socket_open_is_lost_and_found(tmp_path, clip):
    with RtspServer(clip) as server, daemon(tmp_path, gate=server.url) as (_, seen, metrics):
        seen.wait(lambda: len(seen.masks("gate")) > 5)
        server.pause()
        [down] = seen.wait(lambda: seen.events("gate", "source_down"))
        server.resume()
        seen.wait(lambda: [h for h in seen.masks("gate") if h["epoch"] == 1])
        assert "not in time" in down["reason"]
        assert whole(seen.masks("gate"))
        assert value(metrics, 'source_reconnects_total{reason="stalled",stream="gate"}') == 1


def test_a_camera_that_changes_its_resolution_begins_a_new_epoch_without_a_reconnect(tmp_path, clip):
    large = make_clip(tmp_path / "large.mp4", size=(192, 128))
    with RtspServer(clip, large) as server, daemon(tmp_path, gate=server.url) as (_, seen, metrics):
        sizes = {(128, 96), (192, 128)}
        seen.wait(lambda: {(h["width"], h["height"]) for h in seen.masks("gate")} == sizes)
        headers = seen.masks("gate")
        for before, after in pairwise(headers):
            changed = (before["width"], before["height"]) != (after["width"], after["height"])
            assert (after["epoch"] > before["epoch"]) is changed
            assert after["keyframe"] or after["dropped_before"] or not changed
        assert whole(headers)
        reconnects = [line for line in get(metrics)[1].splitlines() if line.startswith("maskcast_source_reconnects")]
        assert all(line.endswith(" 0.0") for line in reconnects)
