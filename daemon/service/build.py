"""Builds the service that the settings ask for: the composition root, with `build_models` and `build_source`."""

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from daemon.api import Api
from daemon.changes.configuration import Configuration
from daemon.engine.classify import ClassifySchedule
from daemon.engine.engine import Engine
from daemon.engine.models import Models
from daemon.engine.stream_state import StreamState
from daemon.events.clips import Clips, Place
from daemon.events.place import place
from daemon.events.store import EventStore
from daemon.lane.handover import Origin
from daemon.lane.lane import WINDOWS, Lane, size_of
from daemon.lane.lease import Lease
from daemon.lane.mailbox import Mailbox
from daemon.lane.outcome import Notice, Outcome
from daemon.lane.prompt_set import PromptSet
from daemon.lane.trail import Trail
from daemon.limits.governor import Governor
from daemon.metrics.registry import Metrics
from daemon.metrics.stream_metrics import StreamMetrics
from daemon.recording.folder import Policy
from daemon.recording.folders import Folders
from daemon.recording.segment_recorder import SegmentRecorder
from daemon.service.build_models import build_models, decoding_gpu, pick_device
from daemon.service.build_source import build_source
from daemon.service.controller import Controller
from daemon.service.service import Parts, Service
from daemon.service.start_times import StartTimes
from daemon.settings.schema import Record, Settings, StreamSettings
from daemon.settings.value_types import seconds, size
from daemon.sinks.looking_back import LookingBack
from daemon.sinks.preview import Preview
from daemon.sinks.publishing import Publishing
from daemon.sinks.recording import Recording
from daemon.sinks.remembering import Remembering
from daemon.sinks.sink import Sink
from daemon.stream.latency import Latency
from daemon.stream.reader import Reader, SourceOpener
from daemon.stream.rendering import Renderer
from daemon.stream.stream import Stream
from daemon.stream.writer import Identity, Observer, Writer
from stages.detection.auto_threshold import AutoThresholds
from stages.output.publisher import Publisher
from stages.output.recorder import Recorder
from stages.recording.around_events import AroundEvents
from stages.source.address import is_live, redact
from stages.source.source import Source
from stages.types import StreamEvent, Window

SKIPPED_IDS = 1000  # more than a stream gives between a snapshot that is not full and the crash after it


