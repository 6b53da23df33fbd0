"""The errors of this package. Each message is one line: what is wrong, where, what to do."""


class MaskcastError(Exception):
    """Any error of this package."""


class MessageError(MaskcastError):
    """A message or a line of a recording is damaged, or is not maskcast's."""


class VersionError(MaskcastError):
    """The daemon speaks a version of the mask stream that this package does not know."""


class NothingReceivedError(MaskcastError, TimeoutError):
    """Not one message came within the time allowed."""


class KeysError(MaskcastError):
    """The daemon does not accept these keys, or the keys are not valid."""
