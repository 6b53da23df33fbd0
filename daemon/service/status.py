"""The status of streams and of the service, as numbers and as lines for people."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from daemon.service.service import Service
from daemon.settings.schema import Record, Settings, StreamSettings
from daemon.stream.stream import Stream
from stages.errors import one_line
from stages.plural import plural
from stages.source.address import is_live, redact


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of one stream so far; latencies in seconds, over the last 10,000 frames."""

    name: str
    frames: int  # published
    expected: int | None  # about how many there will be
    dropped: int
    fps: float  # from the first frame on
    latency_p50: float
    latency_p95: float
    tracks: int  # started
    error: str | None
    decode_errors: int = 0  # packets or pictures that could not be decoded

    def __str__(self) -> str:
        times = f"latency {self.latency_p50:.2f} s (p95 {self.latency_p95:.2f} s)"
        frames = f"{self.frames} {plural(self.frames, 'frame')}"
        tracks = f"{self.tracks} {plural(self.tracks, 'track')}"
        counts = f"{tracks}, {self.dropped} {plural(self.dropped, 'frame')} dropped"
        line = f"{self.name}: {frames}, {self.fps:.1f} FPS, {times}, {counts}"
        if self.decode_errors:
            line += f", {self.decode_errors} decode {plural(self.decode_errors, 'error')}: the source is damaged"
        return f"{line}, failed: {self.error}" if self.error else line


def introduce(service: Service, settings: Settings) -> str:
    """Where to subscribe and where the metrics are, a line each."""
    lines = [f"masks: maskcast watch {service.publisher.endpoint}", f"metrics: {service.api.url}/metrics"]
    if settings.publish.curve_dir:
        lines.append("subscribers need keys: --key NAME.key_secret --server server.key (maskcast keys new)")
    if settings.publish.wait_for:
        wanted = settings.publish.wait_for
        lines.append(f"files start once {wanted} {plural(wanted, 'subscriber is', 'subscribers are')} there")
    return "\n".join(lines)


def introduce_stream(stream: StreamSettings, settings: Settings) -> str:
    """What a stream looks for and where it is recorded, a line each."""
    prompts = ", ".join(prompt.written for prompt in stream.prompts) or "no prompts"
    record = stream.resolved(settings).record
    lines = [f"{stream.name}: {redact(stream.source)}, looking for: {prompts}"]
    if record.dir:
        segments = record.segment and is_live(stream.source)
        into = f"{Path(record.dir) / stream.name}/" if segments else recorded(record, stream.name)[0]
        lines.append(f"{stream.name}: recording to {into}")
    return "\n".join(lines)


def status(service: Service) -> str:
    """The service in one line: "3 streams up, 1 retrying (gate), 74.2 FPS; models loading"."""
    streams = tuple(service.streams.values())
    up = sum(stream.up and not stream.ended for stream in streams)
    retrying = [stream.name for stream in streams if not stream.up and not stream.ended]
    failed = [stream.name for stream in streams if stream.ended and stream.error is not None]
    parts = [f"{up} {'stream' if up == 1 else 'streams'} up"]
    unrecorded = [stream.name for stream in streams if stream.not_recorded]
    for how, names in (("retrying", retrying), ("failed", failed), ("not recorded", unrecorded)):
        parts += [f"{len(names)} {how} ({', '.join(names)})"] if names else []
    parts.append(f"{sum(stream.metrics.fps() for stream in streams):.1f} FPS")
    return ", ".join(parts) + ("" if service.models_loaded else "; models loading")


def recorded(record: Record, stream: str) -> list[str]:
    """The files of a file's recording; none where nothing is recorded."""
    return [str(Path(record.dir) / f"{stream}.{kind}") for kind in ("mp4", "masks.jsonl")] if record.dir else []


def report(stream: Stream) -> Report:
    """The figures of a stream, running or ended."""
    latencies = np.array(stream.metrics.latencies.copy() or [0.0])
    p50, p95 = (float(value) for value in np.percentile(latencies, (50, 95)))
    return Report(
        name=stream.name,
        frames=stream.metrics.frames_published,
        expected=stream.frames_expected,
        dropped=stream.metrics.drops,
        fps=stream.metrics.frames_published / stream.seconds if stream.seconds else 0.0,
        latency_p50=p50,
        latency_p95=p95,
        tracks=stream.metrics.tracks_started,
        error=one_line(stream.error) if stream.error else None,
        decode_errors=stream.metrics.damaged,
    )
