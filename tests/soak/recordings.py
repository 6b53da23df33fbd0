"""Soak of recordings in segments: kill -9 at random moments, and a small disk that fills up and is freed again.

python -m tests.soak.recordings kills [--segments 300] [--kills 20] [--length 2s] [--fps 10] [--seed 0]
python -m tests.soak.recordings disk [--minutes 20] [--size 40m]

``kills`` records a live stream until there are so many segments, and kills the daemon so often on the way. ``disk``
records at a high rate on a tmpfs of that size (it needs unshare). For three fifths of the time retention must hold it;
then another program fills it slowly, and frees it again. A real Prometheus evaluates the alerts. The exit code is 1
when something is wrong; each complaint is a line.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import zmq

from stages.recording.segment import videos
from stages.testsrc.world import ShapesWorld
from tests.soak.recorded_segments import complaints
from tests.support.measured import MeasuredProgram

SEED = 3
MODELS = ("--detector", "embedded", "--segmenter", "embedded", "--device", "cpu")
ASKED = ("--prompt", *dict.fromkeys(ShapesWorld(SEED).labels))
MOUNTED = "SOAK_MOUNTED"
SLACK = 3  # frames of a last second that came a little faster


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def kills(arguments: argparse.Namespace) -> Iterator[str]:
    """Complaints about a recording that was killed again and again."""
    moments = random.Random(arguments.seed)
    source = f"testsrc://shapes?seed={SEED}&live=1&fps={arguments.fps}&size=128x128"
    with tempfile.TemporaryDirectory(prefix="soak-recordings-") as temporary:
        folder = Path(temporary)
        for number in range(arguments.kills + 1):
            settings = {"MASKCAST_RECORD__SEGMENT": arguments.length, "OMP_NUM_THREADS": "1"}
            with closing(MeasuredProgram(source, *ASKED, *MODELS, "--record", temporary, **settings)) as program:
                program.address("metrics")
                before = count = _count(folder)
                share = arguments.segments * (number + 1) // (arguments.kills + 1)
                while count < share or count == before:
                    time.sleep(0.2)
                    count = _count(folder)
                if number < arguments.kills:
                    time.sleep(moments.uniform(0, 3))
                    program.process.kill()
                    say(f"kill {number + 1} of {arguments.kills} with {count} segments")
                else:
                    program.process.terminate()
                    if (code := program.wait()) != 0:
                        yield f"exit code {code}: {program.complaints()}"
        yield from complaints(folder, "shapes", arguments.fps + SLACK)
        yield from _database(folder)
        lines = sum(path.read_bytes().count(b"\n") for path in folder.glob("shapes/*/*.jsonl"))
        say(f"{_count(folder)} segments, {lines} frames, {arguments.kills} kills")


def _count(folder: Path) -> int:
    return sum(1 for _ in videos(folder, "shapes"))


def _database(folder: Path) -> Iterator[str]:
    """What does not agree between the database and the segments on disk."""
    with closing(sqlite3.connect(folder / "maskcast.db")) as database:
        [[found]] = database.execute("PRAGMA integrity_check")
        if found != "ok":
            yield f"the database is damaged: {found}"
        rows = {path for (path,) in database.execute("SELECT path FROM segments")}
        [[events]], [[tracks]] = (database.execute(f"SELECT count(*) FROM {table}") for table in ("events", "tracks"))
        [[bare]] = database.execute("SELECT count(*) FROM tracks WHERE snapshot IS NULL")
    missing = [path for video in videos(folder, "shapes") if (path := str(video.relative_to(folder))) not in rows]
    if missing:
        yield f"{len(missing)} segments are not in the database: {missing[:5]}"
    say(f"database: {events} events, {tracks} tracks ({bare} without a picture), {len(rows)} segments")


class Messages(threading.Thread):
    """Counts the masks messages of a stream, and keeps the reasons of its error events with their times."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(daemon=True)
        self.errors: list[tuple[float, str]] = []
        self.masks = self.holes = 0
        self._endpoint = endpoint

    def run(self) -> None:
        last: int | None = None
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.subscribe("v1/shapes/masks")
            socket.subscribe("v1/shapes/event")
            socket.connect(self._endpoint)
            while True:
                header = json.loads(socket.recv_multipart()[1])
                if header.get("type") == "source_down":
                    return
                if header.get("type") == "error":
                    self.errors.append((time.monotonic(), header["reason"]))
                    say(f"event: {header['reason']}")
                elif "objects" in header:
                    self.masks += 1
                    self.holes += last is not None and header["seq"] != last + 1
                    last = header["seq"]


