"""The whole daemon keeps what happens on its streams."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from daemon.events.place import place
from daemon.settings.schema import Record, Settings, State
from tests.events.made import kept, opened
from tests.support.program import Program, lines_of

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("record", "state", "there"),
    [("rec", "kept", "rec"), ("", "kept", "kept"), ("", "", None), ("rec", "", "rec")],
)
def test_the_database_is_beside_the_recordings_else_in_the_folder_of_the_state(record, state, there, monkeypatch):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    settings = Settings(record=Record(dir=record), state=State(dir=state))
    assert place(settings) == (None if there is None else Path(there) / "maskcast.db")


def test_a_run_leaves_its_events_and_a_picture_of_each_of_its_tracks(tmp_path):
    path = tmp_path / "maskcast.db"
    source = "testsrc://shapes?seed=5&frames=24"
    run = Program(source, "--prompt", "yellow circle, purple star", "--record", str(tmp_path))
    assert run.end()[::2] == (0, [])
    seen = {o["id"]: o["prompt"] for line in lines_of(tmp_path / "shapes.masks.jsonl") for o in line["objects"]}
    events = kept(path)
    assert {e.track: e.prompt for e in events if e.type == "track_started"} == seen != {}
    assert [e.type for e in events if e.track is None] == ["source_up", "source_down"]
    assert {(e.stream, e.snapshot) for e in events if e.track is not None} == {("shapes", True)}
    with opened(path) as there:
        jpegs = there.reader.ask(lambda found: found.execute("SELECT snapshot FROM tracks").fetchall())
    assert len(jpegs) == len(seen)
    assert all(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) is not None for (jpeg,) in jpegs)
