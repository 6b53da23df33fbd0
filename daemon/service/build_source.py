"""Opens a stream's source as its settings ask: the only place that maps them to `open_source`."""

from collections.abc import Callable
from functools import partial

from daemon.settings.schema import StreamSettings
from stages.source.rgb.pixel_aspect import parse_pixel_aspect
from stages.source.rtsp_transport import RtspTransport
from stages.source.source import Source, open_source


def build_source(stream: StreamSettings, gpu: int | None) -> Callable[[], Source]:
    """Opens the source, anew with each call, as `open_source` does; ``stream`` is resolved.

    All calls share what is known of the camera's transport.
    """
    return partial(
        open_source,
        stream.source,
        gpu,
        transport=RtspTransport(stream.transport),
        max_fps=stream.tracking.max_fps,
        pixel_aspect=parse_pixel_aspect(stream.pixel_aspect),
    )
