"""The golden messages of tests/golden: the contract of the mask stream, to the byte."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as coco
import pytest
import supervision

from stages.output import rle, wire
from stages.output.wire import Kind
from stages.types import StreamEvent, TrackChange
from tests.golden import make
from tests.golden.make import FOLDER
from tests.output.test_wire import validate

INDEX: list[dict[str, Any]] = json.loads((FOLDER / "index.json").read_text())
MESSAGES = [(entry, wire.unpack([(FOLDER / part).read_bytes() for part in entry["parts"]])) for entry in INDEX]
OBJECTS = [
    pytest.param(thing, FOLDER / entry["masks"][str(thing["id"])], id=f"{entry['name']}-{thing['id']}")
    for entry, message in MESSAGES
    for thing in message.header.get("objects", ())
]


def mask_in(file: Path) -> np.ndarray:
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(picture)) <= {0, 255}
    return picture > 0


def files_in(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_todays_code_yields_the_very_bytes_and_masks(tmp_path: Path) -> None:
    make.write(tmp_path)
    made, kept = files_in(tmp_path), files_in(FOLDER)
    assert made == kept
    for path in made:
        if path.suffix == ".png":  # whose bytes depend on the library that packs them
            assert (mask_in(tmp_path / path) == mask_in(FOLDER / path)).all(), path
        else:
            assert (tmp_path / path).read_bytes() == (FOLDER / path).read_bytes(), path


def test_there_is_a_message_of_every_kind_and_type_and_both_encodings() -> None:
    headers = [message.header for _, message in MESSAGES]
    assert {message.kind for _, message in MESSAGES} == set(Kind)
    assert {h["type"] for h in headers if "type" in h} == {*TrackChange, *StreamEvent}
    assert {type(thing["mask"]["counts"]) for h in headers for thing in h.get("objects", ())} == {str, list}


@pytest.mark.parametrize(("entry", "message"), MESSAGES, ids=[entry["name"] for entry in INDEX])
def test_each_message_keeps_to_the_schema_of_its_kind(entry: dict[str, Any], message: wire.Message) -> None:
    validate(message.header)
    assert (entry["stream"], entry["kind"]) == (message.stream, message.kind)
    assert entry["masks"].keys() == {str(thing["id"]) for thing in message.header.get("objects", ())}
    if message.kind is Kind.FRAME:
        picture = cv2.imdecode(np.frombuffer(message.blob or b"", np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[:2] == (message.header["height"], message.header["width"])


@pytest.mark.parametrize(("thing", "png"), OBJECTS)
def test_a_mask_decodes_to_its_picture_and_area_and_box_are_its_own(thing: dict[str, Any], png: Path) -> None:
    mask = mask_in(png)
    assert (rle.decode(thing["mask"]) == mask).all()
    assert thing["area"] == mask.sum()
    rows, columns = np.nonzero(mask)
    corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if mask.any() else [0, 0, 0, 0]
    assert thing["box"] == corners


@pytest.mark.parametrize(("thing", "png"), OBJECTS)
def test_pycocotools_and_supervision_read_the_masks_as_they_are(thing: dict[str, Any], png: Path) -> None:
    mask, code = mask_in(png), thing["mask"]
    height, width = code["size"]
    coded = code if isinstance(code["counts"], str) else coco.frPyObjects(code, height, width)
    assert (coco.decode(coded) == mask).all()
    assert coco.area(coded) == mask.sum()
    assert (supervision.rle_to_mask(code["counts"], (width, height)) == mask).all()
