"""Find the pictures of a folder, a pattern or a list."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from glob import has_magic
from pathlib import Path, PurePath

from stages.errors import SourceError
from stages.plural import plural

PICTURES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm")
)
VIDEOS = frozenset((".mp4", ".mkv", ".mov", ".avi", ".ts", ".m4v", ".webm", ".mpg", ".mpeg", ".wmv", ".flv"))
_NUMBER = re.compile(r"%(?:0(\d+))?d")
_LIST_LINE = re.compile(rb"(ffconcat version|file)[ \t]")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a list."""

    path: Path
    seconds: Fraction | None  # how long it is shown; None: not said


def exists(path: Path) -> bool:
    """Whether there is such a file or folder, as far as may be seen."""
    try:
        return path.exists()
    except OSError:  # no permission, or a name that is too long
        return False


def is_picture(path: PurePath) -> bool:
    """Whether the name is that of a picture which OpenCV reads."""
    return path.suffix.lower() in PICTURES


def pictures_in(folder: Path, name: str) -> list[Path]:
    """The pictures of a folder in natural order: 2.png before 10.png. Hidden files and other files are left out.

    ``name`` stands for the folder in messages. Raises SourceError when it has none.
    """
    try:
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
        pictures = _in_order(path for path in inside if is_picture(path) and path.is_file())
    except OSError as error:
        raise _unreadable(name, error) from None
    if not pictures:
        raise SourceError(f"cannot open {name}: {_without_pictures(inside)}")
    return pictures


def is_pattern(path: str) -> bool:
    """Whether ``path`` can be a pattern: with the number of a picture, as in frames/%04d.png, or with * or ?."""
    return bool(_NUMBER.search(Path(path).name)) or has_magic(path)


def pictures_of(pattern: str, name: str) -> list[Path]:
    """The pictures that a pattern names, in the order of their numbers or names.

    The first number may be any, and numbers may be missing. Raises SourceError when there is none.
    """
    path = Path(pattern)
    if _NUMBER.search(path.name):
        try:
            found = _numbered(path.parent, path.name)
        except OSError as error:
            raise _unreadable(name, error) from None
    else:
        files = [file for file in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if file.is_file()]
        found = _in_order(file for file in files if is_picture(file))
        if files and not found:
            raise SourceError(
                f"cannot open {name}: the pattern names no pictures; write it without quotes to make each file a stream"
            )
    if not found:
        raise SourceError(f"cannot open {name}: no picture has such a name; check the folder and the pattern")
    return found


def is_list(path: Path) -> bool:
    """Whether the file is a list in the form of FFmpeg's concat demuxer."""
    with path.open("rb") as file:
        head = file.read(4096)
    lines = (line.strip() for line in head.removeprefix(b"\xef\xbb\xbf").splitlines())
    return bool(_LIST_LINE.match(next((line for line in lines if line and not line.startswith(b"#")), b"")))


def entries_of(path: Path, name: str) -> list[Entry]:
    """The files that a list names, with their durations. Raises SourceError for one that is missing.

    Relative paths start at the list's folder. Directives other than ``file`` and ``duration`` are left to FFmpeg.
    """
    entries: list[Entry] = []
    for number, line in enumerate(path.read_text(errors="surrogateescape").splitlines(), start=1):
        try:
            words = shlex.split(line, comments=True)
            if len(words) == 2 and words[0] == "file":
                entries.append(Entry(path.parent / words[1].removeprefix("file:"), None))
            elif len(words) == 2 and words[0] == "duration" and entries:
                entries[-1] = Entry(entries[-1].path, _seconds(words[1]))
        except ValueError:
            raise SourceError(f"cannot open {name}: line {number} cannot be read; check its quotes") from None
    for entry in entries:
        if not entry.path.is_file():
            missing = str(entry.path).encode(errors="surrogateescape").decode(errors="backslashreplace")
            raise SourceError(f"cannot open {name}: it names {missing}, and there is no such file; check the list")
    if not entries:
        raise SourceError(f"cannot open {name}: the list names no file; write lines such as: file 'clip.mp4'")
    return entries


def _seconds(text: str) -> Fraction:
    """Seconds of a duration as FFmpeg writes it: 1.5 or 0:00:01.5."""
    seconds = Fraction(0)
    for part in text.split(":"):
        seconds = 60 * seconds + Fraction(part)
    return seconds


def _numbered(folder: Path, pattern: str) -> list[Path]:
    """Files of ``folder`` by number. As in printf, ``%04d`` means at least four digits."""
    before, digits, after = _NUMBER.split(pattern, maxsplit=1)
    width = int(digits or 1)
    name = re.compile(rf"{re.escape(before)}([0-9]{{{width},}}){re.escape(after)}")
    found = {}
    if exists(folder) and folder.is_dir():
        for path in folder.iterdir():
            if (number := name.fullmatch(path.name)) and (len(number[1]) == width or number[1][0] != "0"):
                found[int(number[1])] = path
    return [found[number] for number in sorted(found)]


def _in_order(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (_natural(path.stem), path.name))


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """A key that sorts numbers inside of names by their value."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return tuple((int(part), "") if part.isdigit() and part.isascii() else (-1, part) for part in parts)


def _unreadable(name: str, error: OSError) -> SourceError:
    reason = (error.strerror or "failed").lower()
    return SourceError(f"cannot open {name}: {reason}; check the folder and its permissions")


def _without_pictures(inside: Sequence[Path]) -> str:
    """What to say of a folder without pictures."""
    video = next((path.name for path in _in_order(inside) if path.suffix.lower() in VIDEOS), None)
    if video is not None:
        return f"the folder has videos but no pictures; name one of them, such as {video}"
    folder = next((path for path in _in_order(inside) if path.is_dir()), None)
    if folder is not None:
        return f"no pictures in it, only folders; name one of them, such as {folder.name}"
    if not inside:
        return "the folder is empty; put pictures into it, or name a video file"
    suffix, count = Counter(path.suffix.lower() for path in inside).most_common(1)[0]
    found = f"{count} {plural(count, 'file')} {suffix or 'without an ending'}"
    return f"no pictures in it that can be read ({found}); convert them to JPEG"
