"""Receive the masks, pictures and events of a maskcast daemon.

``subscribe`` yields a ``Frame`` for each frame, ``events`` an ``Event`` for each event, ``read_recording`` the frames
of a recording. All errors are ``MaskcastError``.
"""

from maskcast_client.errors import KeysError, MaskcastError, MessageError, NothingReceivedError, VersionError
from maskcast_client.keys import Keys
from maskcast_client.messages import Event, Frame, Label, TrackedObject
from maskcast_client.recording import read_recording
from maskcast_client.subscription import events, subscribe

__all__ = [
    "Event",
    "Frame",
    "Keys",
    "KeysError",
    "Label",
    "MaskcastError",
    "MessageError",
    "NothingReceivedError",
    "TrackedObject",
    "VersionError",
    "events",
    "read_recording",
    "subscribe",
]
