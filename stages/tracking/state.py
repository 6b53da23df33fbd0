"""The objects of one stream. Row r of every part here belongs to the same object, as does row r of a frame's heads."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from stages.segmentation.base import Segmenter
from stages.segmentation.outputs import ABSENT, FrameFeatures, Heads
from stages.tracking import mask_filter
from stages.tracking.cues import Cues, colours
from stages.tracking.gallery import Gallery
from stages.tracking.memory_bank import MemoryBank, bank_bytes
from stages.tracking.track_table import TrackTable

SHARED = 2  # keyframes in a row on which two tracks cover one another before they are taken to share their pixels


@dataclass(frozen=True, slots=True)
class TrackerOptions:
    """How tracks live. ``lost_after`` counts frames without a visible pixel.

    With ``gate`` and ``endless`` off, and prompted by hand, the tracker is upstream's predictor to the letter.
    """

    max_objects: int = 64
    lost_after: int = 90
    reidentify: bool = True
    gate: bool = True  # masks that cannot be right are not believed; frames without the object stay out of its memory
    endless: bool = True  # memories age by the frames that were remembered; see MemoryBank
    memory_dtype: torch.dtype = torch.bfloat16  # what stored memories are rounded to; upstream's


class TrackerState:
    """All that is kept of a stream's objects: memories (bank), records (table), looks (cues), who has left (gallery).

    Bounded by ``max_objects``; ``clock`` counts the frames tracked so far and is the bank's time. Rows begin, end
    and change their size in all parts or in none: whatever may fail for want of memory comes before the first of them
    changes.
    """

    def __init__(self, segmenter: Segmenter, options: TrackerOptions) -> None:
        self._segmenter, self._options = segmenter, options
        self.bank = MemoryBank(segmenter, options.max_objects, options.endless, options.memory_dtype)
        self.cues = Cues(4 * segmenter.side, segmenter.device)
        self.gallery = Gallery(options.max_objects, segmenter.device)
        self.table = TrackTable()
        self.clock = 0
        self.masks = segmenter.nothing().masks  # each row's logits on the last frame
        self._rivals = torch.zeros(0, 0, dtype=torch.bool, device=segmenter.device)  # which rows compete for pixels
        self._shared: dict[tuple[int, int], int] = {}  # keyframes in a row on which two tracks covered one another

    @property
    def nbytes(self) -> int:
        return self.bank.nbytes + self.gallery.nbytes

    @property
    def free(self) -> int:
        """Places for further objects."""
        return self.bank.capacity - self.bank.count

    def find(self, feature: FrameFeatures) -> Heads:
        """Look for all objects on the next frame."""
        if not self.bank.count:
            return self._segmenter.nothing()
        if len(self._rivals) != self.bank.count:
            self.find_rivals()  # what should have done so has failed
        heads = self._segmenter.propagate(feature, self.bank.recall(self.clock))
        return self._believed(heads, feature) if self._options.gate else heads

    def remember(self, feature: FrameFeatures, heads: Heads, recent: torch.Tensor) -> torch.Tensor:
        """Encode the memories of B heads; those of the state's rows that ``recent`` (B,) names are stored."""
        if not len(heads.masks):
            return torch.zeros(0)
        memories = self._segmenter.memorise(feature, heads)
        rows = self.bank.count
        least = 0.0 if self._options.gate else ABSENT
        store = recent & memories.isfinite().flatten(1).all(1) & (heads.presence > least)
        self.bank.remember(self.clock, memories[:rows], heads.pointers[:rows], store[:rows])
        self.cues.follow(heads.masks[:rows])
        return memories

    def start(self, clock: int, feature: FrameFeatures, heads: Heads, memories: torch.Tensor) -> None:
        """Give B new objects, found on the frame of ``clock``, the next rows; the caller writes their records."""
        cues, masks = copy.copy(self.cues), torch.cat([self.masks, heads.masks])
        cues.start(heads.masks, colours(feature.picture, heads.masks))
        self.bank.append(clock, memories, heads.pointers)
        self.cues, self.masks = cues, masks

    def end(self, ending: dict[int, str], frame: int) -> list[int]:
        """End the tracks of some rows; returns, for each row that is left, the row it had before."""
        order, leaving = list(range(self.bank.count)), sorted(ending, reverse=True)
        if not ending:
            return order
        for row in leaving:
            order[row] = order[-1]
            order.pop()
        cues, gallery, masks = copy.copy(self.cues), self.gallery.copy(), self.masks[order]
        cues.reorder(order)
        for row in leaving:
            if ending[row] != "removed":
                gallery.keep(self.table.rows[row], self.cues.colours[row])
        for row in leaving:
            self.table.end(row, frame, ending[row])
            self.bank.remove(row)
        self.cues, self.gallery, self.masks = cues, gallery, masks
        self.find_rivals()
        return order

    def resize(self, places: int, frame: int) -> None:
        """Have another number of places; where they no longer suffice, the least useful tracks end."""
        excess = max(0, self.bank.count - places)
        self.end(dict.fromkeys(self.table.by_use()[:excess], "max_objects"), frame)
        self.bank.resize(places)
        self.gallery.resize(places)

    def rescale(self, segmenter: Segmenter) -> None:
        """Go on with the same model for pictures of another size."""
        side, ratio = 4 * segmenter.side, segmenter.side / self._segmenter.side
        cues, masks = copy.copy(self.cues), segmenter.nothing().masks
        cues.rescale(side, ratio)
        if len(self.masks):
            masks = F.interpolate(self.masks[:, None], (side, side), mode="bilinear", antialias=True)[:, 0]
        self.bank.rescale(segmenter)
        self.cues, self.masks, self._segmenter = cues, masks, segmenter
        for record in (*self.table.rows, *self.gallery.records):
            record.area = round(record.area * ratio**2)

    def prompt_again(self, feature: FrameFeatures) -> None:
        """Condition the objects in sight on their masks on the last frame, of which ``feature`` is a new view."""
        size = (self._segmenter.image_size,) * 2
        for row in (self.masks > 0).flatten(1).any(1).nonzero()[:, 0].tolist():
            mask = F.interpolate(self.masks[None, None, row], size, mode="bilinear")[0, 0] > 0
            heads = self._segmenter.prompt_mask(feature, mask.cpu().numpy())
            memory = self._segmenter.memorise(feature, heads)[0]
            self.bank.recondition(row, self.clock - 1, memory, heads.pointers[0], forget=False)

    def note_shared(self, overlapping: dict[tuple[int, int], bool], born: set[int]) -> None:
        """What a keyframe's detections say of pairs of tracks of different prompts: whether one covers the other.

        One object may go by two names, or be part of another; but a hidden object's box may also show what hides it.
        So a pair is taken to share its pixels when it does so from birth or twice in a row.
        """
        alive = {record.id for record in self.table.rows}
        for pair, overlaps in overlapping.items():
            times = self._shared.get(pair, 0) + (SHARED if born & set(pair) else 1)
            self._shared[pair] = times if overlaps else 0
        self._shared = {pair: times for pair, times in self._shared.items() if times and alive >= set(pair)}

    def find_rivals(self) -> None:
        """Tracks are rivals for the same pixels, but not those that share them, nor one added without a prompt."""
        records = self.table.rows
        rows = {record.id: row for row, record in enumerate(records)}
        rivals = ~np.eye(len(records), dtype=bool)
        by_hand = [row for row, record in enumerate(records) if record.prompt is None]
        rivals[by_hand] = rivals[:, by_hand] = False
        for pair, times in self._shared.items():
            if times >= SHARED and rows.keys() >= set(pair):
                first, second = (rows[track] for track in pair)
                rivals[first, second] = rivals[second, first] = False
        self._rivals = torch.from_numpy(rivals).to(self._segmenter.device)

    def lost(self, frame: int) -> dict[int, str]:
        """The rows that have been out of sight for too long."""
        limit = frame - self._options.lost_after
        return {row: "lost" for row, record in enumerate(self.table.rows) if record.last_seen < limit}

    def _believed(self, heads: Heads, feature: FrameFeatures) -> Heads:
        """The heads without the masks that cannot be right, and with the pixels that rivals claim shared out."""
        _, usual = self.cues.expected()
        heads = heads.without(
            mask_filter.stolen(heads.masks, self.masks > 0) | mask_filter.flooding(heads.masks, usual)
        )
        strangeness = self.cues.strangeness(feature.picture, heads.masks)
        heads = heads.without(mask_filter.converged(heads.masks, self._rivals, strangeness))
        return heads._replace(masks=mask_filter.shared_out(heads.masks, self._rivals, self.cues.claim(feature.picture)))


def state_bytes(segmenter: Segmenter, options: TrackerOptions) -> int:
    """The ``nbytes`` of a TrackerState, without making one."""
    places = options.max_objects
    return bank_bytes(segmenter, places, options.memory_dtype) + Gallery(places, torch.device("meta")).nbytes
