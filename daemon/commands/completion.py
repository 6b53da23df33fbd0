"""Completion of commands, flags and file names for a shell: prints a script that the shell reads when it starts.

examples:
  maskcast completion bash > ~/.local/share/bash-completion/completions/maskcast
  maskcast completion zsh > ~/.zfunc/_maskcast        # a folder of $fpath
  maskcast completion fish > ~/.config/fish/completions/maskcast.fish
"""

from argparse import Action, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Iterator
from typing import Literal, get_args, get_origin

FILES = ("FILE", "SOURCE", "PATH", "MODEL", "CHECKPOINT", "FILE.onnx", "RECORDING")  # metavars of what may be a file
FOLDERS = ("DIR", "FOLDER", "cifar10|FOLDER")


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``maskcast completion``."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that reads the script")


def run(arguments: Namespace) -> int:
    """Print the script."""
    import shtab

    parser: ArgumentParser = arguments.whole_parser()
    for action in _actions(parser):
        if action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        else:  # shtab takes a dict for commands
            action.choices = tuple(action.choices or ()) or _values(action.dest)
    print(shtab.complete(parser, arguments.shell))
    return 0


def _actions(parser: ArgumentParser) -> Iterator[Action]:
    """The arguments of all commands."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action


def _values(setting: str) -> tuple[str, ...] | None:
    """The texts that a setting, given by its dotted path, can be; None where it may be anything."""
    from daemon.settings.schema import Settings

    section, dot, key = setting.partition(".")
    if not dot or section not in Settings.model_fields:
        return None
    table = Settings.model_fields[section].annotation
    fields = getattr(table, "model_fields", {})
    annotation = fields[key].annotation if key in fields else None
    return tuple(value for value in get_args(annotation) if value) if get_origin(annotation) is Literal else None
