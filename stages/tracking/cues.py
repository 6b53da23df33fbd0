"""Motion and appearance of each track: position, speed, usual area, colour, and several views of its looks.

Motion prediction follows "SAMURAI: Adapting Segment Anything Model for Zero-Shot Visual Tracking with Motion-Aware
Memory" (Yang et al. 2024, https://arxiv.org/abs/2411.11922), with an alpha-beta filter in place of its Kalman filter.
Within a frame appearance is a colour, which can be compared for each pixel; who is who is decided on keyframes, by the
looks (stages.tracking.identity).

All tensors stay on the device of the masks. Positions are in pixels of the masks, colours in the model's normalised
RGB. A "width" is the square root of a track's usual area.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from stages.graphs import Step, Tensors
from stages.tracking.identity.views import Views

SPEED_GAIN = 0.3  # share of the error of the predicted centre that is added to the speed
WHOLE_SHARE = 0.6  # a mask with at least this share of the usual area shows the whole object, so its centre is used
MAX_OFFSET = 0.6  # widths; the centre of an object is at most this far from the centre of its visible part
AREA_RATE = 0.1  # how fast the usual area follows the area of a whole mask
PARTIAL_AREA_RATE = 0.01  # the same for a partial mask, in case the object has become smaller
COLOUR_WEIGHT = 3.0  # widths of position error that count as much as a colour distance of 1


class Cues:
    """Motion state, colour and views of every track, in the rows of the memory bank."""

    def __init__(self, side: int, looks: int, device: torch.device) -> None:
        """``side``: of the masks, in pixels; ``looks``: how many numbers the looks have."""
        self.moments = _moments(side, device)
        self.motion = torch.zeros(0, 6, device=device)  # x, y, speed x, speed y, usual area, 1 if the speed is known
        self.colours = torch.zeros(0, 3, device=device)
        self.views = Views.empty(0, looks, device)

    def predict(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The predicted centres (N, 2) on the next frame, and the usual areas (N,)."""
        return predicted(self.motion)

    def centres_and_areas(self, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, side, side) -> centres (N, 2), areas (N,)."""
        return centres_and_areas(self.moments, masks)

    def update(self, masks: torch.Tensor, run: Callable[[Step, Tensors, Tensors], Tensors]) -> None:
        """Update the motion with the next frame's masks (N, side, side); ``run`` runs a step (`Segmenter.run`)."""
        (self.motion,) = run(next_motion, (self.moments,), (masks, self.motion))

    def append(self, masks: torch.Tensor, colours: torch.Tensor, views: Views) -> None:
        """Add a row at rest for each of the masks (B, side, side), with colours (B, 3) and views."""
        self.motion = torch.cat([self.motion, self._at_rest(masks)])
        self.colours = torch.cat([self.colours, colours])
        self.views = self.views.and_also(views)

    def adopt(self, other: "Cues", row: int) -> None:
        """Add a row of ``other`` as the next row."""
        self.motion = torch.cat([self.motion, other.motion[row : row + 1]])
        self.colours = torch.cat([self.colours, other.colours[row : row + 1]])
        self.views = self.views.and_also(other.views.take([row]))

    def correct(self, row: int, mask: torch.Tensor, relocated: bool) -> None:
        """Set a row's position and usual area from a detection's mask (side, side); ``relocated`` resets its speed."""
        motion = self._at_rest(mask[None])[0]
        if not relocated:
            motion[2:4], motion[5] = self.motion[row, 2:4], self.motion[row, 5]
        self.motion[row] = motion

    def blend_colour(self, row: int, colour: torch.Tensor, rate: float) -> None:
        """Move a row's colour by ``rate``, in [0, 1], towards ``colour`` (3,)."""
        self.colours[row] += rate * (colour - self.colours[row])

    def reorder(self, rows: list[int]) -> None:
        """Keep these rows, in this order."""
        self.motion, self.colours, self.views = self.motion[rows], self.colours[rows], self.views.take(rows)

    def rescale(self, side: int, ratio: float) -> None:
        """Convert to masks of another ``side``; ``ratio`` is the new side over the old one."""
        self.moments = _moments(side, self.moments.device)
        self.motion = self.motion * self.motion.new_tensor([ratio] * 4 + [ratio**2, 1.0])

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Motion, colours and views, on the host."""
        return {"motion": self.motion.cpu(), "colours": self.colours.cpu(), **self.views.state_dict()}

    def load_state_dict(self, state: dict[str, torch.Tensor], origins: Sequence[int]) -> None:
        """Replace all rows by those of a `state_dict` at ``origins``, in this order."""
        rows = list(origins)
        self.motion, self.colours = state["motion"][rows].to(self.motion), state["colours"][rows].to(self.colours)
        self.views = self.views.like(state, rows)

    def _at_rest(self, masks: torch.Tensor) -> torch.Tensor:
        """Motion rows (B, 6) for masks (B, side, side), with an unknown speed of 0."""
        centres, areas = self.centres_and_areas(masks)
        zeros = torch.zeros_like(centres)
        return torch.cat([centres, zeros, areas[:, None], zeros[:, :1]], dim=1)


def predicted(motion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Motion (N, 6) -> the predicted centres (N, 2) on the next frame, and the usual areas (N,)."""
    return motion[:, :2] + motion[:, 2:4], motion[:, 4].clamp(min=1)


