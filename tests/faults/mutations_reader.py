"""Reads video files in a separate process, so that a crash or hang of the library can be detected.

python -m tests.faults.mutations_reader reads one path per line from stdin and answers each with a line of JSON.
"""

import json
import math
import resource
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

from stages.errors import SourceError
from stages.source.source import open_source
from stages.types import Frame

LONGEST_SIDE = 16_384  # pixels; a larger frame is a sign of damage
VERDICTS = ("clean", "counted", "refused", "wrong", "crash", "hang")


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of reading one file.

    ``clean``: read to its end without an error. ``counted``: read to its end, with errors in decode_errors.
    ``refused``: a SourceError of one line. ``wrong``: anything else, described in ``detail``. ``crash``, ``hang``: the
    process died, or did not answer in time.
    """

    verdict: str
    detail: str = ""
    frames: int = 0
    errors: int = 0
    files: int = 0  # open in the reading process
    threads: int = 0
    peak: int = 0  # maximum resident memory so far, in bytes


def read(path: str) -> Reading:
    """Read the file with stages.source.source to its end and check all frames."""
    source, frames, told, said, wrong, latest, last = None, 0, 0, "", "", -math.inf, -1
    try:
        source = open_source(path)
        for frame in source.frames():
            wrong = wrong or _wrong(frame, last + 1 + frame.dropped_before, latest)
            frames, told = frames + 1, told + frame.dropped_before
            latest, last = frame.captured_at, frame.index
    except SourceError as error:
        said = str(error)
        if "\n" in said or len(said) > 300 or path not in said:
            wrong = wrong or f"the error is not one line that names the file: {said!r}"
    except Exception as error:
        wrong = wrong or f"{type(error).__name__}: {error}"
    finally:
        if source is not None:
            source.close()
    errors = 0 if source is None else source.decode_errors
    del source  # ends the decoder's threads
    if told > errors:
        wrong = wrong or f"frames told of {told} losses, {errors} were counted"
    if not (frames or said):
        wrong = wrong or "no frame and no error"
    verdict = "wrong" if wrong else "refused" if said else "counted" if errors else "clean"
    process = psutil.Process()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Reading(verdict, wrong or said, frames, errors, process.num_fds(), process.num_threads(), peak)


def _wrong(frame: Frame, place: int, latest: float) -> str:
    """A message when the frame is not valid, else ""."""
    image = frame.image
    if frame.index != place:
        return f"frame {frame.index} came at place {place}"
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.flags.c_contiguous:
        return f"frame {place} is {image.dtype} {image.shape}, contiguous {image.flags.c_contiguous}"
    if not all(0 < side <= LONGEST_SIDE for side in image.shape[:2]):
        return f"frame {place} is {image.shape[1]} x {image.shape[0]} pixels"
    if not latest <= frame.captured_at < math.inf:
        return f"frame {place} was captured at {frame.captured_at}, the one before at {latest}"
    return "" if frame.dropped_before >= 0 else f"frame {place} has dropped_before {frame.dropped_before}"


class Reader:
    """The reading process; it is started again after a crash or hang."""

    COMMAND = (sys.executable, "-X", "faulthandler", "-m", __spec__.name)

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._process: subprocess.Popen[str] | None = None
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - stderr, open as long as the reader

    def read(self, path: Path, patience: float) -> Reading:
        """The process' result for ``path``; ``hang`` after ``patience`` seconds."""
        if self._process is None:
            self._said.truncate(self._said.seek(0))
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        print(path, file=process.stdin, flush=True)
        answered, _, _ = select.select([process.stdout], [], [], patience)
        line = process.stdout.readline() if answered else ""
        if line:
            return Reading(**json.loads(line))
        if answered:  # its stdout is closed: it is about to exit
            process.wait(patience)
        self.close()
        self._said.seek(0)
        told = f"exit code {process.returncode}; " + " | ".join(self._said.read().splitlines()[:12])
        return Reading("crash", told) if answered else Reading("hang", f"no answer in {patience:.0f} s")

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(asdict(read(line.rstrip("\n")))), flush=True)


if __name__ == "__main__":
    main()
