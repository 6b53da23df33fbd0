"""What ends a training before its time; the text is one line: what, where, what to do."""

from stages.errors import MaskcastError


class TrainingError(MaskcastError):
    """The training cannot go on."""


class InterruptedTraining(MaskcastError):  # noqa: N818 - nothing went wrong
    """Somebody stopped it; what was reached is saved."""

    exit_code = 130
