"""The configuration of a running daemon: what of a new file counts at once, and whether changes are kept."""

import logging
import shutil
from typing import Any

import pytest

from daemon.changes.change import Change
from daemon.changes.configuration import Configuration
from daemon.changes.state_file import StateFile
from daemon.settings.schema import Settings
from stages.detection.prompts import parse_prompts
from stages.errors import ConfigError

GATE = {"name": "gate", "source": "gate.mp4", "prompts": ["car"]}
BUS = parse_prompts(["bus"])


@pytest.fixture
def file(tmp_path):
    file = StateFile(tmp_path / "state")
    yield file
    file.close()


def settings(**tables: Any) -> Settings:
    return Settings(**{"streams": [GATE], **tables})


def test_what_streams_do_counts_at_once_and_keys_that_need_a_restart_are_named_as_long_as_they_do():
    new = settings(
        models={"detector": "embedded"},
        detection={"every": 9},
        publish={"endpoint": "tcp://127.0.0.1:1", "jpeg_quality": 9},
        http={"token": "hunter2"},
        record={"dir": "out", "keep": "7d", "keep_bytes": "1GB"},
    )
    configuration = Configuration(settings(), lambda: new)
    for _ in range(2):
        wanted, restart = configuration.read()
        assert restart == ("models.detector", "publish.endpoint", "http.token", "record.dir")
        configuration.put(wanted)
    in_force = configuration.settings
    assert (in_force.detection.every, in_force.publish.jpeg_quality) == (9, 9)
    assert (in_force.models, in_force.http) == (settings().models, settings().http)
    assert in_force.publish.endpoint == settings().publish.endpoint
    assert (in_force.record.dir, in_force.record.keep, in_force.record.keep_bytes) == ("", "7d", "1GB")


def test_a_daemon_without_a_configuration_says_so():
    with pytest.raises(ConfigError, match="has no configuration that can be read again"):
        Configuration(settings()).read()


def test_changes_are_kept_where_there_is_a_folder_and_the_settings_in_force_have_them(file):
    first = Configuration(settings(), file=file)
    assert first.problem == ""
    first.put(first.wanted.with_prompts("gate", BUS))
    again = Configuration(settings(), file=file)
    assert again.settings.streams[0].prompts == BUS
    assert Configuration(settings()).problem == "state.dir is not set"


def test_a_change_that_the_configuration_makes_void_is_dropped_and_said(file, caplog):
    file.save({"gate": Change(prompts=BUS), "yard": Change(prompts=BUS)})
    with caplog.at_level(logging.INFO, logger="daemon"):  # a command may have run in this process before
        Configuration(settings(streams=[{**GATE, "prompts": ["bus"]}]), file=file)
    told = [record for record in caplog.records if record.name.startswith("daemon.changes")]
    assert [(record.levelname, record.getMessage()) for record in told] == [
        ("INFO", "stream gate: what was changed over HTTP is dropped: the configuration says the same"),
        (
            "WARNING",
            "stream yard: what was changed over HTTP is dropped: the configuration has no such stream any more",
        ),
    ]
    assert file.load() == {}


def test_what_cannot_be_kept_still_counts_and_is_kept_with_the_next_change_that_can(file, caplog):
    configuration = Configuration(settings(), file=file)
    folder = file.path.parent
    shutil.rmtree(folder)
    configuration.put(configuration.wanted.with_prompts("gate", BUS))
    configuration.put(configuration.wanted.with_prompts("gate", (*BUS, *parse_prompts(["dog"]))))
    assert configuration.problem == f"{file.path} cannot be written: No such file or directory"
    assert caplog.messages == [f"{configuration.problem}; what is changed over HTTP is not kept"]
    assert len(configuration.settings.streams[0].prompts) == 2
    folder.mkdir()
    configuration.put(configuration.wanted)
    assert configuration.problem == ""
    assert list(file.load()) == ["gate"]
