"""What is changed of a running service over HTTP lasts; what a program has placed there does not. Fake models."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from daemon.changes.configuration import Configuration
from daemon.changes.state_file import StateFile
from daemon.service import build as composition
from daemon.service.controller import Controller
from daemon.settings.load import load
from daemon.settings.schema import StreamSettings
from stages.detection.prompts import parse_prompts
from stages.errors import ConfigError
from tests.support.fakes import FakeTracker, models
from tests.support.program import wait_until

LIVE = "testsrc://shapes?size=64x64&live=1&fps=5"
SESSION = "5d0c8a1e-3f52-4b7a-9c11-2e6f8d40b7a3"
HEAD = '[publish]\nendpoint = "tcp://127.0.0.1:0"\n[http]\nlisten = "127.0.0.1:0"\n'


def table(name: str, more: str = "", prompts: str = "car", source: str = LIVE) -> str:
    return f'[[streams]]\nname = "{name}"\nsource = "{source}"\nprompts = ["{prompts}"]\n{more}\n'


def stream(name: str) -> StreamSettings:
    return StreamSettings(name=name, source=LIVE, prompts=("bird",))


@pytest.fixture
def start(monkeypatch, tmp_path, bare_machine) -> Callable[..., object]:
    """start() -> the control of a service with the configuration of the test's file, while the context lasts."""
    monkeypatch.setattr(composition, "build_models", lambda *_, **__: models(FakeTracker()))
    path, folder = tmp_path / "maskcast.toml", tmp_path / "state"

    @contextmanager
    def started(text: str = "") -> Iterator[Controller]:
        if text:
            path.write_text(HEAD + text)
        kept = StateFile(folder)
        configuration = Configuration(load(path), partial(load, path), kept)
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
