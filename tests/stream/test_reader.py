"""What keeps a stream's frames coming. Sources are small fakes, so that they fail exactly as a test wants."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from daemon.lane.outcome import Outcome
from daemon.metrics.registry import Metrics
from daemon.settings.schema import Tracking
from daemon.sinks.recording import Recording
from daemon.stream import connection, reader, reconnect
from daemon.stream.latency import Latency
from daemon.stream.reader import Reader, SourceOpener
from daemon.stream.reconnect import Backoff
from stages.errors import ConfigError, OutputError, SourceError, SourceStalled, SourceUnreachable
from stages.types import Clock, Frame, Window
from tests.lane.lanes import new_lane
from tests.support.fakes import frames
from tests.support.program import PATIENCE, wait_until


@pytest.fixture(autouse=True)
def _brief_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LAST_FRAMES", 0.05)


class FakeSource:
    """Yields its items; raises those that are exceptions, calls those that can be called."""

    decode_errors = 0
    rate = 30.0
    decoder = "software"
    patience = 0.0

    def __init__(self, *items: Frame | Exception | Callable[[], None], live: bool = True) -> None:
        self.live = live
        self.frames_expected = None
        self.closed = threading.Event()
        self._items = items

    def frames(self) -> Iterator[Frame]:
        for item in self._items:
            if isinstance(item, Exception):
                raise item
            if callable(item):
                item()
            else:
                yield item

    def close(self) -> None:
        self.closed.set()


class Bench:
    """A reader in its thread; ``openings`` are what each attempt to open gives or raises, the last one for ever."""

    def __init__(
        self,
        *openings: FakeSource | Exception | Callable[[], FakeSource],
        live: bool = True,
        window: int = 2,
        room: int = 100,
        max_fps: float = 0.0,
    ):
        self.metrics, self.opened, self.error = Metrics(), 0, None
        self._openings = openings
        self.lane = new_lane("gate", ["red circle"], self.metrics, tracking=Tracking(window=window), windows=room)
        recording = Recording("gate", lambda *_: None, self.lane.metrics, False)
        self.models_ready = True
        opener = SourceOpener(live, self._open, lambda stop: True, lambda: self.models_ready, max_fps)
        self.reader = Reader(self.lane, recording, Latency(), opener, Backoff(0.01, 0.02))
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _open(self) -> FakeSource:
        opening = self._openings[min(self.opened, len(self._openings) - 1)]
        self.opened += 1
        if isinstance(opening, Exception):
            raise opening
        return opening() if callable(opening) else opening

    def _run(self) -> None:
        try:
            self.reader.run()
        except Exception as error:
            self.error = error

    def windows(self, count: int) -> list[Window]:
        found = [self.lane.inbox.get(PATIENCE) for _ in range(count)]
        assert None not in found
        return found

    def end(self) -> None:
        self.reader.stop()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def told(self) -> list[tuple[str, str]]:
        return [(notice.event.value, notice.reason) for _, notice in self.lane.notices]

    def reconnects(self) -> dict[str, float]:
        found = {reason: counter._value.get() for reason, counter in self.lane.metrics.reconnects.items()}
        return {reason: count for reason, count in found.items() if count}


def indices(windows: list[Window]) -> list[int]:
    return [frame.index for window in windows for frame in window.frames]


def for_ever() -> None:
    threading.Event().wait(PATIENCE)


def stands_still(bench: Bench) -> bool:
    """Whether the reader reports no progress for the last tenth of a second."""
    moment = time.monotonic()
    return bench.reader.progress < moment - 0.1


class Hang:
    """Item of a source: connections count as silent after 0.2 s from here on, until the source of ``over`` opens.

    So only the connection that hangs is given up, however slow the machine is.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self) -> None:
        self._monkeypatch.setattr(connection, "OVERDUE", 0.2)

    def over(self, source: FakeSource) -> Callable[[], FakeSource]:
        """An opening that gives ``source``."""

        def opening() -> FakeSource:
            self._monkeypatch.setattr(connection, "OVERDUE", PATIENCE)
            return source

        return opening


def test_what_cannot_be_decoded_is_counted_for_the_metric_and_the_summary():
    source = FakeSource(*frames(0, 1), lambda: setattr(source, "decode_errors", 3), *frames(2), live=False)
    bench = Bench(source, live=False)
    bench.thread.join(PATIENCE)
    assert (bench.lane.metrics.decode_errors._value.get(), bench.lane.metrics.damaged) == (3, 3)


