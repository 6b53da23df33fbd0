"""The tracker's state for the objects of one stream: memory bank, track table, motion and looks, gallery.

Row r of each part belongs to the same object, and so does row r of a frame's heads.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from stages.segmentation.base import Segmenter
from stages.segmentation.outputs import ABSENT, FrameFeatures, Heads
from stages.tracking import mask_filter
from stages.tracking.cues import Cues, median_colours
from stages.tracking.identity import looks
from stages.tracking.identity.gallery import Gallery, gallery_bytes
from stages.tracking.identity.trust import Trust
from stages.tracking.identity.views import Views
from stages.tracking.memory.bank import MemoryBank, bank_bytes
from stages.tracking.track_table import TrackTable

SHARED_KEYFRAMES = 2  # keyframes in a row on which the masks of two tracks overlap before they may share pixels


@dataclass(frozen=True, slots=True)
class TrackerOptions:
    """Options of a tracker. ``lost_after`` counts frames without a visible pixel.

    With ``gate`` and ``endless`` off, and all prompts by hand, the tracker's masks equal those of upstream's predictor.
    """

    max_objects: int = 64
    lost_after: int = 90
    reidentify: bool = True
    gate: bool = True  # reject implausible masks, and store no memory of frames on which the object is absent
    endless: bool = True  # age memories by their rank; see MemoryBank
    memory_dtype: torch.dtype = torch.bfloat16  # of stored spatial memories; upstream's


class TrackerState:
    """All that is kept of a stream's objects; bounded by ``max_objects``.

    ``bank`` has the memories, ``table`` the records, ``cues`` motion and looks, ``gallery`` the tracks that ended,
    ``trust`` what each cue has told so far.
    ``clock`` counts the frames tracked so far; it is the frame number in the bank. Records have the frame's index in
    the stream instead, which counts dropped frames, too. A change of the rows is made in all parts or in none: every
    step that can run out of memory comes before the first part is changed.
    """

    def __init__(self, segmenter: Segmenter, options: TrackerOptions) -> None:
        self._segmenter, self._options = segmenter, options
        self.bank = MemoryBank(segmenter, options.max_objects, options.endless, options.memory_dtype)
        self.parts = looks.sizes(segmenter)
        self.cues = Cues(4 * segmenter.side, sum(self.parts), segmenter.device)
        self.gallery = Gallery(options.max_objects, sum(self.parts), segmenter.device)
        self.trust = Trust()
        self.table = TrackTable()
        self.clock = 0
        self.frame = -1  # index in the stream of the frame tracked last
        self.masks = segmenter.empty_heads().masks  # (N, 4 S, 4 S) logits on the last frame
        # (N, padded N) pairs that share no pixel
        self._rivals = torch.zeros(0, 0, dtype=torch.bool, device=segmenter.device)
        self._away_rows: list[bool] = []  # rows whose object is in another view
        self._away = self._prompted = torch.zeros(0, dtype=torch.bool, device=segmenter.device)  # (N,) as these rows
        self._overlaps: dict[tuple[int, int], int] = {}  # by track ids: keyframes in a row on which their masks overlap

    @property
    def nbytes(self) -> int:
        """Bytes held; depends on the number of rows alone."""
        return self.bank.nbytes + self.gallery.nbytes

    @property
    def free_rows(self) -> int:
        """How many more objects there is room for."""
        return self.bank.capacity - self.bank.count

    def propagate(self, features: FrameFeatures) -> Heads:
        """Find all objects on the next frame."""
        if not self.bank.count:
            return self._segmenter.empty_heads()
        if self._away_rows != [record.away for record in self.table.rows]:
            self.update_rivals()  # a correction by hand, or a window that failed, has left them out of date
        groups = self.bank.groups()
        heads = self._segmenter.propagate(features, [self.bank.stored(self.clock, rows) for rows in groups])
        if len(groups) > 1:
            heads = heads.take(self.bank.places(groups))
        return self._reject_implausible(heads, features) if self._options.gate else heads

    def store_memories(self, features: FrameFeatures, heads: Heads, recent: torch.Tensor) -> torch.Tensor:
        """Encode the memories of B heads, and store those of the state's rows that are set in ``recent`` (B,) bool.

        Returns the memories (B, L, C_mem). Also updates the motion of the state's rows.
        """
        if not len(heads.masks):
            return torch.zeros(0)
        memories = self._segmenter.encode_memory(features, heads)
        rows = self.bank.count
        least_presence = 0.0 if self._options.gate else ABSENT
        store = recent & memories.isfinite().flatten(1).all(1) & (heads.presence > least_presence)
        self.bank.store(self.clock, memories[:rows], heads.pointers[:rows], store[:rows])
        self.cues.update(heads.masks[:rows], self._segmenter.run)
        return memories

    def start(
        self, clock: int, features: FrameFeatures, heads: Heads, memories: torch.Tensor, views: Views | None = None
    ) -> None:
        """Add B objects, found on frame ``clock``, as the next rows; the caller adds their records to the table.

        ``views``: what is known of their looks; None for what this frame shows.
        """
        if views is None:
            views = Views.first(looks.describe(self._segmenter, features, heads.masks), clock)
        cues, masks = copy.copy(self.cues), torch.cat([self.masks, heads.masks])
        cues.append(heads.masks, median_colours(features.picture, heads.masks), views)
        self.bank.append(clock, memories, heads.pointers)
        self.cues, self.masks = cues, masks

    def adopt(self, other: "TrackerState", row: int) -> None:
        """Add a row of another state of this model as the next row; the caller adds its record to the table."""
        cues, masks = copy.copy(self.cues), torch.cat([self.masks, other.masks[row : row + 1]])
        cues.adopt(other.cues, row)
        self.bank.copy(self.bank.count, other.bank, row)
        self.cues, self.masks = cues, masks

    def overwrite(self, row: int, other: "TrackerState") -> None:
        """Let a row go on from the first row of another state of this model. Its record, colour and views stay."""
        self.bank.copy(row, other.bank, 0)
        self.masks[row], self.cues.motion[row] = other.masks[0], other.cues.motion[0]

    def end(self, ending: dict[int, str], frame: int) -> list[int]:
        """End the tracks of some rows, {row: reason}; returns the old row of each row that is left."""
        order, ending_rows = list(range(self.bank.count)), sorted(ending, reverse=True)
        if not ending:
            return order
        for row in ending_rows:
            order[row] = order[-1]
            order.pop()
        cues, gallery, masks = copy.copy(self.cues), self.gallery.copy(), self.masks[order]
        cues.reorder(order)
        for row in ending_rows:
            if ending[row] != "removed":
                gallery.add(self.table.rows[row], self.cues.views, row)
        for row in ending_rows:
            self.table.end(row, frame, ending[row])
            self.bank.remove(row)
        self.cues, self.gallery, self.masks = cues, gallery, masks
        self.update_rivals()
        return order

    def resize(self, max_objects: int, frame: int) -> None:
        """Change the number of rows; where there are too few for all tracks, some are evicted."""
        excess = max(0, self.bank.count - max_objects)
        self.end(dict.fromkeys(self.table.eviction_order()[:excess], "max_objects"), frame)
        self.bank.resize(max_objects)
        self.gallery.resize(max_objects)

    def rescale(self, segmenter: Segmenter) -> None:
        """Switch to the same model for another image size."""
        if segmenter is self._segmenter:
            return
        side, ratio = 4 * segmenter.side, segmenter.side / self._segmenter.side
        cues, masks = copy.copy(self.cues), segmenter.empty_heads().masks
        cues.rescale(side, ratio)
        if len(self.masks):
            masks = F.interpolate(self.masks[:, None], (side, side), mode="bilinear", antialias=True)[:, 0]
        self.bank.rescale(segmenter)
        self.cues, self.masks, self._segmenter = cues, masks, segmenter
        for record in (*self.table.rows, *self.gallery.records):
            record.area = round(record.area * ratio**2)

    def condition_on_last_masks(self, features: FrameFeatures) -> None:
        """Make the last frame, with ``features`` at the present size, a conditioning frame of the visible objects."""
        size = (self._segmenter.image_size,) * 2
        for row in (self.masks > 0).flatten(1).any(1).nonzero()[:, 0].tolist():
            mask = F.interpolate(self.masks[None, None, row], size, mode="bilinear")[0, 0] > 0
            heads = self._segmenter.prompt_mask(features, mask.cpu().numpy())
            memory = self._segmenter.encode_memory(features, heads)[0]
            self.bank.set_conditioning(row, self.clock - 1, memory, heads.pointers[0], clear=False)

    def state_dict(self, full: bool) -> dict[str, Any]:
        """All that is needed to go on after a window: tensors on the host, and plain values.

        Without ``full`` only what identity needs: of the recent memories each row has the newest. The rivals follow
        from the rest; of the last masks the next frame needs only which pixels they have.
        """
        return {
            "bank": self.bank.state_dict(full),
            "cues": self.cues.state_dict(),
            "gallery": self.gallery.state_dict(),
            "trust": self.trust.state_dict(),
            "table": self.table.state_dict(),
            "clock": self.clock,
            "frame": self.frame,
            "masks": torch.from_numpy(np.packbits((self.masks > 0).cpu().numpy())),
            "overlaps": [(*pair, times) for pair, times in self._overlaps.items()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace everything by a `state_dict` of a state with the same segmenter; then it goes on as that one would.

        When it has too many rows, some tracks are evicted as by `resize`. If there is not enough memory, no track is
        left.
        """
        table, gallery, cues, trust = TrackTable(), self.gallery.copy(), copy.copy(self.cues), Trust()
        trust.load_state_dict(state["trust"])
        table.load_state_dict(state["table"])
        gallery.load_state_dict(state["gallery"])
        origins = list(range(len(table.rows)))
        excess = max(0, len(origins) - self.bank.capacity)
        for row in sorted(table.eviction_order()[:excess], reverse=True):
            gallery.add(table.rows[row], cues.views.like(state["cues"], [row]), 0)
            table.end(row, state["frame"], "max_objects")
            origins[row] = origins[-1]
            origins.pop()
        cues.load_state_dict(state["cues"], origins)
        shape = len(state["table"]["rows"]), *self.masks.shape[1:]
        pixels = np.unpackbits(state["masks"].numpy(), count=math.prod(shape)).reshape(shape)[origins]
        self.end(dict.fromkeys(range(self.bank.count), "removed"), self.frame)
        self.bank.load_state_dict(state["bank"], origins)
        self.masks = torch.from_numpy(pixels).to(self.masks) * 2 - 1
        self.table, self.gallery, self.cues, self.trust = table, gallery, cues, trust
        self.clock, self.frame = state["clock"], state["frame"]
        self._overlaps = {(first, second): times for first, second, times in state["overlaps"]}
        self.update_rivals()

    def renumber(self, offset: int) -> None:
        """Add ``offset`` to the index of each frame in the records: the stream numbers its frames anew."""
        self.table.renumber(offset)
        self.gallery.records = [record.renumbered(offset) for record in self.gallery.records]
        self.frame += offset

    def record_overlaps(self, overlapping: dict[tuple[int, int], bool], started: set[int]) -> None:
        """Record for pairs of track ids of different prompts whether their detections overlap on this keyframe.

        One object may match two prompts, or be a part of another object: such pairs may share pixels. But the box of a
        hidden object may also show the object in front of it. So a pair may share pixels when it overlaps on the
        keyframe that starts one of them, or on two keyframes in a row. ``started``: ids that start on this keyframe.
        """
        alive = {record.id for record in self.table.rows}
        for pair, overlaps in overlapping.items():
            times = self._overlaps.get(pair, 0) + (SHARED_KEYFRAMES if started & set(pair) else 1)
            self._overlaps[pair] = times if overlaps else 0
        self._overlaps = {pair: times for pair, times in self._overlaps.items() if times and alive >= set(pair)}

    def leave_view(self) -> None:
        """The picture now shows another view: tracks have no mask until a detection looks like their object.

        Objects added without a prompt are never detected, so they are looked for as before. Inside a window nothing is
        sent to the device.
        """
        for record in self.table.rows:
            record.away = record.prompt is not None
        if len(self._prompted) == len(self.table.rows):  # else they are out of date, which `propagate` sees
            self._away_rows, self._away = [record.away for record in self.table.rows], self._prompted

    def update_rivals(self) -> None:
        """Recompute which rows are away, and which are rivals, of whose masks only one may have a pixel.

        All pairs are rivals, except those that may share pixels and those with an object added without a prompt.
        """
        records = self.table.rows
        rows = {record.id: row for row, record in enumerate(records)}
        rivals = np.zeros((len(records), self._segmenter.padded(len(records))), dtype=bool)
        rivals[:, : len(records)] = ~np.eye(len(records), dtype=bool)
        by_hand = [row for row, record in enumerate(records) if record.prompt is None]
        rivals[by_hand] = rivals[:, by_hand] = False
        for pair, times in self._overlaps.items():
            if times >= SHARED_KEYFRAMES and rows.keys() >= set(pair):
                first, second = (rows[track] for track in pair)
                rivals[first, second] = rivals[second, first] = False
        self._rivals = torch.from_numpy(rivals).to(self._segmenter.device)
        self._away_rows = [record.away for record in records]
        flags = self._away_rows, [record.prompt is not None for record in records]
        self._away, self._prompted = torch.tensor(flags, dtype=torch.bool).to(self._segmenter.device)

    def lost_rows(self, frame: int) -> dict[int, str]:
        """The rows without a visible pixel for more than ``lost_after`` frames, with the reason to end them."""
        limit = frame - self._options.lost_after
        return {row: "lost" for row, record in enumerate(self.table.rows) if record.last_seen < limit}

    def _reject_implausible(self, heads: Heads, features: FrameFeatures) -> Heads:
        """The heads with implausible masks marked absent, and each pixel that rivals share left to one of them."""
        cues = self.cues
        shared = features.picture, cues.moments
        rows = *heads, self.masks, cues.motion, cues.colours, self._rivals, self._away
        return Heads(*self._segmenter.run(mask_filter.reject_implausible, shared, rows))


def state_bytes(segmenter: Segmenter, options: TrackerOptions) -> int:
    """The ``nbytes`` of a TrackerState, computed without allocating one."""
    rows = options.max_objects
    return bank_bytes(segmenter, rows, options.memory_dtype) + gallery_bytes(rows, sum(looks.sizes(segmenter)))
