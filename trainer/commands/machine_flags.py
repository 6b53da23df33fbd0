"""The flags of what runs a network: processes, device, precision."""

from argparse import ArgumentParser

DEVICES = ("auto", "cuda", "cpu")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def add_machine_flags(parser: ArgumentParser) -> None:
    """--workers, --device and --precision."""
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read pictures (one less than cores)")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="(auto)")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="(auto)")
