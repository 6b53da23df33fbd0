"""Names of segments."""

from stages.recording.segment import lines_of, start_of, video_path, videos

NOON = 1795867200.0  # 2026-11-28 12:00:00 UTC


def test_a_segment_is_named_by_its_start_in_utc(tmp_path):
    """Both ways; fractions of a second are not in the name."""
    path = video_path(tmp_path, "gate", NOON + 0.7)
    assert path == tmp_path / "gate" / "2026-11-28" / "12-00-00Z.mp4"
    assert lines_of(path).name == "12-00-00Z.masks.jsonl"
    assert start_of(path) == NOON


def test_two_segments_of_one_second_have_two_names_in_order(tmp_path):
    """As after a restart, or when the picture's size changes."""
    made = []
    for _ in range(12):
        made.append(video_path(tmp_path, "gate", NOON))
        made[-1].parent.mkdir(parents=True, exist_ok=True)
        made[-1].touch()
    assert list(videos(tmp_path, "gate")) == made


def test_other_files_are_no_segments(tmp_path):
    """Also ones whose names are nearly right."""
    day = tmp_path / "gate" / "2026-11-28"
    day.mkdir(parents=True)
    for name in ("12-00-00.mp4", "25-00-00Z.mp4", "notes.txt", "12-00-00Z.masks.jsonl", "12-00-00Z.mp4"):
        (day / name).touch()
    (tmp_path / "gate" / "holiday").mkdir()
    assert [path.name for path in videos(tmp_path, "gate")] == ["12-00-00Z.mp4"]
    assert list(videos(tmp_path, "nobody")) == []