def test_a_file_is_read_once_and_its_end_is_the_end():
    bench = Bench(FakeSource(*frames(0, 1, 2), live=False), live=False)
    bench.thread.join(PATIENCE)
    assert indices(bench.windows(3)) == [0, 1, 2]
    assert (bench.opened, bench.error, bench.lane.inbox.drained) == (1, None, True)
    assert bench.told() == [("source_up", "opened")]


def test_a_file_that_breaks_off_hands_on_its_frames_and_fails():
    bench = Bench(FakeSource(*frames(0), SourceError("gone"), live=False), live=False)
    bench.thread.join(PATIENCE)
    assert indices(bench.windows(1)) == [0]
    assert isinstance(bench.error, SourceError)


def test_a_live_source_that_ends_is_opened_again_and_its_frames_are_numbered_on_in_a_new_epoch():
    bench = Bench(FakeSource(*frames(0, 1, 2)), FakeSource(*frames(0, 1)), FakeSource(*frames(0, 1), for_ever))
    found = bench.windows(6)
    bench.end()
    assert [(w.epoch, [f.index for f in w.frames], w.keyframe) for w in found[:5]] == [
        (0, [0], True),
        (0, [1], False),
        (0, [2], False),
        (1, [3], True),
        (1, [4], False),
    ]
    assert bench.reconnects() == {"ended": 2}


def test_what_a_connection_holds_when_it_is_lost_is_handed_on_before_the_next_attempt():
    bench = Bench(FakeSource(*frames(0, 1, 2), SourceStalled("silent")), SourceError("refused"))
    assert indices(bench.windows(3)) == [0, 1, 2]
    bench.end()


def test_the_loss_is_told_once_with_its_reason_and_so_is_the_return():
    down = SourceError("cannot open gate: connection refused")
    bench = Bench(
        FakeSource(*frames(0), SourceStalled("gate broke off")), down, down, FakeSource(*frames(0, 1), for_ever)
    )
    bench.windows(1)
    wait_until(bench.reconnects)
    bench.end()
    *told, (event, reason) = bench.told()
    assert told == [("source_up", "opened"), ("source_down", "gate broke off")]
    assert event == "source_up"
    assert re.fullmatch(r"connected again after \d+ s", reason)
    assert bench.reconnects() == {"stalled": 1}


def test_a_camera_that_is_down_from_the_start_is_tried_until_it_comes_and_begins_no_second_epoch():
    down = SourceError("connection refused")
    bench = Bench(down, down, down, FakeSource(*frames(0, 1), for_ever))
    assert [window.epoch for window in bench.windows(1)] == [0]
    bench.end()
    assert [event for event, _ in bench.told()] == ["source_down", "source_up"]


def test_an_unexpected_error_of_a_live_source_is_a_disconnect_too():
    bench = Bench(FakeSource(ValueError("odd packet")), FakeSource(*frames(0, 1), for_ever))
    assert indices(bench.windows(2)) == [0, 1]
    bench.end()


@pytest.mark.parametrize("error", [ConfigError("unknown scheme"), OutputError("cannot record")])
def test_what_would_fail_again_ends_the_stream(error):
    bench = Bench(error)
    bench.thread.join(PATIENCE)
    assert (bench.error, bench.opened) == (error, 1)


def test_times_never_run_backwards_over_a_reconnect():
    def at(captured_at: float) -> Frame:
        return replace(frames(0)[0], captured_at=captured_at, clock=Clock.ARRIVAL)

    bench = Bench(FakeSource(at(100.0)), FakeSource(at(98.0)), FakeSource(at(110.0), for_ever), window=1)
    found = bench.windows(2)
    bench.end()
    assert [window.frames[0].captured_at for window in found] == [100.0, 100.0]


def test_a_connection_that_hangs_is_left_to_itself_and_nothing_of_it_is_taken_later(monkeypatch):
    hang, wake = Hang(monkeypatch), threading.Event()
    hanging = FakeSource(*frames(0), hang, lambda: wake.wait(PATIENCE) and None, *frames(1, 2), for_ever)
    bench = Bench(hanging, hang.over(FakeSource(*frames(0, 1), for_ever)), window=1)
    assert [(w.epoch, w.frames[0].index) for w in bench.windows(3)] == [(0, 0), (1, 1), (1, 2)]
    assert hanging.closed.is_set()
    wake.set()
    assert bench.lane.inbox.get(0.1) is None
    assert bench.reconnects() == {"stalled": 1}
    bench.end()


