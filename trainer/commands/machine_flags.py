"""Flags of all commands that run a network: --workers, --device and --precision."""

from argparse import ArgumentParser, ArgumentTypeError

DEVICES = ("auto", "cuda", "cpu")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text}: give a number, 0 to read in the process that trains")
    return int(text)


def add_machine_flags(parser: ArgumentParser) -> None:
    """Add --workers, --device and --precision."""
    parser.add_argument(
        "--workers", type=_count, metavar="N", help="processes that read pictures (one less than cores)"
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="auto: a GPU if there is one")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto: half on a GPU")
