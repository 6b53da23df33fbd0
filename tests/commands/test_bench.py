"""`maskcast bench` as people run it, with the embedded models."""

import json
import sys

import pytest

from daemon.__main__ import main
from stages.pictures import read_picture

EMBEDDED = ("--detector", "embedded", "--segmenter", "embedded", "--device", "cpu", "--size", "128x96")


def test_a_table_has_a_row_for_each_number_of_objects(bare_machine, capsys):
    assert main(["bench", *EMBEDDED, "--objects", "0", "2", "--windows", "2", "--window", "4"]) == 0
    first, head, *rows = capsys.readouterr().out.splitlines()
    assert first.endswith("at the least once in 30 frames; windows of 4 frames")
    assert head.split() == ["objects", "window", "p50", "window", "p95", "a", "frame", "FPS"]
    assert [row.split()[0] for row in rows] == ["0", "2"]


def test_the_summary_is_one_json_object_whose_figures_belong_together_and_can_be_drawn(bare_machine, capsys, tmp_path):
    plot = ("--plot", str(tmp_path / "bench.png"))
    assert main(["bench", *EMBEDDED, "--objects", "1", "--windows", "3", "--every", "10", "--json", *plot]) == 0
    assert read_picture(tmp_path / "bench.png").shape == (600, 1350, 3)
    summary = json.loads(capsys.readouterr().out)
    [row] = summary["rows"]
    assert (summary["device"], summary["size"], summary["window"]) == ("cpu", [128, 96], 8)
    assert row["frame"] == pytest.approx(row["window_p50"] / 8 + summary["detect"] / 10)
    assert row["fps"] == pytest.approx(1 / row["frame"])
    assert row["window_p50"] <= row["window_p95"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--objects", "65"), "--objects 65: must be from 0 to tracking.max_objects, which is 64"),
        (("--windows", "0"), "--windows 0: must be at least 1"),
        (("--size", "9x9"), "'9x9' is no size such as 1280x720"),
        (("--plot", "bench.txt"), "--plot bench.txt: its ending says the format; take one of"),
        (("--plot", "gone/bench.png"), "--plot gone/bench.png: there is no folder gone; make it first"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_line(bare_machine, capsys, wrong, words):
    try:
        code = main(["bench", *EMBEDDED, *wrong])
    except SystemExit as end:  # of argparse
        code = end.code
    assert code == 2
    assert words in capsys.readouterr().err


def test_without_matplotlib_a_picture_is_refused_before_anything_is_measured(bare_machine, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    assert main(["bench", *EMBEDDED, "--plot", "bench.png"]) == 2
    line = "--plot needs matplotlib, which is not installed: pip install 'maskcast[train]'"
    assert capsys.readouterr() == ("", f"maskcast: error: {line}\n")