def test_openings_that_hang_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(connection, "OPENING", 0.05)
    monkeypatch.setattr(connection, "OVERDUE", 0.0)
    monkeypatch.setattr(reader, "LOOK", 0.02)
    monkeypatch.setattr(reconnect, "LOOK", 0.02)
    release = threading.Event()

    def hang() -> FakeSource:
        release.wait(PATIENCE)
        raise SourceError("at last")

    bench = Bench(hang)
    wait_until(lambda: bench.opened >= reconnect.MOST_STUCK)
    time.sleep(0.5)
    assert bench.opened == reconnect.MOST_STUCK
    wait_until(lambda: stands_still(bench))  # a watchdog may end this: nothing else can
    release.set()
    wait_until(lambda: bench.opened > reconnect.MOST_STUCK)
    bench.end()


def test_a_reader_stops_while_its_source_hangs():
    bench = Bench(FakeSource(*frames(0, 1), for_ever))
    bench.windows(2)
    bench.end()
    assert bench.lane.inbox.drained
    assert bench.error is None


def test_a_full_mailbox_of_a_live_stream_drops_its_oldest_window_and_counts_the_overload():
    bench = Bench(FakeSource(*frames(*range(8)), for_ever), window=2)
    bench.windows(8)
    bench.lane.inbox.capacity = 1
    bench.lane.inbox.put(Window(0, frames(8, 9), False))
    bench.lane.inbox.put(Window(0, frames(10, 11), False))
    assert bench.lane.overload.count == 1
    [kept] = bench.windows(1)
    assert (kept.frames[0].index, kept.frames[0].dropped_before) == (10, 2)
    bench.end()


def test_a_file_that_stands_still_makes_no_progress_but_one_that_waits_for_room_does():
    stuck = Bench(FakeSource(*frames(0), for_ever, live=False), live=False, window=1)
    stuck.windows(1)
    wait_until(lambda: stands_still(stuck))
    full = Bench(FakeSource(*frames(*range(8)), live=False), live=False, window=1, room=1)
    wait_until(lambda: not full.lane.inbox.fits(1))
    wait_until(lambda: full.reader._connection.waiting)
    time.sleep(0.2)
    assert not stands_still(full)


def test_waits_grow_to_their_limit_with_jitter_and_start_again_after_a_success():
    backoff = Backoff()
    waits = [backoff.next() for _ in range(300)]
    assert all(1 <= wait <= 30 for wait in waits)
    assert waits[0] <= 2
    assert waits[1] <= 4
    assert max(waits) > 25
    assert len(set(waits)) > 200
    backoff.reset()
    assert backoff.next() <= 2


def test_outcomes_that_no_writer_takes_are_dropped_and_counted():
    bench = Bench(FakeSource(*frames(0, 1), for_ever))
    bench.windows(1)
    bench.lane.outbox.capacity = 1
    for _ in range(3):
        bench.lane.outbox.put(Outcome())
    assert len(bench.lane.outbox.peek()) == 1
    bench.end()


def test_a_live_source_that_shows_only_when_open_is_opened_again_as_well():
    """As an http:// camera: before it was open nobody could know."""
    bench = Bench(FakeSource(*frames(0, 1)), SourceError("refused"), FakeSource(*frames(0, 1), for_ever), live=False)
    assert indices(bench.windows(4)) == [0, 1, 2, 3]
    bench.end()


@pytest.mark.parametrize("error", [SourceUnreachable("refused"), SourceStalled("silent")])
def test_a_source_whose_server_is_not_there_yet_is_opened_again(error):
    """Whether it is live, as an http:// camera, shows only when it is open."""
    bench = Bench(error, error, FakeSource(*frames(0, 1), for_ever), live=False)
    assert indices(bench.windows(2)) == [0, 1]
    bench.end()


def test_a_file_that_comes_from_a_server_and_breaks_off_is_not_read_again():
    bench = Bench(FakeSource(*frames(0, 1), SourceUnreachable("reset"), live=False), live=False)
    bench.thread.join(PATIENCE)
    assert (bench.opened, str(bench.error)) == (1, "reset")


def test_a_live_stream_whose_inbox_the_engine_has_closed_is_over():
    """It does not fit, or its prompts make no sense: to connect again would change nothing."""
    bench = Bench(FakeSource(*frames(*range(100))), window=1)
    bench.windows(1)
    bench.lane.inbox.close(discard=True)
    bench.thread.join(PATIENCE)
    assert not bench.thread.is_alive()
    assert bench.opened < 3


