"""The daemon: video in, masks out, until every file has ended; for ever with live sources.

SIGTERM or Ctrl-C ends it within ten seconds: what was read is published, recordings are closed. A second signal, more
than a second later, ends it at once. SIGHUP opens the log file again, and reads the configuration again: streams come,
go and change.

examples:
  maskcast run gate.mp4 --prompt person "red car" --record out
  maskcast run "rtsp://user:secret@camera.local/stream1" --prompt person
  maskcast run --config maskcast.toml --log /var/log/maskcast.log
"""

import json
import os
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.changes.configuration import Configuration
from daemon.changes.state_file import StateFile
from daemon.cli import log
from daemon.cli.flags import add_settings_flags, add_stream_flags, load_settings
from stages.errors import ConfigError

if TYPE_CHECKING:
    from daemon.service.service import Service


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``maskcast run``."""
    add_stream_flags(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument(
        "--stay", action="store_true", help="go on when all streams have ended, or without any: they come over HTTP"
    )
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="append what happens to FILE; errors still go to stderr too"
    )
    parser.add_argument("--log-format", dest="log.format", metavar="FORMAT", help="text, or json: one object a line")
    parser.add_argument(
        "--log-level", dest="log.level", metavar="LEVEL", help="debug, info, warning or error: the least that is logged"
    )
    add_settings_flags(parser)


def run(arguments: Namespace) -> int:
    """Process the streams; return 0, or the exit code of the first stream that failed."""
    log.set_up(arguments.debug, kind="json" if vars(arguments)["log.format"] == "json" else "text")
    settings = load_settings(arguments)
    chosen = settings.log
    rotation = log.Rotation(log.set_up(arguments.debug, arguments.log, chosen.format, chosen.level), _reload)
    folder = settings.state.folder
    kept = StateFile(folder) if folder is not None else None
    configuration = Configuration(settings, partial(load_settings, arguments), kept)
    if not (settings.streams or configuration.wanted.streams or arguments.stay):
        raise ConfigError("nothing to do: name a SOURCE, or give [[streams]] in the configuration file")
    from daemon.cli.progress import StartMessages, progress_display
    from daemon.service.build import build
    from daemon.service.refused_subscribers import RefusedSubscribers
    from daemon.service.status import report
    from daemon.service.systemd import Systemd

    settings = configuration.settings
    service = build(settings, configuration=configuration)
    if arguments.stay:
        service.stay()
    # with --json, stdout holds only the summary
    messages = StartMessages(settings, to_stderr=arguments.json)
    # under systemd, STATUS= shows the progress
    progress = [] if "NOTIFY_SOCKET" in os.environ else [progress_display()]
    try:
        code = service.run(rotation, messages, RefusedSubscribers(settings.publish), *progress, Systemd())
    finally:
        if kept is not None:
            kept.close()
    reports = [report(stream) for stream in service.streams.values()]
    if arguments.json:
        print(json.dumps({"streams": [asdict(stream) for stream in reports]}, ensure_ascii=False))
    else:
        for stream in reports:
            if stream.frames or not stream.error:  # else its error was printed already
                print(stream)
    return code


def _reload(service: "Service") -> None:
    from daemon.service.reconfigure import reload_and_tell  # loaded by the time a service runs

    reload_and_tell(service)
