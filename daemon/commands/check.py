"""Say whether this machine can do what the configuration asks: values, models, prompts, sources, ports, folders.

Prints a line for each finding, `ok` or `fail`. If something fails, stderr says how much. Exit codes: 2 for a wrong
configuration, all of whose faults are listed with their lines; else 1 if a check fails.

examples:
  maskcast check --config maskcast.toml
  maskcast check --detector embedded --segmenter embedded --json
"""

import json
import os
import socket
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from daemon.cli.flags import add_settings_flags, load_settings, overrides_of
from daemon.settings.errors import SettingsError
from daemon.settings.load import COMMAND_LINE, origin
from daemon.settings.schema import Settings, StreamSettings
from daemon.settings.toml_lines import KeyPath
from stages.errors import ConfigError, MaskcastError, OutputError, SourceError
from stages.plural import plural

if TYPE_CHECKING:
    from stages.detection.base import Detector

_GIB = 1 << 30


class Finding(NamedTuple):
    """Result of one check."""

    ok: bool
    subject: str
    detail: str


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``maskcast check``."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    add_settings_flags(parser)


def run(arguments: Namespace) -> int:
    """Print each finding at once. Raises ConfigError for a wrong configuration, MaskcastError if a check fails."""
    try:
        settings = load_settings(arguments)
    except ConfigError as error:
        problems = error.problems if isinstance(error, SettingsError) else [str(error)]
        _print_findings((Finding(False, "settings", problem) for problem in problems), arguments.json)
        if len(problems) == 1:
            raise
        raise ConfigError(f"{len(problems)} faults in the configuration; stdout has a line for each") from None
    findings = _print_findings(_findings(settings, partial(_set_in, arguments)), arguments.json)
    failed = [finding.subject for finding in findings if not finding.ok]
    if failed:
        raise MaskcastError(f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}; stdout says why")
    if not arguments.json:
        print(f"all {len(findings)} checks passed")
    return 0


def _print_findings(findings: Iterable[Finding], as_json: bool) -> list[Finding]:
    printed = []
    for finding in findings:
        printed.append(finding)
        if not as_json:
            print(f"{'ok' if finding.ok else 'fail':<5} {finding.subject:<12} {finding.detail}", flush=True)
    if as_json:
        ok = all(finding.ok for finding in printed)
        print(json.dumps({"ok": ok, "findings": [finding._asdict() for finding in printed]}, ensure_ascii=False))
    return printed


def _findings(settings: Settings, set_in: Callable[[KeyPath], str]) -> Iterator[Finding]:
    def run(subject: str, check: Callable[[], str], *key: int | str) -> Finding:
        """``key``: the setting that is wrong if the check fails."""
        finding = _run_check(subject, check)
        return finding if finding.ok else finding._replace(detail=set_in(key) + finding.detail)

    yield Finding(True, "settings", _streams(settings))
    yield run("memory", _memory)
    yield run("device", partial(_device, settings), "models", "device")
    detector = _Detector(settings)
    yield run("detector", detector.load, "models", "detector")
    yield from detector.prompts(run)
    yield run("segmenter", partial(_segmenter, settings), "models", "segmenter")
    if settings.models.classifier:
        yield run("classifier", partial(_classifier, settings), "models", "classifier")
    for index, stream in enumerate(settings.streams):
        yield run(stream.name, partial(_source, settings, stream, detector.loaded), "streams", index, "source")
    if settings.publish.curve_dir:
        yield run("curve_dir", partial(_curve_dir, Path(settings.publish.curve_dir)), "publish", "curve_dir")
    yield run("publish", partial(_endpoint, settings), "publish", "endpoint")
    yield run("http", partial(_listen, settings), "http", "listen")
    folders = {stream.resolved(settings).record.dir for stream in settings.streams} | {settings.record.dir}
    for folder in sorted(folders - {""}):
        yield run("record", partial(_folder, Path(folder)), "record", "dir")


def _set_in(arguments: Namespace, key: KeyPath) -> str:
    """The file and line that set a value, or the environment; "" for flags, whose values the finding shows."""
    place = origin(key, arguments.config, overrides_of(arguments)) if key else ""
    return f"{place}: " if place not in ("", COMMAND_LINE) else ""


