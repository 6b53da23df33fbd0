"""Pass the mask streams of many daemons on under one address.

The file of --upstream is read again whenever it is replaced: {"daemons": ["tcp://gpu-1:5555"], "streams": ["gate"]}.
The forwarder is no child of a cluster: it goes on while no controller runs, and knows the daemons when it is restarted.

example:
  python -m daemon.fleet.forwarder --bind tcp://0.0.0.0:5550 --upstream upstream.json \\
      --curve-dir /etc/maskcast/curve --key forwarder.key_secret --server server.key
"""

import argparse
import logging
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from daemon.cli import log
from daemon.fleet.forwarder.forwarder import SEND_HWM, Forwarder
from daemon.fleet.forwarder.upstream import Upstream, UpstreamFile
from daemon.settings import value_types as kind
from stages.errors import ConfigError, MaskcastError, OutputError
from stages.stop_signals import StopSignals

METRICS = "127.0.0.1:9111"  # where deploy/fleet/prometheus.yml scrapes them
_LOOK_S = 0.2  # between two looks at the file


def main(argv: Sequence[str] | None = None) -> int:
    """Forward until SIGINT or SIGTERM; returns the exit code."""
    arguments = _parser().parse_args(argv)
    log.set_up(debug=False)
    stop = threading.Event()
    try:
        with StopSignals(now=lambda number: os._exit(128 + number), first=stop.set):
            _serve(arguments, stop)
    except Exception as error:
        line = " ".join(str(error).split())
        known = isinstance(error, MaskcastError)
        print(f"maskcast: error: {line if known else f'unexpected {type(error).__name__}: {line}'}", file=sys.stderr)
        return error.exit_code if isinstance(error, MaskcastError) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m daemon.fleet.forwarder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--bind", required=True, metavar="ENDPOINT", help="where subscribers connect")
    parser.add_argument("--upstream", type=Path, metavar="FILE", help="JSON file of daemons and streams")
    parser.add_argument("--connect", nargs="+", default=[], metavar="ENDPOINT", help="daemons, without such a file")
    parser.add_argument("--stream", nargs="+", default=[], metavar="NAME", help="their streams")
    parser.add_argument("--send-hwm", type=int, default=SEND_HWM, metavar="N", help="messages queued for a subscriber")
    metrics = f"serves Prometheus metrics; default {METRICS}, or any free port where that is taken"
    parser.add_argument("--metrics", metavar="HOST:PORT", help=metrics)
    parser.add_argument("--curve-dir", type=Path, metavar="DIR", help="keys: as publish.curve_dir of the daemons")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its own NAME.key_secret, where the daemons want keys")
    parser.add_argument("--server", type=Path, metavar="FILE", help="the daemons' server.key, with --key")
    parser.add_argument("--insecure", action="store_true", help="let everybody in, also from other machines")
    return parser


def _serve(arguments: argparse.Namespace, stop: threading.Event) -> None:
    _check(arguments)
    file = None if arguments.upstream is None else UpstreamFile(arguments.upstream)
    upstream = _given(arguments) if file is None else file.changed()
    forwarder = Forwarder(
        arguments.bind,
        send_hwm=arguments.send_hwm,
        curve_dir=arguments.curve_dir,
        key=arguments.key,
        server=arguments.server,
    )
    forwarder.set_upstream(upstream or Upstream())
    try:
        print(f"masks: {forwarder.endpoint}", flush=True)
        print(f"metrics: {_serve_metrics(forwarder, arguments.metrics)}", flush=True)
        with ThreadPoolExecutor(1, "forwarder") as threads:
            running = threads.submit(forwarder.run, stop)
            running.add_done_callback(lambda _: stop.set())
            while not stop.wait(_LOOK_S):
                if file is not None:
                    _read_again(file, forwarder)
            running.result()
    finally:
        stop.set()
        forwarder.close()


def _check(arguments: argparse.Namespace) -> None:
    if arguments.upstream is not None and (arguments.connect or arguments.stream):
        raise ConfigError("--upstream names daemons and streams: leave --connect and --stream out")
    if arguments.send_hwm < 1:
        raise ConfigError(f"--send-hwm {arguments.send_hwm}: must be at least 1")
    if not (arguments.curve_dir or arguments.insecure or kind.is_local_endpoint(arguments.bind)):
        raise ConfigError(
            f"--bind {arguments.bind} can be reached from other machines: give --curve-dir, a folder of keys "
            "(maskcast keys new --dir DIR makes it), or --insecure to let everybody in"
        )
    if arguments.metrics and not (arguments.insecure or kind.is_loopback(_address(arguments.metrics)[0])):
        raise ConfigError(
            f"--metrics {arguments.metrics} can be reached from other machines: name 127.0.0.1, or give --insecure"
        )


def _given(arguments: argparse.Namespace) -> Upstream:
    try:
        return Upstream(daemons=frozenset(arguments.connect), streams=frozenset(arguments.stream))
    except ValidationError as error:
        first = error.errors()[0]
        option = {"daemons": "--connect", "streams": "--stream"}[str(first["loc"][0])]
        raise ConfigError(f"{option} {first['input']}: {first['msg'].removeprefix('Value error, ')}") from None


def _read_again(file: UpstreamFile, forwarder: Forwarder) -> None:
    """Take what the file says now; a file that cannot be read changes nothing."""
    try:
        upstream = file.changed()
    except ConfigError as error:
        logging.getLogger(__name__).error("%s; the daemons stay as they are", error)
        return
    if upstream is not None:
        forwarder.set_upstream(upstream)


def _serve_metrics(forwarder: Forwarder, address: str | None) -> str:
    if address is None:
        with suppress(OSError):
            return forwarder.figures.serve(*_address(METRICS))
    try:
        return forwarder.figures.serve(*_address(address or "127.0.0.1:0"))
    except OSError as error:
        raise OutputError(f"cannot serve metrics on {address}: {error.strerror}; choose another --metrics") from None


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--metrics {text}: write it as in 127.0.0.1:9110")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    sys.exit(main())
