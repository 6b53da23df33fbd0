"""A stream's state as bytes, from one daemon to another."""

import numpy as np
import pytest

from daemon.lane.handover import Handover, Learned
from stages.detection.auto_threshold import AutoThresholds
from stages.errors import SnapshotError
from stages.types import Detections

SESSION = "7b1f3c95-e2a4-4d60-9f8e-c05d6b472a19"


@pytest.mark.parametrize("picture", [None, (720, 1280, 3)])
def test_what_is_packed_is_unpacked(picture):
    packed = Handover(SESSION, picture, ("rote Tür\n🚪", ""), b"\n{}\x00\xff\n", full=False).pack()
    read = Handover.unpack(packed)
    assert (read.session, read.picture, read.prompts) == (SESSION, picture, ("rote Tür\n🚪", ""))
    assert read.tracker == b"\n{}\x00\xff\n"
    assert not read.full


def test_what_was_learned_of_a_prompt_goes_on_under_its_place_among_others():
    old, new = AutoThresholds(2, 0.3), AutoThresholds(3, 0.3)
    for _ in range(60):
        scores, prompts = np.array([0.9, 0.05, 0.06], np.float32), np.array([0, 0, 1])
        old.select(Detections(np.zeros((3, 4), np.float32), scores, prompts))
    assert old.values[0] != old.values[1]
    packed = Handover(SESSION, None, (), b"", Learned(prompts=["car", "dog"], state=old.state_dict())).pack()
    Handover.unpack(packed).learned.teach(new, ["dog", "bus", "car"])
    assert (new.values[0], new.values[2]) == old.values[::-1]
    good = old.state_dict()
    for bad in (
        {"values": 7},
        good | {"values": ["high", "low"]},
        good | {"warm_up": None},
        good | {"histograms": [1]},
    ):
        with pytest.raises(SnapshotError, match="snapshot: its thresholds make no sense"):
            Learned(prompts=["car", "dog"], state=bad).teach(new, ["car", "dog", "bus"])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"{}\n",
        b"\x80" * 100,
        b" " * (1 << 21) + b"\n",
        Handover(SESSION, None, (), b"").pack().replace(b"snapshot/2", b"snapshot/1"),
        Handover(SESSION, None, (), b"").pack()[:-1],
        Handover(SESSION, None, (), b"").pack().replace(b"7b1f", b"7b1F"),
        Handover(SESSION, (1, 1, 3), (), b"").pack().replace(b"[1,1,3]", b"[1,-1,3]"),
        Handover(SESSION, (1, 1, 3), (), b"").pack().replace(b"[1,1,3]", b"[1,1]"),
        Handover(SESSION, None, (), b"").pack().replace(b"[]", b"[7]"),
    ],
)
def test_anything_else_is_refused_in_one_line(data):
    with pytest.raises(SnapshotError, match=r"^this is no snapshot of a stream, .* GET /api/streams/NAME/snapshot$"):
        Handover.unpack(data)