class Alerts:
    """A real Prometheus that scrapes the daemon each second and evaluates ``deploy/alerts.yml``."""

    def __init__(self, stack: ExitStack, metrics: str) -> None:
        from tests.deploy.prometheus import Prometheus, read

        config = read()
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": [urlsplit(metrics).netloc]}]
        config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] == "maskcast"]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-prometheus-")))
        self._prometheus = stack.enter_context(Prometheus(folder, config))
        self.fired: dict[str, float] = {}  # alert to when it fired first

    def look(self) -> None:
        for alert in self._prometheus.ask("alerts")["alerts"]:
            name = alert["labels"]["alertname"]
            if alert["state"] == "firing" and name not in self.fired:
                self.fired[name] = time.monotonic()
                say(f"alert: {alert['annotations']['summary']}")


def disk(arguments: argparse.Namespace) -> Iterator[str]:
    """Complaints about a recording on a small disk."""
    folder = Path(os.environ[MOUNTED])
    config = folder.with_name("soak.toml")
    source = "testsrc://shapes?seed=3&live=1&fps=10&size=480x480&wild=1"
    config.write_text(
        f'[[streams]]\nname = "shapes"\nsource = "{source}"\nprompts = ["red circle"]\n'
        f'record = {{dir = "{folder}", keep = "1d", segment = "30s", frames = true}}\npublish.jpeg_quality = 95\n'
    )
    spans = [60 * arguments.minutes * share for share in (0.6, 0.3, 0.1)]
    with ExitStack() as stack:
        program = stack.enter_context(closing(MeasuredProgram(*MODELS, "--config", str(config))))
        messages, alerts = Messages(program.address("masks")), Alerts(stack, program.address("metrics"))
        messages.start()
        seen = Counter[str]()
        _watch(spans[0], alerts, folder, seen)
        if messages.errors or "MaskcastDiskSoonFull" in alerts.fired:
            yield f"retention did not hold the disk: {messages.errors} {[*alerts.fired]}"
        say(f"{program.scrape().sum('record_segments_total'):.0f} segments were completed, {_count(folder)} are kept")
        began, other = time.monotonic(), folder / "other"
        size = os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize
        with other.open("wb", buffering=0) as file:
            while time.monotonic() - began < spans[1] and not messages.errors:
                wanted = size * min(1.0, (time.monotonic() - began) / (0.8 * spans[1]))
                with suppress(OSError):
                    while file.tell() < wanted:
                        file.write(bytes(65536))
                _watch(1, alerts, folder, seen)
        if not program.scrape().sum("record_broken"):
            yield "a full disk did not pause the recording"
        elif alerts.fired.get("MaskcastDiskSoonFull", time.monotonic()) > messages.errors[-1][0]:
            yield "the alert did not fire before the recording paused"
        _watch(max(5.0, spans[1] / 4), alerts, folder, seen)
        other.unlink()
        say("the disk is freed")
        _watch(max(15.0, spans[2]), alerts, folder, seen)
        if program.scrape().sum("record_broken") or "goes on" not in messages.errors[-1][1]:
            yield "the recording did not come back"
        program.process.send_signal(signal.SIGTERM)
        if (code := program.wait()) != 0:
            yield f"exit code {code}: {program.complaints()}"
        messages.join(60)
        if messages.holes:
            yield f"subscribers missed {messages.holes} times some masks"
        say(f"{messages.masks} masks, {len(messages.errors)} error events, alerts: {', '.join(alerts.fired) or 'none'}")
    yield from complaints(folder, "shapes", 10 + SLACK, holes=True)


def _watch(seconds: float, alerts: Alerts, folder: Path, seen: Counter[str]) -> None:
    """Let time go by, and look at alerts and disk."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        alerts.look()
        seen["looks"] += 1
        if seen["looks"] % 60 == 0:
            free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
            say(f"{free / 1e6:.1f} MB free, {_count(folder)} segments")
        time.sleep(1)


def mount(arguments: argparse.Namespace) -> int:
    """Run this program again with a small disk that only it sees."""
    with tempfile.TemporaryDirectory(prefix="soak-disk-") as folder:
        (small := Path(folder) / "small").mkdir()
        script = 'mount -t tmpfs -o "size=$0" none "$1" && shift && exec "$@"'
        again = [sys.executable, "-m", "tests.soak.recordings", *sys.argv[1:]]
        command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, arguments.size, str(small), *again]
        return subprocess.run(command, env={**os.environ, MOUNTED: str(small)}, check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.recordings", description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    killed = parts.add_parser("kills")
    killed.add_argument("--segments", type=int, default=300)
    killed.add_argument("--kills", type=int, default=20)
    killed.add_argument("--length", default="2s", help="of a segment")
    killed.add_argument("--fps", type=int, default=10)
    killed.add_argument("--seed", type=int, default=0)
    full = parts.add_parser("disk")
    full.add_argument("--minutes", type=float, default=20)
    full.add_argument("--size", default="40m")
    arguments = parser.parse_args()
    if arguments.part == "disk" and MOUNTED not in os.environ:
        sys.exit(mount(arguments))
    wrong = 0
    for complaint in kills(arguments) if arguments.part == "kills" else disk(arguments):
        say(f"BAD: {complaint}")
        wrong += 1
    say("verdict: " + ("good" if not wrong else f"{wrong} complaints"))
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
