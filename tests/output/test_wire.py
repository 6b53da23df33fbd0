"""The mask stream's messages are the contract of tests/golden."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from stages.errors import MaskcastError, WireError
from stages.output import rle, wire
from stages.output.masks import full_masks
from stages.output.wire import Header, Kind, Message
from stages.types import Clock, Frame, Label, Result, StreamEvent, Track, TrackChange, TrackState

GOLDEN = Path(__file__).parents[1] / "golden"
SESSION = "9f1c0a52-5b1e-4c7e-8a5e-0d6f2b9c4e11"
PLACE: dict[str, Any] = {"stream": "gate", "session": SESSION, "seq": 1234, "published_at": 1795459200.301112}
PROMPTS = ("car", "Red Circle")


def validate(header: Header) -> None:
    """Raise unless the header, as JSON carries it, keeps to the schema of its kind."""
    kind = header["schema"].rsplit("/", 1)[1]
    schema = json.loads((GOLDEN / f"{kind}.schema.json").read_text())
    jsonschema.validate(json.loads(wire.to_json(header)), schema, jsonschema.Draft202012Validator)


def track(number: int, prompt: int | None = 0, state: TrackState = TrackState.TRACKED) -> Track:
    return Track(number, prompt, born=0, last_seen=3, state=state, score=0.6234567, presence=0.9876543)


def result(*tracks: Track, **changes: Any) -> Result:
    """A 6x4 picture; the first track's object covers two columns, the second one's, three pixels of the last row."""
    picture = np.zeros((4, 6, 3), np.uint8)
    values: dict[str, Any] = {
        "captured_at": 1795459200.1234567,
        "clock": Clock.ARRIVAL,
        "dropped_before": 0,
        "pts": 41041,
    }
    frame = Frame(index=1234, time_base=Fraction(1, 30000), image=picture, **values | changes)
    logits = torch.full((2, 4, 6), -4.0)
    logits[0, :, 1:3] = 4
    logits[1, 3, 3:] = 4
    classes = (Label("daylight", 0.93),)
    return Result(frame, 0, False, tracks, logits[: len(tracks)], classes=classes)


def masks_header(of: Result, **changes: Any) -> Header:
    return wire.masks_header(of, full_masks(of), prompts=PROMPTS, **PLACE | changes)


def event_header(event: TrackChange | StreamEvent, **changes: Any) -> Header:
    return wire.event_header(event, "because", epoch=1, **PLACE | changes)


def status_header() -> Header:
    models = {"detector": "embedded", "segmenter": "embedded", "classifier": ""}
    state: dict[str, Any] = {
        "prompts": PROMPTS,
        "tracks": 3,
        "fps": 29.9712,
        "drops": 2,
        "models": models,
        "thresholds": dict.fromkeys(PROMPTS, 0.30000012),
        "uptime": 61.25,
    }
    return wire.status_header(epoch=1, **PLACE, **state)


def test_the_masks_header_is_the_published_one_to_the_letter() -> None:
    assert masks_header(result(track(7))) == {
        "schema": "maskcast/v1/masks",
        "stream": "gate",
        "session": SESSION,
        "epoch": 0,
        "seq": 1234,
        "frame": 1234,
        "pts": 41041,
        "time_base": [1, 30000],
        "captured_at": 1795459200.123457,
        "clock": "arrival",
        "published_at": 1795459200.301112,
        "width": 6,
        "height": 4,
        "keyframe": False,
        "dropped_before": 0,
        "objects": [
            {
                "id": 7,
                "prompt": "car",
                "score": 0.6235,
                "presence": 0.9877,
                "state": "tracked",
                "box": [1.0, 0.0, 3.0, 4.0],
                "area": 8,
                "mask": {"size": [4, 6], "counts": "48<"},
            }
        ],
        "classes": [{"label": "daylight", "score": 0.93}],
    }


def test_the_mask_of_the_header_is_the_objects_mask() -> None:
    masks = full_masks(result(track(7), track(8))).full()
    header = masks_header(result(track(7), track(8)))
    for entry, mask in zip(header["objects"], masks, strict=True):
        assert (rle.decode(entry["mask"]) == mask).all()
    assert header["objects"][1]["box"] == [3.0, 3.0, 6.0, 4.0]


def test_counts_are_plain_integers_when_asked_for() -> None:
    header = masks_header(result(track(7)), encoding="counts")
    assert header["objects"][0]["mask"] == {"size": [4, 6], "counts": [4, 8, 12]}
    assert header["objects"][0]["area"] == 8
    validate(header)


def test_what_is_occluded_has_no_pixel_whatever_its_logits_say() -> None:
    header = masks_header(result(track(7, state=TrackState.OCCLUDED), track(8)))
    hidden, seen = header["objects"]
    assert (hidden["state"], hidden["area"], hidden["box"]) == ("occluded", 0, [0.0, 0.0, 0.0, 0.0])
    assert not rle.decode(hidden["mask"]).any()
    assert seen["area"] == 3
    validate(header)


def test_prompts_are_the_texts_as_written_and_null_for_objects_added_by_hand() -> None:
    header = masks_header(result(track(7, prompt=1), track(8, prompt=None)))
    assert [entry["prompt"] for entry in header["objects"]] == ["Red Circle", None]
    validate(header)


def test_an_empty_frame_without_classifier_has_empty_lists() -> None:
    empty = result()
    header = masks_header(Result(empty.frame, 2, True, (), empty.masks))
    assert (header["objects"], header["classes"], header["epoch"], header["keyframe"]) == ([], [], 2, True)
    validate(header)


def test_a_class_of_an_object_carries_its_id_and_one_of_the_frame_does_not() -> None:
    named = replace(result(track(7)), classes=(Label("open", 0.81234567, id=7), Label("daylight", 0.5)))
    header = masks_header(named)
    assert header["classes"] == [{"label": "open", "score": 0.8123, "id": 7}, {"label": "daylight", "score": 0.5}]
    validate(header)


def test_the_frame_header_is_the_masks_header_without_objects_and_classes() -> None:
    masks = masks_header(result(track(7)))
    frame = wire.frame_header(result(track(7)), **PLACE)
    del masks["objects"], masks["classes"]
    assert frame == {**masks, "schema": "maskcast/v1/frame", "content_type": "image/jpeg"}


@pytest.mark.parametrize("event", [*TrackChange, *StreamEvent])
def test_every_event_type_is_in_the_schema(event: TrackChange | StreamEvent) -> None:
    header = event_header(event, frame=3, track=7)
    assert header["type"] == event.value
    validate(header)


@pytest.mark.parametrize("event", list(TrackChange))
def test_an_event_of_a_track_must_name_frame_and_track(event: TrackChange) -> None:
    for half in ({"frame": 3}, {"track": 7}):
        with pytest.raises(jsonschema.ValidationError):
            validate(event_header(event, **half))


def test_an_event_names_frame_track_and_prompt_where_they_apply() -> None:
    started = event_header(TrackChange.STARTED, frame=3, track=7, prompt="Red Circle")
    assert (started["frame"], started["track"], started["prompt"]) == (3, 7, "Red Circle")
    down = event_header(StreamEvent.SOURCE_DOWN)
    assert (down["frame"], down["track"], down["prompt"]) == (None, None, None)
    validate(started)


@pytest.mark.parametrize(
    "header",
    [
        masks_header(result(track(7), track(8))),
        masks_header(result(track(7), pts=None, clock=Clock.FILE, captured_at=0.0)),
        wire.frame_header(result(), **PLACE),
        status_header(),
    ],
)
def test_headers_keep_to_the_schema_of_their_kind(header: Header) -> None:
    validate(header)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_a_valid_schema_without_room_for_other_fields(kind: Kind) -> None:
    schema = json.loads((GOLDEN / f"{kind}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == set(schema["properties"]) - {"fence", "predecessor"}


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "maskcast/v2/masks"},
        {"clock": "sundial"},
        {"seq": -1},
        {"extra": 1},
        {"objects": [{**masks_header(result(track(7)))["objects"][0], "state": "occluded"}]},
        {"objects": [{**masks_header(result(track(7)))["objects"][0], "state": "ended"}]},
        {"objects": [{**masks_header(result(track(7)))["objects"][0], "area": 0}]},
        {"objects": [{**masks_header(result(track(7)))["objects"][0], "mask": {"size": [4, 6], "counts": "4 8"}}]},
        {"objects": [{**masks_header(result(track(7)))["objects"][0], "mask": {"size": [4, 6], "counts": [4, -8]}}]},
        {"stream": "gate/east"},
        {"session": "9f1c"},
        {"time_base": [1, 0]},
        {"objects": [{**masks_header(result(track(7)))["objects"][0], "mask": {"size": [4, 6], "counts": ""}}]},
    ],
)
def test_the_schema_refuses_what_breaks_the_contract(change: Header) -> None:
    with pytest.raises((jsonschema.ValidationError, FileNotFoundError)):
        jsonschema.validate(
            {**masks_header(result(track(7))), **change}, json.loads((GOLDEN / "masks.schema.json").read_text())
        )


@pytest.mark.parametrize(
    ("header", "kind", "blob"),
    [
        (masks_header(result(track(7))), Kind.MASKS, None),
        (wire.frame_header(result(), **PLACE), Kind.FRAME, b"\xff\xd8jpeg\xff\xd9"),
        (event_header(StreamEvent.GOVERNOR), Kind.EVENT, None),
        (status_header(), Kind.STATUS, None),
    ],
)
def test_unpacking_undoes_packing(header: Header, kind: Kind, blob: bytes | None) -> None:
    parts = wire.pack(wire.topic("gate", kind), header, blob)
    assert parts[0] == f"v1/gate/{kind.value}".encode()
    assert wire.unpack(parts) == Message("gate", kind, header, blob)


def test_the_status_tells_the_threshold_of_each_prompt_as_written() -> None:
    assert status_header()["thresholds"] == {"car": 0.3, "Red Circle": 0.3}


def test_json_is_compact_utf8_on_one_line() -> None:
    line = wire.to_json({"reason": "Tür\nzu", "seq": 1})
    assert line == '{"reason":"Tür\\nzu","seq":1}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", "\ud800"])
def test_what_json_cannot_hold_is_one_clear_line(value: object) -> None:
    with pytest.raises(WireError, match="cannot be written as JSON") as raised:
        wire.pack("v1/gate/status", {"schema": "maskcast/v1/status", "fps": value})
    assert "\n" not in str(raised.value)


GOOD = wire.pack("v1/gate/masks", masks_header(result(track(7))))
FRAME = wire.pack("v1/gate/frame", wire.frame_header(result(), **PLACE), b"jpeg")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "0 part"),
        ([b"v1/gate/masks"], "1 part"),
        ([b"v2/gate/masks", GOOD[1]], "topic b'v2/gate/masks' is not v1/"),
        ([b"v1/gate/picture", GOOD[1]], "topic b'v1/gate/picture' is not v1/"),
        ([b"v1/masks", GOOD[1]], "topic b'v1/masks' is not v1/"),
        ([b"\xff\n" * 99, GOOD[1]], "topic .* is not v1/"),
        ([GOOD[0], b"\xff"], "not UTF-8 JSON"),
        ([GOOD[0], b'{"schema": '], "not UTF-8 JSON"),
        ([GOOD[0], b"[" * 100_000], "not UTF-8 JSON"),
        ([GOOD[0], b"[1]"], "a JSON list instead of an object"),
        ([GOOD[0], b"{}"], "a header of None of stream None"),
        ([GOOD[0], FRAME[1]], "a header of 'maskcast/v1/frame'"),
        ([b"v1/yard/masks", GOOD[1]], "of stream 'gate'"),
        ([GOOD[0], b'{"schema": "' + b"x" * 999 + b'"}'], "a header of 'xxx"),
        ([*GOOD, b"blob"], "1 blob.* instead of 0"),
        (FRAME[:2], "0 blob.* instead of 1"),
        ([*FRAME, b"more"], "2 blob.* instead of 1"),
    ],
)
def test_a_malformed_message_is_refused_in_one_clear_line(parts: list[bytes], message: str) -> None:
    with pytest.raises(WireError, match=message) as raised:
        wire.unpack(parts)
    assert isinstance(raised.value, MaskcastError)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300
