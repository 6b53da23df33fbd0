"""Brings the streams that run to what is wanted, while the models stay loaded."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
        added, removed, changed = apply(service, wanted)
    done = (("added", added), ("removed", removed), ("changed", changed))
    told = "; ".join(f"{what} {', '.join(names)}" for what, names in done if names) or "no stream has changed"
    log.info("the configuration was read again: %s", told, extra={"event": "reloaded"})
    if restart:
        log.warning("this counts from the next start on: %s", ", ".join(restart), extra={"event": "reloaded"})
    return Reloaded(added, removed, changed, list(restart))


def reload_and_tell(service: Service) -> None:
    """`reload` for whoever cannot be answered: the log says why nothing has changed."""
    try:
        reload(service)
    except MaskcastError as error:
        told = "the configuration was not read again, and nothing has changed: %s"
        log.warning(told, one_line(error), extra={"event": "reload_failed"})


def take_back(service: Service, stream: str | None = None) -> None:
    """Run ``stream``, or all of them, as the configuration has it again. Raises UnknownNameError, BusyError."""
    configuration = service.configuration
    with configuration.lock:
        changed = configuration.wanted.changes
        if stream is not None and stream not in changed:
            those = ", ".join(changed) or "none"
            raise UnknownNameError(f'nothing was changed of a stream named "{stream[:60]}"; there are: {those}')
        apply(service, configuration.wanted.as_configured(*(changed if stream is None else [stream])))


def check_prompts(service: Service, prompts: Sequence[Prompt]) -> None:
    """Raises ConfigError for too many prompts, and for one that the detector cannot read."""
    passes = service.engine.ask(lambda models: models.detector.passes(prompts))
    if passes > MOST_PASSES:
        most = f"the detector would run {passes} times at each keyframe, at most {MOST_PASSES}"
        raise ConfigError(f"{len(prompts)} prompts are too many: {most}; give fewer or shorter ones")


def apply(service: Service, wanted: Wanted) -> tuple[list[str], list[str], list[str]]:
    """Want this from now on: streams come, go and change. Returns the names of those that did, by what they did.

    Whoever calls it holds the configuration's lock. Raises ConfigError and BusyError before anything has changed.
    """
    before, after = _values(service.configuration.wanted), _values(wanted)
    added = [name for name in after if name not in before]
    removed = [name for name in before if name not in after]
    changed = [name for name in after if name in before and after[name] != before[name]]
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
    with service.held():
        _together([partial(_try, name, partial(service.remove, name)) for name in (*removed, *restarted)])
        for name in after:
            if name in added or name in restarted:
                _try(name, partial(service.add, streams[name]))
            elif name in changed:
                _try(name, partial(_ask, service, streams[name]))
    return added, removed, changed


def _values(wanted: Wanted) -> dict[str, dict[str, object]]:
    return {name: complete(stream, wanted.settings) for name, stream in wanted.streams.items()}


def _ask(service: Service, stream: StreamSettings) -> None:
    service.find(stream.name).lane.prompt_set.ask(stream.prompts)


def _together(actions: Sequence[Callable[[], None]]) -> None:
    """All at once: what a stream has read takes seconds to leave."""
    with ThreadPoolExecutor(thread_name_prefix="reconfigure") as executor:
        list(executor.map(lambda act: act(), actions))


def _try(name: str, act: Callable[[], object]) -> None:
    """One stream that fails does not keep the others from changing."""
    try:
        with suppress(UnknownNameError):  # another hand has removed it
            act()
    except MaskcastError as error:
        log.error("stream %s: %s", name, one_line(error), extra={"event": "error"})
