"""Subscribe to a mask stream: a line for every frame, the raw headers, or the annotated frames as files.

A line also says when a source is lost or back, when something fails, and when the daemon steps down under load.

examples:
  maskcast watch
  maskcast watch tcp://gpu-host:5555 --stream gate --json | jq "select(.objects)"
  maskcast watch --stream gate --save pictures --count 10
  maskcast watch tcp://gpu-host:5555 --key wall-display.key_secret --server server.key
"""

import json
import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from daemon.cli.subscriber_keys import HandshakeMonitor, monitor_handshakes, set_curve_keys
from daemon.settings.schema import Publish
from stages.errors import ConfigError, OutputError
from stages.fences import Fences
from stages.plural import plural
from stages.stop_signals import StopSignals

if TYPE_CHECKING:
    from stages.output.wire import Message

_RECEIVE_HWM = 64  # messages; a longer queue would only add delay
_HINT_AFTER = 3000  # ms without any message
_SHOWN = 8  # names in a message
_LOOK = 6000  # ms of looking for other streams: each sends its status every 5 s


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``maskcast watch``."""
    endpoint = Publish().endpoint
    parser.add_argument("endpoint", nargs="?", default=endpoint, metavar="ENDPOINT", help=f"default {endpoint}")
    parser.add_argument("--stream", metavar="NAME", help="only this stream")
    parser.add_argument("--json", action="store_true", help="print every header as it came: masks, events, status")
    parser.add_argument("--save", type=Path, metavar="DIR", help="save annotated frames as DIR/<stream>-<frame>.jpg")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N frames")
    parser.add_argument("--key", type=Path, metavar="FILE", help="own NAME.key_secret, where the daemon wants keys")
    parser.add_argument("--server", type=Path, metavar="FILE", help="the daemon's server.key, with --key")


def run(arguments: Namespace) -> int:
    """Print messages until --count frames have come, or a signal. Raises ConfigError, WireError, OutputError."""
    if arguments.count is not None and arguments.count < 1:
        raise ConfigError(f"--count {arguments.count}: must be at least 1")
    with suppress(KeyboardInterrupt), _signals(), zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set(zmq.LINGER, 0)
        set_curve_keys(socket, arguments.key, arguments.server)
        with monitor_handshakes(socket, arguments.endpoint, arguments.key) as handshakes:
            _subscribe(socket, arguments)
            _watch(socket, handshakes, arguments)
    return 0


def _signals() -> StopSignals:
    """Ctrl-C and SIGTERM end the subscription wherever it waits."""

    def stop() -> None:
        raise KeyboardInterrupt

    return StopSignals(now=lambda number: os._exit(128 + number), first=stop)


def _subscribe(socket: "zmq.Socket[bytes]", arguments: Namespace) -> None:
    kinds = [""] if arguments.json else ["frame" if arguments.save else "masks", "event"]
    socket.set(zmq.RCVHWM, _RECEIVE_HWM)
    for kind in kinds if arguments.stream else [""]:
        socket.subscribe(f"v1/{arguments.stream}/{kind}" if arguments.stream else "v1/")
    try:
        socket.connect(arguments.endpoint)
    except zmq.ZMQError as error:
        raise ConfigError(
            f"cannot subscribe to {arguments.endpoint}: {error.strerror}; write it as in {Publish().endpoint}"
        ) from None


def _watch(socket: "zmq.Socket[bytes]", handshakes: HandshakeMonitor, arguments: Namespace) -> None:
    from stages.output.wire import Kind, unpack
    from stages.types import StreamEvent

    counted = Kind.FRAME if arguments.save else Kind.MASKS
    remaining = arguments.count
    losses, fences = _LossDetector(), Fences()
    for parts in _messages(socket, handshakes, arguments.endpoint, arguments.stream):
        message = unpack(parts)
        if arguments.stream not in (None, message.stream):  # sent while other streams were looked for
            continue
        if not fences.admits(message.stream, message.header.get("fence")):
            continue
        losses.check(message.stream, message.kind, message.header)
        if arguments.json:
            print(json.dumps(message.header, ensure_ascii=False), flush=True)
        elif message.kind is Kind.EVENT and message.header["type"] in set(StreamEvent):
            print(f"{message.stream}: {message.header['type']}: {message.header['reason']}", flush=True)
        if message.kind is not counted:
            continue
        line = _line(message.header) if message.blob is None else _save(arguments.save, message)
        if not arguments.json:
            print(line, flush=True)
        remaining = remaining and remaining - 1
        if remaining == 0:
            return


def _messages(
    socket: "zmq.Socket[bytes]", handshakes: HandshakeMonitor, endpoint: str, stream: str | None
) -> Iterator[list[bytes]]:
    """All messages; prints a hint to stderr if none arrives within _HINT_AFTER."""
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(handshakes.monitor, zmq.POLLIN)
    timeout: int | None = _HINT_AFTER
    while True:
        ready = dict(poller.poll(timeout))
        if socket in ready:
            timeout = None
            yield socket.recv_multipart()
        elif handshakes.monitor in ready:
            handshakes.check()
            timeout = None
        else:
            timeout = None
            others, found = _look_around(socket, stream) if stream else ([], None)
            if found is None:
                _hint(endpoint, stream, others)
            else:
                yield found


def _look_around(socket: "zmq.Socket[bytes]", wanted: str) -> tuple[list[str], list[bytes] | None]:
    """Names of other streams that send something within _LOOK; ends with the first message of ``wanted``."""
    names, found = set[str](), None
    until = time.monotonic() + _LOOK / 1000
    socket.subscribe("v1/")
    while found is None and (left := until - time.monotonic()) > 0:
        if socket.poll(round(1000 * left)):
            parts = socket.recv_multipart()
            [name] = parts[0].decode(errors="replace").split("/")[1:2] or [""]
            names.add(name)
            found = parts if name == wanted else None
    socket.unsubscribe("v1/")
    return sorted(names), found


def _hint(endpoint: str, stream: str | None, others: list[str]) -> None:
    text = f"nothing from {endpoint} yet; does `maskcast run` publish there?"
    if others:
        near = get_close_matches(stream or "", others, 1)
        shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
        there = f"no stream {stream} at {endpoint} yet; there {plural(len(others), 'is', 'are')} {shown}"
        text = there + (f"; did you mean {near[0]}?" if near else "")
    print(f"maskcast: {text}", file=sys.stderr, flush=True)


class _LossDetector:
    """Finds gaps in ``seq``, which counts the messages per stream, kind and session."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str, str], int] = {}

    def check(self, stream: str, kind: str, header: dict[str, Any]) -> None:
        """Print to stderr how many messages are missing before this one."""
        key = stream, kind, header["session"]
        lost = header["seq"] - self._last.get(key, header["seq"] - 1) - 1
        self._last[key] = header["seq"]
        if lost > 0:
            what = f"{lost} {kind} {plural(lost, 'message')}"
            print(f"maskcast: {stream}: {what} lost before {header['seq']}", file=sys.stderr, flush=True)


def _line(header: dict[str, Any]) -> str:
    """``gate 1234: 7 car 0.62, 9 person 0.80 occluded | daylight 0.93``."""
    objects = [_object(item) for item in header["objects"]]
    classes = [f"{item['label']} {item['score']:.2f}" for item in header["classes"]]
    line = f"{header['stream']} {header['frame']}: {', '.join(objects)}".rstrip()
    return f"{line} | {', '.join(classes)}" if classes else line


def _object(item: dict[str, Any]) -> str:
    state = "" if item["state"] == "tracked" else f" {item['state']}"
    return f"{item['id']} {item['prompt'] or 'object'} {item['score']:.2f}{state}"


def _save(folder: Path, message: "Message") -> str:
    """Write the JPEG of a frame and return its path."""
    if "/" in message.stream:  # a name from the network must not choose the folder
        raise OutputError(f"stream {message.stream!r} has no name for a file; choose another one with --stream")
    path = folder / f"{message.stream}-{int(message.header['frame']):06d}.jpg"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(message.blob or b"")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder with --save") from None
    return str(path)
