"""What was changed of one stream over HTTP, and the values of streams."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from daemon.settings.schema import Settings, StreamSettings
from stages.detection.prompts import Prompt
from stages.source.address import redact


@dataclass(frozen=True, slots=True)
class Change:
    """One of: the stream runs as ``stream`` says; the configuration's stream looks for ``prompts``; it is removed."""

    stream: StreamSettings | None = None
    prompts: tuple[Prompt, ...] | None = None

    def applied_to(self, configured: StreamSettings | None) -> StreamSettings | None:
        """The stream that runs, where the configuration has ``configured``; None: it does not run."""
        if self.prompts is None or configured is None:
            return self.stream
        return configured.model_copy(update={"prompts": self.prompts})


Changes = Mapping[str, Change]  # by the stream's name


def written(stream: StreamSettings) -> dict[str, Any]:
    """What was set of a stream, as in TOML or JSON, without its name."""
    known = stream.model_fields_set & StreamSettings.model_fields.keys()  # a stream over HTTP has more
    values = stream.model_dump(mode="json", exclude_unset=True, include=known - {"name", "prompts"})
    return {**values, "prompts": _texts(stream)}


def complete(stream: StreamSettings, settings: Settings) -> dict[str, Any]:
    """All values of a stream, set or not. Two streams of which these are equal do the same."""
    values = stream.resolved(settings).model_dump(include=StreamSettings.model_fields.keys() - {"prompts"})
    return {**values, "prompts": _texts(stream)}


def shown(stream: StreamSettings) -> dict[str, Any]:
    """What was set of a stream, with nothing secret in its source."""
    return {**written(stream), "source": redact(stream.source)}


def _texts(stream: StreamSettings) -> list[str]:
    prompts: tuple[Prompt, ...] = stream.prompts
    return [prompt.written for prompt in prompts]
