"""Looks at a stream's prompts as soon as the models are loaded, and whenever they change."""

import logging

from daemon.engine.stream_state import StreamState
from daemon.lane.outcome import Notice
from stages.detection.base import Detector
from stages.errors import ConfigError, one_line
from stages.types import StreamEvent

log = logging.getLogger(__name__)


def check_prompts(detector: Detector, stream: StreamState) -> None:
    """Log a warning for each prompt with unknown words; end a stream with a prompt that the detector cannot read.

    Does nothing for prompts that were looked at before.
    """
    asked = stream.lane.prompt_set.asked
    if asked is stream.checked:
        return
    stream.checked = asked
    try:
        doubts = detector.doubts(asked)
    except ConfigError as error:
        stream.lane.error = error.with_traceback(None)
        stream.lane.tell(Notice(StreamEvent.ERROR, one_line(error)), epoch=0)
        stream.lane.inbox.close(discard=True)
        return
    for doubt in doubts:
        log.warning("stream %s: %s", stream.lane.name, doubt, extra={"event": "prompt_doubt"})
