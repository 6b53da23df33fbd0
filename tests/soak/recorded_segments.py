"""Checks segments of a finished recording: each plays, and the frames of all are there once and in order."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import av

from stages.recording.segment import lines_of, videos
from tests.support.program import lines_of as headers_of

TICKS = 0.005  # seconds by which a time in a video may differ from its line's


def complaints(folder: Path, stream: str, last_second: int, holes: bool = False) -> Iterator[str]:
    """What is wrong with the segments of ``stream``; nothing where all is well.

    ``last_second``: frames that a killed run may have lost from a video. ``holes``: frames may be missing.
    """
    gone: int | None = None
    for video in videos(folder, stream):
        name = f"{video.parent.name}/{video.name}"
        done = subprocess.run(
            ["ffmpeg", "-v", "error", "-i", str(video), "-f", "null", "-"], capture_output=True, text=True, check=False
        )
        if done.returncode or done.stderr:
            yield f"{name} does not play: {done.returncode} {done.stderr.strip()[:200]}"
            continue
        headers = headers_of(lines_of(video))
        times = _times(video)
        if not 0 <= len(headers) - len(times) <= last_second:
            yield f"{name} has {len(times)} pictures and {len(headers)} lines"
        for time, header in zip(times, headers, strict=False):
            if abs(time - (header["captured_at"] - headers[0]["captured_at"])) > TICKS:
                yield f"{name}: frame {header['frame']} is shown at {time:.3f} s"
                break
        for header in headers:
            before = header["frame"] - 1 - header["dropped_before"]
            if gone is not None and (header["frame"] <= gone or (before != gone and not holes)):
                yield f"{name}: frame {header['frame']} comes after {gone}, {header['dropped_before']} dropped between"
            gone = header["frame"]


def _times(video: Path) -> list[float]:
    """Of its pictures, in seconds; the first is a key picture."""
    with av.open(str(video)) as container:
        frames = list(container.decode(video=0))
        assert frames[0].key_frame
        return [float(frame.time) for frame in frames]
