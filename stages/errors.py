"""Error classes; the class decides how the daemon reacts.

MaskcastError
├── ConfigError     wrong usage or configuration: exit 2
├── SourceError     a source cannot be opened or read: a file's stream ends, a live source is opened again
│   ├── SourceStalled   a timeout of the source expired: it is opened again
│   └── SourceUnreachable   its server does not answer, or not yet: it is opened again
├── ModelError      a model cannot be loaded: exit 1
├── OutputError     a result cannot be written or published: exit 1
├── WireError       a message of the mask stream cannot be built or read: it is dropped
├── SnapshotError   a tracker's snapshot is damaged, or of another model or version: nothing has changed
└── WindowError     one window could not be processed: it is skipped, the stream continues

The text of each error is one line: what, where, what to do.
"""


class MaskcastError(Exception):
    """Base class of all errors with a text for the user."""

    exit_code = 1


class ConfigError(MaskcastError):
    """Wrong usage or configuration."""

    exit_code = 2


class SourceError(MaskcastError):
    """A source cannot be opened or read."""


class SourceStalled(SourceError):  # noqa: N818 -- named after the metric's reason "stalled"
    """A source sent nothing within its timeout; its connection may still be open."""


class SourceUnreachable(SourceError):  # noqa: N818 -- beside SourceStalled
    """The server of a source cannot be reached at present."""


class ModelError(MaskcastError):
    """A model cannot be loaded."""


class OutputError(MaskcastError):
    """A result cannot be written or published."""


class WireError(MaskcastError):
    """A message of the mask stream cannot be built or read."""


class SnapshotError(MaskcastError):
    """A snapshot of a tracker cannot be restored."""


class WindowError(MaskcastError):
    """One window could not be processed."""


def one_line(error: Exception) -> str:
    """The error's text on one line; errors that are not ours are prefixed with their class name."""
    text = " ".join(str(error).split())
    return text if isinstance(error, MaskcastError) else f"{type(error).__name__}: {text}"
