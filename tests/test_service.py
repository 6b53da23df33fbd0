"""The service inside a process: streams that come and go, and an end that is bounded."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon import service as daemon_service
from daemon.build import build
from daemon.progress import Lines
from daemon.settings import Settings, StreamSettings
from stages.errors import ConfigError
from tests.program import deaf_subscriber, lines_of, pictures_in


def stuck_settings(endpoint: str, folder: Path) -> Settings:
    source = "testsrc://shapes?size=640x480&frames=500"
    return Settings(
        models={"detector": "embedded", "segmenter": "embedded", "device": "cpu"},
        publish={"endpoint": endpoint, "send_hwm": 1, "when_full": "wait", "wait_for": 1},
        http={"listen": "127.0.0.1:0"},
        record={"dir": str(folder)},
        streams=[{"name": "gate", "source": source, "prompts": ["red circle"]}],
    )


class Operator(Lines):
    """Adds a file to a daemon with a camera, and takes the camera away when the file is done."""

    def __init__(self, file: StreamSettings) -> None:
        super().__init__(lambda service: None)
        self._file = file
        self.refused: list[str] = []
        self.up: list[str | None] = []

    def tick(self, service: daemon_service.Service) -> None:
        if "file" not in service.streams:
            if service.streams["camera"].metrics.frames_published:
                self.up.append(service.not_ready())
                service.add(self._file)
                self._try(lambda: service.add(self._file))
                self._try(lambda: service.remove("nobody"))
        elif service.streams["file"].ended and "camera" in service.streams:
            service.remove("camera")

    def _try(self, change: Callable[[], object]) -> None:
        with pytest.raises(ConfigError) as refused:
            change()
        self.refused.append(str(refused.value))


def test_streams_come_and_go_while_the_daemon_runs(tmp_path):
    shapes = {"prompts": ["red circle"], "record": {"dir": str(tmp_path)}}
    settings = Settings(
        models={"detector": "embedded", "segmenter": "embedded", "device": "cpu"},
        publish={"endpoint": "tcp://127.0.0.1:0"},
        http={"listen": "127.0.0.1:0"},
        streams=[{"name": "camera", "source": "testsrc://shapes?size=96x96&live=1", **shapes}],
    )
    operator = Operator(StreamSettings(name="file", source="testsrc://shapes?size=96x96&frames=12", **shapes))
    service = build(settings)
    assert service.run(operator) == 0
    assert operator.up == [None]
    assert list(service.streams) == ["file"]
    assert len(lines_of(tmp_path / "file.masks.jsonl")) == 12
    assert pictures_in(tmp_path / "camera.mp4") == len(lines_of(tmp_path / "camera.masks.jsonl")) > 0
    assert operator.refused == [
        'a stream is already named "file"; remove it first or choose another name',
        'no stream is named "nobody"; there are: camera, file',
    ]


class Saboteur(Lines):
    """Sends itself a signal once the writer waits for the subscriber that never reads."""

    def __init__(self) -> None:
        super().__init__(lambda service: None)
        self._seen, self._since = 0, time.monotonic()

    def tick(self, service: daemon_service.Service) -> None:
        frames = service.streams["gate"].metrics.frames_published
        if frames != self._seen:
            self._seen, self._since = frames, time.monotonic()
        if frames and service.streams["gate"].lane.outbox.full and time.monotonic() - self._since > 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_subscriber_that_never_reads_delays_the_end_only_within_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr(daemon_service, "DRAIN", 0.5)
    with deaf_subscriber(tmp_path) as endpoint:
        service = build(stuck_settings(endpoint, tmp_path))
        assert service.run(Saboteur()) == 0
    assert service.streams["gate"].ended
    assert pictures_in(tmp_path / "gate.mp4") == len(lines_of(tmp_path / "gate.masks.jsonl")) > 0
