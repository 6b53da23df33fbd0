"""What is to run: the streams of the configuration, and over them what was changed over HTTP."""

from dataclasses import dataclass, replace
from typing import Any, Self

from daemon.changes.change import Change, Changes, complete, shown, written
from daemon.errors import UnknownNameError
from daemon.settings.schema import Settings, StreamSettings
from stages.detection.prompts import Prompt

SAME, GONE = "the configuration says the same", "the configuration has no such stream any more"


@dataclass(frozen=True, slots=True)
class Difference:
    """A stream that is not as the configuration has it. Of one that was changed, the values are what differs."""

    stream: str
    what: str  # added, removed, changed
    file: dict[str, Any] | None  # None: the configuration has no such stream
    present: dict[str, Any] | None  # None: it does not run


@dataclass(frozen=True, slots=True)
class Wanted:
    """Settings, whose ``streams`` are the configuration's, and changes of these. Every change makes a new object."""

    settings: Settings
    changes: Changes

    @property
    def streams(self) -> dict[str, StreamSettings]:
        """Those that are to run, by name: first the configuration's, then those that were added."""
        streams = {**self._configured, **dict.fromkeys(self.changes)}
        for name, change in self.changes.items():
            streams[name] = change.applied_to(self._configured.get(name))
        return {name: stream for name, stream in streams.items() if stream is not None}

    @property
    def void(self) -> dict[str, str]:
        """Changes that change nothing, each with the reason."""
        return {name: reason for name, change in self.changes.items() if (reason := self._void(name, change))}

    @property
    def differences(self) -> list[Difference]:
        """What the changes amount to."""
        running = self.streams
        return [_difference(name, self._configured.get(name), running.get(name)) for name in self.changes]

    def with_stream(self, stream: StreamSettings) -> Self:
        """Run ``stream``, whatever the configuration has under its name."""
        own = StreamSettings.model_validate({**written(stream), "name": stream.name})
        configured, prompts = self._configured.get(stream.name), own.prompts
        if configured is not None and self._same(own, configured.model_copy(update={"prompts": prompts})):
            return self._with(stream.name, Change(prompts=prompts))
        return self._with(stream.name, Change(own))

    def with_prompts(self, name: str, prompts: tuple[Prompt, ...]) -> Self:
        """Let a stream look for ``prompts``. Raises UnknownNameError where none of this name is to run."""
        streams = self.streams
        if name not in streams:
            raise UnknownNameError.of_stream(name, streams)
        return self.with_stream(streams[name].model_copy(update={"prompts": prompts}))

    def without_stream(self, name: str) -> Self:
        """Run no stream of this name."""
        return self._with(name, Change())

    def as_configured(self, *names: str) -> Self:
        """Forget what was changed of these streams."""
        return replace(self, changes={name: change for name, change in self.changes.items() if name not in names})

    def _with(self, name: str, change: Change) -> Self:
        changed = replace(self, changes={**self.changes, name: change})
        return changed.as_configured(name) if name in changed.void else changed

    def _void(self, name: str, change: Change) -> str:
        configured = self._configured.get(name)
        if configured is None and change.prompts is not None:
            return GONE
        runs = change.applied_to(configured)
        same = runs is None if configured is None else runs is not None and self._same(runs, configured)
        return SAME if same else ""

    def _same(self, one: StreamSettings, other: StreamSettings) -> bool:
        return complete(one, self.settings) == complete(other, self.settings)

    @property
    def _configured(self) -> dict[str, StreamSettings]:
        return {stream.name: stream for stream in self.settings.streams}


def _difference(name: str, file: StreamSettings | None, present: StreamSettings | None) -> Difference:
    if file is None or present is None:
        what = "added" if file is None else "removed"
        return Difference(
            name, what, None if file is None else shown(file), None if present is None else shown(present)
        )
    before, after = written(file), written(present)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    values = ({key: values.get(key) for key in keys} for values in (shown(file), shown(present)))
    return Difference(name, "changed", *values)
