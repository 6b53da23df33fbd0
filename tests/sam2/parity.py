"""Upstream's video predictor and our tracker side by side: one script of prompts on the same frames, frame by frame."""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from sam2.sam2_video_predictor import SAM2VideoPredictor

from stages.segmentation.outputs import FrameFeatures
from stages.tracking.tracker import Tracker
from stages.types import Clock, Detections, Frame, Image, Window
from tests.sam2.upstream import normalised

_EVERY_POINTER = 16  # in a shorter clip upstream reads fewer pointers than in a longer one


class Act(NamedTuple):
    """A prompt or removal of one object on one frame. Both sides identify the object by its number."""

    frame: int
    verb: str  # "detect" comes before the frame is tracked; "add", "refine" and "remove" come after
    number: int
    box: Any = None  # (4,) xyxy pixels
    points: Any = None  # (P, 2) pixels and (P,) labels
    mask: Any = None  # (H, W) bool


def torch_without_bfloat16() -> ModuleType:
    """A torch for upstream's predictor module in which ``bfloat16`` is float32, so that it does not round memories."""
    module = ModuleType("torch")
    module.__dict__.update(torch.__dict__, bfloat16=torch.float32)
    return module


class Upstream:
    """One video in upstream's predictor."""

    def __init__(self, predictor: SAM2VideoPredictor, images: list[Image], folder: Path) -> None:
        cv2.imwrite(str(folder / "00000.jpg"), images[0])  # init_state reads JPEG files: here it only learns the size
        with mock.patch.object(predictor, "_get_image_feature"):  # which would encode the JPEG
            self.predictor, self.state = predictor, predictor.init_state(str(folder))
        self.state["images"] = normalised(predictor, torch.from_numpy(np.stack(images)))
        self.state["num_frames"] = max(len(images), _EVERY_POINTER)

    def encoder_difference(self, t: int, features: FrameFeatures) -> float:
        """The largest difference of our features of a frame from upstream's, in standard deviations of the latter."""
        _, _, vision, positions, _ = self.predictor._get_image_feature(self.state, t, 1)
        pairs = zip([*features.vision, features.positions], [*vision, positions[-1]], strict=True)
        return max(float((mine - other).abs().max() / other.std()) for mine, other in pairs)

    def lend(self, t: int, features: FrameFeatures) -> None:
        """Make upstream use our features of a frame, instead of encoding it again."""
        maps = [x.permute(1, 2, 0).unflatten(2, size) for x, size in zip(features.vision, features.sizes, strict=True)]
        coarsest = features.positions.permute(1, 2, 0).unflatten(2, features.sizes[-1])
        positions = [*(torch.zeros(1, 1, *size) for size in features.sizes[:-1]), coarsest]  # the others go unread
        encoded = {"backbone_fpn": maps, "vision_pos_enc": positions}
        self.state["cached_features"] = {t: (self.state["images"][t][None], encoded)}

    def track(self, t: int, found: list[Act]) -> dict[int, torch.Tensor]:
        """The logits (4 S, 4 S) of every object on the frame."""
        for act in found:
            self.add(act)
        if self.state["obj_ids"]:
            for _ in self.predictor.propagate_in_video(self.state, t, 0):
                pass
        return self.masks(t)

    def masks(self, t: int) -> dict[int, torch.Tensor]:
        """The logits after prompts by hand."""
        if self.state["obj_ids"]:
            self.predictor.propagate_in_video_preflight(self.state)  # keeps what the prompts gave
        return {number: self.output(number, t)["pred_masks"][0, 0] for number in self.state["obj_ids"]}

    def output(self, number: int, t: int) -> dict[str, Any]:
        """Upstream's stored output for an object on a frame."""
        outputs = self.state["output_dict_per_obj"][self.state["obj_id_to_idx"][number]]
        return outputs["cond_frame_outputs"].get(t) or outputs["non_cond_frame_outputs"][t]

    def add(self, act: Act, clear_old_points: bool = True) -> None:
        if act.mask is not None:
            self.predictor.add_new_mask(self.state, act.frame, act.number, act.mask)
            return
        points, labels = act.points or (None, None)
        self.predictor.add_new_points_or_box(
            self.state, act.frame, act.number, points, labels, clear_old_points=clear_old_points, box=act.box
        )

    def refine(self, act: Act) -> None:
        self.add(act, clear_old_points=False)

    def remove(self, act: Act) -> None:
        self.predictor.remove_object(self.state, act.number)


