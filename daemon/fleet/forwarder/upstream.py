"""What a forwarder reads: the daemons' endpoints and the names of their streams, in a file that is replaced whole."""

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from daemon.settings import value_types as kind
from stages.errors import ConfigError
from stages.output.atomic_file import write_atomically


class Upstream(BaseModel):
    """The daemons to read from, and the streams whose last status is kept for late joiners."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    daemons: frozenset[kind.Endpoint] = frozenset()
    streams: frozenset[kind.StreamName] = frozenset()


def write_upstream(path: Path, daemons: Iterable[str], streams: Iterable[str]) -> None:
    """Replace the file in one step; forwarders that watch it take the change within a second. Raises OSError."""
    write_atomically(path, json.dumps({"daemons": sorted(daemons), "streams": sorted(streams)}, indent=1).encode())


class UpstreamFile:
    """Reads the file again when it was replaced or changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None  # inode, time of change, size

    def changed(self) -> Upstream | None:
        """What the file says, if it is another file than at the last call; None otherwise, and while there is none.

        Raises ConfigError when it cannot be read, once for each version of the file.
        """
        try:
            status = self._path.stat()
            seen = status.st_ino, status.st_mtime_ns, status.st_size
            if seen == self._seen:
                return None
            self._seen = seen
            return Upstream.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror}; give it to the user that runs this") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise ConfigError(
                f"{self._path}: {place}: {first['msg'].removeprefix('Value error, ')}; write it as in "
                '{"daemons": ["tcp://gpu-1:5555"], "streams": ["gate"]}'
            ) from None
