"""Training clips of the test source for the segmenter: images, masks and prompts."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from stages.testsrc.truth import World
from stages.types import Image
from trainer.embedded.worlds import MEAN, STD, draw_world

MIN_AREA = 80  # visible pixels at a height of 256 that an object needs to be prompted
Prompt = tuple[dict[str, torch.Tensor] | None, torch.Tensor | None]  # sam2's point inputs, or masks (B, 1, S, S)


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of the curriculum."""

    until: float  # its end, as a fraction of all steps
    size: int  # side of the input in pixels
    frames: int  # per clip
    clips: int  # per step
    teacher_forcing: tuple[float, float]  # share of memories built from the true mask, at start and end


class Batch(NamedTuple):
    """Clips of T frames with B objects in all; each object belongs to one clip."""

    images: torch.Tensor  # (T, clips, 3, S, S) normalised
    masks: torch.Tensor  # (T, B, S, S) bool
    clip: torch.Tensor  # (B,) clip index of each object
    times: list[int]  # (T,) frame numbers for the memory

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        images, masks, clip = (each.to(device) for each in (self.images, self.masks, self.clip))
        return Batch(images, masks, clip, self.times)


def draw_clip(
    rng: np.random.Generator, phase: Phase, gap: int, max_objects: int = 4
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Images (T, 3, S, S) and masks (T, N, S, S) of objects visible on the first frame; None if there are none.

    ``gap``: frames between the first frame and the others, in addition to the stride.
    """
    world = draw_world(rng, int(rng.integers(2, 7)))
    stride, begin = int(rng.choice([1, 1, 2, 3])), int(rng.integers(0, 400))
    times = [begin + (min(gap, 6) + stride * t if t else 0) for t in range(phase.frames)]
    if phase.frames > 3 and rng.random() < 0.6:
        times = disappearance_times(rng, world, begin, phase.frames) or times
    frames = [world.render(t) for t in times]
    masks = np.stack([truth.masks for _, truth in frames])
    areas = masks.sum((2, 3))
    visible = np.flatnonzero(areas[0] >= MIN_AREA)
    if not len(visible):
        return None
    chosen = rng.permutation(visible)
    # objects that are absent on a frame first
    chosen = chosen[np.argsort((areas[:, chosen] > 0).all(0), kind="stable")][:max_objects]
    images, small = prepare([image for image, _ in frames], masks[:, chosen], phase.size)
    return (images, small) if small[0].flatten(1).any(1).all() else None


def disappearance_times(rng: np.random.Generator, world: World, begin: int, frames: int) -> list[int] | None:
    """Frame indices around a time when an object leaves the image or is occluded; None if there is none soon."""
    interval = 12
    sampled = begin + interval * np.arange(30)
    areas = np.stack([world.truth(int(t)).masks.sum((1, 2)) for t in sampled])
    disappearances = np.flatnonzero(((areas[:-1] >= MIN_AREA) & (areas[1:] == 0)).any(1))
    if not len(disappearances):
        return None
    start, stride = int(sampled[rng.choice(disappearances)]), 6 // (frames - 3)
    return [start] + [start + interval + stride * (t - frames + 2) for t in range(1, frames)]


def prepare(images: list[Image], masks: NDArray[np.bool_], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Resize T images and (T, N, H, W) masks to the model's input size, and normalise the images."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    stacked = F.interpolate(stacked, (size, size), mode="bilinear", antialias=True)
    small = F.interpolate(torch.from_numpy(masks).float(), (size, size), mode="bilinear", antialias=True) > 0.5
    return (stacked - MEAN) / STD, small


def draw_batch(rng: np.random.Generator, phase: Phase) -> Batch:
    """Random clips of one step."""
    images: list[torch.Tensor] = []
    masks: list[torch.Tensor] = []
    clips: list[int] = []
    gap = int(rng.integers(1, 25)) if phase.frames > 2 and rng.random() < 0.25 else 0
    while len(images) < phase.clips:
        clip = draw_clip(rng, phase, gap)
        if clip is None:
            continue
        clips += [len(images)] * clip[1].shape[1]
        images.append(clip[0])
        masks.append(clip[1])
    times = [0] + [gap + t for t in range(1, phase.frames)]
    return Batch(torch.stack(images, 1), torch.cat(masks, 1), torch.tensor(clips), times)


def boxes_of(masks: NDArray[np.bool_]) -> torch.Tensor:
    """(B, S, S) -> (B, 4) xyxy, half-open; the box of the whole image for an empty mask."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        box[:] = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(columns) else (0, 0, *mask.shape[::-1])
    return torch.from_numpy(boxes)


def box_prompt(masks: torch.Tensor, jitter: float = 0.0) -> Prompt:
    """Box prompts with the error of a detector: Gaussian, with standard deviation ``jitter`` times the box's size."""
    boxes = boxes_of(masks.numpy())
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    boxes = (boxes + torch.randn(len(boxes), 4) * jitter * sides).clamp(0, masks.shape[-1])
    labels = torch.tensor([[2, 3]], dtype=torch.int32).expand(len(boxes), 2)
    return {"point_coords": boxes.view(-1, 2, 2), "point_labels": labels}, None


def point_prompt(rng: np.random.Generator, masks: torch.Tensor) -> Prompt:
    """Point prompts: one random point inside each mask."""
    points = np.zeros((len(masks), 1, 2), np.float32)
    for point, mask in zip(points, masks.numpy(), strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            pick = rng.integers(len(rows))
            point[0] = columns[pick] + 0.5, rows[pick] + 0.5
    return {
        "point_coords": torch.from_numpy(points),
        "point_labels": torch.ones(len(masks), 1, dtype=torch.int32),
    }, None


def on_device(prompt: Prompt, device: torch.device) -> Prompt:
    """The same prompt on a device."""
    points, mask = prompt
    moved = None if points is None else {name: value.to(device) for name, value in points.items()}
    return moved, None if mask is None else mask.to(device)


def draw_prompt(rng: np.random.Generator, masks: torch.Tensor) -> Prompt:
    """Boxes with probability 0.75, masks 0.15, points 0.1."""
    kind = rng.random()
    if kind < 0.15:
        return None, masks[:, None].float()
    return box_prompt(masks, jitter=0.04) if kind < 0.90 else point_prompt(rng, masks)
