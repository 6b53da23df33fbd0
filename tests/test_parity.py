"""The tracker's masks are upstream's: the same weights, prompts and frames give the same logits."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf

from stages.memory import MemoryBank
from stages.sam2_load import EMBEDDED, load_segmenter
from stages.testsrc import ShapesWorld
from stages.tracker import Tracker, TrackerOptions
from stages.types import Clock, Frame, Window

FRAMES, LATER = 24, 5
CLOSE = 5e-3  # of logits around 40: memories are stored in bfloat16, as upstream does, and a last bit may flip
EXACT = TrackerOptions(max_objects=8, gate=False, clamp_pointer_ages=False)


def upstream_predictor():
    config = OmegaConf.load(EMBEDDED / "segmenter.yaml")
    config.model._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    predictor = instantiate(config.model, _recursive_=True).eval()
    predictor.load_state_dict(torch.load(EMBEDDED / "segmenter.pt", weights_only=True)["model"])
    return predictor


def upstream_masks(frames, boxes, folder: Path):
    """Per frame, {object: (h, w) logits} of upstream's predictor; boxes is {object: (frame, box)}."""
    predictor = upstream_predictor()
    for t, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{t:05d}.jpg"), frame[..., ::-1])
    state = predictor.init_state(str(folder))
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    side = (predictor.image_size, predictor.image_size)
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    state["images"] = (F.interpolate(pixels, side, mode="bilinear", antialias=True) - mean) / std  # not JPEG's
    state["cached_features"].clear()  # init_state has encoded the JPEG of frame 0
    moments = sorted({frame for frame, _ in boxes.values()})
    for moment, until in zip(moments, [*moments[1:], len(frames) - 1], strict=True):
        for number, (frame, box) in boxes.items():
            if frame == moment:
                predictor.add_new_points_or_box(state, moment, number, box=box)
        for _ in predictor.propagate_in_video(state, moment, until - moment):
            pass
    masks = []
    for t in range(len(frames)):
        outputs = {number: state["output_dict_per_obj"][state["obj_id_to_idx"][number]] for number in boxes}
        found = {n: o["cond_frame_outputs"].get(t) or o["non_cond_frame_outputs"].get(t) for n, o in outputs.items()}
        masks.append({n: o["pred_masks"][0, 0] for n, o in found.items() if o is not None and t >= boxes[n][0]})
    return masks


def our_masks(frames, boxes):
    """The same of the tracker, one frame a window; prompted frames themselves are not compared."""
    tracker = Tracker(load_segmenter("embedded", torch.device("cpu"), torch.float32), EXACT)
    number_of, masks = {}, []
    for t, image in enumerate(frames):
        frame = Frame(t, t, Fraction(1, 30), t / 30, Clock.FILE, image)
        result = tracker.step(Window(0, (frame,), False), None)[0]
        masks.append({number_of[track.id]: mask for track, mask in zip(result.tracks, result.masks, strict=True)})
        for number, (moment, box) in boxes.items():
            if moment == t:
                number_of[tracker.add(box=box)] = number
    return masks


def largest_difference(ours, theirs) -> float:
    """Of all logits of all objects on all propagated frames; both must have propagated the same objects."""
    differences = []
    for mine, other in zip(ours, theirs, strict=True):
        assert set(mine) <= set(other)
        differences += [float((mine[n] - other[n]).abs().max()) for n in mine]
        assert all(((mine[n] > 0) == (other[n] > 0)).all() for n in mine)
    assert len(differences) >= 3 * (FRAMES - 1)
    return max(differences)


def scene(seed: int):
    world = ShapesWorld(seed, objects=4)
    rendered = [world.render(t) for t in range(FRAMES)]
    boxes = {}
    for n in range(4):
        moment = 0 if n < 3 else LATER
        box = rendered[moment][1].boxes[n]
        boxes[n + 1] = (moment, box if box.any() else np.array([10, 10, 60, 60], np.float32))
    return [image for image, _ in rendered], boxes


@pytest.mark.parametrize("seed", [0, 1])
def test_free_running_logits_equal_upstreams(seed, tmp_path):
    """Three objects from the start and one from frame 5 on: the same logits and masks, over 24 frames."""
    frames, boxes = scene(seed)
    assert largest_difference(our_masks(frames, boxes), upstream_masks(frames, boxes, tmp_path)) < CLOSE


def test_the_comparison_notices_a_missing_key_mask(monkeypatch, tmp_path):
    """Negative control: letting the younger object attend to slots that it never wrote is seen at once."""
    frames, boxes = scene(0)
    theirs = upstream_masks(frames, boxes, tmp_path)
    recall = MemoryBank.recall

    def careless(self, frame):
        read = recall(self, frame)
        return type(read)(read.tokens, read.positions, read.pointer_tokens, None)

    monkeypatch.setattr(MemoryBank, "recall", careless)
    with pytest.raises(AssertionError):
        assert largest_difference(our_masks(frames, boxes), theirs) < CLOSE
