"""The gallery is bounded and finds who has left by their looks."""

import torch

from stages.tracking.gallery import Gallery
from stages.tracking.track_table import TrackRecord

CPU = torch.device("cpu")


def record(number: int) -> TrackRecord:
    return TrackRecord(number, 0, 0, 0, 0.9, True, 100, 0)


def test_the_most_alike_is_the_one_that_left():
    gallery = Gallery(4, CPU)
    for number in range(3):
        gallery.keep(record(number), torch.full((3,), float(number)))
    assert gallery.likeness(torch.tensor([[1.0, 1.0, 1.1]])).argmax() == 1


def test_the_oldest_make_room_and_the_bytes_stay():
    gallery = Gallery(4, CPU)
    before = gallery.nbytes
    for number in range(10):
        gallery.keep(record(number), torch.full((3,), float(number)))
    assert [kept.id for kept in gallery.records] == [6, 7, 8, 9]
    assert gallery.likeness(torch.full((1, 3), 6.0))[0, 0] == 1
    assert gallery.nbytes == before


def test_who_has_come_back_is_kept_no_longer():
    gallery = Gallery(4, CPU)
    for number in range(3):
        gallery.keep(record(number), torch.full((3,), float(number)))
    gallery.forget(gallery.records[1])
    assert [kept.id for kept in gallery.records] == [0, 2]
    assert gallery.likeness(torch.full((1, 3), 2.0))[0].tolist()[1] == 1
