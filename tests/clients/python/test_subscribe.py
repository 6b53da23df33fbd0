"""subscribe and events of maskcast_client, against a publisher that sends what the test wants."""

import asyncio
import itertools
import multiprocessing
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from maskcast_client import Frame, MaskcastError, MessageError, NothingReceivedError, VersionError, events, subscribe
from tests.clients import golden
from tests.clients.golden import Station, event_message, frame_message, masks_message
from tests.support.program import PATIENCE

SESSION, OTHER = "5d0c8a1e-3f52-4b7a-9c11-2e6f8d40b7a3", "c2b7e9f4-81d6-4e03-a5b8-7f1d9a60c3e5"


@pytest.fixture
def station() -> Iterator[Station]:
    with golden.station() as publisher:
        yield publisher


def test_a_files_frames_come_and_its_end_ends_the_loop(station: Station) -> None:
    frames = subscribe(station.endpoint, "gate", timeout=PATIENCE)
    station.heard("v1/gate/masks")
    station.send(masks_message(seq=0, frame=0), masks_message(seq=1, frame=1), event_message())
    assert [(frame.index, frame.lost, frame.restarted) for frame in frames] == [(0, 0, False), (1, 0, False)]


def test_only_the_named_streams_come_and_all_of_them_must_end(station: Station) -> None:
    """A stream whose name begins with that of another is another one."""
    frames = subscribe(station.endpoint, ["gate", "yard"], timeout=PATIENCE)
    station.heard("v1/gate/masks")
    station.heard("v1/yard/masks")
    station.send(masks_message("gate"), event_message("gate"), masks_message("gate-2"), masks_message("yard"))
    station.send(masks_message("gate"), event_message("yard"), event_message("gate"))
    assert [frame.stream for frame in frames] == ["gate", "yard", "gate"]


def test_without_a_name_all_streams_come_until_the_timeout(station: Station) -> None:
    """Status messages, pictures and kinds that nobody knows yet are passed over."""
    frames = subscribe(station.endpoint, timeout=2)
    station.heard("v1/")
    station.send(masks_message("gate"), *map(golden.parts_of, ("status-busy", "frame-foreign")))
    station.send([b"v1/gate/depth", golden.masks_message()[1].replace(b"v1/masks", b"v1/depth")])
    station.send(masks_message("yard"), event_message("yard"), event_message("gate"), masks_message("yard"))
    assert [frame.stream for frame in frames] == ["gate", "yard", "yard"]


def test_a_hole_in_seq_is_told_by_stream(station: Station) -> None:
    frames = subscribe(station.endpoint, ["gate", "yard"], timeout=PATIENCE)
    station.heard("v1/yard/masks")
    sent = [("gate", 7), ("yard", 100), ("gate", 8), ("yard", 104), ("gate", 11)]
    station.send(*(masks_message(stream, seq=seq) for stream, seq in sent))
    assert [next(frames).lost for _ in sent] == [0, 0, 0, 3, 2]


def test_a_daemon_that_starts_anew_is_told(station: Station) -> None:
    """Ids begin again. What the new session sent before this subscriber was there again counts as lost."""
    frames = subscribe(station.endpoint, "gate", timeout=PATIENCE)
    station.heard("v1/gate/masks")
    sent = [(SESSION, 40), (OTHER, 5), (OTHER, 6), (SESSION, 0)]
    station.send(*(masks_message(session=session, seq=seq) for session, seq in sent))
    told = [(frame.lost, frame.restarted) for _, frame in zip(sent, frames, strict=False)]
    assert told == [(0, False), (5, True), (0, False), (0, True)]


