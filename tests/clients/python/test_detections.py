"""Frames as supervision's Detections: compact masks with the pixels of the golden pictures, usable by its tools."""

import numpy as np
import pytest
import supervision

from maskcast_client.messages import read_frame
from tests.clients import golden

CAR, PERSON = "car", "Person without helmet"


@pytest.mark.parametrize(
    "name", ["masks-1280x720-rle", "masks-1280x720-counts", "masks-even-rle", "masks-one-high-rle"]
)
def test_detections_have_the_visible_objects_with_every_pixel(name: str) -> None:
    frame = read_frame(golden.header_of(name), 0, False, {})
    found = frame.detections
    pixels = [mask for title, _, mask in golden.masks() if title.startswith(f"{name}-") and mask.any()]
    assert isinstance(found.mask, supervision.CompactMask)
    assert np.array_equal(found.mask.to_dense(), np.stack(pixels))
    assert found.mask.area.tolist() == found.area.tolist() == [mask.sum() for mask in pixels]
    shown = [thing for thing in frame.objects if thing.state != "occluded"]
    assert len(found) == len(shown) == len(frame.objects) - 1
    assert found.tracker_id is not None
    assert found.tracker_id.tolist() == [thing.id for thing in shown]
    assert found.xyxy.tolist() == [list(thing.box) for thing in shown]


def test_a_name_keeps_its_number_over_all_frames_of_a_subscription() -> None:
    names: dict[str, int] = {}
    first, second = (read_frame(golden.header_of(name), 0, False, names) for name in ("masks-foreign", "masks-odd-rle"))
    assert first.detections.data["class_name"].tolist()[1:] == ["object", PERSON]
    number = dict(zip(first.detections.data["class_name"], first.detections.class_id, strict=True))
    later = dict(zip(second.detections.data["class_name"], second.detections.class_id, strict=True))
    assert later[PERSON] == number[PERSON]
    assert later[CAR] not in number.values()
    assert first.detections.tracker_id.tolist() == [4, 5, 4_000_000_000]


def test_supervisions_tools_take_them() -> None:
    """Filtering, counting in a zone, drawing and merging."""
    frame = read_frame(golden.header_of("masks-1280x720-rle"), 0, False, {})
    found = frame.detections
    zone = supervision.PolygonZone(np.array([[300, 0], [1000, 0], [1000, 719], [300, 719]]))
    inside = found[zone.trigger(found)]
    assert 0 < len(inside) < len(found)
    picture = np.zeros((720, 1280, 3), np.uint8)
    drawn = supervision.MaskAnnotator(opacity=1).annotate(picture.copy(), inside)
    drawn_pixels = drawn.any(axis=2)
    assert np.array_equal(drawn_pixels, np.any(inside.mask.to_dense(), axis=0))
    assert len(supervision.Detections.merge([inside, found])) == len(inside) + len(found)


def test_a_frame_without_objects_has_empty_detections() -> None:
    assert len(read_frame(golden.header_of("masks-no-objects"), 0, False, {}).detections) == 0


def test_an_older_supervision_gets_dense_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(supervision, "CompactMask")
    found = read_frame(golden.header_of("masks-even-rle"), 0, False, {}).detections
    assert isinstance(found.mask, np.ndarray)
    assert found.mask.shape == (10, 4, 6)
