"""Open what is on this machine: video files, pictures, lists and playlists."""

import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from stages.errors import ConfigError, SourceError
from stages.source.container import InputUrl
from stages.source.demuxer import Demuxer
from stages.source.ffmpeg import MediaSource
from stages.source.local.file_kind import kind_of
from stages.source.local.spelling import advice
from stages.source.patience import Patience, Timeouts
from stages.source.stills import listing
from stages.source.stills.listing import Entry
from stages.source.stills.picture_files import PictureFiles

# what FFmpeg may open on behalf of a local file; it allows little by default, since the file may come from a stranger
_OF_AN_SDP = {"protocol_whitelist": "file,crypto,data,udp,rtp"}
_OF_A_PLAYLIST = {"protocol_whitelist": "file,crypto,data,http,https,httpproxy,tcp,tls"}
_ANY_PATH = {"safe": "0"}  # else FFmpeg refuses a list with absolute paths or ".."


def open_path(
    path: str, name: str, gpu: int | None, timeouts: Timeouts, pixel_aspect: Fraction | None
) -> MediaSource | PictureFiles:
    """Open a file, a folder of pictures or a pattern; ``name`` stands for it in messages. Else as `open_source`.

    Raises SourceError when it cannot be read, ConfigError when it is a misspelt address.
    """
    expanded = _expanded(path)
    found = next((it for it in (path, expanded, path.removeprefix("file:")) if listing.exists(Path(it))), None)
    if found is None:
        if listing.is_pattern(expanded):
            return PictureFiles(name, [Entry(file, None) for file in listing.pictures_of(expanded, name)])
        if problem := advice(path):
            raise ConfigError(f"cannot open {name}: {problem}")
    file = Path(found or path)
    if found and file.is_dir():
        return PictureFiles(name, [Entry(picture, None) for picture in listing.pictures_in(file, name)])
    _check(file, name)
    try:
        url = f"file:{file}"  # "file:" keeps FFmpeg from reading a part of the path as a protocol
        return _open_file(file, InputUrl(url, name, True, None, timeouts, pixel_aspect=pixel_aspect), gpu)
    except SourceError as error:
        kind = kind_of(file)
        if kind is None or isinstance(error, _ListError):
            raise
        raise SourceError(f"cannot open {name}: {kind}") from None


class _ListError(SourceError):
    """A list names what cannot be opened."""


def _expanded(path: str) -> str:
    """``path`` with ~ replaced, as a shell does: a configuration file has none."""
    try:
        return str(Path(path).expanduser())
    except RuntimeError:  # an unknown user
        return path


def _check(file: Path, name: str) -> None:
    """Check it first, because FFmpeg reports most problems only as invalid data. Raises SourceError."""
    try:
        status = file.stat()
        if stat.S_ISREG(status.st_mode):
            if status.st_size:
                file.open("rb").close()
                return
            problem = "the file is empty; record or copy it again"
        elif stat.S_ISCHR(status.st_mode):
            camera = file.absolute() if file.name.startswith("video") else "/dev/video0"
            problem = f"not a regular file; for a camera write v4l2://{camera}"
        else:  # opening a pipe would block
            problem = advice("-") or ""
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = error.strerror if isinstance(error, OSError) else None
        problem = f"{(reason or 'not a path').lower()}; check the path and its permissions"
    raise SourceError(f"cannot open {name}: {problem}")


def _open_file(file: Path, url: InputUrl, gpu: int | None) -> MediaSource | PictureFiles:
    suffix = file.suffix.lower()
    if suffix == ".sdp":
        described = replace(url, local=False, container_format="sdp", options=_OF_AN_SDP)
        return MediaSource(described, live=True, gpu=gpu)
    if suffix == ".m3u8" and re.search(rb"^\s*https?://", file.read_bytes(), re.IGNORECASE | re.MULTILINE):
        return MediaSource(replace(url, local=False, options=_OF_A_PLAYLIST), live=None, gpu=gpu)
    if listing.is_picture(file):
        return _open_picture(file, url, gpu)
    if listing.is_list(file):
        try:
            entries = listing.entries_of(file, url.name)
        except SourceError as error:
            raise _ListError(str(error)) from None
        if all(listing.is_picture(entry.path) for entry in entries):
            return PictureFiles(url.name, entries)
        _check_codecs([entry.path for entry in entries], url)
        return MediaSource(replace(url, container_format="concat", options=_ANY_PATH), live=False, gpu=gpu)
    return MediaSource(url, live=False, gpu=gpu)


def _check_codecs(files: Sequence[Path], url: InputUrl) -> None:
    """Raise _ListError unless the videos of a list have one codec: FFmpeg decodes all with the first one's."""
    first = None
    for file in files:
        try:
            demuxer = Demuxer(replace(url, url=f"file:{file}", name=file.name), Patience(url.timeouts), None)
        except SourceError as error:
            raise _ListError(
                f"cannot open {url.name}: of its files, {str(error).removeprefix('cannot open ')}"
            ) from None
        codec = demuxer.stream.codec_context.name
        demuxer.close()
        first = first or codec
        if codec != first:
            raise _ListError(
                f"cannot open {url.name}: {file.name} is {codec}, the first file is {first}; a list takes "
                "videos of one codec, convert the others"
            )


def _open_picture(file: Path, url: InputUrl, gpu: int | None) -> MediaSource | PictureFiles:
    """FFmpeg opens what moves, such as an animated PNG; a single picture is read like those of a folder."""
    source = MediaSource(url, live=False, gpu=gpu)
    if not source.still:
        return source
    source.close()
    if (kind := kind_of(file)) is not None:
        raise SourceError(f"cannot open {url.name}: {kind}")
    return PictureFiles(url.name, [Entry(file, None)])
