"""Make CURVE keys: with publish.curve_dir set, only those who have a key subscribe, and all they get is encrypted.

Once for the daemon, then once for each subscriber. Removing DIR/clients/NAME.key keeps a subscriber out from its next
connection on; those that are open stay until the daemon starts again. No key that exists is ever overwritten.

examples:
  maskcast keys new
  maskcast keys new --client wall-display
  maskcast keys new --dir keys --client wall-display
"""

import shlex
import socket
from argparse import ArgumentParser, Namespace
from pathlib import Path

from daemon.cli.flags import add_settings_flags, load_settings
from daemon.settings.schema import Publish

DEFAULT_FOLDER = "/etc/maskcast/curve"


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``maskcast keys``."""
    parser.add_argument("action", choices=("new",), help="new: make keys")
    parser.add_argument("--client", metavar="NAME", help="keys of a subscriber; without it those of the daemon")
    parser.add_argument(
        "--dir",
        dest="publish.curve_dir",
        metavar="DIR",
        help=f"the daemon's folder of keys; else publish.curve_dir of the configuration, else {DEFAULT_FOLDER}",
    )
    add_settings_flags(parser, ())


def run(arguments: Namespace) -> int:
    """Make the keys and print the next steps. Raises ConfigError if the keys exist, OutputError."""
    from stages.output.curve_keys import SERVER, new_client, new_server

    publish = load_settings(arguments).publish
    folder = Path(publish.curve_dir or DEFAULT_FOLDER).absolute()
    if arguments.client is None:
        new_server(folder)
        print(f"keys of the daemon: {folder / SERVER} and {SERVER}_secret, which stays there")
        print(f'next, in the configuration: [publish] curve_dir = "{folder}"')
        print(f"and for each subscriber: maskcast keys new --dir {shlex.quote(str(folder))} --client NAME")
        return 0
    allowed, private = new_client(folder, arguments.client, Path())
    print(f"{arguments.client} may subscribe as long as this file is there: {allowed}")
    print(f"move {private} to its machine, and copy {folder / SERVER} there")
    print(f"there: maskcast watch {_remote_endpoint(publish)} --key {private} --server {SERVER}")
    return 0


def _remote_endpoint(publish: Publish) -> str:
    """The endpoint for subscribers on other machines: wildcards replaced by the host name."""
    for wildcard in ("tcp://*:", "tcp://0.0.0.0:", "tcp://[::]:"):
        if publish.endpoint.startswith(wildcard):
            return publish.endpoint.replace(wildcard, f"tcp://{socket.gethostname()}:")
    return publish.endpoint
