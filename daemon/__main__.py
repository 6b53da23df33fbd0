"""The program ``maskcast``: parses the arguments and runs the command."""

import argparse
import gc
import os
import re
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, NoReturn

from daemon.cli.log import print_error
from daemon.cli.standard_streams import guarded, prepare_streams
from stages.errors import ConfigError, MaskcastError

COMMANDS = {
    "demo": "the whole pipeline on a built-in source: no network, no GPU, no file",
    "run": "the daemon: video in, masks out",
    "image": "masks, boxes and an annotated copy of single pictures",
    "watch": "subscribe to a mask stream",
    "fleet": "many daemons on the nodes of a Ray cluster",
    "keys": "make CURVE keys, for encryption and access to the mask stream",
    "check": "say whether this machine can do what the configuration asks",
    "bench": "throughput and latency of this machine with the configured models",
    "models": "list the configured models, or download them ahead of time",
    "completion": "completion of commands and flags for a shell",
    "train": "make a classifier of your own pictures",
    "evaluate": "measure classifiers on labelled pictures",
    "export": "write a classifier as ONNX",
    "search": "try learning rates, batch sizes and numbers of unfrozen blocks",
}
# Commands of the trainer, imported by name when they run: the daemon must not import the trainer, and import-linter
# checks import statements only.
TRAINER = ("train", "evaluate", "export", "search")
# Commands whose results are files or messages: what they print, except as JSON, only tells about them.
PRINT_MESSAGES = ("demo", "run", "image", "keys", "train", "export", "search")


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in one line, with exit code 2; what is misspelt with the nearest valid word."""

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            message += _suggestion(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        self.exit(2, f"maskcast: error: {message}; see {self.prog} --help\n")


class _CommandParser(_Parser):
    """Imports the module of its command when it parses; the module's docstring is the help text."""

    def complete(self) -> ModuleType:
        """Add the arguments of the command; returns its module."""
        name = self.prog.split()[-1]
        module = import_module(f"{'trainer' if name in TRAINER else 'daemon'}.commands.{name}")
        module.add_arguments(self)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return module

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:  # type: ignore[override]
        module = self.complete()
        self.description = module.__doc__
        self.set_defaults(run=module.run, whole_parser=_whole_parser)
        arguments, left = super().parse_known_args(args, namespace)
        # argparse takes the words without a flag from one place only: "a.mp4 --record out b.mp4" leaves b.mp4
        many = [action.dest for action in self._get_positional_actions() if action.nargs in ("*", "+")]
        if many and not any(word.startswith("-") for word in left):
            getattr(arguments, many[0]).extend(left)
            left = []
        unknown = next((word.partition("=")[0] for word in left if word.startswith("--")), None)
        if unknown:
            flags = self._option_string_actions
            self.error(f"unrecognized arguments: {' '.join(left)}{_suggestion(unknown, flags)}")
        return arguments, left


def _suggestion(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def program() -> NoReturn:
    """Entry point of the process. Skips the interpreter's shutdown if threads still run: it would block or crash."""
    prepare_streams()
    # a start makes half a million objects that last: Python's defaults would look through all of them twenty times
    gc.set_threshold(10_000, 10, 10)
    code = main()
    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. Errors are one line on stderr."""
    argv = sys.argv[1:] if argv is None else argv
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # else huggingface_hub prints a line for each retry
    # idle OpenMP threads must not spin, since other threads need the cores; must be set before torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with guarded("stderr", product=False):
        return _run(argv)


def _run(argv: Sequence[str]) -> int:
    try:
        with guarded("stdout", product=True):
            arguments = _parser().parse_args(argv)
        product = getattr(arguments, "json", False) or arguments.command not in PRINT_MESSAGES
        with guarded("stdout", product):
            code: int = arguments.run(arguments)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the product has gone
        return 141
    except ModuleNotFoundError as error:
        return _report(_missing_package(error) if argv[0] in TRAINER else error, "--debug" in argv)
    except Exception as error:
        return _report(error, "--debug" in argv)
    return code


def _missing_package(error: ModuleNotFoundError) -> ConfigError:
    missing = ConfigError(f"{error.name} is not installed, which training needs: pip install 'maskcast[train]'")
    missing.__cause__ = error
    return missing


def _report(error: Exception, debug: bool) -> int:
    line, shown = " ".join(str(error).split()), error if debug else None
    if isinstance(error, MaskcastError):
        print_error(line, shown)
        return error.exit_code
    hint = "" if debug else "; run again with --debug for the traceback"
    print_error(f"unexpected {type(error).__name__}: {line}{hint}", shown)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="maskcast", description="Text prompts on video to a stream of masks with stable identities.")
    parser.add_argument("--version", action="version", version=f"maskcast {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser)
    for name, summary in COMMANDS.items():
        commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
    return parser


def _whole_parser() -> argparse.ArgumentParser:
    """The parser with the arguments of all commands whose packages are installed."""
    parser = _parser()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                with suppress(ModuleNotFoundError):
                    command.complete()
    return parser


def _version() -> str:
    try:
        return version("maskcast")
    except PackageNotFoundError:  # run from a checkout
        return "(not installed)"


if __name__ == "__main__":
    program()