def test_what_an_older_publisher_sends_is_dropped_from_the_first_newer_message_on(station: Station) -> None:
    """A fleet gave the stream to another daemon. A message without a fence is never dropped."""
    frames = subscribe(station.endpoint, ["gate", "yard"], timeout=PATIENCE)
    station.heard("v1/yard/masks")
    old, new = {"session": SESSION, "fence": 4}, {"session": OTHER, "fence": 6, "predecessor": SESSION}
    station.send(masks_message(seq=0, **old), masks_message("yard", seq=0, **old))
    station.send(
        event_message(kind="source_up", seq=0, **new), masks_message(seq=1, **old), masks_message(seq=0, **new)
    )
    station.send(masks_message(seq=2, **old), event_message(seq=3, **old), masks_message(seq=1, **new))
    station.send(masks_message("yard", seq=1, **old), masks_message(seq=5, session=SESSION))
    told = [
        (frame.stream, frame.seq, frame.fence, frame.predecessor) for _, frame in zip(range(6), frames, strict=False)
    ]
    gate, yard = [("gate", 0, 6, SESSION), ("gate", 1, 6, SESSION)], ("yard", 1, 4, None)
    assert told == [("gate", 0, 4, None), ("yard", 0, 4, None), *gate, yard, ("gate", 5, None, None)]


def test_an_event_tells_the_fence_and_the_session_that_its_own_continues(station: Station) -> None:
    told = events(station.endpoint, "gate", timeout=PATIENCE)
    station.heard("v1/gate/event")
    station.send(event_message(fence=2, predecessor=OTHER), event_message(fence=1), event_message(fence=2))
    assert [(event.fence, event.predecessor) for event in (next(told), next(told))] == [(2, OTHER), (2, None)]


