"""Lanes for tests of the threads at their ends."""

from collections.abc import Callable, Sequence

from daemon.lane.lane import Lane
from daemon.lane.mailbox import Mailbox
from daemon.lane.prompt_set import PromptSet
from daemon.limits.governor import Governor
from daemon.metrics.registry import Metrics
from daemon.metrics.stream_metrics import StreamMetrics
from daemon.settings.schema import Tracking
from stages.detection.prompts import parse_prompts


def new_lane(
    name: str,
    prompts: Sequence[str],
    metrics: Metrics,
    *,
    tracking: Tracking | None = None,
    windows: int = 100,
    outcomes: int = 100,
    wake: Callable[[], None] = lambda: None,
) -> Lane:
    """A lane with room for that many windows and outcomes."""
    governor, own = Governor(tracking or Tracking()), StreamMetrics(metrics, name, prompts)
    inbox, outbox = Mailbox(windows, wake), Mailbox(outcomes, wake)
    return Lane(name, PromptSet(parse_prompts(prompts)), own, governor, inbox, outbox, wake)
