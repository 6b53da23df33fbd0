"""How long a live source may be silent: as long as suits the rate of pictures that it has shown."""

from dataclasses import dataclass

_INTERVALS = 4  # the longest interval between pictures, so many times, may pass without one
_PICTURES = 5  # that must have come before their rate counts
_DECAY = 0.02  # seconds a second by which a long interval is forgotten


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts of a network source or device, in seconds. A source that shows a slower rate gets more of ``read``."""

    open: float = 5  # to connect, and mostly to detect the format
    first: float = 30  # for the first pictures: those of a slow camera, or at the end of a long GOP
    read: float = 3  # for the next packet
    decode: float = 10  # for a frame that can be decoded, while packets arrive


class Patience:
    """The seconds that may pass without a packet (``silence``), and with packets but without a picture (``blind``).

    ``float`` gives ``silence``: so it can be PyAV's read timeout, which PyAV converts anew for each ``demux()``.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._segmented = False
        self._pictures = 0
        self._presented: float | None = None  # PTS of the last picture
        self._longest = 0.0  # seconds between two pictures, decaying

    def opened(self, segmented: bool) -> None:
        """The source is open. ``segmented``: pictures come a segment at a time, so their intervals say little."""
        self._segmented = segmented

    def arrived(self, waited: float, presented: float | None) -> None:
        """A picture has come, ``waited`` seconds after the one before or after the opening; ``presented``: its PTS.

        The PTS, in seconds, tell the rate of pictures that came together, as those read while the source was opened.
        """
        self._pictures += 1
        if self._pictures == 1:  # the source itself was waited for
            waited = 0.0
        if presented is not None and self._presented is not None:
            waited = max(waited, min(presented - self._presented, self._timeouts.first / _INTERVALS))
        self._presented = presented
        self._longest = max(waited, self._longest - _DECAY * waited)

    @property
    def silence(self) -> float:
        if self._segmented or self._pictures < _PICTURES:
            return max(self._timeouts.first, self._slow)
        return max(self._timeouts.read, self._slow)

    @property
    def blind(self) -> float:
        if self._pictures < _PICTURES:
            return max(self._timeouts.first, self._slow)
        return max(self._timeouts.decode, self._slow)

    def __float__(self) -> float:
        return float(self.silence)

    @property
    def _slow(self) -> float:
        return _INTERVALS * self._longest
