"""What systemd is told: real datagrams on a real socket, from the real program and from services that hang."""

import ctypes
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.service import build as composition
from daemon.service.service import ABORT, DRAIN, Service
from daemon.service.systemd import Systemd
from daemon.settings.schema import Settings
from stages.errors import ModelError
from stages.output.publisher import LINGER_MS
from stages.recording.segment import videos
from tests.support.fakes import FakeTracker, models
from tests.support.program import PATIENCE, Program, pictures_in, recorded, wait_until

LIVE = "testsrc://shapes?size=96x96&live=1"
WATCHDOG = {"WATCHDOG_USEC": "4000000"}
SETTINGS = Settings(
    publish={"endpoint": "tcp://127.0.0.1:0"},
    http={"listen": "127.0.0.1:0"},
    streams=[{"name": "gate", "source": LIVE, "prompts": ["red circle"]}],
)


class Manager:
    """Stands in systemd's place; ``told`` are the assignments that came, in order."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.told: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            self.told += message.decode().split("\n")

    def count(self, assignment: str) -> int:
        return self.told.count(assignment)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    listening = Manager(str(tmp_path / "notify"))
    yield listening
    listening.close()


class Life:
    """A daemon with a camera that delivers and one that is down, from its start to SIGTERM, as systemd saw it."""

    def __init__(self, folder: Path) -> None:
        manager = Manager(f"@maskcast-test-{os.getpid()}")
        (folder / "maskcast.toml").write_text(
            f'[[streams]]\nname = "gate"\nsource = "{LIVE}"\nprompts = ["red circle"]\n'
            '[[streams]]\nname = "yard"\nsource = "rtsp://127.0.0.1:9/yard"\nprompts = ["red circle"]\n'
        )
        arguments = ("--config", str(folder / "maskcast.toml"), "--record", str(folder))
        self.program = Program(*arguments, NOTIFY_SOCKET=manager.address, **WATCHDOG)
        try:
            wait_until(
                lambda: manager.count("WATCHDOG=1") >= 3 and re.search("retrying.* [1-9].* FPS", manager.told[-1])
            )
            self.running = tuple(manager.told)
            self.status = next(line for line in reversed(self.running) if line.startswith("STATUS="))
            self.program.process.send_signal(signal.SIGTERM)
            self.code, _, _ = self.program.end()
        finally:
            self.program.process.kill()
            manager.close()
        self.told = manager.told


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> tuple[Life, Path]:
    folder = tmp_path_factory.mktemp("life")
    return Life(folder), folder


@pytest.mark.process
def test_ready_comes_once_and_after_the_models_are_loaded(life):
    told = life[0].told
    assert told.count("READY=1") == 1
    assert told[0] == "STATUS=models loading"
    status_after = next(line for line in told[told.index("READY=1") :] if line.startswith("STATUS="))
    assert "loading" not in status_after


@pytest.mark.process
def test_nothing_is_fed_before_the_models_are_loaded(life):
    told = life[0].told
    assert "WATCHDOG=1" not in told[: told.index("READY=1")]


@pytest.mark.process
def test_the_watchdog_is_fed_again_and_again_while_one_camera_is_down(life):
    assert life[0].running.count("WATCHDOG=1") >= 3


@pytest.mark.process
def test_the_status_says_how_many_streams_are_up_and_which_is_not(life):
    assert life[0].status.startswith("STATUS=1 stream up, 1 retrying (yard), ")
    assert life[0].status.endswith(" FPS")


@pytest.mark.process
def test_the_end_is_told_before_it_comes(life):
    told = life[0].told
    assert "STOPPING=1" not in life[0].running
    assert told[-2:] == ["STOPPING=1", "STATUS=stopping"]


@pytest.mark.process
def test_a_signal_closes_the_recording_and_a_camera_that_is_down_does_not_spoil_the_exit_code(life):
    seen, folder = life
    assert seen.code == 0
    [segment] = videos(folder, "gate")
    assert pictures_in(segment) == len(recorded(folder, "gate")) > 0


@pytest.mark.process
def test_a_signal_while_the_models_load_ends_the_program_well(manager):
    program = Program(LIVE, "--prompt", "red circle", NOTIFY_SOCKET=manager.address)
    wait_until(lambda: manager.told)
    program.process.send_signal(signal.SIGTERM)
    assert program.end()[0] == 0
    assert (manager.count("READY=1"), manager.count("STOPPING=1")) == (0, 1)


def test_a_manager_that_is_gone_is_one_warning_and_the_daemon_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(composition, "build_models", lambda *_, **__: models(FakeTracker()))
    [gate] = SETTINGS.streams
    file = gate.model_copy(update={"source": "testsrc://shapes?size=96x96&frames=3"})
    service = composition.build(SETTINGS.model_copy(update={"streams": (file,)}))
    assert service.run(Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "400000"})) == 0
    assert service.streams["gate"].metrics.frames_published == 3
    warnings = [record.message for record in caplog.records if "systemd" in record.message]
    assert warnings == ["cannot tell systemd STATUS=models loading: No such file or directory"]


class Stuck:
    """A thread that hangs in somebody's code once it is told to."""

    def __init__(self) -> None:
        self.hang, self.hangs, self.released = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, *_: object) -> None:
        if self.hang.is_set():
            self.hangs.set()
            assert self.released.wait(PATIENCE)


