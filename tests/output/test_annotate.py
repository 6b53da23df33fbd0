"""Drawing, on frames of the shapes world with their true masks."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stages.output.annotate import COLOURS, annotate, encode_jpeg
from stages.output.masks import Masks
from stages.testsrc.world import ShapesWorld
from stages.types import Image, Label, Track, TrackState
from tests.benchmarks.drawing import drawn_by_supervision

GREY = 90


def track(number: int, prompt: int | None = 0, state: TrackState = TrackState.TRACKED) -> Track:
    return Track(number, prompt, born=0, last_seen=0, state=state, score=0.87, presence=0.99)


def disc(x: int, y: int, radius: int = 30, side: int = 256) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:side, :side]
    inside: NDArray[np.bool_] = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    return inside


def grey(height: int = 256, width: int = 256) -> Image:
    return np.full((height, width, 3), GREY, np.uint8)


def drawing(
    image: Image,
    masks: NDArray[np.bool_],
    tracks: Sequence[Track],
    labels: Sequence[str],
    classes: Sequence[Label] | None = None,
) -> Image:
    return annotate(image, Masks.from_full(masks), tracks, labels, classes)


def rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)], float)


def drawn(picture: Image) -> NDArray[np.bool_]:
    """The pixels of a grey picture that were drawn on."""
    changed: NDArray[np.bool_] = (picture != GREY).any(2)
    return changed


def test_the_picture_is_left_as_it_was() -> None:
    image = grey()
    drawing(image, disc(128, 128)[None], [track(1)], ["car"], [Label("day", 0.9)])
    assert (image == GREY).all()


@pytest.mark.parametrize("number", [1, 2, 3, 12, 1001])
def test_a_mask_is_tinted_with_the_rgb_colour_of_its_tracks_id(number: int) -> None:
    picture = drawing(grey(), disc(128, 150)[None], [track(number)], ["car"])
    colour = rgb(COLOURS[number % len(COLOURS)])
    assert picture[150, 128] == pytest.approx(GREY + 0.3 * (colour - GREY), abs=2)
    outline = np.abs(picture - colour).max(2) < 2
    assert outline[disc(128, 150, 31) & ~disc(128, 150, 28)].sum() > 100


def test_a_track_keeps_its_colour_whatever_else_is_there() -> None:
    both = drawing(grey(), np.stack([disc(60, 60), disc(180, 180)]), [track(3), track(7)], ["car"])
    alone = drawing(grey(), disc(180, 180)[None], [track(7)], ["car"])
    assert (both[180, 180] == alone[180, 180]).all()


def test_only_the_mask_its_outline_and_its_label_are_drawn() -> None:
    mask = disc(128, 150)
    changed = drawn(drawing(grey(), mask[None], [track(1)], ["car"]))
    assert changed[mask].all()
    label_and_outline = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7))) > 0
    label_and_outline[96:124, 90:200] = True
    assert not changed[~label_and_outline].any()


def test_the_label_names_id_prompt_and_score() -> None:
    def label(of: Track, *prompts: str) -> Image:
        return drawing(grey(), disc(60, 150)[None], [of], prompts)[:121]

    first = label(track(1), "car")
    assert (first != label(track(11), "car")).any()
    assert (first != label(track(1), "bus")).any()
    assert (label(track(1, prompt=1), "bus", "car") == first).all()
    widths = [np.flatnonzero(drawn(label(track(1, prompt), "car")).any(0)).max() for prompt in (None, 0)]
    assert widths[0] < widths[1], "an object added by hand has no prompt to name"


def label_of(prompt: str, *classes: Label) -> Image:
    return drawing(grey(), disc(60, 150)[None], [track(1)], [prompt], classes)


@pytest.mark.parametrize(
    "name", ["日本", "東京", "자동차", "汽车", "ひらがな", "Tür", "кошка", "Ελληνικά", "עברית", "₴ →"]
)
def test_names_in_other_scripts_are_readable(name: str) -> None:
    """None of their characters is the "?" that stands for one that the font lacks."""
    for place, character in enumerate(name):
        lacking = name[:place] + "?" + name[place + 1 :]
        assert (label_of(name) != label_of(lacking)).any(), character
    assert (label_of("car", Label(name, 0.5)) != label_of("car", Label("?" * len(name), 0.5))).any()


def test_an_accent_of_its_own_is_drawn_on_its_letter() -> None:
    assert (label_of("Tu\u0308r") == label_of("T\u00fcr")).all()
    assert (label_of("car", Label("Tu\u0308r", 0.5)) == label_of("car", Label("T\u00fcr", 0.5))).all()


def test_what_the_font_lacks_is_a_question_mark() -> None:
    assert (label_of("\N{AUTOMOBILE} car") == label_of("? car")).all()


@pytest.mark.parametrize(("x", "y"), [(0, 0), (255, 0), (0, 255), (255, 255)])
def test_labels_stay_inside_the_picture(x: int, y: int) -> None:
    def background(x: int, y: int) -> int:
        """Pixels of a label that are not text."""
        picture = drawing(grey(), disc(x, y, radius=4)[None], [track(12)], ["a rather long prompt"])
        return int((np.abs(picture - rgb(COLOURS[12 % len(COLOURS)])).max(2) < 2).sum())

    assert background(x, y) > 0.93 * background(100, 100)


def test_labels_of_neighbours_do_not_hide_each_other() -> None:
    masks = np.stack([disc(100, 128), disc(104, 130)])
    picture = drawing(grey(), masks, [track(1), track(2)], ["car"])
    for number in (1, 2):
        background = np.abs(picture - rgb(COLOURS[number])).max(2) < 2
        assert background.sum() > 400


def test_what_is_occluded_or_has_no_pixel_is_not_drawn() -> None:
    masks = np.stack([disc(60, 60), disc(180, 180, radius=0)])
    picture = drawing(grey(), masks, [track(1, state=TrackState.OCCLUDED), track(2)], ["car"])
    assert (picture == GREY).all()


def test_a_frame_without_tracks_is_an_unchanged_copy() -> None:
    image = grey()
    picture = drawing(image, np.zeros((0, 256, 256), bool), [], [])
    assert (picture == image).all()
    assert not np.shares_memory(picture, image)


def test_classes_stand_in_the_lower_left_corner_a_line_each() -> None:
    none = np.zeros((0, 256, 256), bool)
    one = drawn(drawing(grey(), none, [], [], [Label("daylight", 0.93)]))
    two = drawn(drawing(grey(), none, [], [], [Label("daylight", 0.93), Label("rain", 0.5)]))
    assert one[-1, 0]
    assert not one[:220].any()
    assert not one[:, 128:].any()
    assert np.flatnonzero(two.any(1)).min() < np.flatnonzero(one.any(1)).min()


def test_the_class_of_a_track_stands_in_its_label_and_no_other() -> None:
    def widths(*classes: Label) -> list[int]:
        masks = np.stack([disc(60, 90), disc(60, 200)])
        picture = drawn(drawing(grey(), masks, [track(1), track(2)], ["car"], classes))
        return [int(np.flatnonzero(picture[rows].any(0)).max()) for rows in (slice(40, 58), slice(150, 168))]

    plain = widths()
    named = widths(Label("rather large", 0.9, id=2), Label("gone", 0.9, id=3))
    assert named[0] == plain[0]
    assert named[1] > plain[1]


def test_text_and_lines_grow_with_the_picture() -> None:
    def label_height(height: int, width: int) -> float:
        mask = np.zeros((1, height, width), bool)
        mask[0, height // 2 :, width // 3 : width // 2] = True
        picture = drawing(grey(height, width), mask, [track(1)], ["car"])
        return float(np.ptp(np.flatnonzero(drawn(picture)[: height // 2 - 4].any(1)))) + 1

    small, large = label_height(256, 256), label_height(720, 1280)
    assert 7 < small < 20
    assert 1.5 * small < large < 3 * small


def test_true_masks_are_drawn_at_any_size() -> None:
    for width, height in ((64, 48), (255, 257), (1280, 720)):
        image, truth = ShapesWorld(seed=5, width=width, height=height).render(30)
        tracks = [track(int(number), prompt) for prompt, number in enumerate(truth.ids)]
        picture = drawing(image, truth.masks, tracks, truth.labels, [Label("daylight", 0.93)])
        assert picture.shape == image.shape
        assert picture.dtype == np.uint8
        assert (picture != image).any(2)[truth.masks.any(0)].mean() > 0.9


@pytest.mark.parametrize(("height", "width"), [(48, 64), (257, 255), (1080, 1920)])
def test_masks_and_outlines_are_those_of_supervision(height: int, width: int) -> None:
    """20 overlapping objects, some cut by the edge, and masks of awkward shapes, on a picture of all values."""
    image, truth = ShapesWorld(seed=11, width=width, height=height, objects=20).render(30)
    rows, columns = np.mgrid[:height, :width]
    awkward = [
        np.ones((height, width), bool),  # the whole picture
        np.zeros((height, width), bool),
        (rows == height // 2) & (columns == width - 1),  # one pixel
        columns == 0,
        rows == height - 1,
        ((rows + columns) % 2 == 0) & (rows < 16) & (columns < 16),  # contours of single pixels
        (rows < 3) & (columns < 3) | (rows > height - 4) & (columns > width - 4),  # far apart
        (rows > 4) & (rows < height - 5) & ~((rows > 9) & (rows < height - 10) & (abs(columns - width // 2) < 9)),
    ]
    image[: height // 2] = np.arange(width * 3).reshape(width, 3) % 256
    for masks in (truth.masks, np.array(awkward)):
        tracks = [track(number) for number in range(1, len(masks) + 1)]
        inside = drawing(image, masks, tracks, ["car"])
        with drawn_by_supervision():
            whole = drawing(image, masks, tracks, ["car"])
        assert (inside != image).any(2)[masks.any(0)].mean() > 0.9
        assert (inside == whole).all()


def test_labels_are_where_supervision_has_them() -> None:
    """Boxes at random places, also beyond the edge and in the same place; up to 9 in a picture of any size."""
    random = np.random.default_rng(3)
    for height, width in [(240, 320), (720, 1280), (96, 200)] * 8:
        masks = np.zeros((random.integers(2, 10), height, width), bool)
        for mask in masks:
            y, x = random.integers((height, width))
            mask[y : y + height // 4, x : x + width // 4] = True
        masks[1] = masks[0]
        tracks = [track(int(number)) for number in random.integers(0, 2000, len(masks))]
        ours = drawing(grey(height, width), masks, tracks, ["a car"])
        with drawn_by_supervision():
            theirs = drawing(grey(height, width), masks, tracks, ["a car"])
        assert (ours == theirs).all()


def test_jpeg_keeps_the_colours_and_gets_smaller_with_lower_quality() -> None:
    image = ShapesWorld(seed=5).render(30)[0]
    jpeg = encode_jpeg(image, 90)
    shown = cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.abs(shown.astype(float) - image).mean() < 6
    assert len(encode_jpeg(image, 30)) < len(jpeg)
