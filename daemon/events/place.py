"""Where the database stands."""

from pathlib import Path

from daemon.events.database import NAME
from daemon.settings.schema import Settings

NOWHERE = "no events are kept; set record.dir (--record DIR) or state.dir"


def place(settings: Settings) -> Path | None:
    """The database's path: in ``record.dir`` of all streams, else in the folder of ``state``; None where neither is.

    A ``record.dir`` of one stream alone does not count.
    """
    folder = Path(settings.record.dir) if settings.record.dir else settings.state.folder
    return None if folder is None else folder / NAME
