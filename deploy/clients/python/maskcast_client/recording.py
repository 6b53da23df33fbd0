"""A recording of the daemon, read like a subscription."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from maskcast_client.errors import MaskcastError
from maskcast_client.messages import Frame, read_frame
from maskcast_client.sequence import Sequence
from maskcast_client.wire import read_header


def read_recording(path: str | Path) -> Generator[Frame, None, None]:
    """The frames in ``path``, a ``<stream>.masks.jsonl`` of ``maskcast run --record``.

    They have pictures where they were recorded (``record.frames``). A last line that was cut off, as by a killed
    daemon, is left out. Raises MaskcastError when the file cannot be read, MessageError and VersionError, which name
    the line.
    """
    path = Path(path)
    pictures = path.parent / f"{path.name.removesuffix('.masks.jsonl')}-frames"
    sequence, prompts = Sequence(), dict[str, int]()
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    header = read_header(line)
                    frame = read_frame(header, *sequence.follow(header), prompts)
                except MaskcastError as error:
                    raise type(error)(f"{path}, line {number}: {error}") from None
                picture = pictures / f"{frame.index:06d}.jpg"
                yield replace(frame, picture=picture) if picture.exists() else frame
    except OSError as error:
        raise MaskcastError(f"{path}: {(error.strerror or str(error)).lower()}; name a .masks.jsonl file") from None
