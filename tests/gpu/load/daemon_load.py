"""The real daemon under load: start to READY, frames a second, latency, the GPU, the interpreter lock. A step."""

import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urljoin

import av
import numpy as np

from daemon.metrics.stream_metrics import DROP_REASONS
from stages.testsrc.world import ShapesWorld
from tests.benchmarks.support.live_run import Arrival
from tests.gpu.load.cameras import cameras as real_cameras
from tests.gpu.load.watch import GpuMeter, Silence, Subscriber, relayed
from tests.gpu.step import Asked, Skipped
from tests.support.checkpoints import write_sam2
from tests.support.measured import MeasuredProgram, find_py_spy
from tests.support.media import write_video

WEB = ("fastapi", "starlette", "uvicorn")
OBJECTS, RATE, MAX_FPS = 4, 30, 15
WARM_UP, SECONDS = 3.0, 20.0
STARTING = 30.0  # seconds after which a start that goes on shows its stacks
LOCK = "tests.benchmarks.lock"
HEADS = ("streams", "start to READY, s", "first frame of all, s", "frames a second", "published / asked")
HEADS += ("p50 ms", "p95 ms", "p99 ms", "objects a frame", "dropped", "GPU MiB", "GPU works")


def load(asked: Asked, cameras: int, files: int, lock: bool = False) -> None:
    """So many cameras of 30 FPS at max_fps 15, and files, through ``maskcast run`` with SAM 2.1 tiny (random weights).

    The detector is the embedded one. ``lock``: pictures are subscribed too, and who holds the interpreter lock is
    sampled.
    """
    if missing := [name for name in WEB if find_spec(name) is None]:
        raise Skipped(f"the daemon needs {', '.join(missing)}, not installed here")
    folder, size = Path(asked.scratch), (256, 256) if asked.small else (1920, 1080)
    world = ShapesWorld(0, *size, objects=OBJECTS)
    bare = _clip(folder / "clip.h264", world, 30 if asked.small else 90)
    with real_cameras(bare, cameras, RATE) as addresses:
        file = _repeated(bare, folder / "clip.mp4", 40) if files else None
        sources = {f"camera-{n}": address for n, address in enumerate(addresses, 1)}
        sources |= {f"file-{n}": str(file) for n in range(1, files + 1)}
        config = _configuration(folder / f"{cameras}-{files}.toml", sources, world.labels)
        _measure(asked, config, sources, cameras, lock)


def _measure(asked: Asked, config: Path, sources: dict[str, str], cameras: int, lock: bool) -> None:
    weights = Path(asked.scratch) / "sam2.1_hiera_tiny.pt"
    if not asked.small and not weights.exists():
        write_sam2(weights.parent, "tiny")
    models = ("--detector", "embedded", "--segmenter", "embedded" if asked.small else str(weights))
    seconds = 5.0 if asked.small else SECONDS
    with _running(config, *models, "--device", asked.device) as (program, began):
        ready = _until_ready(program, began)
        reader = Subscriber(program, tuple(sources), pictures=lock)
        reader.start()
        look = Look(program, reader)
        look.until(lambda: {one.stream for one in reader.arrivals} >= set(sources))
        first = time.monotonic() - began
        look.wait(WARM_UP)
        meter, dropped, objects, seen = GpuMeter(), _dropped(program), reader.objects, len(reader.arrivals)
        look.wait(seconds)
        arrivals, objects = reader.arrivals[seen:], reader.objects - objects
        lost = _dropped(program) - dropped
        asked_for = cameras * MAX_FPS * seconds if cameras == len(sources) else None
        print(_row(len(sources), (ready, first), arrivals, seconds, asked_for, objects, lost, meter.stop()), flush=True)
        if lock:
            _print_lock(program, 3 if asked.small else 10)


@contextmanager
def _running(config: Path, *arguments: str) -> Iterator[tuple[MeasuredProgram, float]]:
    """The daemon, and when it was started, in monotonic seconds."""
    began = time.monotonic()
    waits = {"MASKCAST_PUBLISH__WAIT_FOR": "1"}  # so that no file has ended before somebody reads
    program = MeasuredProgram("--config", str(config), *arguments, module="tests.gpu.load.watched_daemon", **waits)
    with closing(program), relayed(program):
        yield program, began


def _until_ready(program: MeasuredProgram, began: float) -> float:
    """Seconds from its start until the daemon answers that it is ready."""
    url, silence = urljoin(program.address("metrics"), "/readyz"), Silence(program, "not ready", STARTING)
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30):
                break
        except (urllib.error.URLError, TimeoutError):
            assert program.process.is_running(), program.complaints()
            silence.look(began)
            time.sleep(0.1)
    seconds = time.monotonic() - began
    print(f"- start to READY: {seconds:.1f} s", flush=True)
    return seconds


