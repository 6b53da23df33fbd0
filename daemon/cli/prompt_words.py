"""Which of the words after ``--prompt`` are sources: argparse takes all of them for its values.

A source is an address, what ends like a video or a picture, what begins or ends as only paths do, and an existing file
with a dot or a slash in its name. All else is a prompt, whatever the current folder holds: a file "car" does not hide
the prompt. Where both are meant to be possible, a warning says how to write the other one.
"""

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath

_MEDIA = {  # endings of files that hold video or a picture
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
    ".flv", ".wmv", ".3gp", ".ogv", ".mxf", ".y4m", ".h264", ".h265", ".m3u8", ".mpd", ".sdp",
    ".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic", ".jp2",
}  # fmt: skip
_ADDRESS = re.compile(r".*://.*|\S+@\S+|[\w.-]+:(/\S*|\d+(/\S*)?)", re.DOTALL)  # also one that lacks its scheme
_PATH = re.compile(r"(\.{0,2}|~\w*)/.*|[^\s/]+/", re.DOTALL)

log = logging.getLogger(__name__)


def split_prompts(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The values of --prompt as sources, and as prompts. Logs a warning for a prompt that also names a file here."""
    sources = [word for word in words if _is_source(word)]
    prompts = [word for word in words if word not in sources]
    for word in prompts:
        if _exists(word):
            log.warning('"%s" is a prompt, though a file or folder here has that name; write ./%s for that', word, word)
    return sources, prompts


def _is_source(word: str) -> bool:
    if _ADDRESS.fullmatch(word) or _PATH.fullmatch(word) or PurePath(word).suffix.lower() in _MEDIA:
        return True
    return ("." in word or "/" in word) and _exists(word) and not Path(word).is_dir()


def _exists(word: str) -> bool:
    with suppress(OSError, ValueError):  # a text that is too long for a name, or with a null character
        return Path(word).exists()
    return False
