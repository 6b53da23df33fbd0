"""Flags that several commands share, each a short name of one setting, and the settings loaded from them.

A flag's ``dest`` is the dotted path of its setting, so a command adds its own flag with
``parser.add_argument("--record", dest="record.dir")``.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from daemon.cli.prompt_words import split_prompts
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
        help='what to look for, as in "person" "red car" or "person, red car"; files with their ending or folder, and'
        " URLs, among these words are sources",
    )


def load_settings(arguments: Namespace) -> Settings:
    """Settings from the file, the environment and the arguments. Raises ConfigError."""
    return load(arguments.config, overrides_of(arguments))


def overrides_of(arguments: Namespace) -> dict[str, Any]:
    """The settings among the arguments. Raises ConfigError.

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
    return overrides
