"""A clip cut out of recorded videos, across their joints, by copying packets: nothing is coded again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
from av.error import FFmpegError

from stages.errors import OutputError

MOST_BYTES = 64 << 20  # of a clip: what is longer ends there
# the index comes first, so that a player begins at once
OPTIONS = {"movflags": "+faststart"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A video of a recording, whole or being written."""

    video: Path
    start: float  # seconds, capture time of its first frame


def cut(pieces: Sequence[Piece], start: float, end: float, target: Path) -> tuple[int, bool]:
    """Write ``target``, an MP4 of the frames captured from ``start`` to ``end``, in seconds; ``pieces`` are in order.

    It begins with the key picture at ``start`` or before, up to a second early, and ends where a piece has another
    picture size. A piece that is damaged or gone is passed over. Returns the number of frames, 0 where there is none,
    and whether what was captured after ``end`` has been seen, so that nothing more can come. Raises OutputError when
    it cannot be written.
    """
    copy: _Copy | None = None
    for piece in pieces:
        try:
            for packet, at in _packets(piece, start):
                if at > end or (copy is not None and not copy.accepts(packet)):
                    return _complete(copy), at > end
                if copy is None:
                    copy = _Copy(target, packet, at)
                copy.write(packet, at)
        except OSError:  # FFmpeg's are some of them
            continue
        except FFmpegError:
            continue
    return _complete(copy), False


def _complete(copy: "_Copy | None") -> int:
    return 0 if copy is None else copy.close()


def _packets(piece: Piece, start: float) -> Iterator[tuple[av.Packet, float]]:
    """The packets of a video from the key picture at ``start`` or before, with their capture times."""
    with av.open(str(piece.video)) as container:
        stream = container.streams.video[0]
        if start > piece.start:
            container.seek(int((start - piece.start) / stream.time_base), stream=stream)
        for packet in container.demux(stream):
            if packet.dts is not None:
                yield packet, piece.start + float(packet.pts * stream.time_base)


class _Copy:
    """The clip that is being written. Raises OutputError."""

    def __init__(self, target: Path, first: av.Packet, at: float) -> None:
        self._start, self._last, self._frames, self._bytes = at, -1, 0, 0
        self._format = _format_of(first)
        try:
            self._container = av.open(str(target), "w", format="mp4", options=OPTIONS)
            self._stream = self._container.add_stream_from_template(first.stream)
        except (OSError, FFmpegError) as error:
            raise _cannot_cut(error) from error

    def accepts(self, packet: av.Packet) -> bool:
        """It is coded as the packets before, and there is room for it."""
        return _format_of(packet) == self._format and self._bytes + packet.size <= MOST_BYTES

    def write(self, packet: av.Packet, at: float) -> None:
        unit = packet.time_base
        pts = max(round((at - self._start) / unit), self._last + 1)
        self._last, self._frames, self._bytes = pts, self._frames + 1, self._bytes + packet.size
        packet.stream, packet.pts, packet.dts, packet.time_base = self._stream, pts, pts, unit
        try:
            self._container.mux(packet)
        except (OSError, FFmpegError) as error:
            raise _cannot_cut(error) from error

    def close(self) -> int:
        try:
            self._container.close()
        except (OSError, FFmpegError) as error:
            raise _cannot_cut(error) from error
        return self._frames


def _format_of(packet: av.Packet) -> tuple[object, ...]:
    context = packet.stream.codec_context
    return context.name, context.width, context.height, bytes(context.extradata or b"")


def _cannot_cut(error: OSError | FFmpegError) -> OutputError:
    return OutputError(f"a clip cannot be written: {error.strerror or error}; free some space in the folder TMPDIR")
