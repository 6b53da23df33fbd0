"""The soak's machinery: a short run of the real daemon, and verdicts on made-up ones."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.soak.sampling import Sample, Soak
from tests.soak.verdict import conclude
from tests.support.program import PATIENCE

pytestmark = pytest.mark.process


def test_a_short_soak_counts_every_message_and_fills_its_table_and_plot(tmp_path):
    """All masks and pictures of 448 frames arrive, tracks start and end, and no figure is judged."""
    table, picture = tmp_path / "soak.md", tmp_path / "soak.png"
    command = [sys.executable, "-m", "tests.soak", "--frames", "448", "--samples", "6"]
    done = subprocess.run(
        [*command, "--plot", str(picture), "--out", str(table)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert table.read_text() == done.stdout
    assert picture.stat().st_size > 0
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 6
    assert all(0 <= int(frames) - 64 * (k + 1) < 8 for k, (frames, *_) in enumerate(rows))
    for _, _, *held, _ in rows:
        assert all(float(figure.replace(",", "")) > 0 for figure in held)
    started, ended, _ = map(int, rows[-1][-1].split("/"))
    assert started >= ended > 0
    assert "448 frame, 448 masks" in done.stdout
    assert "0 missing" in done.stdout
    assert "exit code: 0" in done.stdout
    assert done.stdout.endswith("not judged below 20,000 frames\n")


def test_a_short_soak_of_a_recorded_camera_explains_every_frame():
    """What is dropped is told, and every frame that was published is in the recording; its folder is gone."""
    soak = Soak(100, live=20.0, record=True)
    assert list(soak.samples(3))
    lines = dict(conclude(FLAT, soak, 100))
    [told] = [line for line in lines if line.startswith("the subscriber got")]
    [recorded] = [line for line in lines if line.startswith("recorded")]
    assert lines[told], told
    assert lines[recorded], recorded
    assert soak.messages["masks"] > 0
    assert soak.exit_code == 0


FLAT = [Sample(1000 * k, float(k), 1 << 30, 20, 14, 5 << 20, 4, 3, 2) for k in range(1, 11)]


@pytest.mark.parametrize(
    ("change", "bad"),
    [
        (lambda samples, soak: None, None),
        (lambda samples, soak: grow(samples, rss=1000), None),
        (lambda samples, soak: grow(samples, rss=1100), "RSS slope"),
        (lambda samples, soak: grow(samples, files=1), "open files"),
        (lambda samples, soak: grow(samples, threads=1), "threads"),
        (lambda samples, soak: grow(samples, track_memory=8), "track memory"),
        (lambda samples, soak: live(samples, soak, 0.5, 1), None),
        (lambda samples, soak: live(samples, soak, 1, 1.5), "track memory"),
        (lambda samples, soak: grow(samples, ended=-1), "tracks"),
        (lambda samples, soak: soak.messages.update(masks=-1), "the subscriber got"),
        (lambda samples, soak: setattr(soak, "holes", 1), "the subscriber got"),
        (lambda samples, soak: setattr(soak, "unexplained", 1), "the subscriber got"),
        (lambda samples, soak: setattr(soak, "recorded", 9_999), "recorded"),
        (lambda samples, soak: setattr(soak, "exit_code", 1), "exit code"),
    ],
)
def test_a_soak_is_flat_when_nothing_grew_after_warm_up_and_no_message_is_missing(change, bad):
    """Less than 1,024 bytes of resident memory a frame, the same files, threads and track memory at every sample."""
    samples, soak = list(FLAT), Soak(10_000)
    soak.messages.update(masks=10_000, frame=10_000, event=7)
    soak.published = 10_000
    soak.exit_code = 0
    change(samples, soak)
    wrong = [line for line, good in conclude(samples, soak, 10_000) if not good]
    assert [line[: len(bad or "")] for line in wrong] == ([bad] if bad else [])


def test_growth_before_warm_up_is_over_does_not_count():
    """The first fifth of a run loads libraries and fills caches."""
    samples = [replace(FLAT[0], rss=1 << 29, files=10, threads=3), *FLAT[1:]]
    soak = Soak(10_000)
    soak.messages.update(masks=10_000, frame=10_000)
    soak.exit_code = 0
    assert all(good for _, good in conclude(samples, soak, 10_000))


def live(samples, soak, amid, at_the_end):
    """A camera's, whose track memory is so many times as large on the sixth sample, and on the last."""
    soak.live = 15.0
    for place, times in ((5, amid), (-1, at_the_end)):
        samples[place] = replace(samples[place], track_memory=int(times * samples[place].track_memory))


def grow(samples, **by):
    """Each sample has so much more a frame (rss) or a sample (the others) than the one before; ended loses all."""
    for k, sample in enumerate(samples):
        [(name, step)] = by.items()
        value = 0 if step < 0 else getattr(sample, name) + step * (sample.frames if name == "rss" else k)
        samples[k] = replace(sample, **{name: value})
