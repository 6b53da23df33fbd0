"""The frames that are kept for prompts which refer to the picture that a person has seen."""

from dataclasses import replace

import numpy as np
import pytest

from daemon.errors import BusyError, ConflictError
from daemon.lane import trail
from daemon.lane.trail import MOST_PICTURES, Trail
from daemon.sinks.looking_back import LookingBack
from daemon.sinks.preview import Preview
from stages.keyframes.motion import Motion
from stages.output import rle
from stages.output.wire import Kind
from stages.types import Frame, Window
from tests.support.fakes import frames

FPS = 10


def picture(shade: int = 0, height: int = 8, width: int = 8) -> np.ndarray:
    return np.full((height, width, 3), shade, np.uint8)


def numbered(index: int, **about) -> Frame:
    return replace(frames(index)[0], captured_at=index / FPS, **about)


def run(kept: Trail, *indices: int, shown: bool = False, epoch: int = 0) -> None:
    """Each frame is tracked and then published, without objects."""
    for index in indices:
        kept.tracked(Window(epoch, (numbered(index),), False))
        kept.published(numbered(index), (), shown)


def entry(track: int, mask: np.ndarray) -> dict:
    rows, columns = np.nonzero(mask)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return {"id": track, "box": box, "area": int(mask.sum()), "mask": rle.encode(mask)}


def test_a_frame_is_found_by_its_index_with_what_was_published_of_it_and_how_long_ago_it_was():
    kept, mask = Trail(), np.zeros((8, 8), bool)
    mask[2:4, 2:4] = True
    shaded = numbered(0, image=picture(200))
    kept.tracked(Window(0, (shaded, *map(numbered, (1, 2))), True))
    kept.published(shaded, [entry(7, mask)], shown=False)
    run(kept, 3)
    seen = kept.find(0)
    assert (seen.index, seen.size, kept.ago(seen)) == (0, (8, 8), 3)
    assert np.abs(seen.image.astype(int) - 200).max() < 5
    assert seen.object(7)["area"] == 4
    assert seen.object(8) is None
    assert [later.index for later in kept.after(seen.number)] == [3], "1 and 2 were lost on their way"
    assert kept.ago(kept.find(3)) == 0


def test_points_are_on_the_track_whose_mask_has_them_all_the_smallest_where_masks_overlap():
    large, small = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    large[0:6, 0:6], small[1:3, 1:3] = True, True
    large[4, 4] = False
    kept = Trail()
    kept.tracked(Window(0, (numbered(0),), False))
    kept.published(numbered(0), [entry(1, large), entry(2, small)], shown=False)
    seen = kept.find(0)
    assert seen.track_at([(1.5, 2.9)]) == 2
    assert seen.track_at([(1.5, 2.9), (5.0, 0.0)]) == 1
    assert seen.track_at([(4.2, 4.2)]) is None
    assert seen.track_at([(6.0, 6.0)]) is None


def test_the_objects_of_a_frame_are_known_before_its_masks_message_is_sent():
    """A program may answer before the frame has been given to all."""
    kept, mask = Trail(), np.ones((8, 8), bool)
    sink = LookingBack(kept, Preview(90))
    kept.tracked(Window(0, (numbered(0), numbered(1)), True))
    sink.message(Kind.MASKS, {"frame": 0, "objects": [entry(7, mask)]})
    kept.tracked(Window(0, (numbered(2),), False))
    assert kept.find(0).track_at([(1.0, 1.0)]) == 7
    assert [seen.index for seen in kept.after(-1)] == [0, 1, 2]


def test_pictures_are_a_tenth_of_a_second_apart_but_none_that_is_shown_is_left_out():
    kept = Trail()
    for index in range(30):
        frame = replace(numbered(index), captured_at=index / 50)
        kept.tracked(Window(0, (frame,), False))
        kept.published(frame, (), shown=index == 17)
    assert [seen.index for seen in kept.after(-1)] == [0, 5, 10, 15, 17, 22, 27, 29], "the newest until others come"
    assert (kept.find(29).index, kept.ago(kept.find(29))) == (29, 0)
    kept.tracked(Window(0, (replace(numbered(30), captured_at=0.6),), False))
    assert [seen.index for seen in kept.after(-1)] == [0, 5, 10, 15, 17, 22, 27, 30]
    assert kept.find(17).index == 17
    assert kept.find(19).index == 17, "the nearest one stands for a frame that was published and is not kept"


def test_it_holds_so_many_pictures_and_bytes_and_frames_on_their_way(monkeypatch):
    kept = Trail(in_flight=4)
    run(kept, *range(2 * MOST_PICTURES))
    assert [seen.index for seen in kept.after(-1)] == list(range(MOST_PICTURES, 2 * MOST_PICTURES))
    kept.tracked(Window(0, tuple(map(numbered, range(500, 510))), False))
    assert [seen.index for seen in kept.after(-1)][MOST_PICTURES:] == [506, 507, 508, 509]
    monkeypatch.setattr(trail, "MOST_BYTES", 3 * len(kept.find(MOST_PICTURES).picture))
    kept.published(numbered(509), (), shown=False)
    assert len(kept.after(-1)) == 3


def test_a_large_picture_is_kept_smaller_and_prompts_are_still_in_its_own_pixels():
    kept = Trail()
    for index, shown in enumerate((False, True)):
        large = numbered(index, image=picture(90, 720, 1920))
        kept.tracked(Window(0, (large,), False))
        kept.published(large, (), shown)
    small, sharp = kept.after(-1)
    assert (small.size, small.image.shape) == ((720, 1920), (180, 480, 3))
    assert (sharp.size, sharp.image.shape) == ((720, 1920), (360, 960, 3))


def test_a_cut_on_a_frame_that_is_not_kept_is_one_on_the_next():
    kept, motion = Trail(), Motion(cut=True, moving=None)
    kept.tracked(Window(0, (numbered(0), numbered(1, motion=motion), numbered(2)), False))
    kept.published(numbered(0), (), shown=False)
    kept.published(numbered(2), (), shown=False)
    assert [(seen.index, seen.cut) for seen in kept.after(-1)] == [(0, False), (2, True)]


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (40, "frame 40 is still to come: the newest is 23"),
        (3, "frame 3 is too old: those from 10 on are kept; point at a newer picture"),
        (17, "frame 17 was dropped, nobody has seen it; the nearest is 16"),
        (11, "the source was opened again after frame 11; point at a newer picture"),
    ],
)
def test_a_frame_that_is_of_no_use_is_refused_with_the_reason(index, says):
    kept = Trail()
    with pytest.raises(ConflictError, match="no frame has been tracked yet"):
        kept.find(0)
    run(kept, 10, 11, 12)
    run(kept, 14, 16, 20, 23, epoch=1)
    with pytest.raises(ConflictError) as refused:
        kept.find(index)
    assert str(refused.value) == says


def test_one_object_at_a_time_is_carried_to_the_present(monkeypatch):
    monkeypatch.setattr(trail, "PATIENCE", 0.01)
    kept = Trail()
    with kept.one_at_a_time(), pytest.raises(BusyError, match="still on their way"), kept.one_at_a_time():
        pass
    with kept.one_at_a_time():
        pass