def test_a_subscription_survives_a_daemon_that_goes_and_comes(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/masks"
    frames = subscribe(endpoint, "gate", timeout=PATIENCE)
    received: queue.Queue[Frame] = queue.Queue()
    loop = threading.Thread(target=lambda: [received.put(frame) for frame in frames])
    loop.start()
    for session in (SESSION, OTHER):
        with golden.station(endpoint) as daemon:
            daemon.heard("v1/gate/masks")
            daemon.send(masks_message(session=session, seq=0))
            frame = received.get(timeout=PATIENCE)
            assert (frame.session, frame.restarted) == (session, session == OTHER)
            if session == OTHER:
                daemon.send(event_message())
                loop.join(PATIENCE)
    assert not loop.is_alive()


def test_a_camera_that_is_lost_does_not_end_the_loop(station: Station, caplog: pytest.LogCaptureFixture) -> None:
    frames = subscribe(station.endpoint, "gate", timeout=PATIENCE)
    station.heard("v1/gate/masks")
    station.send(
        masks_message(clock="arrival"), event_message(reason="no route"), masks_message(clock="arrival", epoch=1)
    )
    assert [next(frames).epoch, next(frames).epoch] == [0, 1]
    assert [record.getMessage() for record in caplog.records] == ["gate: the source is down: no route"]


def test_pictures_are_joined_by_seq(station: Station) -> None:
    """Also when one is missing, when one comes late, and when the last one never comes."""
    frames = subscribe(station.endpoint, "gate", images=True, timeout=PATIENCE)
    station.heard("v1/gate/masks")
    of = {"session": SESSION}
    station.send(masks_message(seq=0), frame_message(seq=0, jpeg=b"zero", **of), frame_message(seq=0, jpeg=b"x", **of))
    station.send(masks_message(seq=1), masks_message(seq=2), frame_message(seq=1, jpeg=b"late", **of))
    station.send(frame_message(seq=2, jpeg=b"two", **of), masks_message(seq=3), event_message())
    assert [(frame.seq, frame.jpeg) for frame in frames] == [(0, b"zero"), (1, None), (2, b"two"), (3, None)]


def test_a_frame_waits_a_moment_only_for_a_picture_that_does_not_come(station: Station) -> None:
    frames = subscribe(station.endpoint, "gate", images=True, timeout=PATIENCE)
    station.heard("v1/gate/masks")
    station.send(masks_message(seq=0))
    assert next(frames).image is None


def test_a_picture_is_decoded_to_rgb(station: Station) -> None:
    frames = subscribe(station.endpoint, "Tür-3.北口", images=True, timeout=PATIENCE)
    station.heard("v1/Tür-3.北口/masks")
    station.send(golden.parts_of("masks-foreign"), golden.parts_of("frame-foreign"))
    frame = next(frames)
    assert frame.image is not None
    assert (frame.image.shape, frame.image.dtype) == ((frame.height, frame.width, 3), "uint8")
    assert frame.jpeg == golden.parts_of("frame-foreign")[2]


def test_no_pictures_travel_unless_they_are_asked_for(station: Station) -> None:
    """The daemon draws only what somebody subscribes to."""
    subscription = subscribe(station.endpoint, "gate")
    topics = [station.socket.recv() for _ in range(10)]
    assert sorted(topics)[:2] == [b"\x01v1/gate/event", b"\x01v1/gate/masks"]
    assert all(topic[1:].rstrip(b"/") in {b"v%d" % number for number in range(2, 10)} for topic in sorted(topics)[2:])
    subscription.close()


def test_events_come_one_by_one_with_losses(station: Station) -> None:
    told = events(station.endpoint, "gate", timeout=PATIENCE)
    station.heard("v1/gate/event")
    station.send(event_message(kind="track_started", seq=3, track=4, prompt="car", frame=9), event_message(seq=6))
    first, second = next(told), next(told)
    assert (first.type, first.track, first.prompt, first.frame, first.lost) == ("track_started", 4, "car", 9, 0)
    assert (second.type, second.lost, second.restarted) == ("source_down", 2, False)
    station.send(event_message(session=OTHER, seq=1))
    third = next(told)
    assert (third.lost, third.restarted) == (1, True)  # the end of earlier tracks is not told: they are gone


@pytest.mark.slow
def test_silence_after_frames_ends_the_loop_and_silence_from_the_start_is_an_error(station: Station) -> None:
    frames = subscribe(station.endpoint, "gate", timeout=2)
    station.heard("v1/gate/masks")
    station.send(masks_message(clock="arrival"))
    assert len(list(frames)) == 1
    with pytest.raises(NothingReceivedError, match=r"nothing from tcp://.* within 0.2 s: is the stream's name right"):
        next(subscribe(station.endpoint, "gate", timeout=0.2))
    with pytest.raises(TimeoutError):
        next(events(station.endpoint, timeout=0.1))


@pytest.mark.slow
def test_a_hint_is_logged_when_nothing_comes(station: Station, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NothingReceivedError):
        next(subscribe(station.endpoint, "gate", timeout=4))
    assert "does maskcast run publish there?" in caplog.text


@pytest.mark.slow
def test_a_later_version_is_an_error_with_what_to_do(station: Station) -> None:
    """Whether its topics are new or its headers only. A daemon that speaks both versions is understood."""
    later = [b"v2/gate/masks", b'{"schema": "maskcast/v2/masks", "anything": 1}']
    frames = subscribe(station.endpoint, "gate")
    station.heard("v1/gate/masks")
    station.send(later)
    with pytest.raises(VersionError, match="version 2 of the mask stream, this package version 1: install"):
        next(frames)
    for messages, error in (
        ([[b"v1/gate/masks", later[1]]], VersionError),
        ([[b"v1/gate/masks", masks_message()[1].replace(b"v1/masks", b"v1/event")]], MessageError),
        ([[b"v1/gate/masks", b"\xff"]], MessageError),
        ([[b"v1/gate/masks"]], MessageError),
        ([later, masks_message(), masks_message()], None),
    ):
        frames = subscribe(station.endpoint, "gate", timeout=PATIENCE)
        station.heard("v1/gate/masks")
        station.send(*messages)
        if error is None:
            assert isinstance(next(frames), Frame)
            continue
        with pytest.raises(error):
            next(frames)


@pytest.mark.parametrize(
    ("endpoint", "stream", "says"),
    [
        ("gpu:5555", "gate", "cannot subscribe to gpu:5555: .*; write it as in tcp://gpu-host:5555"),
        ("tcp://127.0.0.1:5555", "gate/masks", "not the name of a stream"),
        ("tcp://127.0.0.1:5555", "", "not the name of a stream"),
        ("tcp://127.0.0.1:5555", [], "no stream is named"),
    ],
)
def test_a_wrong_argument_is_an_error_at_once(endpoint: str, stream: str | list[str], says: str) -> None:
    with pytest.raises(MaskcastError, match=says):
        subscribe(endpoint, stream)


def test_a_slow_loop_is_told_what_it_lost(station: Station) -> None:
    """The queues of both sides are full before it begins; ``lost`` is the exact number."""
    station.socket.set(zmq.SNDHWM, 4)
    frames = subscribe(station.endpoint, "gate", timeout=PATIENCE)
    station.heard("v1/gate/masks")
    seqs = itertools.count()
    for seq in itertools.islice(seqs, 20_000):
        station.send(masks_message(seq=seq, padding="x" * 1000))
    seen = [next(frames)]
    while not seen[-1].lost:
        station.send(masks_message(seq=next(seqs)))
        seen.append(next(frames))
    assert seen[-1].lost == seen[-1].seq - seen[-2].seq - 1


def test_a_loop_that_is_left_closes_its_connection(station: Station) -> None:
    frames = subscribe(station.endpoint, "gate")
    station.heard("v1/gate/masks")
    station.send(masks_message())
    for _ in frames:
        break
    frames.close()
    station.heard("v1/gate/masks", leaves=True)
    never_started = subscribe(station.endpoint, "yard")
    station.heard("v1/yard/masks")
    del never_started
    station.heard("v1/yard/masks", leaves=True)


def test_two_threads_cannot_use_one_subscription_at_once(station: Station) -> None:
    """A ZeroMQ socket would end the process."""
    frames = subscribe(station.endpoint, "gate", timeout=PATIENCE)
    station.heard("v1/gate/masks")
    first: list[Frame] = []
    waiting = threading.Thread(target=lambda: first.append(next(frames)))
    waiting.start()
    while not frames.gi_running:
        pass
    with pytest.raises(ValueError, match="already executing"):
        next(frames)
    station.send(masks_message())
    waiting.join(PATIENCE)
    assert len(first) == 1


def test_asyncio_takes_frames_from_a_thread(station: Station) -> None:
    """As the README shows; the event loop goes on meanwhile."""

    async def consume() -> list[int]:
        frames = subscribe(station.endpoint, "gate", timeout=PATIENCE)
        station.heard("v1/gate/masks")
        asyncio.get_running_loop().call_later(0.2, station.send, masks_message(seq=5), event_message())
        seen = []
        while frame := await asyncio.to_thread(next, frames, None):
            seen.append(frame.seq)
        return seen

    assert asyncio.run(consume()) == [5]


def _in_child(frames: Iterator[Frame], answer: "multiprocessing.queues.Queue[str]") -> None:
    try:
        answer.put(str(next(frames)))
    except MaskcastError as error:
        answer.put(str(error))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # Python 3.12 warns of every such fork
@pytest.mark.process
def test_a_forked_process_gets_an_error_and_does_not_disturb(station: Station) -> None:
    """A ZeroMQ socket does not survive fork: without the error the child would wait for ever."""
    frames = subscribe(station.endpoint, "gate", timeout=PATIENCE)
    station.heard("v1/gate/masks")
    fork = multiprocessing.get_context("fork")
    answer: multiprocessing.queues.Queue[str] = fork.Queue()
    child = fork.Process(target=_in_child, args=(frames, answer))
    child.start()
    assert answer.get(timeout=PATIENCE).endswith("cannot be used in a forked process: call subscribe there")
    child.join(PATIENCE)
    assert child.exitcode == 0
    station.send(masks_message())
    assert isinstance(next(frames), Frame)
