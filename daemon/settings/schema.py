"""Schema of the settings: frozen models with defaults and constraints.

``Settings(...)`` uses only its arguments; `daemon.settings.load` reads file, environment and flags.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from daemon.settings import value_types as kind
from daemon.settings.errors import StreamsError
from stages.source.address import RTSP

PREFIX = "MASKCAST_"  # of environment variables

SECTIONS_OF_A_STREAM = ("detection", "tracking", "classification", "publish", "record")
PUBLISH_KEYS_OF_A_STREAM = ("frames", "jpeg_quality", "mask_encoding")


class _Table(BaseModel):
    """Base of the tables of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Models(_Table):
    detector: kind.Text = "IDEA-Research/grounding-dino-tiny"  # hub id, local folder, "embedded"
    segmenter: kind.Text = "facebook/sam2.1-hiera-large"  # hub id, .pt file or folder, "embedded"
    classifier: str = ""  # checkpoint, .onnx, "embedded", "" = off
    device: kind.Device = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto"] | bool = "auto"  # "auto": CUDA graphs without Inductor, True: both, False: neither


class Detection(_Table):
    every: kind.Count = 30  # most frames from one keyframe to the next
    least: kind.Count = 5  # fewest
    share: kind.Fraction = 0.2  # of the engine's time that detection may take to come sooner than ``every``
    box_threshold: kind.Fraction = 0.25
    text_threshold: kind.Fraction = 0.3
    auto_threshold: bool = False
    tiles: kind.Tiles = "off"  # of large pictures, for small objects

    @property
    def least_score(self) -> float:
        """Lowest score of a detection: its best token and its prompt's best token must both reach their thresholds."""
        return max(self.box_threshold, self.text_threshold)

    @property
    def fewest(self) -> int:
        """Fewest frames from one keyframe to the next: ``least``, whose default gives way to a smaller ``every``."""
        return min(self.least, self.every)

    @property
    def contradiction(self) -> str | None:
        """What is wrong with ``least`` beside ``every``; None where nothing is."""
        if "least" not in self.model_fields_set or self.least <= self.every:
            return None
        return f"has least = {self.least} above every = {self.every}; lower least or raise every"


class Tracking(_Table):
    window: kind.Count = 8  # frames
    max_fps: kind.Rate = 0  # Hz; 0 = all frames
    max_objects: kind.Count = 64
    lost_after: kind.Count = 90  # frames
    reidentify: bool = True


class Classification(_Table):
    target: Literal["frame", "objects"] = "frame"
    every: kind.Count = 30  # frames


class Publish(_Table):
    endpoint: kind.Endpoint = "tcp://127.0.0.1:5555"
    frames: bool = True
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 85
    send_hwm: kind.Count = 64  # messages
    when_full: Literal["drop", "wait"] = "drop"
    wait_for: Annotated[int, Field(ge=0)] = 0  # subscribers
    mask_encoding: Literal["rle", "counts"] = "rle"
    curve_dir: str = ""  # "" = no keys
    insecure: bool = False


