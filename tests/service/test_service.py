"""The service inside a process: streams that come and go, and an end that is bounded."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.cli.progress import ProgressLines, StartMessages
from daemon.errors import ConflictError, UnknownNameError
from daemon.service import build as composition
from daemon.service import service as daemon_service
from daemon.service.build import build
from daemon.service.status import status
from daemon.settings.schema import Record, Settings, StreamSettings
from stages.errors import ConfigError
from stages.recording.segment import videos
from tests.support.fakes import FakeTracker, models
from tests.support.program import deaf_subscriber, lines_of, pictures_in, recorded


def stuck_settings(endpoint: str, folder: Path) -> Settings:
    source = "testsrc://shapes?size=640x480&frames=500"
    return Settings(
        models={"detector": "embedded", "segmenter": "embedded", "device": "cpu"},
        publish={"endpoint": endpoint, "send_hwm": 1, "when_full": "wait", "wait_for": 1},
        http={"listen": "127.0.0.1:0"},
        record={"dir": str(folder)},
        streams=[{"name": "gate", "source": source, "prompts": ["red circle"]}],
    )


class Operator(ProgressLines):
    """Adds a file to a daemon with a camera, and takes the camera away when the file is done."""

    def __init__(self, file: StreamSettings) -> None:
        super().__init__()
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
    [segment] = videos(tmp_path, "camera")
    assert pictures_in(segment) == len(recorded(tmp_path, "camera")) > 0
    assert operator.refused == [
        'a stream is already named "file"; remove it first or choose another name',
        'no stream is named "nobody"; there are: camera, file',
    ]


class Saboteur(ProgressLines):
    """Sends itself a signal once the writer waits for the subscriber that never reads."""

    def __init__(self) -> None:
        super().__init__()
        self._seen, self._since = 0, time.monotonic()

    def tick(self, service: daemon_service.Service) -> None:
        frames = service.streams["gate"].metrics.frames_published
        if frames != self._seen:
            self._seen, self._since = frames, time.monotonic()
        if frames and not service.streams["gate"].lane.inbox.fits(1) and time.monotonic() - self._since > 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_subscriber_that_never_reads_delays_the_end_only_within_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr(daemon_service, "DRAIN", 0.5)
    with deaf_subscriber(tmp_path) as endpoint:
        service = build(stuck_settings(endpoint, tmp_path))
        assert service.run(Saboteur()) == 0
    assert service.streams["gate"].ended
    assert pictures_in(tmp_path / "gate.mp4") == len(lines_of(tmp_path / "gate.masks.jsonl")) > 0


CAMERA = StreamSettings(name="camera", source="testsrc://shapes?size=96x96&live=1", prompts=["red circle"])


@pytest.fixture
def serve(monkeypatch) -> Callable[..., daemon_service.Service]:
    """serve(stream, ..., watchers) -> the service after its end. Its models are fakes, all else is real."""
    monkeypatch.setattr(composition, "build_models", lambda *_, **__: models(FakeTracker()))

    def run(*streams: StreamSettings, watchers: tuple[daemon_service.Watcher, ...], code: int = 0):
        settings = Settings(
            publish={"endpoint": "tcp://127.0.0.1:0"}, http={"listen": "127.0.0.1:0"}, streams=[*streams]
        )
        service = build(settings)
        assert service.run(*watchers, StartMessages(settings, to_stderr=False)) == code
        return service

    return run


def together(count: int, act: Callable[[], object]) -> list[object]:
    """What ``act`` gave or raised in each of some threads that begin at the same moment."""
    barrier, results = threading.Barrier(count), []

    def run() -> None:
        barrier.wait()
        try:
            results.append(act())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class Crowd(ProgressLines):
    """Many hands that change the same stream at once, while the main loop goes on; the last stream goes too."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[list[object]] = []
        self.removed: list[list[object]] = []
        self.lived_without_streams = False
        self._thread: threading.Thread | None = None
        self._ticks_without = 0

    def tick(self, service: daemon_service.Service) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._change, args=(service,))
            self._thread.start()
        elif not self._thread.is_alive():
            self._ticks_without += not service.streams
            if self._ticks_without == 5:
                self.lived_without_streams = True
                os.kill(os.getpid(), signal.SIGTERM)

    def _change(self, service: daemon_service.Service) -> None:
        for _ in range(3):
            self.removed.append(together(4, lambda: service.remove("camera")))
            self.added.append(together(4, lambda: service.add(CAMERA)))
        service.remove("camera")


def test_of_many_who_add_or_remove_a_stream_at_once_one_succeeds_and_the_daemon_waits_for_the_next(serve):
    crowd = Crowd()
    serve(CAMERA, watchers=(crowd,))
    assert [sum(not isinstance(each, Exception) for each in hands) for hands in crowd.added] == [1, 1, 1]
    assert [sum(each is None for each in hands) for hands in crowd.removed] == [1, 1, 1]
    refused = {type(each) for hands in crowd.added + crowd.removed for each in hands if isinstance(each, Exception)}
    assert refused == {ConflictError, UnknownNameError}
    assert crowd.lived_without_streams


