"""maskcast_client decodes every golden mask to the same pixels, and refuses damaged ones."""

import sys

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskcast_client import Frame, MessageError
from maskcast_client.messages import read_frame
from maskcast_client.rle import cut
from tests.clients import golden


def frame_of(name: str) -> Frame:
    return read_frame(golden.header_of(name), 0, False, {})


def test_every_golden_mask_has_the_pixels_of_its_picture() -> None:
    names = [entry["name"] for entry in golden.INDEX if entry["kind"] == "masks"]
    things = [thing for name in names for thing in frame_of(name).objects]
    expected = list(golden.masks())
    assert len(expected) > 100
    for thing, (name, _, pixels) in zip(things, expected, strict=True):
        assert thing.mask.dtype == thing.crop.dtype == bool
        assert np.array_equal(thing.mask, pixels), name
        x, y = thing.offset
        height, width = thing.crop.shape
        assert np.array_equal(thing.crop, pixels[y : y + height, x : x + width]), name
        assert (x, y, x + width, y + height) == thing.box, name
        assert thing.crop.sum() == pixels.sum() == thing.area, name


@st.composite
def pictures(draw: st.DrawFn) -> np.ndarray:
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    bits = draw(st.binary(min_size=height * width, max_size=height * width))
    threshold = draw(st.integers(0, 256))
    return np.frombuffer(bits, np.uint8).reshape(height, width) < threshold


@settings(deadline=None, derandomize=True)
@given(pictures())
def test_any_mask_comes_back_from_both_encodings(pixels: np.ndarray) -> None:
    """pycocotools encodes it; the crop's run lengths alone give the crop."""
    code = pycocotools.mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    flat = pixels.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    plain = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    plain = [0, *plain] if flat[0] else plain
    for counts in (code["counts"].decode(), plain):
        found = cut({"size": code["size"], "counts": counts})
        whole = np.zeros(pixels.shape, bool)
        whole[found.y : found.y + found.height, found.x : found.x + found.width] = found.pixels()
        assert np.array_equal(whole, pixels)
        assert found.runs.sum() == found.width * found.height


def test_runs_of_length_zero_are_read_over() -> None:
    assert np.array_equal(
        cut({"size": [2, 3], "counts": [1, 0, 1, 2, 0, 1, 1, 0]}).pixels(), np.array([[1, 1], [1, 0]], bool)
    )


@pytest.mark.parametrize(
    "counts",
    ["", "é", "0o", "ooooooooo0", "zz", "1", [7], [], [-1, 8], [1.5, "x"], [None], {"a": 1}, 6.5],
    ids=repr,
)
def test_a_damaged_mask_is_an_error_when_it_is_read(counts: object) -> None:
    """One line, when the mask is asked for: the other objects of the frame can be used."""
    header = golden.header_of("masks-odd-rle")
    header["objects"][3]["mask"]["counts"] = counts
    frame = read_frame(header, 0, False, {})
    assert frame.objects[2].mask.sum() == frame.objects[2].area
    with pytest.raises(MessageError, match="damaged"):
        _ = frame.objects[3].mask


def test_an_unknown_key_is_ignored_and_a_missing_one_is_an_error() -> None:
    header = golden.header_of("masks-foreign")
    header["new"] = header["objects"][0]["new"] = header["classes"][0]["new"] = 1
    frame = read_frame(header, 0, False, {})
    assert frame.header["new"] == 1
    del header["objects"][0]["score"]
    with pytest.raises(MessageError, match="score"):
        read_frame(header, 0, False, {})


def test_a_frame_has_all_that_its_header_says() -> None:
    frame = frame_of("masks-foreign")
    assert (frame.stream, frame.index, frame.epoch, frame.pts, frame.dropped_before) == (
        "Tür-3.北口",
        2**33,
        3,
        None,
        17,
    )
    assert (frame.clock, frame.time_base.denominator, frame.keyframe) == ("rtcp", 30000, True)
    assert [(label.label, label.id) for label in frame.classes] == [("Öffnung, offen", 5), ("jour", None)]
    assert [thing.prompt for thing in frame.objects] == ['rote Tür 🚪, 赤い "ドア" \\ /', None, "Person without helmet"]
    assert frame.objects[0].state == "new"


def test_rows_make_a_table() -> None:
    [first, *_] = rows = frame_of("masks-foreign").to_rows()
    assert len(rows) == 3
    assert (first["frame"], first["id"], first["area"]) == (2**33, 4, 18)
    assert (first["x0"], first["y0"], first["x1"], first["y1"]) == (3, 2, 9, 5)


def test_a_picture_is_the_same_by_opencv_and_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is no picture is an error by both."""
    jpeg = golden.parts_of("frame-foreign")[2]
    header = golden.header_of("masks-foreign")
    images = []
    for missing in ("PIL", "cv2"):
        with monkeypatch.context() as context:
            context.setitem(sys.modules, missing, None)
            images.append(read_frame(header, 0, False, {}, jpeg).image)
            for damaged in (b"", b"\xff\xd8nonsense"):
                with pytest.raises(MessageError, match="a picture is not a JPEG"):
                    _ = read_frame(header, 0, False, {}, damaged).image
    assert [(image.shape, image.dtype, image.flags.writeable) for image in images] == [((12, 16, 3), "uint8", True)] * 2
    assert np.abs(images[0].astype(int) - images[1]).max() <= 8
