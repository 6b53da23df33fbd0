"""Builds the service that the settings ask for: the composition root, with `build_models` and `build_source`."""

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from daemon.api import Api
from daemon.engine.classify import ClassifySchedule
from daemon.engine.engine import Engine
from daemon.engine.models import Models
from daemon.engine.stream_state import StreamState
from daemon.lane.lane import WINDOWS, Lane, size_of
from daemon.lane.mailbox import Mailbox
from daemon.lane.outcome import Outcome
from daemon.lane.prompt_set import PromptSet
from daemon.limits.governor import Governor
from daemon.metrics.registry import Metrics
from daemon.metrics.stream_metrics import StreamMetrics
from daemon.service.build_models import build_models, decoding_gpu, pick_device
from daemon.service.build_source import build_source
from daemon.service.controller import Controller
from daemon.service.service import Parts, Service
from daemon.service.start_times import StartTimes
from daemon.settings.schema import Settings, StreamSettings
from daemon.sinks.preview import Preview
from daemon.sinks.publishing import Publishing
from daemon.sinks.recording import Recording
from daemon.stream.latency import Latency
from daemon.stream.reader import Reader, SourceOpener
from daemon.stream.rendering import Renderer
from daemon.stream.stream import Stream
from daemon.stream.writer import Identity, Observer, Writer
from stages.detection.auto_threshold import AutoThresholds
from stages.output.publisher import Publisher
from stages.output.recorder import Recorder
from stages.source.address import is_live, redact
from stages.types import Window


def build(settings: Settings, observers: Mapping[str, Observer] | None = None) -> Service:
    """The service that the settings ask for; ``observers`` are shown every result of the stream they are named by.

    Raises ConfigError for a device that does not exist or prompts that make no sense.
    """
    device = pick_device(settings.models.device)
    metrics = Metrics(device if device.type == "cuda" else None)
    times = StartTimes(metrics)
    gpu = decoding_gpu(device)
    metrics.build.labels(_version(), torch.__version__, str(device), "software" if gpu is None else "cuda").set(1)

    def load() -> Models:
        models = build_models(settings, metrics, warm=True, times=times)
        times.ready()
        return models

    engine = Engine(load)

    def open_publisher() -> Publisher:
        publish = settings.publish
        curve_dir = Path(publish.curve_dir) if publish.curve_dir else None
        publisher = Publisher(publish.endpoint, publish.send_hwm, publish.when_full, curve_dir)
        metrics.subscribers.set_function(lambda: float(publisher.subscribers))
        metrics.subscribers_refused.read = lambda: publisher.refused
        return publisher

    def open_api(service: Service) -> Api:
        return Api(settings.http, metrics.registry, Controller(service))

    def new_stream(stream: StreamSettings, publisher: Publisher) -> Stream:
        shared = _Shared(settings, engine, metrics, publisher, gpu)
        return _build_stream(shared, stream.resolved(settings), (observers or {}).get(stream.name))

    return Service(Parts(engine, open_publisher, open_api, new_stream), settings.streams)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all streams share."""

    settings: Settings
    engine: Engine
    metrics: Metrics
    publisher: Publisher
    gpu: int | None  # that decodes video


def _build_stream(shared: _Shared, stream: StreamSettings, observe: Observer | None) -> Stream:
    """A stream, known to the engine and ready to be started. ``stream`` is resolved."""
    engine, publisher = shared.engine, shared.publisher
    lane = _build_lane(shared, stream)
    # a new sink joins these
    hurry, preview = threading.Event(), Preview()
    publishing = Publishing(stream.name, publisher, lane.metrics, stream.publish.frames, hurry)
    recording = Recording(stream.name, partial(_open_recorder, stream), lane.metrics, stream.record.frames)
    sinks = (publishing, recording, preview)

    def wait_for_start(stop: threading.Event) -> bool:
        while not engine.ready.wait(0.02):
            if stop.is_set():
                return False
        return publisher.wait_for(shared.settings.publish.wait_for, stop)

    latency = Latency()
    opener = SourceOpener(
        is_live(stream.source),
        build_source(stream, shared.gpu),
        wait_for_start,
        engine.ready.is_set,
        stream.tracking.max_fps,
    )
    models = {role: getattr(shared.settings.models, role) for role in ("detector", "segmenter", "classifier")}
    identity = Identity(stream.name, str(uuid.uuid4()), models, stream.publish.mask_encoding)
    renderer = Renderer(stream.publish.jpeg_quality, lane.prompt_set.written)
    return Stream(
        lane,
        Reader(lane, recording, latency, opener),
        Writer(identity, lane, renderer, sinks, latency, observe),
        source=redact(stream.source),
        preview=preview,
        hurry=hurry,
        patient=shared.settings.publish.when_full == "wait",
    )


def _build_lane(shared: _Shared, stream: StreamSettings) -> Lane:
    """The handle of a stream that the engine serves from now on."""
    detection, wake = stream.detection, shared.engine.wake
    prompt_set = PromptSet(stream.prompts)
    metrics = StreamMetrics(shared.metrics, stream.name, prompt_set.texts)
    governor = Governor(detection, stream.tracking)
    room = WINDOWS * stream.tracking.window
    inbox: Mailbox[Window] = Mailbox(room, wake, size_of)
    outbox: Mailbox[Outcome] = Mailbox(room, wake, size_of)
    lane = Lane(stream.name, prompt_set, metrics, governor, inbox, outbox, wake)
    auto = AutoThresholds(len(prompt_set.prompts), detection.least_score) if detection.auto_threshold else None
    shared.engine.add(StreamState(lane, detection, stream.tracking, ClassifySchedule(stream.classification), auto))
    return lane


def _open_recorder(stream: StreamSettings, rate: float) -> Recorder | None:
    record = stream.record
    return Recorder(Path(record.dir), stream.name, rate, record.frames, record.resume) if record.dir else None


def _version() -> str:
    try:
        return version("maskcast")
    except PackageNotFoundError:
        return "(not installed)"