class Ours:
    """One video in our tracker. An object's number is its prompt: a detection of it can only mean that object."""

    def __init__(self, tracker: Tracker, images: list[Image]) -> None:
        self.tracker, self._id_of = tracker, dict[int, int]()
        self._frames = [Frame(t, t, Fraction(1, 30), t / 30, Clock.FILE, image) for t, image in enumerate(images)]
        self.size = images[0].shape[:2]
        self._state = tracker._state  # for masks after prompts by hand, and for memories

    def track(self, t: int, found: list[Act]) -> dict[int, torch.Tensor]:
        detections = None
        if found:
            boxes, numbers = np.stack([act.box for act in found]), np.array([act.number for act in found])
            detections = Detections(boxes.astype(np.float32), np.ones(len(found), np.float32), numbers)
        result = self.tracker.step(Window(0, (self._frames[t],), bool(found)), detections)[0]
        self._id_of = {track.prompt: track.id for track in result.tracks if track.prompt is not None}
        return dict(zip(self._id_of, result.masks, strict=True))

    def masks(self, t: int) -> dict[int, torch.Tensor]:
        """The logits after prompts by hand."""
        of_id = dict(zip(self.tracker.ids, self._state.masks, strict=True))
        return {number: of_id[track] for number, track in self._id_of.items()}

    def features(self) -> FrameFeatures:
        """The features of the frame tracked last."""
        assert self.tracker._last is not None
        return self.tracker._features_of(self.tracker._last)

    def add(self, act: Act) -> None:
        self._id_of[act.number] = self.tracker.add(act.number, box=act.box, points=act.points, mask=act.mask)

    def refine(self, act: Act) -> None:
        self.tracker.refine(self._id_of[act.number], *act.points)

    def remove(self, act: Act) -> None:
        self.tracker.remove(self._id_of.pop(act.number))

    def take_memories(self, t: int, theirs: Upstream) -> None:
        """Replace our memories of the frame tracked last with upstream's."""
        for number, track in self._id_of.items():
            kept = theirs.output(number, t)
            memory = kept["maskmem_features"][0].flatten(1).T
            self._state.bank.replace(self.tracker.ids.index(track), t, memory, kept["obj_ptr"][0])

    def conditioned_on(self, number: int, t: int) -> bool:
        """Whether ``t`` is a conditioning frame of the object."""
        return self._state.bank.is_conditioned_on(self.tracker.ids.index(self._id_of[number]), t)


@dataclass
class Agreement:
    """The differences of the two sides: an entry for each object and frame, and one more for each frame with prompts.

    ``size``: (height, width) of the frames.
    """

    size: tuple[int, int]
    differences: list[float] = field(default_factory=list)  # the largest of the logits
    spreads: list[float] = field(default_factory=list)  # standard deviations of upstream's logits
    flips: list[int] = field(default_factory=list)  # logits above 0 on one side only
    ious: list[float] = field(default_factory=list)  # of the masks at the frame's size; 1 where both are empty
    shares: list[float] = field(default_factory=list)  # of the picture that upstream's mask takes
    alike: list[float] = field(default_factory=list)  # IoU of upstream's masks of different objects
    frames: dict[int, int] = field(default_factory=dict)  # how many each object was compared on
    encoder: float = 0.0  # largest difference of the first frame's features, in standard deviations

    def note(self, ours: dict[int, torch.Tensor], theirs: dict[int, torch.Tensor]) -> None:
        assert ours.keys() == theirs.keys()
        masks = {number: self._publish(logits) for number, logits in theirs.items()}
        for number, logits in ours.items():
            assert logits.isfinite().all()
            self.differences.append(float((logits - theirs[number]).abs().max()))
            self.spreads.append(float(theirs[number].std()))
            self.flips.append(int(((logits > 0) != (theirs[number] > 0)).sum()))
            self.ious.append(_iou(self._publish(logits), masks[number]))
            self.shares.append(float(masks[number].float().mean()))
            self.frames[number] = self.frames.get(number, 0) + 1
        self.alike += [_iou(first, second) for first, second in combinations(masks.values(), 2)]

    def _publish(self, logits: torch.Tensor) -> torch.Tensor:
        return F.interpolate(logits[None, None], self.size, mode="bilinear")[0, 0] > 0

    @property
    def largest(self) -> float:
        return max(self.differences)

    @property
    def relative(self) -> float:
        """The largest difference, in standard deviations of the logits."""
        return max(difference / spread for difference, spread in zip(self.differences, self.spreads, strict=True))


def _iou(first: torch.Tensor, second: torch.Tensor) -> float:
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0


def compare(theirs: Upstream, ours: Ours, script: list[Act], frames: int, forced: bool = False) -> Agreement:
    """Play a script on both sides.

    ``forced`` compares each frame by itself: our memories are replaced with upstream's after it. To save time, upstream
    then uses our features, of which the first frame's are compared with its own.
    """
    agreement = Agreement(ours.size)
    for t in range(frames):
        before = [act for act in script if act.frame == t and act.verb == "detect"]
        after = [act for act in script if act.frame == t and act.verb != "detect"]
        mine = ours.track(t, before)
        if forced:
            if t == 0:
                agreement.encoder = theirs.encoder_difference(t, ours.features())
            theirs.lend(t, ours.features())
        agreement.note(mine, theirs.track(t, before))
        for act in after:
            for side in (ours, theirs):
                getattr(side, act.verb)(act)
        if after:
            agreement.note(ours.masks(t), theirs.masks(t))
        if forced:
            ours.take_memories(t, theirs)
    return agreement