def _run_check(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(True, subject, check())
    except MaskcastError as error:
        return Finding(False, subject, " ".join(str(error).split()))
    except Exception as error:  # reported as a finding, so that the other checks go on
        return Finding(False, subject, f"{type(error).__name__}: {' '.join(str(error).split())}")


def _memory() -> str:
    from daemon.limits.memory_budget import in_words, machine_bytes

    cores = len(os.sched_getaffinity(0))
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{in_words(free)} of {in_words(machine_bytes())} free, {cores} {plural(cores, 'CPU core')}"


def _device(settings: Settings) -> str:
    import torch

    from daemon.limits.memory_budget import budget_bytes, in_words
    from daemon.service.build_models import pick_device, pick_dtype

    device = pick_device(settings.models.device)
    budget = f"{in_words(budget_bytes(settings.limits.gpu_memory, device))} for models and streams"
    precision = str(pick_dtype(settings.models.precision, device)).removeprefix("torch.")
    if device.type != "cuda":
        return f"{device}, {precision}, torch {torch.__version__}, {budget}"
    free, total = (size / _GIB for size in torch.cuda.mem_get_info(device))
    return f"{device}, {precision}, {torch.cuda.get_device_name(device)}, {free:.1f} of {total:.1f} GiB free, {budget}"


class _Detector:
    """The configured detector, and the prompts that it shall read."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.loaded: Detector | None = None

    def load(self) -> str:
        from daemon.service.build_models import build_detector

        started = time.perf_counter()
        self.loaded = build_detector(self._settings.models)
        return f"{self._settings.models.detector} loaded in {time.perf_counter() - started:.1f} s"

    def prompts(self, run: Callable[..., Finding]) -> Iterator[Finding]:
        """A finding for each stream with prompts that the detector cannot read, or one that it reads all."""
        if self.loaded is None:
            return
        streams = [(index, stream) for index, stream in enumerate(self._settings.streams) if stream.prompts]
        findings = [
            run("prompts", partial(self._doubts, self.loaded, stream), "streams", index, "prompts")
            for index, stream in streams
        ]
        wrong = [finding for finding in findings if not finding.ok]
        count = sum(len(stream.prompts) for _, stream in streams)
        if count and not wrong:
            doubts = [finding.detail for finding in findings if finding.detail]
            yield Finding(
                True, "prompts", "; ".join([f"the detector reads {count} {plural(count, 'prompt')}", *doubts])
            )
        yield from wrong

    def _doubts(self, detector: "Detector", stream: StreamSettings) -> str:
        """The words that the detector does not know; "" if there are none."""
        try:
            return "; ".join(f"{stream.name}: {doubt}" for doubt in detector.doubts(stream.prompts))
        except ConfigError as error:
            raise ConfigError(f"stream {stream.name}: {error}") from None


def _segmenter(settings: Settings) -> str:
    from daemon.service.build_models import build_segmenter

    started = time.perf_counter()
    build_segmenter(settings.models)
    return f"{settings.models.segmenter} loaded in {time.perf_counter() - started:.1f} s"


def _classifier(settings: Settings) -> str:
    from daemon.service.build_models import build_classifier

    started = time.perf_counter()
    classifier = build_classifier(settings.models)
    assert classifier is not None
    count = len(classifier.labels)
    labels = f"{count} {plural(count, 'class', 'classes')}, such as {', '.join(classifier.labels[:3])}"
    return f"{settings.models.classifier} loaded in {time.perf_counter() - started:.1f} s, {labels}"


def _source(settings: Settings, stream: StreamSettings, detector: "Detector | None") -> str:
    """Open the source and read one frame."""
    from daemon.service.build_models import decoding_gpu, pick_device
    from daemon.service.build_source import build_source

    gpu = decoding_gpu(pick_device(settings.models.device))
    source = build_source(stream.resolved(settings), gpu)()
    try:
        frame = next(source.frames(), None)
    finally:
        source.close()
    if frame is None:
        raise SourceError("opened, but it has no frame")
    height, width = frame.image.shape[:2]
    expected = source.frames_expected
    frames = f"{expected} {plural(expected, 'frame')}" if expected else "an unknown number of frames"
    length = "live" if source.live else frames
    tiles = _tiles(stream.resolved(settings), detector, height, width)
    return f"{width}x{height} at {source.rate:.4g} FPS, {length}, decoded by {source.decoder}{tiles}"


def _tiles(stream: StreamSettings, detector: "Detector | None", height: int, width: int) -> str:
    """How the stream's pictures are cut for detection; "" without tiles."""
    from stages.detection.tiles import choose_grid

    if detector is None or stream.detection.tiles == "off":
        return ""
    rows, columns = choose_grid(detector, height, width, stream.detection.tiles)
    if rows == columns == 1:
        return ", detected on as a whole"
    return f", detected on as a whole and in {rows * columns} tiles ({columns} x {rows})"


def _streams(settings: Settings) -> str:
    if not settings.streams:
        return "no streams; name a SOURCE for `maskcast run`"
    names = [stream.name for stream in settings.streams]
    return f"{len(names)} {plural(len(names), 'stream')}: {', '.join(names)}"


def _endpoint(settings: Settings) -> str:
    from stages.output.publisher import Publisher

    endpoint, port = settings.publish.endpoint, settings.http.address[1]
    if port and endpoint.startswith("tcp://") and endpoint.endswith(f":{port}"):
        raise OutputError(f"{endpoint} has the port of http.listen, {settings.http.listen}; give one of them another")
    Publisher(endpoint).close()
    return f"{endpoint} is free"


def _curve_dir(folder: Path) -> str:
    from stages.output.curve_keys import allowed_clients, server_secret

    server_secret(folder)
    clients, problems = allowed_clients(folder)
    if problems:
        raise ConfigError(problems[0])
    if not clients:
        raise ConfigError(f"{folder} has no client that may subscribe; maskcast keys new --client NAME makes one")
    return f"{folder} has the daemon's keys and {len(clients)} {plural(len(clients), 'client')}"


def _listen(settings: Settings) -> str:
    host, port = settings.http.address
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise OutputError(f"cannot listen on {settings.http.listen}: {error.strerror}; choose another --http") from None
    return f"{settings.http.listen} is free"


def _folder(folder: Path) -> str:
    """Write and remove a file in the folder, or in its nearest existing parent. Creates no folder."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = os.statvfs(existing).f_bavail * os.statvfs(existing).f_frsize / _GIB
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}; choose another record.dir") from None
    return f"{folder} can be written, {free:.1f} GiB free"
