"""A running service whose streams are changed over HTTP, and whose configuration is read again. Fake models."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from daemon.changes.change import Change
from daemon.changes.configuration import Configuration
from daemon.changes.state_file import StateFile
from daemon.cli.progress import StartMessages
from daemon.errors import ConflictError, UnknownNameError
from daemon.recording.folder_lock import FolderLock
from daemon.service import build as composition
from daemon.service import controller as controlling
from daemon.service.controller import Controller
from daemon.service.reconfigure import reload_and_tell
from daemon.settings.load import load
from daemon.settings.schema import StreamSettings
from stages.detection.prompts import parse_prompts
from stages.errors import ConfigError
from tests.support.fakes import FakeDetector, FakeTracker, models
from tests.support.program import wait_until

LIVE = "testsrc://shapes?size=64x64&live=1&fps=5"
SESSION = "5d0c8a1e-3f52-4b7a-9c11-2e6f8d40b7a3"
HEAD = '[publish]\nendpoint = "tcp://127.0.0.1:0"\n[http]\nlisten = "127.0.0.1:0"\n'


def table(name: str, more: str = "", prompts: str = "car", source: str = LIVE) -> str:
    return f'[[streams]]\nname = "{name}"\nsource = "{source}"\nprompts = ["{prompts}"]\n{more}\n'


def stream(name: str) -> StreamSettings:
    return StreamSettings(name=name, source=LIVE, prompts=("bird",))


class OneByOne(FakeDetector):
    """Reads one prompt at a time."""

    def passes(self, prompts) -> int:
        return len(prompts)


@pytest.fixture
def start(monkeypatch, tmp_path, bare_machine, file) -> Callable[..., object]:
    """start() -> the control of a service with the configuration of the test's file, while the context lasts."""
    monkeypatch.setattr(composition, "build_models", lambda *_, **__: models(FakeTracker(), OneByOne()))
    folder = tmp_path / "state"

    @contextmanager
    def started(text: str = "") -> Iterator[Controller]:
        if text:
            file.write_text(HEAD + text)
        kept = StateFile(folder)
        configuration = Configuration(load(file), partial(load, file), kept)
        service = composition.build(configuration.settings, configuration=configuration)
        try:
            service.startup()
            wait_until(service.engine.ready.is_set)
            yield Controller(service)
        finally:
            service.shutdown()
            kept.close()

    return started


def running(control: Controller) -> dict[str, tuple[str, ...]]:
    return {view.name: view.prompts for view in control.views()}


def test_streams_and_prompts_that_were_changed_are_back_after_a_restart(start):
    with start(table("gate") + table("yard")) as control:
        control.set_prompts("gate", parse_prompts(["bus"]))
        control.remove("yard")
        control.add(stream("roof"))
        control.set_prompts("roof", parse_prompts(["bird", "cat"]))
        changed = running(control)
        assert changed == {"gate": ("bus",), "roof": ("bird", "cat")}
    with start() as control:
        assert running(control) == changed


@pytest.mark.parametrize("placed", [{"fence": 7}, {"predecessor": SESSION}])
def test_what_a_program_has_placed_is_not_kept(start, tmp_path, placed):
    with start(table("gate")) as control:
        control.add(stream("moved"), **placed)
        control.set_prompts("moved", parse_prompts(["cat"]))
        assert running(control) == {"gate": ("car",), "moved": ("cat",)}
        control.remove("moved")
        control.add(stream("moved"), **placed)
    assert not (tmp_path / "state" / "changes.json").exists()
    with start() as control:
        assert running(control) == {"gate": ("car",)}


def test_a_refused_change_is_not_kept(start):
    with start(table("gate")) as control:
        for change in (lambda: control.add(stream("gate")), lambda: control.set_prompts("yard", ())):
            with pytest.raises(ConfigError, match="gate"):
                change()
        assert control._configuration.wanted.changes == {}


def test_changes_are_taken_back_one_by_one_or_all_at_once(start):
    with start(table("gate") + table("yard")) as control:
        control.set_prompts("gate", parse_prompts(["bus"]))
        control.remove("yard")
        control.add(stream("roof"))
        session = control.view("gate").session
        assert [(each.stream, each.what) for each in control.changes().changes] == [
            ("gate", "changed"),
            ("yard", "removed"),
            ("roof", "added"),
        ]
        control.take_back("yard")
        assert running(control) == {"gate": ("bus",), "roof": ("bird",), "yard": ("car",)}
        control.take_back(None)
        assert running(control) == {"gate": ("car",), "yard": ("car",)}
        assert control.view("gate").session == session
        assert control.changes().changes == []
        with pytest.raises(UnknownNameError, match='nothing was changed of a stream named "gate"; there are: none'):
            control.take_back("gate")


def test_streams_come_go_and_change_with_the_configuration_and_the_others_go_on(start, file):
    before = "".join(map(table, ("stays", "looks", "anew", "goes")))
    with start(before) as control:
        sessions = {view.name: view.session for view in control.views()}
        after = table("stays") + table("looks", prompts="bus") + table("anew", "tracking.window = 4") + table("comes")
        file.write_text(f"{HEAD}[models]\ndetector = 'embedded'\n{after}")
        reloaded = control.reload()
        assert (reloaded.added, reloaded.removed, reloaded.changed) == (["comes"], ["goes"], ["looks", "anew"])
        assert reloaded.restart == ["models.detector"]
        assert running(control) == {"stays": ("car",), "looks": ("bus",), "anew": ("car",), "comes": ("car",)}
        same = {view.name for view in control.views() if view.session == sessions.get(view.name)}
        assert same == {"stays", "looks"}
        assert control.reload().changed == []


