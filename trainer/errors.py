"""Errors that end a training early; the text is one line: what, where, what to do."""

from stages.errors import MaskcastError


class TrainingError(MaskcastError):
    """The training failed, for example by divergence or lack of memory."""


class InterruptedTraining(MaskcastError):  # noqa: N818 - not a failure
    """The user stopped the training; its state is saved."""

    exit_code = 130
