"""Where segments are: told by recorders, and brought in line with the folder."""

import json
import shutil
from pathlib import Path

import pytest

from daemon.events import store
from daemon.events.store import EventStore
from stages.recording.segment import Segment, lines_of, video_path
from tests.api.site import Site
from tests.events.made import NOON, SESSION, opened
from tests.support.program import wait_until


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("BATCH", "TIDY", "LOOK"):
        monkeypatch.setattr(store, name, 0.02)
    return tmp_path / "maskcast.db"


def segment(folder: Path, number: int, stream: str = "gate") -> Segment:
    """A minute from ``number`` minutes past noon, in files that hold two lines and no picture."""
    start = NOON + 60 * number
    video = video_path(folder, stream, start)
    video.parent.mkdir(parents=True, exist_ok=True)
    video.write_bytes(b"video")
    headers = ({"session": SESSION, "frame": frame, "captured_at": start + 59 * frame} for frame in (0, 1))
    lines_of(video).write_text("".join(f"{json.dumps(header)}\n" for header in headers))
    size = video.stat().st_size + lines_of(video).stat().st_size
    return Segment(stream, video, start, start + 59, 2, size)


def known(site: Site, query: str = "") -> list[tuple[str, int]]:
    """Stream and minute of each segment."""
    found = site.ask("GET", f"/api/segments?{query}").json["segments"]
    return [(one["stream"], round(one["start"] - NOON) // 60) for one in found]


def ask(opened_store: EventStore) -> Site:
    site = Site()
    site.control.store = opened_store
    return site


def test_segments_are_listed_as_recorders_tell_of_them(path, tmp_path):
    made = [segment(tmp_path, 0), segment(tmp_path, 1), segment(tmp_path, 0, "yard"), segment(tmp_path, 2)]
    with opened(path) as there, ask(there) as site:
        for one in made:
            there.segment_closed(one)
        wait_until(lambda: known(site) == [("gate", 2), ("gate", 1), ("yard", 0), ("gate", 0)])
        first = site.ask("GET", "/api/segments?limit=1&stream=gate").json
        about = {"stream": "gate", "start": NOON + 120, "end": NOON + 179, "frames": 2, "bytes": made[3].bytes}
        assert first["segments"] == [{**about, "path": "gate/2026-11-23/12-02-00Z.mp4"}]
        assert known(site, f"limit=9&stream=gate&cursor={first['next']}") == [("gate", 1), ("gate", 0)]
        assert known(site, f"from={NOON + 59}&to={NOON + 120}") == [("gate", 1), ("yard", 0), ("gate", 0)]
        there.segment_removed("gate", made[1].video)
        wait_until(lambda: known(site, "stream=gate") == [("gate", 2), ("gate", 0)])


def test_a_segment_that_was_deleted_by_hand_is_forgotten(path, tmp_path):
    """But not while the whole folder is away or empty, as when its disk is not mounted."""
    recorded, away = tmp_path / "recorded", tmp_path / "away"
    made = [segment(recorded, number) for number in range(3)]
    with opened(path) as there, ask(there) as site:
        for one in made:
            there.segment_closed(one)
        wait_until(lambda: len(known(site)) == 3)
        recorded.rename(away)
        recorded.mkdir()
        there.segment_closed(segment(tmp_path / "other", 9))
        wait_until(lambda: len(known(site)) == 4)
        shutil.rmtree(next((tmp_path / "other" / "gate").iterdir()))
        wait_until(lambda: known(site) == [("gate", 2), ("gate", 1), ("gate", 0)])
        (away / made[1].video.relative_to(recorded)).unlink()
        recorded.rmdir()
        away.rename(recorded)
        wait_until(lambda: known(site) == [("gate", 2), ("gate", 0)])


def test_segments_that_a_new_database_does_not_know_are_found(path, tmp_path, monkeypatch):
    """All but the newest, of which its recorder tells; also when the database is lost while the daemon runs."""
    monkeypatch.setattr(store, "READ", 2)
    made = [segment(tmp_path, number) for number in range(4)]
    with opened(path) as there, ask(there) as site:
        there.recorded("gate", tmp_path)
        wait_until(lambda: known(site) == [("gate", 2), ("gate", 1), ("gate", 0)])
        assert site.ask("GET", "/api/segments").json["segments"][0]["bytes"] == made[2].bytes
        there.recorded("none", tmp_path / "nowhere")
        there.segment_closed(made[3])
        wait_until(lambda: known(site)[0] == ("gate", 3))
        path.unlink()
        wait_until(lambda: site.ask("GET", "/api/segments").status == 200 and len(known(site)) == 3)


def test_segments_that_too_many_records_crowded_out_are_found(path, tmp_path, monkeypatch):
    """The newest too."""
    monkeypatch.setattr(store, "MOST_WAITING", 1)
    made = [segment(tmp_path, number) for number in range(4)]
    with opened(path) as there, ask(there) as site:
        there.recorded("gate", tmp_path)
        wait_until(lambda: len(known(site)) == 3)
        made += [segment(tmp_path, number) for number in range(4, 7)]
        for one in made:
            there.segment_closed(one)
        wait_until(lambda: known(site) == [("gate", number) for number in range(6, -1, -1)])


@pytest.mark.parametrize(
    "damage", [b'{"captured_at": NaN}\n', b'{"captured_at": 1' + b"0" * 400 + b"}\n", b"[" * 99999]
)
def test_damaged_lines_of_a_segment_cost_its_times_only(path, tmp_path, damage):
    made = [segment(tmp_path, number) for number in range(3)]
    lines_of(made[0].video).write_bytes(damage)
    with opened(path) as there, ask(there) as site:
        there.recorded("gate", tmp_path)
        wait_until(lambda: known(site) == [("gate", 1), ("gate", 0)])


def test_a_folder_whose_name_is_not_utf8_costs_its_own_segments(path, tmp_path, caplog):
    odd = tmp_path / "odd\udcff"
    for number in range(2):
        segment(odd, number, "yard")
        segment(tmp_path, number)
    with opened(path) as there, ask(there) as site:
        there.recorded("yard", odd)
        there.recorded("gate", tmp_path)
        wait_until(lambda: known(site) == [("gate", 0)])
    assert "segments in" in caplog.text
