"""Prompts and sources stand on the command line in any order."""

from pathlib import Path

import pytest

from daemon import __main__ as program
from daemon.cli.flags import load_settings, split_prompts

pytestmark = pytest.mark.usefixtures("bare_machine")


def streams(*arguments: str) -> list[tuple[str, list[str]]]:
    """Source and prompts of each stream that ``maskcast run`` with these arguments has."""
    settings = load_settings(program._parser().parse_args(["run", *arguments]))
    return [(stream.source, [prompt.written for prompt in stream.prompts]) for stream in settings.streams]


@pytest.mark.parametrize(
    "arguments",
    [
        ("gate.mkv", "--prompt", "bus", "traffic light"),
        ("--prompt", "bus", "traffic light", "--", "gate.mkv"),
        ("--prompt", "bus", "traffic light", "gate.mkv"),
        ("--prompt", "gate.mkv", "bus", "traffic light"),
        ("--prompt", "bus, traffic light", "gate.mkv"),
        ("--prompt", "bus", "--prompt", "traffic light", "gate.mkv", "--every", "3"),
        ("--prompt=bus", "--prompt=traffic light", "gate.mkv"),
        ("--prompt", "bus", "traffic light", "--every", "3", "gate.mkv"),
    ],
)
def test_every_order_gives_the_same_stream(arguments: tuple[str, ...]) -> None:
    assert streams(*arguments) == [("gate.mkv", ["bus", "traffic light"])]


def test_sources_may_stand_in_several_places() -> None:
    arguments = ("a.mov", "--prompt", "bus", "rtsp://camera/1", "--every", "3", "b.MP4")
    assert sorted(streams(*arguments)) == [(source, ["bus"]) for source in ("a.mov", "b.MP4", "rtsp://camera/1")]


@pytest.mark.parametrize("word", ["person.bicycle", "no. 7 bus", "and/or", "bus", "e.g. a bus", "x" * 5000])
def test_prompt_is_no_source_whatever_it_looks_like(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where a file or folder has the name of a thing."""
    monkeypatch.chdir(tmp_path)
    Path("bus").touch()
    Path("and/or").mkdir(parents=True)
    assert split_prompts([word]) == ([], [word])


def test_existing_file_with_an_unknown_ending_or_with_its_folder_is_a_source(tmp_path: Path) -> None:
    files = [tmp_path / "footage", tmp_path / "footage.raw"]
    for file in files:
        file.touch()
    assert split_prompts([*map(str, files), "bus"]) == ([*map(str, files)], ["bus"])
