"""The gallery is bounded and keeps the views of the tracks that ended last."""

import torch

from stages.tracking.identity.gallery import Gallery
from stages.tracking.identity.views import Views
from stages.tracking.track_table import TrackRecord

CPU = torch.device("cpu")


def filled(capacity: int, count: int) -> Gallery:
    """Tracks 0 to ``count`` - 1 have ended; all numbers of the looks of each are its id."""
    gallery = Gallery(capacity, 3, CPU)
    for number in range(count):
        views = Views.first(torch.full((1, 3), float(number)), clock=number)
        gallery.add(TrackRecord(number, 0, 0, 0, 0.9, True, 100, 0), views, 0)
    return gallery


def kept(gallery: Gallery) -> list[tuple[int, float, int]]:
    """Id, looks and time of each entry."""
    looks, seen = gallery.views
    return [(r.id, float(each[0, 0]), int(at[0])) for r, each, at in zip(gallery.records, looks, seen, strict=True)]


def test_a_full_gallery_drops_its_oldest_entry_and_keeps_its_size():
    gallery = filled(4, 10)
    assert kept(gallery) == [(number, number, number) for number in (6, 7, 8, 9)]
    assert gallery.nbytes == filled(4, 0).nbytes


def test_a_removed_entry_is_gone_and_the_others_stay():
    gallery = filled(4, 3)
    gallery.remove(gallery.records[1])
    assert kept(gallery) == [(0, 0, 0), (2, 2, 2)]


def test_a_copy_does_not_change_with_the_gallery():
    gallery = filled(4, 3)
    other = gallery.copy()
    gallery.remove(gallery.records[0])
    assert kept(other) == [(number, number, number) for number in range(3)]


def test_of_a_smaller_gallery_the_newest_entries_stay():
    gallery = filled(4, 4)
    gallery.resize(2)
    assert kept(gallery) == [(2, 2, 2), (3, 3, 3)]
    assert gallery.nbytes == filled(2, 0).nbytes