def test_what_all_streams_share_counts_for_those_that_do_not_set_it_themselves(start, file):
    streams = table("gate") + table("yard", "tracking.window = 4")
    with start(streams) as control:
        file.write_text(f"{HEAD}[tracking]\nwindow = 2\n{streams}")
        assert control.reload().changed == ["gate"]


def test_what_was_changed_over_http_outlasts_another_configuration(start, file):
    with start(table("gate") + table("yard")) as control:
        control.set_prompts("gate", parse_prompts(["bus"]))
        control.remove("yard")
        control.add(stream("roof"))
        file.write_text(HEAD + table("gate", "tracking.window = 4") + table("yard", prompts="dog"))
        reloaded = control.reload()
        assert (reloaded.added, reloaded.removed, reloaded.changed) == ([], [], ["gate"])
        assert running(control) == {"roof": ("bird",), "gate": ("bus",)}
        control.take_back(None)
        assert running(control) == {"gate": ("car",), "yard": ("dog",)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (HEAD + table("gate", "window = "), r"maskcast\.toml:9: not valid TOML"),
        (HEAD + table("gate", "tracking.windows = 4"), r'did you mean streams\["gate"\]\.tracking\.window\?'),
        (HEAD + table("gate") + table("gate"), 'two streams are named "gate"'),
        (HEAD + table("yard", prompts=", ".join("abcdefghi")), "9 prompts are too many"),
        (None, "no such file"),
    ],
)
def test_a_broken_configuration_changes_nothing_and_says_why(start, file, caplog, text, why):
    with start(table("gate")) as control:
        session = control.view("gate").session
        file.unlink() if text is None else file.write_text(text)
        with pytest.raises(ConfigError, match=why):
            control.reload()
        reload_and_tell(control._service)
        assert caplog.messages[-1].startswith("the configuration was not read again, and nothing has changed: ")
        assert running(control) == {"gate": ("car",)}
        assert control.view("gate").session == session


def test_a_daemon_that_drains_or_a_name_that_is_taken_changes_nothing(start, file):
    with start(table("gate")) as control:
        control.add(stream("yard"), fence=7)
        file.write_text(HEAD + table("yard"))
        with pytest.raises(ConflictError, match='a stream is already named "yard"'):
            control.reload()
        control.drain()
        file.write_text(HEAD + table("gate", prompts="bus"))
        with pytest.raises(ConflictError, match="draining"):
            control.reload()
        assert running(control) == {"gate": ("car",), "yard": ("bird",)}


def test_a_daemon_whose_last_file_has_ended_does_not_end_while_a_stream_is_started_anew(start, file):
    ended, runs = table("file", source="testsrc://shapes?size=64x64&frames=1"), table("gate")
    with start(ended + runs) as control:
        service, seen = control._service, []
        wait_until(lambda: control.view("file").state == "ended")
        remove = service.remove
        service.remove = lambda name: (remove(name), seen.append(service.ended))
        file.write_text(HEAD + ended + table("gate", "tracking.window = 4"))
        assert control.reload().changed == ["gate"]
        assert seen == [False]
        file.write_text(HEAD + ended)
        assert control.reload().removed == ["gate"]
        assert not service.ended


@pytest.fixture
def held(tmp_path):
    """The lock of a folder into which another daemon records."""
    lock = FolderLock(tmp_path / "theirs")
    lock.hold()
    yield lock
    lock.release()


def test_a_stream_that_cannot_run_as_configured_is_named_and_the_next_reload_tries_it_again(start, file, held):
    with start(table("gate") + table("yard")) as control:
        recorded = table("gate", f'record.dir = "{file.parent / "theirs"}"')
        file.write_text(HEAD + recorded + table("yard", "tracking.window = 4"))
        reloaded = control.reload()
        assert (reloaded.added, reloaded.changed, list(reloaded.failed)) == ([], ["yard"], ["gate"])
        assert "another daemon records into it" in reloaded.failed["gate"]
        assert list(running(control)) == ["yard"]
        held.release()
        assert control.reload().added == ["gate"]
        assert control.reload().added == []


def test_a_stream_from_http_that_cannot_run_any_more_keeps_no_other_from_starting(start, tmp_path, held, caplog):
    kept = StateFile(tmp_path / "state")
    kept.save({"roof": Change(StreamSettings(name="roof", source=LIVE, record={"dir": str(tmp_path / "theirs")}))})
    kept.close()
    with start(table("gate")) as control:
        assert list(running(control)) == ["gate"]
        assert "stream roof, which changes.json keeps, does not run: " in caplog.text
        held.release()
        assert control.reload().added == ["roof"]


def test_prompts_reach_a_stream_that_is_started_anew_while_they_are_checked(start, file, monkeypatch):
    with start(table("gate")) as control:

        def check(*_) -> None:
            file.write_text(HEAD + table("gate", "tracking.window = 4"))
            assert control.reload().changed == ["gate"]

        with monkeypatch.context() as patch:
            patch.setattr(controlling, "check_prompts", check)
            control.set_prompts("gate", parse_prompts(["bus"]))
        assert running(control) == {"gate": ("bus",)}


def test_streams_that_come_later_are_introduced_and_so_are_those_that_come_again(start, capsys):
    with start(table("gate")) as control:
        service = control._service
        messages = StartMessages(service.configuration.settings, to_stderr=False)

        def introduced() -> bool:
            messages.tick(service)
            return f"roof: {LIVE}, looking for: bird" in capsys.readouterr().out

        for _ in range(2):
            control.add(stream("roof"))
            wait_until(introduced)
            control.remove("roof")
