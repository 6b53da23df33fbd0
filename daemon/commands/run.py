"""The daemon: video in, masks out, until every file has ended; for ever with live sources.

examples:
  maskcast run gate.mp4 --prompt person "red car" --record out
  maskcast run "rtsp://user:secret@camera.local/stream1" --prompt person
  maskcast run --config maskcast.toml
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from daemon import log
from daemon.flags import add_settings_flags, add_stream_flags, load_settings
from stages.errors import ConfigError

if TYPE_CHECKING:
    from daemon.service import Service


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``maskcast run``."""
    add_stream_flags(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_settings_flags(parser)


def run(arguments: Namespace) -> int:
    """Serve the streams; 0 when all went well, else the exit code of the first that failed."""
    log.set_up(arguments.debug)
    settings = load_settings(arguments)
    if not settings.streams:
        raise ConfigError("nothing to do: name a SOURCE, or give [[streams]] in the configuration file")
    from daemon.build import build
    from daemon.progress import watch_progress
    from daemon.report import introduce, report

    people = sys.stderr if arguments.json else sys.stdout  # with --json, stdout is for programs

    def announce(service: "Service") -> None:
        print(introduce(service, settings), file=people, flush=True)

    service = build(settings)
    code = service.run(watch_progress(announce))
    reports = [report(stream) for stream in service.streams.values()]
    if arguments.json:
        print(json.dumps({"streams": [asdict(stream) for stream in reports]}, ensure_ascii=False))
    else:
        print(*(stream for stream in reports if stream.frames or not stream.error), sep="\n")
    return service.leave(code)