def centres_and_areas(moments: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, side, side) -> centres (N, 2), areas (N,)."""
    sums = (masks > 0).flatten(1).float() @ moments
    return sums[:, :2] / sums[:, 2:].clamp(min=1), sums[:, 2]


def next_motion(shared: Tensors, rows: Tensors) -> Tensors:
    """A step: the motion (N, 6) after a frame with ``masks`` (N, side, side).

    A track with an empty or partial mask keeps its speed. It moves to the predicted centre, near its visible part.
    """
    (moments,), (masks, motion) = shared, rows
    centres, areas = centres_and_areas(moments, masks)
    expected, usual_areas = predicted(motion)
    speed, known = motion[:, 2:4], motion[:, 5:]
    visible, whole = (areas > 0)[:, None], (areas >= WHOLE_SHARE * usual_areas)[:, None]
    new_speed = speed + torch.where(known > 0, SPEED_GAIN, 1.0) * (centres - expected)
    # of a partial mask: the predicted centre, moved to within MAX_OFFSET of the visible part
    limit = (MAX_OFFSET * usual_areas.sqrt())[:, None]
    offset = expected - centres
    offset = offset * (limit / offset.norm(dim=1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
    partial = torch.where(visible, centres + offset, expected)
    rate = torch.where(whole, AREA_RATE, PARTIAL_AREA_RATE)[:, 0]
    parts = [
        torch.where(whole, centres, partial),
        torch.where(whole, new_speed, speed),
        torch.where(areas > 0, usual_areas + rate * (areas - usual_areas), usual_areas)[:, None],
        torch.where(whole, 1.0, known),
    ]
    return (torch.cat(parts, dim=1),)


def mismatch(
    moments: torch.Tensor, motion: torch.Tensor, colours: torch.Tensor, picture: torch.Tensor, masks: torch.Tensor
) -> torch.Tensor:
    """Cost (N,) of each track's mask (N, side, side): centre error in widths plus weighted colour distance."""
    expected, usual_areas = predicted(motion)
    centres, _ = centres_and_areas(moments, masks)
    offset = (expected - centres).norm(dim=1) / usual_areas.sqrt()
    cost: torch.Tensor = offset + COLOUR_WEIGHT * (colours - median_colours(picture, masks)).norm(dim=1)
    return cost


def pixel_mismatch(
    moments: torch.Tensor, motion: torch.Tensor, colours: torch.Tensor, picture: torch.Tensor
) -> torch.Tensor:
    """The same cost of every pixel for every track, (N, side * side)."""
    expected, usual_areas = predicted(motion)
    offset = torch.cdist(expected, moments[:, :2]) / usual_areas.sqrt()[:, None]
    return offset + COLOUR_WEIGHT * torch.cdist(colours, picture.flatten(1).T)


def _moments(side: int, device: torch.device) -> torch.Tensor:
    """x, y and 1 of every pixel, (side * side, 3): a product with a mask sums up its moments."""
    at = torch.arange(side, device=device, dtype=torch.float32) + 0.5
    return torch.stack([at.repeat(side), at.repeat_interleave(side), torch.ones(side**2, device=device)], 1)


def median_colours(picture: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The median colour (N, 3) of each mask without its outermost pixels; logits (N, h, w), picture (3, h, w).

    A mask that has only outermost pixels is used whole; an empty one has the colour 0.
    """
    if not len(masks):
        return masks.new_zeros(0, 3)
    inside = inner(masks).flatten(1)[:, None]
    medians = torch.where(inside, picture.flatten(1), torch.nan).nanmedian(2).values
    return medians.nan_to_num()


def inner(masks: torch.Tensor) -> torch.Tensor:
    """Masks (N, h, w), logits, without their outermost pixels, bool; whole where there are no others."""
    whole = (masks > 0).float()[:, None]
    eroded = -F.max_pool2d(-whole, 3, stride=1, padding=1)
    return torch.where(eroded.flatten(1).any(1)[:, None, None, None], eroded, whole)[:, 0] > 0