def build(
    settings: Settings, observers: Mapping[str, Observer] | None = None, configuration: Configuration | None = None
) -> Service:
    """The service that the settings ask for; ``observers`` are shown every result of the stream they are named by.

    ``configuration``: where ``settings`` are from, and may change while the service runs. Raises ConfigError for a
    device that does not exist or prompts that make no sense.
    """
    configuration = configuration or Configuration(settings)
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
    database = place(settings)

    def keep() -> float | None:
        asked = configuration.wanted.settings.record.keep
        return seconds(asked) if asked else None

    events = None if database is None else EventStore(database, metrics.database_dropped.inc, keep)
    clips = Clips(_place(settings.record))

    folders = Folders(() if events is None else (events,))

    def open_publisher() -> Publisher:
        publish = settings.publish
        curve_dir = Path(publish.curve_dir) if publish.curve_dir else None
        publisher = Publisher(publish.endpoint, publish.send_hwm, publish.when_full, curve_dir)
        metrics.subscribers.set_function(lambda: float(publisher.subscribers))
        metrics.subscribers_refused.read = lambda: publisher.refused
        return publisher

    def open_api(service: Service) -> Api:
        return Api(settings.http, metrics.registry, Controller(service))

    def new_stream(stream: StreamSettings, publisher: Publisher, origin: Origin) -> Stream:
        shared = _Shared(settings, engine, metrics, publisher, gpu, events, clips, folders)
        resolved = stream.resolved(configuration.wanted.settings)
        return _build_stream(shared, resolved, origin, (observers or {}).get(stream.name))

    def source_of(stream: StreamSettings) -> Callable[[], Source]:
        return build_source(stream.resolved(configuration.wanted.settings), gpu)

    return Service(Parts(engine, open_publisher, open_api, new_stream, source_of, events, clips), configuration)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all streams share."""

    settings: Settings
    engine: Engine
    metrics: Metrics
    publisher: Publisher
    gpu: int | None  # that decodes video
    events: EventStore | None
    clips: Clips
    folders: Folders


def _build_stream(shared: _Shared, stream: StreamSettings, origin: Origin, observe: Observer | None) -> Stream:
    """A stream, known to the engine and ready to be started. ``stream`` is resolved.

    Raises SnapshotError, ConfigError and BusyError when the tracker cannot start from what was handed over.
    """
    engine, publisher = shared.engine, shared.publisher
    if is_live(stream.source) and stream.record.dir and stream.record.segment:
        shared.folders.of(Path(stream.record.dir))  # a second daemon is refused before anything is loaded
    lane = _build_lane(shared, stream, origin)
    # a new sink joins these
    hurry, preview = threading.Event(), Preview(stream.publish.jpeg_quality)
    publishing = Publishing(stream.name, publisher, lane.metrics, stream.publish.frames, hurry, lane.lease)
    record = stream.record
    open_recorder = partial(_open_recorder, shared, stream, lane)
    recording = Recording(stream.name, open_recorder, lane.metrics, record.frames, record.events)
    sinks: tuple[Sink, ...] = (LookingBack(lane.trail, preview), publishing, recording, preview)
    shared.clips.know(stream.name, _place(stream.record))
    if shared.events is not None:
        sinks = (*sinks, Remembering(stream.name, shared.events))

    def wait_for_start(stop: threading.Event) -> bool:
        while not engine.ready.wait(0.02):
            if stop.is_set():
                return False
        return publisher.wait_for(shared.settings.publish.wait_for, stop)

    latency = Latency()
    opener = SourceOpener(
        is_live(stream.source),
        _first_of(origin.source, build_source(stream, shared.gpu)),
        wait_for_start,
        engine.ready.is_set,
        stream.tracking.max_fps,
    )
    models = {role: getattr(shared.settings.models, role) for role in ("detector", "segmenter", "classifier")}
    session = str(uuid.uuid4())
    identity = Identity(stream.name, session, models, stream.publish.mask_encoding, origin.predecessor)
    renderer = Renderer(stream.publish.jpeg_quality, lane.prompt_set.written)
    return Stream(
        lane,
        Reader(lane, recording, latency, opener),
        Writer(identity, lane, renderer, sinks, latency, observe),
        source=redact(stream.source),
        preview=preview,
        recording=recording,
        hurry=hurry,
        patient=shared.settings.publish.when_full == "wait",
    )


def _first_of(opened: Source | None, opener: Callable[[], Source]) -> Callable[[], Source]:
    """Gives the source that has been opened already, and from the second call on what ``opener`` opens."""
    waiting = [opened] if opened is not None else []
    return lambda: waiting.pop() if waiting else opener()


def _build_lane(shared: _Shared, stream: StreamSettings, origin: Origin) -> Lane:
    """The handle of a stream that the engine serves from now on."""
    detection, wake, handover = stream.detection, shared.engine.wake, origin.handover
    prompt_set = PromptSet(stream.prompts, handover.prompts if handover is not None else ())
    auto = AutoThresholds(len(prompt_set.prompts), detection.least_score) if detection.auto_threshold else None
    tracker = None
    if handover is not None:  # before all that would have to be undone
        if auto is not None and handover.learned is not None:
            handover.learned.teach(auto, prompt_set.texts)
        restore = handover.picture, handover.tracker
        tracker = shared.engine.ask(lambda models: models.restored_tracker(stream.name, stream.tracking, *restore))
        if not handover.full:
            tracker.skip_ids(SKIPPED_IDS)
    metrics = StreamMetrics(shared.metrics, stream.name, prompt_set.texts)
    governor = Governor(stream.tracking)
    room = WINDOWS * stream.tracking.window
    inbox: Mailbox[Window] = Mailbox(room, wake, size_of)
    outbox: Mailbox[Outcome] = Mailbox(room, wake, size_of)
    trail = Trail(in_flight=room + stream.tracking.window)  # in the outbox and at the writer
    lane = Lane(stream.name, prompt_set, metrics, governor, inbox, outbox, wake, Lease(origin.fence), trail=trail)
    schedule = ClassifySchedule(stream.classification)
    shared.engine.add(StreamState(lane, detection, stream.tracking, schedule, auto, tracker))
    return lane


def _open_recorder(
    shared: _Shared, stream: StreamSettings, lane: Lane, rate: float, live: bool
) -> Recorder | SegmentRecorder | None:
    """How the source, which is open now, is recorded. Raises OutputError, ConfigError."""
    record = stream.record
    if not record.dir:
        return None
    if live and record.segment:
        policy = Policy(
            seconds(record.keep) if record.keep else None, size(record.keep_bytes) if record.keep_bytes else None
        )
        if shared.events is not None:
            shared.events.recorded(stream.name, Path(record.dir))
        length, folder = seconds(record.segment), shared.folders.of(Path(record.dir))

        around = AroundEvents(seconds(record.before), seconds(record.after)) if record.mode == "events" else None

        def tell(text: str) -> None:
            lane.tell(Notice(StreamEvent.ERROR, text), 0)

        return SegmentRecorder(folder, stream.name, rate, length, record.frames, policy, lane.metrics, tell, around)
    return Recorder(Path(record.dir), stream.name, rate, record.frames, record.resume)


def _place(record: Record) -> Place:
    """Where clips of what is recorded so come from."""
    return Place(Path(record.dir) if record.dir else None, seconds(record.before), seconds(record.after))


def _version() -> str:
    try:
        return version("maskcast")
    except PackageNotFoundError:
        return "(not installed)"
