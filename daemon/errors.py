"""Errors that a caller of the running daemon gets, beside those of `stages.errors`."""

from collections.abc import Collection

from stages.errors import ConfigError, MaskcastError


class UnknownNameError(ConfigError):
    """No stream or track has this name or id."""

    @classmethod
    def of_stream(cls, name: str, streams: Collection[str]) -> "UnknownNameError":
        """The error for a stream's name that is not among ``streams``."""
        return cls(f'no stream is named "{name[:60]}"; there are: {", ".join(streams) or "none"}')


class ConflictError(ConfigError):
    """It conflicts with the present state, such as a name in use or a stream without a frame."""


class LeaseError(MaskcastError):
    """A message may not be sent: the stream has no lease."""


class BusyError(MaskcastError):
    """Nothing was done: the engine is loading models or has more to do than it can."""
