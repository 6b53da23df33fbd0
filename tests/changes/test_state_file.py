"""The file of changes: whole at any moment, private, one daemon's, and never lost when it makes no sense."""

import json
import logging
import os
import stat
from pathlib import Path

import pytest

from daemon.changes.change import Change
from daemon.changes.state_file import NAME, StateFile
from daemon.settings.schema import StreamSettings
from stages.detection.prompts import parse_prompts
from stages.errors import ConfigError

SECRET = "rtsp://user:hunter2@camera.local/stream1"
YARD = StreamSettings(
    name="yard", source=SECRET, prompts=("red car, dog",), transport="tcp", detection={"every": 7, "tiles": "auto"}
)
CHANGES = {
    "yard": Change(YARD),
    "gate": Change(prompts=parse_prompts(["3.5 inch disk", "Küche"])),
    "roof": Change(),
}


@pytest.fixture
def kept(tmp_path):
    file = StateFile(tmp_path / "state")
    yield file
    file.close()


def test_changes_come_back_as_they_were_kept(kept):
    assert kept.load() == {}
    kept.save(CHANGES)
    loaded = kept.load()
    assert list(loaded) == list(CHANGES)
    assert loaded["gate"] == CHANGES["gate"]
    assert loaded["roof"] == Change()
    assert loaded["yard"].stream == YARD
    assert loaded["yard"].stream.model_fields_set == YARD.model_fields_set


def test_only_its_owner_may_read_it(kept):
    """Whatever the umask, and whatever a crash has left behind."""
    before = os.umask(0)
    try:
        left = kept.path.with_suffix(".part")
        left.write_text("half")
        left.chmod(0o666)
        kept.save(CHANGES)
    finally:
        os.umask(before)
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert "hunter2" in kept.path.read_text()
    assert sorted(path.name for path in kept.path.parent.iterdir()) == [NAME, f"{NAME}.lock"]


def test_a_file_that_cannot_be_written_stays_as_it_was(kept, monkeypatch):
    kept.save({"roof": Change()})
    before = kept.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        kept.save(CHANGES)
    assert kept.path.read_bytes() == before
    assert not kept.path.with_suffix(".part").exists()


def entry(value: object) -> str:
    return json.dumps({"version": 1, "streams": {"gate": value}})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not valid JSON"),
        ('{"version": 1, "streams": {', "is not valid JSON"),
        ("\xff\xfe", "is not valid JSON"),
        ("[" * 100_000, "recursion"),
        ("[]", "is no file of changes"),
        ('{"version": 1}', "is no file of changes"),
        ('{"version": 1, "streams": []}', "is no file of changes"),
        ('{"version": 2, "streams": {}}', "has version 2, this maskcast reads 1"),
        (entry(None), "stream 'gate'"),
        (entry({}), "stream 'gate': needs exactly one of stream, prompts and removed"),
        (entry({"removed": True, "prompts": ["car"]}), "needs exactly one of"),
        (entry({"removed": "yes"}), "stream 'gate': removed"),
        (entry({"prompts": "car"}), "stream 'gate': prompts"),
        (entry({"prompts": ["..."]}), "names nothing"),
        (entry({"stream": {"source": SECRET, "prompts": ["car"], "every": 3}}), "stream 'gate': every"),
        (entry({"stream": {"source": 7, "prompts": ["car"]}}), "stream 'gate': source"),
        (entry({"stream": {"source": "hunter2://there", "prompts": ["car"]}}), "stream 'gate': source"),
    ],
)
def test_nonsense_is_moved_aside_in_one_line_and_not_lost(kept, caplog, text, why):
    kept.path.write_bytes(text.encode("latin-1"))
    with caplog.at_level(logging.WARNING):
        assert kept.load() == {}
    [line] = caplog.messages
    assert why in line
    assert "\n" not in line
    assert "hunter2@" not in line
    [aside] = [path for path in kept.path.parent.iterdir() if path.name not in (NAME, f"{NAME}.lock")]
    assert aside.name in line
    assert aside.read_bytes() == text.encode("latin-1")
    kept.save(CHANGES)
    assert len(kept.load()) == len(CHANGES)


def test_files_that_are_moved_aside_in_the_same_second_do_not_replace_each_other(kept):
    for number in range(3):
        kept.path.write_text(f"nonsense {number}")
        kept.load()
    aside = [path.read_text() for path in kept.path.parent.iterdir() if path.name != f"{NAME}.lock"]
    assert sorted(aside) == ["nonsense 0", "nonsense 1", "nonsense 2"]


def test_a_second_daemon_on_the_same_folder_is_refused_until_the_first_has_ended(tmp_path):
    first = StateFile(tmp_path)
    with pytest.raises(ConfigError, match="another daemon keeps its changes there; name another one") as refused:
        StateFile(tmp_path)
    assert str(refused.value).startswith(f"state.dir {tmp_path}: ")
    first.close()
    StateFile(tmp_path).close()


@pytest.mark.parametrize("blocked", ["file", "file/below"])
def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path, blocked: str):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^state\.dir .*; name a folder that can be written$"):
        StateFile(tmp_path / blocked)


def test_what_is_no_file_is_refused_and_stays(kept):
    kept.path.mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        kept.load()
    assert kept.path.is_dir()