class Http(_Table):
    listen: kind.Listen = "127.0.0.1:9109"
    token: kind.Secret = ""
    insecure: bool = False

    @property
    def address(self) -> tuple[str, int]:
        """Host without brackets, and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @model_validator(mode="after")
    def _require_token(self) -> Self:
        if not (self.token or self.insecure or kind.is_loopback(self.address[0])):
            raise ValueError(
                f"needs a token, because {self.listen} can be reached from other machines; "
                "set http.token, or http.insecure = true to let everybody in"
            )
        return self


class Record(_Table):
    dir: str = ""  # "" = off
    frames: bool = False  # also write the annotated frames as JPEG files
    resume: bool = False  # continue an earlier recording of a file
    mode: Literal["all", "events"] = "all"  # "events": segments of live sources around events only
    events: Annotated[tuple[kind.EventType, ...], Field(strict=False)] = ("track_started",)
    segment: kind.DurationOrNone = "5min"  # of a live source; "" = one file
    keep: kind.DurationOrNone = ""  # older segments go; "" = for ever
    keep_bytes: kind.SizeOrNone = ""  # of all streams of ``dir``: the oldest segments go first
    before: kind.Span = "5s"  # an event
    after: kind.Span = "10s"


class State(_Table):
    dir: str = ""  # "" = $STATE_DIRECTORY, which systemd sets; without that nothing is kept

    @property
    def folder(self) -> Path | None:
        """Where the daemon keeps what must outlive it; None where it keeps nothing."""
        chosen = self.dir or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        return Path(chosen) if chosen else None


class Log(_Table):
    format: Literal["text", "json"] = "text"
    level: Literal["", "debug", "info", "warning", "error"] = ""  # "" = info in a file, else warning


class Limits(_Table):
    gpu_memory: kind.Memory = "80%"


class StreamSettings(_Table):
    """One stream. Its tables hold only the keys set for this stream; ``resolved`` completes them."""

    name: kind.StreamName
    source: kind.Source
    transport: Literal["auto", "tcp", "udp"] = "auto"  # of RTSP; auto: UDP where the camera refuses TCP
    prompts: kind.Prompts = ()
    pixel_aspect: kind.PixelAspect = ""  # width:height of its pixels, "" = what the source says
    detection: Detection = Detection()
    tracking: Tracking = Tracking()
    classification: Classification = Classification()
    publish: Publish = Publish()
    record: Record = Record()

    def resolved(self, settings: "Settings") -> Self:
        """The stream with complete tables: keys that it does not set come from ``settings``."""
        tables = {}
        for section in SECTIONS_OF_A_STREAM:
            own: BaseModel = getattr(self, section)
            changes = {key: getattr(own, key) for key in own.model_fields_set}
            tables[section] = getattr(settings, section).model_copy(update=changes)
        return self.model_copy(update=tables)

    @model_validator(mode="after")
    def _check_transport(self) -> Self:
        scheme = self.source.partition("://")[0].lower()
        if self.transport != "auto" and scheme not in RTSP:
            raise ValueError(f'has transport = "{self.transport}", which only rtsp:// sources have; leave it out')
        if self.transport == "udp" and scheme == "rtsps":
            raise ValueError('has transport = "udp", but rtsps:// comes over TCP only; leave it out')
        return self

    @field_validator("publish")
    @classmethod
    def _check_publish_keys(cls, publish: Publish) -> Publish:
        shared = sorted(publish.model_fields_set.difference(PUBLISH_KEYS_OF_A_STREAM))
        if shared:
            raise ValueError(f"cannot set {shared[0]} for one stream; only {', '.join(PUBLISH_KEYS_OF_A_STREAM)}")
        return publish


class Settings(BaseSettings):
    """All settings, as in deploy/maskcast.toml."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", strict=True, env_prefix=PREFIX, env_nested_delimiter="__"
    )

    models: Models = Models()
    detection: Detection = Detection()
    tracking: Tracking = Tracking()
    classification: Classification = Classification()
    publish: Publish = Publish()
    http: Http = Http()
    record: Record = Record()
    state: State = State()
    log: Log = Log()
    limits: Limits = Limits()
    streams: Annotated[tuple[StreamSettings, ...], Field(strict=False)] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (the signature is pydantic-settings')
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @field_validator("detection")
    @classmethod
    def _check_detection(cls, detection: Detection) -> Detection:
        if detection.contradiction:
            raise ValueError(detection.contradiction)
        return detection

    @field_validator("publish")
    @classmethod
    def _require_curve_keys(cls, publish: Publish) -> Publish:
        if not (publish.curve_dir or publish.insecure or kind.is_local_endpoint(publish.endpoint)):
            raise ValueError(
                f"needs keys, because {publish.endpoint} can be reached from other machines; set publish.curve_dir "
                "(maskcast keys new --dir DIR makes it), or publish.insecure = true to let everybody in"
            )
        return publish

    @model_validator(mode="after")
    def _check_streams(self) -> Self:
        problems = [
            (index, problem) for index, stream in enumerate(self.streams) for problem in self._wrong_with(stream)
        ]
        names = [stream.name for stream in self.streams]
        problems += [
            (index, f'two streams are named "{name}"; give each its own name')
            for index, name in enumerate(names)
            if name in names[:index]
        ]
        if problems:
            raise StreamsError(problems)
        return self

    def _wrong_with(self, stream: StreamSettings) -> Iterator[str]:
        own = stream.resolved(self)
        if own.detection.contradiction:
            yield f'detection of stream "{stream.name}" {own.detection.contradiction}'
        for key, does in (("frames", "records frames"), ("resume", "resumes a recording")):
            if getattr(own.record, key) and not own.record.dir:
                yield f'stream "{stream.name}" {does} but has no folder; set record.dir (--record DIR)'
        if own.record.mode == "events" and not (own.record.events and own.record.segment):
            lacks = "no record.events" if not own.record.events else "no record.segment"
            yield f'stream "{stream.name}" has record.mode = "events" but {lacks}; set it, or record all'
        classified = self.models.classifier and own.classification.target == "frame"
        if not stream.prompts and not classified:
            yield f'stream "{stream.name}" has no prompts; say what to look for: --prompt person'