def test_a_daemon_that_stops_takes_no_more_streams(serve):
    file = StreamSettings(name="file", source="testsrc://shapes?size=96x96&frames=3", prompts=["red circle"])
    service = serve(file, watchers=())
    with pytest.raises(ConfigError, match='stream "camera" cannot be added: the daemon is stopping'):
        service.add(CAMERA)
    assert list(service.streams) == ["file"]


class Patience(ProgressLines):
    """Ends the service once the camera has delivered for a while after the other stream has failed."""

    def __init__(self) -> None:
        super().__init__()
        self._enough: int | None = None

    def tick(self, service: daemon_service.Service) -> None:
        frames = service.streams["camera"].metrics.frames_published
        if self._enough is None and service.streams["missing"].ended:
            self._enough = frames + 20
        elif self._enough is not None and frames > self._enough:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_stream_that_fails_costs_only_itself_and_its_code_is_that_of_the_end(serve, tmp_path, capsys):
    missing = StreamSettings(name="missing", source=str(tmp_path / "missing.mp4"), prompts=["red circle"])
    serve(missing, CAMERA, watchers=(Patience(),), code=1)
    out = capsys.readouterr().out
    assert "camera: testsrc://" in out
    assert "missing" not in out


class Doctor(ProgressLines):
    """Asks whether the daemon is ready while a camera cannot be reached, as soon as the other one delivers."""

    def __init__(self, retrying: float) -> None:
        super().__init__()
        self.answer: str | None = "never asked"
        self._retrying = retrying

    def tick(self, service: daemon_service.Service) -> None:
        if service.streams["camera"].metrics.frames_published and service.streams["away"].down_for > self._retrying:
            self.answer = service.not_ready()
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("retrying", "answer"), [(60.0, None), (0.0, "no frames from: away")])
def test_a_camera_that_is_tried_again_makes_the_daemon_unready_only_after_a_while(serve, monkeypatch, retrying, answer):
    monkeypatch.setattr(daemon_service, "RETRYING", retrying)
    away = StreamSettings(name="away", source="rtsp://127.0.0.1:1/stream", prompts=["red circle"])
    doctor = Doctor(0.0)
    serve(away, CAMERA, watchers=(doctor,))
    assert doctor.answer == answer


class Drainer(ProgressLines):
    """Drains a daemon with a camera that has published a frame; takes the camera away, if it has one, 0.5 s later."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []

    def tick(self, service: daemon_service.Service) -> None:
        camera = service.streams.get("camera")
        if service.draining or (camera is not None and not camera.metrics.frames_published):
            return
        service.stay()
        service.drain()
        with pytest.raises(ConflictError) as refused:
            service.add(CAMERA.model_copy(update={"name": "second"}))
        self.refused.append(str(refused.value))
        if camera is not None:
            assert not service.ended
            assert service.not_ready() is None
            threading.Timer(0.5, lambda: service.remove("camera")).start()


@pytest.mark.parametrize("streams", [(CAMERA,), ()])
def test_a_daemon_that_drains_takes_no_stream_and_ends_with_its_last_one(serve, streams):
    drainer = Drainer()
    service = serve(*streams, watchers=(drainer,))
    assert drainer.refused == [
        'stream "second" cannot be added: the daemon is draining: it takes no new streams',
    ]
    assert service.streams == {}


def test_a_file_that_is_left_in_a_daemon_that_drains_is_read_to_its_end(serve):
    class DrainAtOnce(ProgressLines):
        def started(self, service: daemon_service.Service) -> None:
            service.drain()

    file = StreamSettings(name="file", source="testsrc://shapes?size=96x96&frames=40", prompts=["red circle"])
    service = serve(file, watchers=(DrainAtOnce(),))
    assert service.streams["file"].metrics.frames_published == 40


class Vandal(ProgressLines):
    """Puts a file where the recordings of the camera were, takes it away when that has been noticed, and ends."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder, self.told, self.back = folder, "", False

    def tick(self, service: daemon_service.Service) -> None:
        camera = service.streams["camera"]
        if not self._folder.exists() and not self.told:
            return
        if not self.told and self._folder.is_dir() and list(videos(self._folder, "camera")):
            shutil.rmtree(self._folder)
            self._folder.write_text("")
        elif not self.told and camera.not_recorded:
            self.told = f"{service.not_ready()}; {status(service)}; {camera.not_recorded}"
            self._folder.unlink()
        elif self.told and not self.back and not camera.not_recorded:
            self.back = service.not_ready() is None
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_recording_whose_folder_is_gone_makes_the_daemon_unready_and_comes_back(serve, tmp_path):
    """Readiness, the status line and the stream's view say so; the rest of the stream does not notice."""
    folder = tmp_path / "out"
    vandal = Vandal(folder)
    serve(CAMERA.model_copy(update={"record": Record(dir=str(folder))}), watchers=(vandal,))
    assert vandal.told.startswith("not recorded: camera; 1 stream up, 1 not recorded (camera), ")
    assert f"; cannot record into {folder}: " in vandal.told
    assert vandal.back
    assert sum(map(pictures_in, videos(folder, "camera"))) > 0
