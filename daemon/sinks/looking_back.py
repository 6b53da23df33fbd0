"""The sink that tells a stream's trail which frames were published, with which objects, and which were shown."""

from daemon.lane.trail import Trail
from daemon.sinks.preview import Preview
from daemon.sinks.sink import FrameOutput, Need
from stages.output.wire import Header, Kind


class LookingBack:
    """Keeps the published frames for prompts that refer to them. A Sink (see daemon.sinks.sink).

    It goes before all others, so that what a person or a program sees is remembered already.
    """

    def __init__(self, trail: Trail, preview: Preview) -> None:
        self._trail, self._preview = trail, preview

    def need(self) -> Need:
        """Nothing: it keeps pictures as they came."""
        return Need.NOTHING

    def message(self, kind: Kind, header: Header) -> bool:
        """Remember the objects of a frame: a program that reads its masks may answer before `frame` is called."""
        if kind is Kind.MASKS:
            self._trail.announced(header["frame"], header["objects"])
        return True

    def frame(self, frame: FrameOutput) -> None:
        """Remember it."""
        self._trail.published(frame.result.frame, frame.header["objects"], self._preview.due)

    def finish(self) -> None:
        """Nothing is held open."""
