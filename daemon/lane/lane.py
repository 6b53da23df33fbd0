"""What a stream's reader, its writer and the engine share."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from daemon.lane.drop_policy import fold_outcome, fold_window
from daemon.lane.lease import Lease
from daemon.lane.mailbox import Mailbox
from daemon.lane.outcome import Notice, Outcome
from daemon.lane.prompt_set import PromptSet
from daemon.lane.trail import Trail
from daemon.limits.busy_time import BusyTime
from daemon.limits.governor import Governor
from daemon.limits.overload import Overload
from daemon.metrics.stream_metrics import StreamMetrics
from stages.types import Window

WINDOWS = 2  # capacity of an inbox and of an outbox, in windows: one is filled while one is worked on


def frames_in(item: Window | Outcome) -> int:
    """The number of its frames."""
    return len(item.frames if isinstance(item, Window) else item.results)


def size_of(item: Window | Outcome) -> int:
    """How much room it takes in a mailbox: its frames; 1 where it has none, only notices."""
    return max(1, frames_in(item))


@dataclass(slots=True, eq=False)
class Lane:
    """The shared handle of one stream: windows go to the engine, outcomes come back.

    The mailboxes, ``tell``, the metrics, the lease, the trail and ``prompt_set.ask`` are for any thread. The engine
    alone steps the governor, takes notices, takes up prompts, adds to ``busy``, and sets ``thresholds`` and ``error``;
    any thread may read those.
    """

    name: str
    prompt_set: PromptSet
    metrics: StreamMetrics
    governor: Governor
    inbox: Mailbox[Window]  # reader -> engine
    outbox: Mailbox[Outcome]  # engine -> writer
    wake: Callable[[], None] = lambda: None  # wakes the engine
    lease: Lease = field(default_factory=Lease)  # to publish
    overload: Overload = field(default_factory=Overload)
    busy: BusyTime = field(default_factory=BusyTime)  # the engine's time
    thresholds: dict[str, float] = field(default_factory=dict)  # least score of a detection, by prompt as written
    error: Exception | None = None  # why the last window that failed did so
    trail: Trail = field(default_factory=Trail)
    notices: deque[tuple[int, Notice]] = field(default_factory=deque)  # waiting, each with the epoch that it precedes

    @property
    def live(self) -> bool:
        """Frames are dropped where they cannot wait, so that results are timely; else it is a file."""
        return not self.inbox.lossless

    def tell(self, notice: Notice, epoch: int) -> None:
        """Queue a notice to be published before the results of ``epoch`` and after all earlier ones."""
        self.notices.append((epoch, notice))
        self.wake()

    def take_notices(self, window: Window | None) -> list[Notice]:
        """Take the notices that precede ``window``; without one, all that wait."""
        taken = []
        while self.notices and (window is None or self.notices[0][0] <= window.epoch):
            taken.append(self.notices.popleft()[1])
        return taken

    def drop_when_full(self) -> None:
        """From now on full mailboxes drop their oldest item: a live stream keeps its newest frames."""
        self.inbox.drop_oldest(self._fold_window)
        self.outbox.drop_oldest(self._fold_outcome)

    def _fold_window(self, lost: Window, following: Window) -> Window:
        self.overload.add()
        self.metrics.drop("engine_busy", len(lost.frames))
        return fold_window(lost, following)

    def _fold_outcome(self, lost: Outcome, following: Outcome) -> Outcome:
        self.metrics.drop("writer_busy", len(lost.results))
        return fold_outcome(lost, following)
