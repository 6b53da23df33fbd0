"""Brings the streams that run to what is wanted, while the models stay loaded."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from daemon.api.control import Reloaded
from daemon.changes.change import complete
from daemon.changes.wanted import Wanted
from daemon.errors import ConflictError, UnknownNameError
from daemon.service.service import Service
from daemon.settings.schema import StreamSettings
from stages.detection.prompts import Prompt
from stages.errors import ConfigError, MaskcastError, one_line

MOST_PASSES = 8  # of the detector for one keyframe of one stream, while others wait

log = logging.getLogger(__name__)


def reload(service: Service) -> Reloaded:
    """Read the configuration again and apply what has changed.

    Raises ConfigError where it is broken, and BusyError; then nothing has changed.
    """
    with service.configuration.lock:
        wanted, restart = service.configuration.read()
        done = apply(service, wanted)
    log.info("the configuration was read again: %s", done, extra={"event": "reloaded"})
    if restart:
        log.warning("this counts from the next start on: %s", ", ".join(restart), extra={"event": "reloaded"})
    return Reloaded(done.added, done.removed, done.changed, list(restart), done.failed)


def reload_and_tell(service: Service) -> None:
    """`reload` for whoever cannot be answered: the log says why nothing has changed."""
    try:
        reload(service)
    except MaskcastError as error:
        told = "the configuration was not read again, and nothing has changed: %s"
        log.warning(told, one_line(error), extra={"event": "reload_failed"})


def take_back(service: Service, stream: str | None = None) -> None:
    """Run ``stream``, or all of them, as the configuration has it again.

    Raises UnknownNameError, BusyError, and ConfigError when one of them cannot run so.
    """
    configuration = service.configuration
    with configuration.lock:
        changed = configuration.wanted.changes
        if stream is not None and stream not in changed:
            those = ", ".join(changed) or "none"
            raise UnknownNameError(f'nothing was changed of a stream named "{stream[:60]}"; there are: {those}')
        done = apply(service, configuration.wanted.as_configured(*(changed if stream is None else [stream])))
    if done.failed:
        raise ConfigError("; ".join(f"stream {name} does not run so: {why}" for name, why in done.failed.items()))


def check_prompts(service: Service, prompts: Sequence[Prompt]) -> None:
    """Raises ConfigError for too many prompts, and for one that the detector cannot read."""
    passes = service.engine.ask(lambda models: models.detector.passes(prompts))
    if passes > MOST_PASSES:
        most = f"the detector would run {passes} times at each keyframe, at most {MOST_PASSES}"
        raise ConfigError(f"{len(prompts)} prompts are too many: {most}; give fewer or shorter ones")


@dataclass(frozen=True, slots=True)
class Applied:
    """Names of streams, by what they did."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    failed: dict[str, str]  # which are none of the others, and why

    def __str__(self) -> str:
        done = (("added", self.added), ("removed", self.removed), ("changed", self.changed), ("failed", self.failed))
        return "; ".join(f"{what} {', '.join(names)}" for what, names in done if names) or "no stream has changed"


def apply(service: Service, wanted: Wanted) -> Applied:
    """Want this from now on: streams come, go and change. One that is wanted and does not run is tried again.

    Whoever calls it holds the configuration's lock. Raises ConfigError and BusyError before anything has changed.
    """
    before, after = _values(service.configuration.wanted), _values(wanted)
    added = [name for name in after if name not in before or name not in service.streams]
    removed = [name for name in before if name not in after]
    changed = [name for name in after if name not in added and after[name] != before[name]]
    streams = wanted.streams
    if service.draining:
        raise ConflictError("the daemon is draining: its streams are not changed any more")
    for name in added:
        service.check_room(name)
    if service.models_loaded:
        for name in (*added, *changed):
            check_prompts(service, streams[name].prompts)
    service.configuration.put(wanted)
    restarted = [name for name in changed if {**after[name], "prompts": None} != {**before[name], "prompts": None}]
    failed: dict[str, str] = {}
    with service.held():
        if added or removed or restarted:
            service.stay()
        _together([partial(_try, name, partial(service.remove, name), failed) for name in (*removed, *restarted)])
        for name in after:
            if name in added or name in restarted:
                _try(name, partial(service.add, streams[name]), failed)
            elif name in changed:
                _try(name, partial(_ask, service, streams[name]), failed)
    added, removed, changed = ([name for name in names if name not in failed] for names in (added, removed, changed))
    return Applied(added, removed, changed, failed)


def _values(wanted: Wanted) -> dict[str, dict[str, object]]:
    return {name: complete(stream, wanted.settings) for name, stream in wanted.streams.items()}


def _ask(service: Service, stream: StreamSettings) -> None:
    service.find(stream.name).lane.prompt_set.ask(stream.prompts)


def _together(actions: Sequence[Callable[[], None]]) -> None:
    """All at once: what a stream has read takes seconds to leave."""
    with ThreadPoolExecutor(thread_name_prefix="reconfigure") as executor:
        list(executor.map(lambda act: act(), actions))


def _try(name: str, act: Callable[[], object], failed: dict[str, str]) -> None:
    """One stream that fails, for whatever reason, does not keep the others from changing."""
    try:
        with suppress(UnknownNameError):  # another hand has removed it
            act()
    except Exception as error:
        failed[name] = one_line(error)
        log.error("stream %s: %s", name, failed[name], extra={"event": "error"})
        log.debug("stream %s", name, exc_info=True)
