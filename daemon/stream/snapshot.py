"""What the last published frame of a stream showed."""

from dataclasses import dataclass

from stages.output.wire import Header


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last published frame; before the first there is none."""

    epoch: int = 0
    frame: int | None = None
    pts: int | None = None
    width: int = 0
    height: int = 0
    tracks: tuple[Header, ...] = ()  # entries of the header's ``objects`` without masks, with the track's ``age`` (s)

    @property
    def picture(self) -> tuple[int, ...] | None:
        """The shape of its picture (H, W, 3); None before the first."""
        return (self.height, self.width, 3) if self.frame is not None else None


class TrackAges:
    """How long each track has existed, by the frames' own times."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}  # by id, for the tracks on the last frame

    def snapshot(self, header: Header) -> Snapshot:
        """The snapshot of a ``masks`` header, the next of its stream."""
        now: float = header["captured_at"]
        objects = header["objects"]
        self._since = {entry["id"]: self._since.get(entry["id"], now) for entry in objects}
        tracks = tuple(
            {key: value for key, value in entry.items() if key != "mask"}
            | {"age": max(0.0, now - self._since[entry["id"]])}
            for entry in objects
        )
        return Snapshot(header["epoch"], header["frame"], header["pts"], header["width"], header["height"], tracks)
