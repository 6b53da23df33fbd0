"""The gallery is bounded and finds ended tracks by their colour."""

import torch

from stages.tracking.gallery import Gallery
from stages.tracking.track_table import TrackRecord

CPU = torch.device("cpu")


def record(number: int) -> TrackRecord:
    return TrackRecord(number, 0, 0, 0, 0.9, True, 100, 0)


def test_the_entry_with_the_same_colour_is_the_most_similar():
    gallery = Gallery(4, CPU)
    for number in range(3):
        gallery.add(record(number), torch.full((3,), float(number)))
    assert gallery.similarity(torch.tensor([[1.0, 1.0, 1.1]])).argmax() == 1


def test_a_full_gallery_drops_its_oldest_entry_and_keeps_its_size():
    gallery = Gallery(4, CPU)
    before = gallery.nbytes
    for number in range(10):
        gallery.add(record(number), torch.full((3,), float(number)))
    assert [kept.id for kept in gallery.records] == [6, 7, 8, 9]
    assert gallery.similarity(torch.full((1, 3), 6.0))[0, 0] == 1
    assert gallery.nbytes == before


def test_a_removed_entry_is_gone_and_the_others_stay():
    gallery = Gallery(4, CPU)
    for number in range(3):
        gallery.add(record(number), torch.full((3,), float(number)))
    gallery.remove(gallery.records[1])
    assert [kept.id for kept in gallery.records] == [0, 2]
    assert gallery.similarity(torch.full((1, 3), 2.0))[0].tolist()[1] == 1