class Look:
    """Waits, and looks at the daemon meanwhile: it must run, and its stacks are written when it is silent."""

    def __init__(self, program: MeasuredProgram, reader: Subscriber) -> None:
        self._program, self._reader, self._silence = program, reader, Silence(program, "no frame")

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert self._reader.is_alive(), f"the daemon ended or is silent: {self._program.complaints()}"
            self._silence.look(self._reader.last)
            time.sleep(0.05)

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end)


def _dropped(program: MeasuredProgram) -> Counter[str]:
    """Frames that were dropped so far, by reason."""
    scrape = program.scrape()
    return Counter({reason: int(scrape.sum("frames_dropped_total", reason=reason)) for reason in DROP_REASONS})


def _row(
    streams: int,
    starts: tuple[float, float],
    arrivals: Sequence[Arrival],
    seconds: float,
    asked_for: float | None,
    objects: int,
    lost: Counter[str],
    gpu: tuple[float, float] | None,
) -> str:
    """A table of one row; latencies only of cameras, the GPU only where nvidia-smi is there."""
    cells = [str(streams), *(f"{start:.1f}" for start in starts), f"{len(arrivals) / seconds:.1f}"]
    if asked_for is None:
        cells += ["-"] * 4
    else:
        late = [1000 * one.latency for one in arrivals] or [float("nan")]
        cells += [f"{len(arrivals) / asked_for:.3f}", *(f"{value:.0f}" for value in np.percentile(late, (50, 95, 99)))]
    cells.append(f"{objects / max(len(arrivals), 1):.1f}")
    cells.append(", ".join(f"{count} {reason}" for reason, count in lost.items() if count) or "0")
    cells += [f"{gpu[0]:.0f}", f"{gpu[1]:.0%}"] if gpu else ["-", "-"]
    rows = [HEADS, ["---"] * len(HEADS), cells]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _print_lock(program: MeasuredProgram, seconds: int) -> None:
    """Who holds the interpreter lock, by tests.benchmarks.lock, which looks for twice as many seconds."""
    if find_py_spy() is None:
        print("- interpreter lock: py-spy is not installed", flush=True)
        return
    if find_spec(LOCK) is None:
        print("- interpreter lock: not in this version", flush=True)
        return
    lock = import_module(f"{LOCK}.__main__")
    try:
        rows = lock.evaluate(lock.sample(program, seconds), functions=5)
    except SystemExit as refused:
        print(f"- interpreter lock: {refused}", flush=True)
        return
    print("\n| threads | CPU, ms a frame | with the lock, ms a frame | where |\n|---|---|---|---|")
    for kind, row in rows.items():
        where = ", ".join(f"{spent:.2f} {name}" for name, spent in row.functions.items())
        print(f"| {kind} | {row.cpu:.2f} | {row.lock:.2f} | {where} |", flush=True)


def _clip(path: Path, world: ShapesWorld, pictures: int) -> Path:
    """Bare H.264 of the world, forwards and backwards; begins with a key picture."""
    if not path.exists():
        shown = [world.render(t)[0] for t in range(pictures)]
        options = {"preset": "ultrafast", "crf": "30", "bf": "0", "g": str(RATE)}
        write_video(path, shown + shown[::-1], rate=RATE, codec_options=options)
    return path


def _repeated(clip: Path, path: Path, times: int) -> Path:
    """An MP4 of the clip's pictures, again and again, without encoding them anew."""
    if path.exists():
        return path
    with av.open(str(clip)) as video:
        packets = [packet for packet in video.demux(video=0) if packet.size]
        with av.open(str(path), "w") as container:
            stream = container.add_stream_from_template(video.streams.video[0])
            for n in range(times * len(packets)):
                picture, again = packets[n % len(packets)], av.Packet(bytes(packets[n % len(packets)]))
                again.pts = again.dts = n
                again.time_base, again.stream, again.is_keyframe = Fraction(1, RATE), stream, picture.is_keyframe
                container.mux(again)
    return path


def _configuration(path: Path, sources: dict[str, str], labels: Sequence[str]) -> Path:
    prompts = list(dict.fromkeys(labels))
    lines = [f"[tracking]\nmax_fps = {MAX_FPS}\nmax_objects = {OBJECTS}\n"]
    for name, source in sources.items():
        free = "" if name.startswith("camera") else "tracking.max_fps = 0\n"  # files run as fast as they can
        lines.append(f"[[streams]]\nname = '{name}'\nsource = '{source}'\nprompts = {prompts}\n{free}")
    path.write_text("".join(lines))
    return path
