"""What the last published frame of a stream showed, for whoever asks."""

from dataclasses import dataclass

from daemon.control import TrackView
from stages.output.wire import Header


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One frame; before the first there is none."""

    epoch: int = 0
    frame: int | None = None
    width: int = 0
    height: int = 0
    tracks: tuple[TrackView, ...] = ()


class TrackAges:
    """How long each track has been there, by the frames' own times."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}  # of those on the last frame

    def look(self, header: Header) -> Snapshot:
        """The frame of a ``masks`` header, the next of its stream."""
        now: float = header["captured_at"]
        objects = header["objects"]
        self._since = {thing["id"]: self._since.get(thing["id"], now) for thing in objects}
        tracks = tuple(
            TrackView(
                thing["id"],
                thing["prompt"],
                thing["score"],
                thing["presence"],
                thing["state"],
                max(0.0, now - self._since[thing["id"]]),
                tuple(thing["box"]),
                thing["area"],
            )
            for thing in objects
        )
        return Snapshot(header["epoch"], header["frame"], header["width"], header["height"], tracks)
