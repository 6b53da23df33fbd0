"""A running service steered from another thread: prompts, objects, previews. Embedded models, a live test source."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import cv2
import numpy as np
import pytest
import zmq

from daemon.api.control import Control, SeenFrame, StreamView
from daemon.engine import call_queue
from daemon.errors import BusyError, ConflictError, UnknownNameError
from daemon.service.build import build
from daemon.service.controller import Controller
from daemon.service.service import Service
from daemon.settings.schema import Settings, StreamSettings
from daemon.sinks.preview import Picture
from stages.detection.prompts import parse_prompts
from stages.errors import ConfigError
from stages.output.wire import unpack
from stages.testsrc.world import ShapesWorld
from tests.support.program import PATIENCE, wait_until

pytestmark = pytest.mark.slow

WORLD = ShapesWorld(4, fps=10)
FIRST, SECOND = list(dict.fromkeys(WORLD.labels))[:2]
LIVE = "testsrc://shapes?seed=4&live=1&fps=10&frames=100000"


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Controller]]:
    """steer(prompts) -> the control of a service with the stream "gate", once it has published a frame."""
    monkeypatch.setattr(call_queue, "PATIENCE", PATIENCE)  # a busy machine's engine may take long between two windows
    services: list[Service] = []

    def start(*prompts: str, source: str = LIVE, **tables: object) -> Controller:
        settings = Settings(
            models={"detector": "embedded", "segmenter": "embedded", "device": "cpu", "classifier": "embedded"},
            publish={"endpoint": "tcp://127.0.0.1:0"},
            http={"listen": "127.0.0.1:0"},
            detection={"every": 5},
            streams=[{"name": "gate", "source": source, "prompts": prompts, **tables}],
        )
        services.append(build(settings))
        services[-1].startup()
        wait_until(services[-1].engine.ready.is_set)
        return Controller(services[-1])

    yield start
    for service in services:
        service.shutdown()


def view_when(control: Control, holds: Callable[[StreamView], bool]) -> StreamView:
    found: list[StreamView] = []

    def look() -> bool:
        found[:] = [control.view("gate")]
        return holds(found[0])

    wait_until(look)
    return found[0]


def tracked(view: StreamView, prompt: str | None) -> set[int]:
    return {track["id"] for track in view.tracks if track["prompt"] == prompt}


def object_box(view: StreamView) -> np.ndarray:
    """Of the largest shape on the frame that was published last."""
    masks = WORLD.truth(view.pts).masks
    rows, columns = np.nonzero(max(masks, key=np.sum))
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)


def test_a_prompt_is_taken_up_at_a_keyframe_and_the_tracks_of_the_others_go_on(steer):
    control = steer(FIRST)
    before = view_when(control, lambda view: bool(tracked(view, FIRST)))
    control.set_prompts("gate", parse_prompts([FIRST, SECOND]))
    both = view_when(control, lambda view: bool(tracked(view, SECOND)))
    assert both.prompts == (FIRST, SECOND)
    assert list(both.thresholds) == [FIRST, SECOND]
    assert tracked(both, FIRST) & tracked(before, FIRST)


def test_the_tracks_of_a_prompt_that_is_gone_end_and_say_why(steer):
    control = steer(FIRST, SECOND)
    before = view_when(control, lambda view: bool(tracked(view, FIRST)) and bool(tracked(view, SECOND)))
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.subscribe("v1/gate/event")
        socket.connect(control._service.publisher.endpoint)
        wait_until(lambda: control._service.publisher.subscribers == 1)
        control.set_prompts("gate", parse_prompts([SECOND]))
        ended: dict[int, tuple[str, str]] = {}
        while not tracked(before, FIRST) <= ended.keys():
            assert socket.poll(PATIENCE * 1000)
            header = unpack(socket.recv_multipart()).header
            if header["type"] == "track_ended":
                ended[header["track"]] = header["prompt"], header["reason"]
    assert {ended[track] for track in tracked(before, FIRST)} == {(FIRST, "prompt removed")}
    after = view_when(control, lambda view: not tracked(view, FIRST))
    assert tracked(after, SECOND) & tracked(before, SECOND)
    control.set_prompts("gate", parse_prompts([SECOND, FIRST]))
    view_when(control, lambda view: bool(tracked(view, FIRST)))  # drawn, counted and named by the same number


def test_an_object_is_added_corrected_and_removed_by_hand_where_nothing_is_looked_for(steer):
    control = steer()
    view = view_when(control, lambda view: view.frame is not None)
    assert view.tracks == ()
    track, _ = control.add_object("gate", None, box=object_box(view), seen=SeenFrame(view.frame))
    view = view_when(control, lambda view: tracked(view, None) == {track})
    [added] = view.tracks
    assert added["area"] > 100
    left, top, right, bottom = added["box"]
    middle = np.array([[(left + right) / 2, (top + bottom) / 2]], np.float32)
    control.refine_object("gate", track, middle, np.array([1]))
    older = view_when(control, lambda view: view.tracks[0]["age"] > added["age"])
    assert tracked(older, None) == {track}
    control.remove_object("gate", track)
    view_when(control, lambda view: view.tracks == ())
    with pytest.raises(UnknownNameError, match=f"stream gate has no track {track}; tracked now: none"):
        control.remove_object("gate", track)


def test_an_object_by_hand_can_go_by_a_prompt_of_the_stream(steer):
    control = steer(FIRST)
    view = view_when(control, lambda view: view.frame is not None)
    track, _ = control.add_object("gate", FIRST, box=object_box(view))
    assert track in tracked(view_when(control, lambda view: any(t["id"] == track for t in view.tracks)), FIRST)
    with pytest.raises(ConfigError, match="no prompt 'unicorn'; the stream looks for '"):
        control.add_object("gate", "unicorn", box=object_box(view))


def test_a_prompt_counts_on_the_frame_that_was_seen_and_points_on_a_track_give_its_id(steer):
    """The shape has moved on by more than its size; the track that begins is on it all the same."""
    control = steer()
    seen = view_when(control, lambda view: view.frame is not None)
    then = WORLD.truth(seen.pts)
    wanted = int(np.min([WORLD.truth(seen.pts + later).visible for later in range(15)], axis=0).argmax())
    rows, columns = np.nonzero(then.masks[wanted])
    points = np.array([[columns.mean(), rows.mean()]], np.float32), np.array([1])
    view_when(control, lambda view: view.frame > seen.frame + 8)
    where = SeenFrame(seen.frame, seen.session)
    track, is_new = control.add_object("gate", None, points=points, seen=where)
    assert is_new
    now = view_when(control, lambda view: tracked(view, None) == {track} and view.tracks[0]["area"] > 50)
    left, top, right, bottom = WORLD.truth(now.pts).boxes[wanted]
    x0, y0, x1, y1 = now.tracks[0]["box"]
    assert left - 9 < (x0 + x1) / 2 < right + 9
    assert top - 9 < (y0 + y1) / 2 < bottom + 9

    middle = np.array([[(x0 + x1) / 2, (y0 + y1) / 2]], np.float32), np.array([1])
    again = SeenFrame(now.frame, now.session)
    assert control.add_object("gate", None, points=middle, seen=again) == (track, False)
    control.refine_object("gate", track, *middle, seen=again)
    assert tracked(control.view("gate"), None) == {track}

    other = SeenFrame(seen.frame, "5d0c8a1e-3f52-4b7a-9c11-2e6f8d40b7a3")
    with pytest.raises(ConflictError, match="stream gate is in another session now: look at its picture again"):
        control.add_object("gate", None, points=points, seen=other)
    with pytest.raises(ConflictError, match="frame 999999 is still to come"):
        control.refine_object("gate", track, *middle, seen=SeenFrame(999999))
    with pytest.raises(UnknownNameError, match="stream gate has no track 99"):
        control.refine_object("gate", 99, *middle, seen=where)


NONSENSE: list[tuple[Callable[[Control], object], str]] = [
    (lambda control: control.set_prompts("gate", parse_prompts(["circle " * 2000])), "tokens long"),
    (lambda control: control.set_prompts("gate", parse_prompts(["🦄"])), "names nothing"),
    (
        lambda control: control.set_prompts("gate", parse_prompts([f"red circle {n}" for n in range(200)])),
        "200 prompts are too many",
    ),
    (lambda control: control.set_prompts("yard", parse_prompts(["car"])), 'no stream is named "yard"; there are: gate'),
    (lambda control: control.add_object("gate", None, box=np.array([9, 9, 999, 999], np.float32)), "outside"),
    (lambda control: control.add_object("gate", None, mask=np.zeros((3, 3), bool)), "mask"),
    (lambda control: control.refine_object("gate", 99, np.zeros((1, 2), np.float32), np.ones(1)), "no track 99"),
    (lambda control: control.add(StreamSettings(name="b", source=LIVE, prompts=("circle " * 2000,))), "tokens long"),
]


def test_what_makes_no_sense_is_refused_and_the_stream_does_not_notice(steer):
    control = steer(FIRST, source="testsrc://shapes?seed=4&frames=100000")  # not live: no frame of it may be dropped
    before = view_when(control, lambda view: bool(view.tracks))
    for change, words in NONSENSE:
        with pytest.raises(ConfigError, match=words):
            change(control)
    after = view_when(control, lambda view: view.frame > before.frame + 10)
    assert (after.state, after.prompts, after.drops) == ("up", (FIRST,), before.drops)
    assert tracked(before, FIRST) & tracked(after, FIRST)


def test_a_daemon_whose_streams_are_changed_does_not_end_by_itself_and_takes_no_more_than_its_share(steer):
    control = steer(FIRST, source="testsrc://shapes?seed=4&frames=3")
    service = control._service
    wait_until(lambda: service.ended)
    control.add(StreamSettings(name="next", source="testsrc://shapes?seed=4&frames=3", prompts=(FIRST,)))
    wait_until(lambda: control.view("next").state == "ended")
    assert not service.ended
    for number in range(62):
        control.add(StreamSettings(name=f"more-{number}", source="testsrc://shapes?frames=1", prompts=(FIRST,)))
    with pytest.raises(ConfigError, match="there are 64 streams already"):
        control.add(StreamSettings(name="last", source="testsrc://shapes?frames=1", prompts=(FIRST,)))
    control.remove("next")
    control.add(StreamSettings(name="last", source="testsrc://shapes?frames=1", prompts=(FIRST,)))


def test_pictures_are_drawn_only_while_somebody_watches(steer):
    control = steer(FIRST)
    feed = control.preview("gate").annotated
    view_when(control, lambda view: (view.frame or 0) > 5)
    assert feed.next(0, 0.1) is None
    with feed.watching():
        number, picture = feed.next(0, 20) or (0, Picture(b""))
        later, _ = feed.next(number, 20) or (0, Picture(b""))
    assert later > number > 0
    assert cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (256, 256, 3)
    control._service.shutdown()
    number, _ = feed.next(0, 0) or (0, Picture(b""))
    with pytest.raises(EOFError):
        feed.next(number, 20)


def test_a_camera_that_cannot_be_reached_is_retried_and_says_why(steer):
    control = steer(FIRST, source="rtsp://user:secret@127.0.0.1:1/gate")
    view = view_when(control, lambda view: view.state == "retrying")
    assert view.reason
    assert view.source == "rtsp://127.0.0.1:1/***"
    assert "secret" not in repr(view)
    with pytest.raises(ConfigError, match="stream gate tracks nothing now"):
        control.add_object("gate", None, box=np.array([0, 0, 9, 9], np.float32))


def test_who_asks_an_engine_that_has_no_time_is_told_so_and_nothing_happens_later(steer, monkeypatch):
    control = steer(FIRST)
    view_when(control, lambda view: bool(view.tracks))
    engine, done = control._service.engine, []
    blocker = Blocker(engine.ask)
    monkeypatch.setattr(call_queue, "PATIENCE", 0.2)
    with pytest.raises(BusyError, match="nothing was changed; try again"):
        engine.ask(lambda _: done.append(1))
    monkeypatch.setattr(call_queue, "PATIENCE", PATIENCE)
    blocker.go()
    engine.ask(lambda _: done.append(2))
    assert done == [2]


def test_a_request_that_fails_is_its_askers_alone(steer):
    control = steer(FIRST)
    before = view_when(control, lambda view: bool(view.tracks))
    with pytest.raises(BusyError, match="the model failed: ZeroDivisionError"):
        control._service.engine.ask(lambda _: 1 // 0)
    view_when(control, lambda view: view.frame > before.frame + 10)


class Blocker:
    """Holds the engine until ``go``."""

    def __init__(self, ask: Callable[..., object]) -> None:
        self._go, begun = threading.Event(), threading.Event()

        def hold(_: object) -> None:
            begun.set()
            self._go.wait(PATIENCE)

        def ask_it() -> None:
            with suppress(BusyError):
                ask(hold)

        self._thread = threading.Thread(target=ask_it)
        self._thread.start()
        assert begun.wait(PATIENCE)

    def go(self) -> None:
        self._go.set()
        self._thread.join()
