"""Log lines as the other messages of the program: ``maskcast: warning: ...`` on stderr."""

import logging
import sys


class _Lines(logging.Handler):
    """Looks stderr up for each line, so that a progress bar can put it above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"maskcast: {record.levelname.lower()}: {self.format(record)}", file=sys.stderr, flush=True)


def set_up(debug: bool) -> None:
    """Show warnings and errors, with ``debug`` everything with its traceback."""
    logging.basicConfig(format="%(message)s", handlers=[_Lines()], level=logging.WARNING, force=True)
    logging.getLogger("daemon").setLevel(logging.DEBUG if debug else logging.WARNING)
