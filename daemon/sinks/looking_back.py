"""The sink that tells a stream's trail which frames were published, with which objects, and which were shown."""

from daemon.lane.trail import Trail
from daemon.sinks.preview import Preview
from daemon.sinks.sink import FrameOutput, Need
from stages.output.wire import Header, Kind


class LookingBack:
    """Keeps the published frames for prompts that refer to them. A Sink (see daemon.sinks.sink).

    It goes before ``preview``, so that what a person sees is remembered already.
    """

    def __init__(self, trail: Trail, preview: Preview) -> None:
        self._trail, self._preview = trail, preview

    def need(self) -> Need:
        """Nothing: it keeps pictures as they came."""
        return Need.NOTHING

    def message(self, kind: Kind, header: Header) -> bool:  # noqa: ARG002 - as of all sinks
        """Nothing: a frame comes with the header of its masks."""
        return True

    def frame(self, frame: FrameOutput) -> None:
        """Remember it."""
        self._trail.published(frame.result.frame, frame.header["objects"], self._preview.due)

    def finish(self) -> None:
        """Nothing is held open."""
