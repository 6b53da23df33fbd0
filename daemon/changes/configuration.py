"""The configuration of a daemon that runs, and what was changed of it over HTTP."""

import logging
import threading
from collections.abc import Callable

from daemon.changes.change import Changes
from daemon.changes.state_file import StateFile
from daemon.changes.wanted import GONE, Wanted
from daemon.errors import ConflictError
from daemon.settings.schema import PUBLISH_KEYS_OF_A_STREAM, SECTIONS_OF_A_STREAM, Settings

log = logging.getLogger(__name__)


class Configuration:
    """Holds what is wanted, and keeps the changes in a file.

    ``lock`` is held by whoever changes streams, until the change is done and put here: one comes after the other.
    """

    def __init__(
        self, settings: Settings, read: Callable[[], Settings] | None = None, file: StateFile | None = None
    ) -> None:
        """``read`` reads the settings again. Raises ConfigError where ``file`` cannot be read."""
        self.lock = threading.RLock()
        self.problem = "" if file is not None else "state.dir is not set"  # why changes do not last
        self._started, self._read, self._file = settings, read, file  # models and ports stay those of the start
        self._saved: Changes = {} if file is None else file.load()
        self.wanted = Wanted(settings, {})
        self.put(Wanted(settings, self._saved))
        if self.wanted.changes:
            changed = ", ".join(self.wanted.changes)
            log.info("not as the configuration has it, but as changed over HTTP: %s", changed, extra={"event": "state"})

    @property
    def settings(self) -> Settings:
        """The settings in force, with the streams that are to run."""
        wanted = self.wanted
        return wanted.settings.model_copy(update={"streams": tuple(wanted.streams.values())})

    def read(self) -> tuple[Wanted, tuple[str, ...]]:
        """What would be wanted if the configuration were read again, and dotted keys that count from a start on only.

        Raises ConfigError where it is wrong, ConflictError where there is none.
        """
        if self._read is None:
            raise ConflictError("this daemon has no configuration that can be read again")
        new = self._read()
        return Wanted(in_force(self._started, new), self.wanted.changes), needing_restart(self._started, new)

    def put(self, wanted: Wanted) -> None:
        """Want this from now on, without changes that are void. Where they cannot be kept, ``problem`` says so."""
        for name, reason in wanted.void.items():
            level = logging.WARNING if reason == GONE else logging.INFO
            event = {"event": "change_dropped"}
            log.log(level, "stream %s: what was changed over HTTP is dropped: %s", name, reason, extra=event)
        self.wanted = wanted.as_configured(*wanted.void)
        if self._file is None or (self.wanted.changes == self._saved and not self.problem):
            return
        try:
            self._file.save(self.wanted.changes)
        except OSError as error:
            problem = f"{self._file.path} cannot be written: {error.strerror}"
            if problem != self.problem:
                log.warning("%s; what is changed over HTTP is not kept", problem, extra={"event": "state"})
            self.problem = problem
            return
        self._saved, self.problem = self.wanted.changes, ""


_FROM_A_START_ON = {"record": ("dir",)}  # of all streams: where the database stands is settled at the start


def in_force(started: Settings, new: Settings) -> Settings:
    """The settings of a daemon that has ``started`` and reads ``new``: what streams do can change, the rest cannot."""
    tables = {}
    for section in SECTIONS_OF_A_STREAM:
        values = getattr(new, section)
        fresh = {key: getattr(values, key) for key in type(values).model_fields if _counts_at_once(section, key)}
        tables[section] = getattr(started, section).model_copy(update=fresh)
    return started.model_copy(update={**tables, "streams": new.streams})


def needing_restart(started: Settings, new: Settings) -> tuple[str, ...]:
    """The dotted keys that differ and cannot change while the daemon runs."""
    keys = ((section, key) for section in _tables(started) for key in type(getattr(started, section)).model_fields)
    return tuple(
        f"{section}.{key}"
        for section, key in keys
        if not _counts_at_once(section, key)
        and getattr(getattr(started, section), key) != getattr(getattr(new, section), key)
    )


def _tables(settings: Settings) -> list[str]:
    return [name for name in type(settings).model_fields if name != "streams"]


def _counts_at_once(section: str, key: str) -> bool:
    if section == "publish":
        return key in PUBLISH_KEYS_OF_A_STREAM
    return section in SECTIONS_OF_A_STREAM and key not in _FROM_A_START_ON.get(section, ())
