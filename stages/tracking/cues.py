"""What sets a track apart from its rivals: where it is going, how large it is, and what colour it has.

Going straight on is the motion-aware part of "SAMURAI: Adapting Segment Anything Model for Zero-Shot Visual Tracking
with Motion-Aware Memory" (Yang et al. 2024, https://arxiv.org/abs/2411.11922), with an alpha-beta filter in place of
its Kalman filter. Colours are there because object pointers say what an object is, not which: of two look-alikes of
the test source a pointer names the right one as often as a coin, the median colour in 97 of 100 cases.

Everything stays on the masks' device. Places are in pixels of the decoder, colours in the model's normalised RGB.
"""

import torch
import torch.nn.functional as F

GAIN = 0.3  # how much of a surprise goes into the speed
WHOLE = 0.6  # share of its usual size from which a mask is all of its object, so that its centre can be believed
ASTRAY = 0.6  # widths between the centre of an object and that of the part that shows, at most
RESIZE = 0.1  # how fast the usual size follows that of a whole mask
SHRINK = 0.01  # how fast it follows that of a part, which may be all there is
UNCOLOURED = 3.0  # widths astray that are as strange as a unit of difference in colour
UNLIKE = 0.2  # distance of two colours that makes them 1 / e alike


class Cues:
    """Rows as in the memory bank: centre, speed, whether the speed is known, usual area, colour."""

    def __init__(self, side: int, device: torch.device) -> None:
        self._moments = _moments(side, device)
        self._motion = torch.zeros(0, 6, device=device)  # x, y, their speeds, usual area, 1 once the speed is known
        self.colours = torch.zeros(0, 3, device=device)

    def expected(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The centres (N, 2) to be expected on the next frame, and the usual areas (N,)."""
        return self._motion[:, :2] + self._motion[:, 2:4], self._motion[:, 4].clamp(min=1)

    def strangeness(self, picture: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """How little its mask (N, side, side) befits each row, (N,): widths astray and colours apart."""
        expected, usual = self.expected()
        centres, _ = self.measure(masks)
        astray = (expected - centres).norm(dim=1) / usual.sqrt()
        strange: torch.Tensor = astray + UNCOLOURED * (self.colours - colours(picture, masks)).norm(dim=1)
        return strange

    def claim(self, picture: torch.Tensor) -> torch.Tensor:
        """The same for each pixel, (N, side * side)."""
        expected, usual = self.expected()
        astray = torch.cdist(expected, self._moments[:, :2]) / usual.sqrt()[:, None]
        return astray + UNCOLOURED * torch.cdist(self.colours, picture.flatten(1).T)

    def measure(self, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, side, side) -> centres (N, 2), areas (N,)."""
        sums = (masks > 0).flatten(1).float() @ self._moments
        return sums[:, :2] / sums[:, 2:].clamp(min=1), sums[:, 2]

    def follow(self, masks: torch.Tensor) -> None:
        """Take in the next frame's masks (N, side, side); tracks that show none or only a part go straight on."""
        centres, areas = self.measure(masks)
        expected, usual = self.expected()
        speed, known = self._motion[:, 2:4], self._motion[:, 5:]
        shown, whole = (areas > 0)[:, None], (areas >= WHOLE * usual)[:, None]
        faster = speed + torch.where(known > 0, GAIN, 1.0) * (centres - expected)
        # what shows of an object is never far from its centre
        most = (ASTRAY * usual.sqrt())[:, None]
        away = expected - centres
        away = away * (most / away.norm(dim=1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
        hidden = torch.where(shown, centres + away, expected)
        pace = torch.where(whole, RESIZE, SHRINK)[:, 0]
        self._motion = torch.cat(
            [
                torch.where(whole, centres, hidden),
                torch.where(whole, faster, speed),
                torch.where(areas > 0, usual + pace * (areas - usual), usual)[:, None],
                torch.where(whole, 1.0, known),
            ],
            dim=1,
        )

    def start(self, masks: torch.Tensor, colours: torch.Tensor) -> None:
        """Add rows that are where their masks (B, side, side) are."""
        self._motion = torch.cat([self._motion, self._at_rest(masks)])
        self.colours = torch.cat([self.colours, colours])

    def correct(self, row: int, mask: torch.Tensor, elsewhere: bool) -> None:
        """A row's object has been detected at ``mask`` (side, side); where that is ``elsewhere``, its speed is lost."""
        now = self._at_rest(mask[None])[0]
        if not elsewhere:
            now[2:4], now[5] = self._motion[row, 2:4], self._motion[row, 5]
        self._motion[row] = now

    def repaint(self, row: int, colour: torch.Tensor, pace: float) -> None:
        """A row's object has been detected, in this colour (3,)."""
        self.colours[row] += pace * (colour - self.colours[row])

    def reorder(self, rows: list[int]) -> None:
        self._motion, self.colours = self._motion[rows], self.colours[rows]

    def rescale(self, side: int, ratio: float) -> None:
        """Go on with masks of another ``side``, which is ``ratio`` times the one so far."""
        self._moments = _moments(side, self._moments.device)
        self._motion = self._motion * self._motion.new_tensor([ratio] * 4 + [ratio**2, 1.0])

    def _at_rest(self, masks: torch.Tensor) -> torch.Tensor:
        centres, areas = self.measure(masks)
        still = torch.zeros_like(centres)
        return torch.cat([centres, still, areas[:, None], still[:, :1]], dim=1)


def _moments(side: int, device: torch.device) -> torch.Tensor:
    """(side * side, 3): the moments of a mask are one product with it."""
    at = torch.arange(side, device=device, dtype=torch.float32) + 0.5
    return torch.stack([at.repeat(side), at.repeat_interleave(side), torch.ones(side**2, device=device)], 1)


def colours(picture: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The median colour (N, 3) well inside the masks, logits (N, h, w); picture (3, h, w)."""
    if not len(masks):
        return masks.new_zeros(0, 3)
    shown = (masks > 0).float()[:, None]
    inner = -F.max_pool2d(-shown, 3, stride=1, padding=1)
    inner = torch.where(inner.flatten(1).any(1)[:, None, None, None], inner, shown).flatten(2) > 0
    medians = torch.where(inner, picture.flatten(1), torch.nan).nanmedian(2).values
    return medians.nan_to_num()


def likeness(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """How alike colours (A, 3) and (B, 3) are: (A, B) in (0, 1]."""
    return torch.exp(-torch.cdist(first, second) / UNLIKE)