class Doctor:
    """Lets a thread of the service hang, and counts how often the watchdog is fed meanwhile and after that."""

    LOOKS = 20  # of a main loop that looks several times as often as the watchdog is fed

    def __init__(self, stuck: Stuck, manager: Manager) -> None:
        self.meanwhile = self.after = 0
        self._stuck, self._manager, self._looks = stuck, manager, 0
        self._fed = 0

    def started(self, service: Service) -> None: ...

    def tick(self, service: Service) -> None:
        fed = self._manager.count("WATCHDOG=1")
        if not self._stuck.hang.is_set():
            if fed >= 2 and service.streams["gate"].metrics.frames_published:
                self._stuck.hang.set()
        elif not self._stuck.released.is_set():
            self._looks += self._stuck.hangs.is_set()
            if self._looks == self.LOOKS:  # what was done before the hang may have been fed by now
                self._fed = fed
            if self._looks == 2 * self.LOOKS:
                self.meanwhile = fed - self._fed
                self._fed = fed
                self._stuck.released.set()
        elif fed > self._fed:
            self.after = fed - self._fed
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self) -> None: ...


def serve(manager: Manager, stuck: Stuck, observers: dict[str, Callable[..., None]], **environment: str) -> Doctor:
    doctor = Doctor(stuck, manager)
    systemd = Systemd({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "800000", **environment})
    assert composition.build(SETTINGS, observers).run(doctor, systemd) == 0
    return doctor


@pytest.mark.slow
def test_an_engine_that_hangs_in_a_model_is_not_fed_until_it_moves_again(manager, monkeypatch):
    stuck = Stuck()
    monkeypatch.setattr(composition, "build_models", lambda *_, **__: models(FakeTracker(stuck)))
    doctor = serve(manager, stuck, {})
    assert doctor.meanwhile == 0
    assert doctor.after > 0


@pytest.mark.slow
def test_a_stream_that_hangs_in_its_writer_is_not_fed_until_it_moves_again(manager, monkeypatch):
    stuck = Stuck()
    monkeypatch.setattr(composition, "build_models", lambda *_, **__: models(FakeTracker()))
    doctor = serve(manager, stuck, {"gate": stuck})
    assert doctor.meanwhile == 0
    assert doctor.after > 0


class Killer:
    """Ends the engine's thread, as a debugger would, once the watchdog was fed twice."""

    def __init__(self, manager: Manager) -> None:
        self.fed = 0
        self._manager = manager

    def started(self, service: Service) -> None: ...

    def tick(self, service: Service) -> None:
        if not self.fed and self._manager.count("WATCHDOG=1") >= 2:
            self.fed = self._manager.count("WATCHDOG=1")
            thread = ctypes.c_ulong(service.engine._thread.ident)
            assert ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit)) == 1

    def close(self) -> None: ...


def test_a_daemon_whose_engine_was_killed_is_not_fed_and_ends_with_an_error(manager, monkeypatch):
    monkeypatch.setattr(composition, "build_models", lambda *_, **__: models(FakeTracker()))
    killer = Killer(manager)
    systemd = Systemd({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "800000"})
    with pytest.raises(ModelError, match="the engine's thread was ended from outside: SystemExit"):
        composition.build(SETTINGS).run(killer, systemd)
    assert manager.count("WATCHDOG=1") <= killer.fed + 1  # what was due when it was killed


class Ending:
    """Ends the service once a watchdog was fed twice: time enough for others, if they were to be fed."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def started(self, service: Service) -> None: ...

    def tick(self, service: Service) -> None:
        if self._manager.count("WATCHDOG=1") >= 2:
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self) -> None: ...


FED = ({"WATCHDOG_USEC": "1200000"}, {"WATCHDOG_USEC": "800000", "WATCHDOG_PID": str(os.getpid())})
UNFED = ({"WATCHDOG_USEC": "800000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "often"}, {"WATCHDOG_USEC": "0"}, {})


def test_the_watchdog_is_fed_only_where_this_process_has_one(tmp_path, monkeypatch):
    monkeypatch.setattr(composition, "build_models", lambda *_, **__: models(FakeTracker()))
    managers = [Manager(str(tmp_path / str(number))) for number in range(len(FED + UNFED))]
    try:
        told = zip(managers, FED + UNFED, strict=True)
        watchers = [Systemd({"NOTIFY_SOCKET": manager.address, **environment}) for manager, environment in told]
        assert composition.build(SETTINGS).run(*watchers, Ending(managers[0])) == 0
    finally:
        for manager in managers:
            manager.close()
    assert [manager.count("READY=1") for manager in managers] == [1] * len(managers)
    assert [manager.count("WATCHDOG=1") > 0 for manager in managers] == [True] * len(FED) + [False] * len(UNFED)


def test_what_has_to_leave_may_take_less_than_ten_seconds_in_all():
    assert DRAIN + ABORT + LINGER_MS / 1000 < 10
