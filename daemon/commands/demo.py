"""The whole pipeline on the built-in test source: no network, no GPU, no file needed.

Two pairs of look-alikes are found by two names, followed, published and recorded: they cross, hide and leave, and
the light goes out for a while. The summary says how much of it was right, since the source knows the truth.

examples:
  maskcast demo
  maskcast demo --frames 600 --out /tmp/demo --json
"""

import json
import socket
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from daemon.cli import log
from daemon.cli.flags import add_settings_flags, load_settings
from stages.errors import ConfigError
from stages.plural import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.service.status import Report
    from daemon.settings.schema import Settings

SEED, OBJECTS = 2157, 4  # a wild world: two names, each of two look-alikes, and all that the text above tells
WIDTH, HEIGHT = 640, 360  # pixels
STREAM = "shapes"


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``maskcast demo``."""
    parser.add_argument("--out", dest="record.dir", default="demo", metavar="DIR", help="where to record (demo)")
    parser.add_argument("--frames", dest="length", type=int, default=300, metavar="N", help="how many (300)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_settings_flags(parser)
    embedded = dict.fromkeys(("models.detector", "models.segmenter"), "embedded")
    parser.set_defaults(**embedded, **{"publish.wait_for": 0})


def run(arguments: Namespace) -> int:
    """Run the demo and print its quality."""
    log.set_up(arguments.debug)
    if arguments.length < 1:
        raise ConfigError(f"--frames {arguments.length}: a demo has at least 1 frame")
    from daemon.cli.progress import StartMessages, progress_display
    from daemon.service.build import build
    from daemon.service.status import recorded, report
    from stages.testsrc.open_world import open_world
    from stages.testsrc.score import Quality

    world = open_world("wild", SEED, WIDTH, HEIGHT, OBJECTS)
    shown = f"wild=1&seed={SEED}&objects={OBJECTS}&size={WIDTH}x{HEIGHT}"
    arguments.sources = [f"testsrc://{STREAM}?{shown}&frames={arguments.length}"]
    arguments.prompts = [*dict.fromkeys(world.labels)]
    settings = _with_free_ports(load_settings(arguments), arguments)
    quality = Quality(world, settings.streams[0].prompts)

    service = build(settings, {STREAM: quality.observe})
    # with --json, stdout holds only the summary
    code = service.run(StartMessages(settings, to_stderr=arguments.json), progress_display())
    [stream] = service.streams.values()
    if stream.error is None:
        show = _as_json if arguments.json else _as_text
        figures = quality.summary()
        del figures["absent_rate"]  # all names that are asked for are there
        print(show(report(stream), figures, recorded(settings.record, STREAM)))
    return code


def _with_free_ports(settings: "Settings", arguments: Namespace) -> "Settings":
    """Choose free ports in place of occupied ones, unless a flag sets them: a demo must work beside a daemon."""
    publish, http = settings.publish, settings.http
    host, _, port = publish.endpoint.removeprefix("tcp://").rpartition(":")
    if vars(arguments)["publish.endpoint"] is None and port.isdigit() and _in_use(host, int(port)):
        publish = publish.model_copy(update={"endpoint": f"tcp://{host}:0"})
    if vars(arguments)["http.listen"] is None and _in_use(*http.address):
        http = http.model_copy(update={"listen": f"{http.listen.rpartition(':')[0]}:0"})
    for wanted, chosen in ((settings.publish.endpoint, publish.endpoint), (settings.http.listen, http.listen)):
        if wanted != chosen:
            print(f"maskcast: {wanted} is in use, taking a free port", file=sys.stderr, flush=True)
    return settings.model_copy(update={"publish": publish, "http": http})


def _in_use(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), port), family=family).close()
    except OSError:
        return True
    return False


def _as_json(stream: "Report", quality: dict[str, float], files: "Sequence[str]") -> str:
    return json.dumps({**asdict(stream), "quality": quality, "files": list(files)}, ensure_ascii=False)


def _as_text(stream: "Report", quality: dict[str, float], files: "Sequence[str]") -> str:
    parts = f"precision {quality['precision']:.2f}, recall {quality['recall']:.2f}"
    return (
        f"{stream}\n"
        f"detection F1 {quality['f1']:.2f} ({parts})\n"
        f"mask IoU {quality['mask_iou']:.2f}, "
        f"{quality['switches']:.0f} identity {plural(quality['switches'], 'switch', 'switches')}\n"
        f"look at {' and '.join(files)}"
    )
