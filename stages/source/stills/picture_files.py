"""Picture files, one after the other, as a source."""

import logging
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate

from stages.errors import SourceError
from stages.pictures import read_picture
from stages.source.stills.listing import Entry
from stages.types import Clock, Frame

RATE = 25.0  # pictures per second where none is given, as FFmpeg's image2 demuxer assumes
_TIME_BASE = Fraction(1, 1000)
_MOST_NAMED = 10  # pictures that are named in the log when they cannot be read

log = logging.getLogger(__name__)


class PictureFiles:
    """Each file is a frame, of its own size. A Source (see stages.source.source).

    A file that cannot be read counts in ``decode_errors``, in ``index`` and in the next frame's ``dropped_before``, and
    keeps its time.
    """

    live, decoder, patience = False, "software", float("inf")

    def __init__(self, name: str, entries: Sequence[Entry]) -> None:
        """``name`` stands for the source in messages. Pictures without a duration are shown for 1/25 s."""
        durations = [entry.seconds or 1 / Fraction(RATE) for entry in entries]
        self._name = name
        self._paths = [entry.path for entry in entries]
        self._times = list(accumulate(durations, initial=Fraction(0)))  # one more than files: the end
        self.rate = float(len(entries) / self._times[-1])
        self.frames_expected: int | None = len(entries)
        self.decode_errors = 0
        self._closed = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """The pictures in order. Raises SourceError when none of them can be read."""
        dropped = 0
        for index, (path, time) in enumerate(zip(self._paths, self._times, strict=False)):
            if self._closed.is_set():
                return
            try:
                image = read_picture(path)
            except SourceError as error:
                self._damaged(error)
                dropped += 1
                continue
            yield Frame(index, round(time / _TIME_BASE), _TIME_BASE, float(time), Clock.FILE, image, dropped)
            dropped = 0
        if self.decode_errors == len(self._paths):
            raise SourceError(f"{self._name}: no picture of it can be read; check that a viewer shows them")

    def close(self) -> None:
        """End ``frames``."""
        self._closed.set()

    def _damaged(self, error: SourceError) -> None:
        self.decode_errors += 1
        if self.decode_errors <= _MOST_NAMED:
            reason = str(error).encode(errors="surrogateescape").decode(errors="backslashreplace")
            more = "; further ones are only counted" if self.decode_errors == _MOST_NAMED else ""
            log.warning("%s; it is left out%s", reason, more)
