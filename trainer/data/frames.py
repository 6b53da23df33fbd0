"""Extract frames of a recording as JPEG files, to be sorted into class folders for training."""

import re
from pathlib import Path

from stages.errors import ConfigError
from stages.output.annotate import encode_jpeg
from stages.source.address import redact
from stages.source.source import open_source
from trainer.checkpoint import create_folder, write_atomically
from trainer.progress_bar import progress_bar

QUALITY = 95  # of the JPEG files
_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0}


def parse_interval(text: str) -> float:
    """Seconds from a text such as "1s", "0.5s", "200ms" or "2min". Raises ConfigError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|s|min)", text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not seconds:
        raise ConfigError(f'--every {text}: give a time above zero, as in "1s", "500ms" or "2min"')
    return seconds


def cut_frames(recording: str, every: float, out: Path) -> int:
    """Write one frame of ``recording`` per ``every`` seconds into ``out``; returns the number of files.

    Files are named by their time: <stem>-<milliseconds>.jpg. Raises ConfigError, SourceError, OutputError.
    """
    source = open_source(recording)
    if source.live:
        source.close()
        raise ConfigError(f"--frames-from {redact(recording)}: it never ends; give a recording")
    create_folder(out, 0)
    stem = re.sub(r"[^\w.-]+", "-", Path(recording).stem)  # ``recording`` may be a URL
    written, due = 0, 0.0
    try:
        for frame in progress_bar(source.frames(), source.frames_expected, "frames read"):
            if frame.captured_at + 1e-6 < due:  # 1e-6: rounding of the times
                continue
            name = f"{stem}-{round(frame.captured_at * 1000):09d}.jpg"
            write_atomically(out / name, encode_jpeg(frame.image, QUALITY))
            written += 1
            due = (frame.captured_at + 1e-6) // every * every + every
    finally:
        source.close()
    return written
