"""Say whether this machine can do what the configuration asks: device, models, sources, ports, folders.

One line a finding, `ok` or `fail`, on stdout; if something fails, stderr says how much, and the exit code is 1.

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
from typing import NamedTuple

from daemon.cli.flags import add_settings_flags, load_settings
from daemon.settings.schema import Settings, StreamSettings
from stages.errors import ConfigError, MaskcastError, OutputError, SourceError

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
        _print_findings([Finding(False, "settings", str(error))], arguments.json)
        raise
    findings = _print_findings(_findings(settings), arguments.json)
    failed = [finding.subject for finding in findings if not finding.ok]
    if failed:
        raise MaskcastError(f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}; stdout says why")
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


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding(True, "settings", f"{len(settings.streams)} stream(s)")
    yield _run_check("memory", _memory)
    yield _run_check("device", partial(_device, settings))
    yield _run_check("detector", partial(_detector, settings))
    yield _run_check("segmenter", partial(_segmenter, settings))
    if settings.models.classifier:
        yield _run_check("classifier", partial(_classifier, settings))
    for stream in settings.streams:
        yield _run_check(stream.name, partial(_source, settings, stream))
    if settings.publish.curve_dir:
        yield _run_check("curve_dir", partial(_curve_dir, Path(settings.publish.curve_dir)))
    yield _run_check("publish", partial(_endpoint, settings.publish.endpoint))
    yield _run_check("http", partial(_listen, settings))
    folders = {stream.resolved(settings).record.dir for stream in settings.streams} | {settings.record.dir}
    for folder in sorted(folders - {""}):
        yield _run_check("record", partial(_folder, Path(folder)))


def _run_check(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(True, subject, check())
    except MaskcastError as error:
        return Finding(False, subject, " ".join(str(error).split()))
    except Exception as error:  # reported as a finding, so that the other checks go on
        return Finding(False, subject, f"{type(error).__name__}: {' '.join(str(error).split())}")


def _memory() -> str:
    from daemon.limits.memory_budget import in_words, machine_bytes

    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{in_words(free)} of {in_words(machine_bytes())} free, {len(os.sched_getaffinity(0))} CPU cores"


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


def _detector(settings: Settings) -> str:
    from daemon.service.build_models import build_detector

    started = time.perf_counter()
    build_detector(settings.models)
    return f"{settings.models.detector} loaded in {time.perf_counter() - started:.1f} s"


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
    labels = f"{len(classifier.labels)} classes, such as {', '.join(classifier.labels[:3])}"
    return f"{settings.models.classifier} loaded in {time.perf_counter() - started:.1f} s, {labels}"


def _source(settings: Settings, stream: StreamSettings) -> str:
    """Open the source and read one frame."""
    from daemon.service.build_models import decoding_gpu, pick_device
    from stages.source.pictures.pixel_aspect import parse_pixel_aspect
    from stages.source.source import open_source

    aspect = parse_pixel_aspect(stream.pixel_aspect)
    source = open_source(stream.source, decoding_gpu(pick_device(settings.models.device)), pixel_aspect=aspect)
    try:
        frame = next(source.frames(), None)
    finally:
        source.close()
    if frame is None:
        raise SourceError("opened, but it has no frame")
    height, width = frame.image.shape[:2]
    length = "live" if source.live else f"{source.frames_expected or 'an unknown number of'} frames"
    return f"{width}x{height} at {source.rate:.4g} FPS, {length}, decoded by {source.decoder}"


def _endpoint(endpoint: str) -> str:
    from stages.output.publisher import Publisher

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
    return f"{folder} has the daemon's keys and {len(clients)} client(s)"


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
