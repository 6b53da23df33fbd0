"""The tree of errors; the class decides what the daemon does.

MaskcastError
├── ConfigError     the user asked for something that cannot be: exit 2
├── SourceError     a source cannot be opened or read: a file's stream ends, a live source is tried again
│   └── SourceStalled   nothing came in time
├── ModelError      a model cannot be loaded: exit 1
├── OutputError     a result cannot be written or published: exit 1
├── WireError       a message of the mask stream cannot be built or read: it is dropped
└── WindowError     one window could not be processed: it is skipped, the stream goes on

The text of each is one line: what, where, what to do.
"""


class MaskcastError(Exception):
    """Base of every error whose text is meant for the user."""

    exit_code = 1


class ConfigError(MaskcastError):
    """Wrong usage or configuration."""

    exit_code = 2


class SourceError(MaskcastError):
    """A source cannot be opened or read."""


class SourceStalled(SourceError):  # noqa: N818 -- what happened, as in the metric's reasons
    """Nothing came from a source in time; its connection may well be open."""


class ModelError(MaskcastError):
    """A model cannot be loaded."""


class OutputError(MaskcastError):
    """A result cannot be written or published."""


class WireError(MaskcastError):
    """A message of the mask stream cannot be built or read."""


class WindowError(MaskcastError):
    """One window could not be processed."""


def one_line(error: Exception) -> str:
    """For people: our own errors say what is wrong themselves, others need their name."""
    text = " ".join(str(error).split())
    return text if isinstance(error, MaskcastError) else f"{type(error).__name__}: {text}"