def test_an_abandoned_connection_takes_no_frame_with_it(monkeypatch):
    """Each is handed on as soon as it has come."""
    hang = Hang(monkeypatch)
    bench = Bench(FakeSource(*frames(0, 1, 2), hang, for_ever), hang.over(FakeSource(*frames(0, 1), for_ever)))
    found = [window.frames[0] for window in bench.windows(5)]
    assert [(frame.index, frame.dropped_before) for frame in found] == [(index, 0) for index in range(5)]
    assert bench.lane.metrics.dropped["source"]._value.get() == 0
    bench.end()


def test_errors_of_decoding_are_counted_also_when_the_source_then_breaks_off():
    source = FakeSource(*frames(0, 1), SourceStalled("silent"))
    source.decode_errors = 37
    bench = Bench(source, SourceError("refused"))
    bench.windows(1)
    bench.end()
    assert bench.lane.metrics.decode_errors._value.get() == 37


def test_a_clock_that_was_set_back_while_the_camera_was_away_is_believed_from_its_return_on():
    def at(captured_at: float) -> Frame:
        return replace(frames(0)[0], captured_at=captured_at, clock=Clock.ARRIVAL)

    bench = Bench(FakeSource(at(7200.0)), FakeSource(at(3600.0), at(3600.1), for_ever), window=1)
    assert [window.frames[0].captured_at for window in bench.windows(3)] == [7200.0, 3600.0, 3600.1]
    bench.end()


def test_a_return_is_told_after_the_results_of_the_epoch_before_and_before_its_own():
    bench = Bench(FakeSource(*frames(0, 1)), FakeSource(*frames(0, 1), for_ever))
    first, _, second = bench.windows(3)
    told = [[notice.event.value for notice in bench.lane.take_notices(window)] for window in (first, second)]
    assert told == [["source_up"], ["source_down", "source_up"]]
    bench.end()


def test_frames_that_came_in_a_burst_wait_for_the_engine_and_are_not_dropped():
    due = time.monotonic() + PATIENCE
    burst = [replace(frame, due=due) for frame in frames(*range(28))]
    bench = Bench(FakeSource(*burst, for_ever), window=4, room=2)
    wait_until(lambda: not bench.lane.inbox.fits(1))
    found = bench.windows(28)
    bench.end()
    assert indices(found) == list(range(28))
    assert {frame.dropped_before for window in found for frame in window.frames} == {0}
    assert bench.lane.overload.count == 0


def test_frames_of_a_burst_that_are_due_push_out_the_oldest():
    burst = [replace(frame, due=time.monotonic() + n / 100) for n, frame in enumerate(frames(*range(28)))]
    bench = Bench(FakeSource(*burst, for_ever), window=4, room=2)
    wait_until(lambda: bench.lane.overload.count == 26)
    assert indices(bench.windows(2)) == [26, 27]
    bench.end()


def test_a_camera_that_waits_for_the_models_loses_nothing_that_counts():
    """What it sent before is neither numbered nor dropped, and says nothing of the engine's speed."""
    may_open = threading.Event()

    def opening() -> FakeSource:
        may_open.wait(PATIENCE)
        return FakeSource(*frames(*range(30)), load, *frames(*range(30, 48)), for_ever)

    def load() -> None:
        bench.models_ready = True

    bench = Bench(opening, window=2)
    bench.models_ready = False
    may_open.set()
    found = bench.windows(18)
    bench.end()
    assert indices(found) == list(range(18))
    assert {window.frames[0].dropped_before for window in found[1:]} == {0}
    assert bench.lane.overload.count == 0
    assert sum(counter._value.get() for counter in bench.lane.metrics.dropped.values()) == 0


def drops(bench: Bench) -> dict[str, float]:
    found = {reason: counter._value.get() for reason, counter in bench.lane.metrics.dropped.items()}
    return {reason: count for reason, count in found.items() if count}


def test_frames_above_max_fps_are_left_out_and_counted_apart() -> None:
    """Also in dropped_before, and those that the source itself had dropped; the summary does not call them lost."""
    given = [replace(frame, captured_at=frame.index / 30) for frame in frames(*range(12))]
    given[4] = replace(given[4], dropped_before=2)
    given[4:] = [replace(frame, index=frame.index + 2) for frame in given[4:]]
    source = FakeSource(*given, live=False)
    source.frames_expected = 14
    bench = Bench(source, live=False, max_fps=10)
    windows = bench.windows(4)
    bench.thread.join(PATIENCE)
    kept = [frame for window in windows for frame in window.frames]
    assert [(frame.index, frame.dropped_before) for frame in kept] == [(0, 0), (3, 2), (8, 4), (11, 2)]
    assert drops(bench) == {"max_fps": 8, "source": 2}
    assert bench.lane.metrics.drops == 2
    assert bench.reader.frames_expected == 5
