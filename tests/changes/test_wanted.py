"""Changes laid over the configuration: what runs, what differs, and what a changed configuration makes of them."""

from typing import Any

import pytest

from daemon.changes.wanted import GONE, SAME, Difference, Wanted
from daemon.errors import UnknownNameError
from daemon.settings.schema import Settings, StreamSettings
from stages.detection.prompts import parse_prompts

GATE = {"name": "gate", "source": "rtsp://user:hunter2@camera.local/1", "prompts": ["car"]}
YARD = {"name": "yard", "source": "yard.mp4", "prompts": ["dog"], "detection": {"every": 7}}
NEW = {"name": "new", "source": "new.mp4", "prompts": ["cat"]}


def stream(**keys: Any) -> StreamSettings:
    return StreamSettings.model_validate(keys)


def wanted(*streams: dict[str, Any], **tables: Any) -> Wanted:
    return Wanted(Settings(streams=streams, **tables), {})


def read_again(before: Wanted, *streams: dict[str, Any], **tables: Any) -> Wanted:
    return Wanted(Settings(streams=streams, **tables), before.changes)


def running(wanted: Wanted) -> dict[str, list[str]]:
    return {name: [prompt.written for prompt in stream.prompts] for name, stream in wanted.streams.items()}


def test_changes_are_laid_over_the_configuration_and_each_can_be_taken_back():
    before = wanted(GATE, YARD)
    after = before.with_stream(stream(**NEW)).without_stream("yard").with_prompts("gate", parse_prompts(["bus"]))
    after = after.with_prompts("new", parse_prompts(["cat", "bird"]))
    assert running(after) == {"gate": ["bus"], "new": ["cat", "bird"]}
    assert running(after.as_configured("yard")) == {"gate": ["bus"], "yard": ["dog"], "new": ["cat", "bird"]}
    assert running(after.as_configured("gate", "new", "yard")) == running(before)


def test_what_differs_is_told_without_secrets():
    changed = {**YARD, "source": "rtsp://me:hunter2@yard.local/1", "detection": {"every": 8}}
    after = wanted(GATE, YARD).with_stream(stream(**NEW)).without_stream("gate").with_stream(stream(**changed))
    assert after.differences == [
        Difference("new", "added", None, {"source": "new.mp4", "prompts": ["cat"]}),
        Difference("gate", "removed", {"source": "rtsp://camera.local/***", "prompts": ["car"]}, None),
        Difference(
            "yard",
            "changed",
            {"source": "yard.mp4", "detection": {"every": 7}},
            {"source": "rtsp://yard.local/***", "detection": {"every": 8}},
        ),
    ]


def test_a_stream_that_is_removed_and_added_as_it_was_is_no_change():
    before = wanted(GATE, YARD)
    removed = before.without_stream("yard")
    # a key at the value that it has anyway says nothing new
    assert removed.with_stream(stream(**YARD, transport="auto")).changes == {}
    [prompts] = removed.with_stream(stream(**{**YARD, "prompts": ["dog", "cat"]})).changes.values()
    assert prompts.stream is None
    assert (
        before.with_prompts("gate", parse_prompts(["bus"])).with_prompts("gate", parse_prompts(["car"])).changes == {}
    )
    assert before.with_stream(stream(**NEW)).without_stream("new").changes == {}


def test_other_prompts_stay_when_the_configuration_changes_the_rest_of_the_stream():
    changed = wanted(GATE).with_prompts("gate", parse_prompts(["bus"]))
    after = read_again(changed, {**GATE, "source": "other.mp4", "prompts": ["train"]})
    assert running(after) == {"gate": ["bus"]}
    assert after.streams["gate"].source == "other.mp4"
    assert after.void == {}


@pytest.mark.parametrize(
    ("streams", "void"),
    [
        ([GATE, YARD], {}),
        ([{**GATE, "prompts": ["bus"]}, YARD], {"gate": SAME}),
        ([YARD], {"gate": GONE}),
        ([GATE], {"yard": SAME}),
        ([GATE, YARD, NEW], {"new": SAME}),
        ([GATE, YARD, {**NEW, "prompts": ["mouse"]}], {}),
    ],
)
def test_a_change_is_void_where_the_configuration_says_the_same_or_has_no_stream_for_its_prompts(streams, void):
    changed = wanted(GATE, YARD).with_stream(stream(**NEW)).without_stream("yard")
    changed = changed.with_prompts("gate", parse_prompts(["bus"]))
    assert read_again(changed, *streams).void == void


def test_prompts_of_a_stream_that_does_not_run_are_refused():
    with pytest.raises(UnknownNameError, match='no stream is named "yard"; there are: gate'):
        wanted(GATE, YARD).without_stream("yard").with_prompts("yard", ())
