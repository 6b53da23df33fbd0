"""Prompts and sources stand on the command line in any order."""

from pathlib import Path

import pytest

from daemon import __main__ as program
from daemon.cli.flags import load_settings
from daemon.cli.prompt_words import split_prompts

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
    monkeypatch.chdir(tmp_path)
    assert split_prompts([word]) == ([], [word])


@pytest.mark.parametrize("word", ["and/or", "bus"])
def test_file_or_folder_with_the_name_of_a_thing_is_no_source_but_a_warning_says_how_to_write_it(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bus").touch()
    Path("and/or").mkdir(parents=True)
    assert split_prompts([word]) == ([], [word])
    [warning] = caplog.messages
    assert f"write ./{word} for that" in warning
    assert split_prompts([f"./{word}"]) == ([f"./{word}"], [])


@pytest.mark.parametrize(
    "word", ["me:pw@10.0.0.5/1", "10.0.0.5:554/live", "rtsp:/10.0.0.5", "frames/", "../gate", "/dev/video7", "~/gate"]
)
def test_what_no_prompt_looks_like_is_a_source_even_where_nothing_has_that_name(word: str) -> None:
    assert split_prompts([word, "bus"]) == ([word], ["bus"])


def test_existing_file_with_an_unknown_ending_or_with_its_folder_is_a_source(tmp_path: Path) -> None:
    files = [tmp_path / "footage", tmp_path / "footage.raw"]
    for file in files:
        file.touch()
    assert split_prompts([*map(str, files), "bus"]) == ([*map(str, files)], ["bus"])
