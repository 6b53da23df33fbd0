"""Flags that several commands share, each a short name of one setting, and the settings loaded from them.

A flag's ``dest`` is the dotted path of its setting, so a command adds its own flag with
``parser.add_argument("--record", dest="record.dir")``.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from daemon.cli.stream_names import streams_of
from daemon.settings.load import load
from daemon.settings.schema import Settings


class Flag(NamedTuple):
    """A flag, the dotted path of its setting, the type of its value, and its metavar and help text."""

    flag: str
    setting: str
    kind: type[str] | type[int] | type[float]
    metavar: str
    help: str


FLAGS = (
    Flag("--detector", "models.detector", str, "MODEL", 'Grounding DINO: hub id, local folder, or "embedded"'),
    Flag("--segmenter", "models.segmenter", str, "MODEL", 'SAM 2: hub id, local .pt file or folder, or "embedded"'),
    Flag("--classifier", "models.classifier", str, "MODEL", 'checkpoint, .onnx file, "embedded", or "" for none'),
    Flag("--device", "models.device", str, "DEVICE", "auto, cuda, cuda:1 or cpu"),
    Flag("--precision", "models.precision", str, "TYPE", "auto, float32 or bfloat16"),
    Flag("--window", "tracking.window", int, "FRAMES", "frames propagated together"),
    Flag("--every", "detection.every", int, "FRAMES", "most frames between two detections"),
    Flag("--box-threshold", "detection.box_threshold", float, "0..1", "lowest score of a box"),
    Flag("--text-threshold", "detection.text_threshold", float, "0..1", "lowest score of its words"),
    Flag("--tiles", "detection.tiles", str, "TILES", "off, auto or a number: detect in tiles of large pictures, too"),
    Flag("--publish", "publish.endpoint", str, "ENDPOINT", "where to publish, as in tcp://127.0.0.1:5555"),
    Flag("--http", "http.listen", str, "HOST:PORT", "where metrics and health are served"),
)
MODEL_FLAGS = FLAGS[:5]  # the models, their device and precision
_MEDIA = {
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".m2ts",
    ".flv",
    ".wmv",
    ".3gp",
    ".ogv",
    ".mxf",
    ".y4m",
    ".h264",
    ".h265",
    ".m3u8",
    ".mpd",
    ".sdp",
    ".jpg",
    ".jpeg",
    ".png",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".webp",
    ".avif",
    ".heic",
    ".jp2",
}  # endings of files that hold video or a picture


def add_settings_flags(parser: ArgumentParser, flags: Sequence[Flag] = FLAGS) -> None:
    """Add --config and ``flags`` to ``parser``."""
    group = parser.add_argument_group("settings", "short names of the settings in the configuration file")
    group.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration; else $MASKCAST_CONFIG or /etc/maskcast"
    )
    for row in flags:
        group.add_argument(row.flag, dest=row.setting, type=row.kind, metavar=row.metavar, help=row.help)


def add_stream_flags(parser: ArgumentParser) -> None:
    """Add the sources, the prompts and the flags of recording."""
    parser.add_argument(
        "sources", nargs="*", metavar="SOURCE", help="file or URL; without one, the streams of the configuration"
    )
    add_prompt_flag(parser, required=False)
    parser.add_argument("--record", dest="record.dir", metavar="DIR", help="write masks and annotated video to DIR")
    # default None: without the flag, the file decides
    parser.add_argument(
        "--frames", dest="record.frames", action="store_true", default=None, help="record annotated frames as JPEG too"
    )
    parser.add_argument(
        "--resume",
        dest="record.resume",
        action="store_true",
        default=None,
        help="go on with the recordings of files in DIR where their lines end; what has none there is recorded from its"
        " start",
    )


def add_prompt_flag(parser: ArgumentParser, required: bool) -> None:
    """Add --prompt."""
    parser.add_argument(
        "--prompt",
        dest="prompts",
        action="extend",
        nargs="+",
        required=required,
        metavar="TEXT",
        help='what to look for, as in "person" "red car" or "person, red car"; files with their ending and URLs among'
        " these words are sources",
    )


def split_prompts(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The values of --prompt as files or URLs, and as prompts: argparse takes all words after the flag for its values.

    A file is what ends like a video or a picture, and what exists and has a dot or a slash in its name: a file "car"
    does not hide the prompt.
    """
    sources = [word for word in words if _names_source(word)]
    return sources, [word for word in words if word not in sources]


def _names_source(word: str) -> bool:
    if "://" in word or PurePath(word).suffix.lower() in _MEDIA:
        return True
    with suppress(OSError):  # a text that is too long for a name
        return ("." in word or "/" in word) and Path(word).exists() and not Path(word).is_dir()
    return False


def load_settings(arguments: Namespace) -> Settings:
    """Settings from the file, the environment and the arguments. Raises ConfigError.

    If the command has both ``sources`` and ``prompts``, they become the streams.
    """
    overrides: dict[str, Any] = {}
    for path, value in vars(arguments).items():
        section, dot, key = path.partition(".")
        if dot and value is not None:
            overrides.setdefault(section, {})[key] = value
    if hasattr(arguments, "sources"):
        after, prompts = split_prompts(arguments.prompts or [])
        overrides |= streams_of([*arguments.sources, *after], prompts)
    return load(arguments.config, overrides)
