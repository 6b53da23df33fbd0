"""Large pictures are detected on in tiles, too: small objects are found, and each object is found once."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchvision.ops import box_iou

from stages.detection.base import MOST_TILES
from stages.detection.grounding_dino import EMBEDDED, GroundingDino
from stages.detection.prompts import parse_prompts
from stages.detection.tiles import LEAST_SCALE, choose_grid, detect_in_tiles
from stages.testsrc.world import ShapesWorld
from stages.types import Detections, Image
from tests.support.fakes import FakeDetector

THRESHOLDS = (0.25, 0.3)
(THING,) = parse_prompts(["thing"])


class Blobs(FakeDetector):
    """Finds bright blobs of at least ``LEAST`` pixels once the picture is shrunk to 100 x 160, as a real one would.

    The score of a blob rises with its size in the shrunk picture. Its prompt is 1 for blobs of value 200, else 0.
    """

    LEAST = 5

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[list[tuple[int, int]]] = []  # sizes of the pictures of each call

    def scale(self, height, width) -> float:
        return min(100 / min(height, width), 160 / max(height, width))

    def detect(self, images, prompts, box_threshold, text_threshold) -> list[Detections]:
        self.shown.append([image.shape[:2] for image in images])
        return [self._found(image) for image in images]

    def _found(self, image: Image) -> Detections:
        rows = []
        for down, right in ndimage.find_objects(ndimage.label(image[..., 0])[0]):
            box = (right.start, down.start, right.stop, down.stop)
            side = self.scale(*image.shape[:2]) * min(box[2] - box[0], box[3] - box[1])
            if side >= self.LEAST:
                rows.append((*box, 1 - 1 / side, image[down, right, 0].max() == 200))
        table = np.array(sorted(rows, key=lambda row: -row[4]), np.float32).reshape(-1, 6)
        return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def picture(height: int, width: int, *boxes: tuple[int, int, int, int], value: int = 255) -> Image:
    image = np.zeros((height, width, 3), np.uint8)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = value
    return image


def found_boxes(image: Image, tiles, detector: Blobs | None = None) -> list[tuple[int, ...]]:
    [found] = detect_in_tiles(detector or Blobs(), [image], [THING], THRESHOLDS, tiles)
    return sorted(tuple(int(side) for side in box) for box in found.boxes)


SMALL = (410, 300, 440, 330)  # 30 pixels: 3 of them where 1600 x 1000 are shrunk to 160 x 100


@pytest.mark.parametrize("tiles", [4, 16, "auto"])
def test_a_small_object_is_found_in_a_tile_only(tiles):
    image = picture(1000, 1600, SMALL)
    assert found_boxes(image, "off") == found_boxes(image, 1) == []
    assert found_boxes(image, tiles) == [SMALL]


def test_small_objects_are_found_wherever_they_are_and_each_of_them_once():
    """On every inner border and crossing of tiles, in the overlaps, in the corners of the picture, and elsewhere."""
    tops, lefts = range(0, 970, 97), range(0, 1571, 157)
    boxes = [(left, top, left + 30, top + 30) for top in tops for left in lefts]
    assert found_boxes(picture(1000, 1600, *boxes), 9) == sorted(boxes)


@pytest.mark.parametrize("box", [(100, 100, 1500, 900), (0, 400, 1600, 500), (500, 0, 900, 1000)])
def test_an_object_that_is_larger_than_a_tile_is_found_whole_and_once(box):
    assert found_boxes(picture(1000, 1600, box), 6) == [box]


def test_a_part_of_a_large_object_is_no_object_but_a_small_one_before_it_is():
    """A tile that shows a part only may find another object in it."""
    whole, part, small = (400, 100, 1200, 900), (450, 150, 650, 350), (700, 300, 730, 330)

    class Parts(Blobs):
        def _found(self, image: Image) -> Detections:
            boxes = [whole] if image.shape[1] == 1600 else [part, small] if image[0, 0, 0] else []
            scores = np.full(len(boxes), 0.9, np.float32)
            return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, np.zeros(len(boxes), np.int64))

    image = picture(1000, 1600, (0, 0, 1, 1))  # marks the first tile, whose boxes are those of the picture
    assert found_boxes(image, 4, Parts()) == sorted([whole, small])


def test_the_same_place_may_have_objects_of_two_prompts():
    """As `person` and `worker`: boxes are compared within a prompt."""

    class Twice(Blobs):
        def _found(self, image: Image) -> Detections:
            one = super()._found(image)
            prompts = np.repeat([0, 1], len(one))
            return Detections(np.tile(one.boxes, (2, 1)), np.tile(one.scores, 2), prompts)

    [found] = detect_in_tiles(Twice(), [picture(1000, 1600, SMALL)], [THING, THING], THRESHOLDS, 4)
    assert sorted(found.prompts.tolist()) == [0, 1]


def test_the_best_scores_come_first():
    image = picture(1000, 1600, (10, 10, 60, 60), (410, 300, 440, 330), (800, 200, 1300, 700))
    [found] = detect_in_tiles(Blobs(), [image], [THING], THRESHOLDS, 4)
    assert len(found) == 3
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes.dtype, found.scores.dtype, found.prompts.dtype) == (np.float32, np.float32, np.int64)


@pytest.mark.parametrize(
    ("height", "width", "tiles", "rows_columns"),
    [
        (1080, 1920, "auto", (1, 1)),
        (1920, 1080, "auto", (1, 1)),
        (2160, 3840, "auto", (2, 2)),
        (3840, 2160, "auto", (2, 2)),
        (1440, 2560, "auto", (1, 3)),
        (800, 6000, "auto", (1, 4)),
        (4320, 7680, "auto", (4, 4)),
        (20_000, 20_000, "auto", (3, 5)),
        (2160, 3840, "off", (1, 1)),
        (2160, 3840, 1, (1, 1)),
        (2160, 3840, 2, (1, 2)),
        (2160, 3840, 5, (2, 2)),  # 5 tiles in a row would be shrunk more
        (2160, 3840, 9, (3, 3)),
        (240, 320, 4, (2, 2)),  # what was asked for, though nothing is shrunk
        (40, 50, 16, (1, 1)),  # tiles would be too small
        (1, 1, "auto", (1, 1)),
    ],
)
def test_the_grid_of_a_full_size_detector(monkeypatch, height, width, tiles, rows_columns):
    detector = FakeDetector()
    monkeypatch.setattr(detector, "scale", lambda h, w: min(800 / min(h, w), 1333 / max(h, w)))
    assert choose_grid(detector, height, width, tiles) == rows_columns


@pytest.mark.parametrize("size", [(1080, 1920), (577, 1023), (997, 331), (2161, 3839), (333, 4000)])
@pytest.mark.parametrize("tiles", [*range(2, MOST_TILES + 1), "auto"])
def test_tiles_of_odd_sizes_are_alike_cover_the_picture_and_are_as_many_as_may_be(size, tiles):
    """Where ``auto`` has room for more tiles, none of them is shrunk below the least scale."""
    seen = np.zeros(size, np.uint8)

    class Marks(Blobs):
        def detect(self, images, *rest) -> list[Detections]:
            for image in images:
                image += 1
            return super().detect(images, *rest)

    detector, image = Marks(), np.zeros((*size, 3), np.uint8)
    detect_in_tiles(detector, [image], [THING], THRESHOLDS, tiles, together=MOST_TILES)
    seen = image[..., 0] - 1  # the whole picture is one call
    grid = choose_grid(detector, *size, tiles)
    if grid == (1, 1):
        assert tiles == "auto"
        assert len(detector.shown) == 1
        return
    [_, cut] = detector.shown
    assert len(cut) == grid[0] * grid[1] <= (MOST_TILES if tiles == "auto" else tiles)
    assert len(set(cut)) == 1
    assert 1 <= seen.min() <= seen.max() <= 4
    if tiles == "auto" and len(cut) < MOST_TILES:
        assert detector.scale(*cut[0]) >= LEAST_SCALE


def test_tiles_of_several_pictures_are_few_calls_each_of_one_size():
    """Pictures of several sizes in one call would be padded, which moves boxes."""
    detector = Blobs()
    one, other = picture(1000, 1600, SMALL), picture(1600, 1000, (20, 30, 60, 70))
    found = detect_in_tiles(detector, [one, one, other], [THING], THRESHOLDS, 4, together=3)
    assert [tuple(each.boxes[0].tolist()) for each in found] == [SMALL, SMALL, (20, 30, 60, 70)]
    whole, *cut = detector.shown
    assert whole == [(1000, 1600), (1000, 1600), (1600, 1000)]
    assert [len(call) for call in cut] == [3, 3, 2, 3, 1]
    assert all(len(set(call)) == 1 for call in cut)


def test_without_tiles_the_detector_is_asked_once_and_its_answer_is_given_on():
    answer = [Detections.empty()]

    class Same(Blobs):
        def detect(self, *_) -> list[Detections]:
            super().detect(*_)
            return answer

    detector = Same()
    for tiles in ("off", 1, "auto"):
        assert detect_in_tiles(detector, [picture(100, 160)], [THING], THRESHOLDS, tiles) is answer
    assert detector.shown == [[(100, 160)]] * 3


def test_nothing_is_found_on_no_picture_and_for_no_prompt():
    detector = GroundingDino(EMBEDDED, torch.device("cpu"), torch.float32)
    assert detect_in_tiles(detector, [], parse_prompts(["red circle"]), THRESHOLDS, 4) == []
    [found] = detect_in_tiles(detector, [picture(400, 400)], [], THRESHOLDS, 4)
    assert len(found) == 0


@pytest.mark.slow
def test_the_embedded_model_finds_more_of_a_mosaic_in_tiles():
    """36 pictures of the test source in one: shapes are a sixth of the size of most that the model was trained on."""
    detector = GroundingDino(EMBEDDED, torch.device("cpu"), torch.float32)
    worlds = [ShapesWorld(seed, objects=1) for seed in range(500, 536)]
    side = worlds[0].width
    rows = [np.concatenate([world.render(0)[0] for world in worlds[i : i + 6]], 1) for i in range(0, 36, 6)]
    mosaic = np.ascontiguousarray(np.concatenate(rows))
    prompts = parse_prompts(dict.fromkeys(world.labels[0] for world in worlds))
    hits = {}
    for tiles in ("off", 16, "auto"):
        [found] = detect_in_tiles(detector, [mosaic], prompts, THRESHOLDS, tiles)
        hits[tiles] = 0
        for place, world in enumerate(worlds):
            box = world.truth(0).boxes[:1] + np.array([place % 6 * side, place // 6 * side] * 2, np.float32)
            same = [prompts[prompt].phrase == world.labels[0] for prompt in found.prompts]
            hits[tiles] += bool((box_iou(torch.from_numpy(found.boxes[same]), torch.from_numpy(box)) > 0.5).any())
    assert min(hits["auto"], hits[16]) >= 24 >= 2 * hits["off"]
