"""Where each track's mask should be on the next frame: straight on, as fast as it has been going.

The motion-aware part of "SAMURAI: Adapting Segment Anything Model for Zero-Shot Visual Tracking with Motion-Aware
Memory" (Yang et al. 2024, https://arxiv.org/abs/2411.11922), with an alpha-beta filter in place of its Kalman filter.
All of it stays on the masks' device; positions are in pixels of the decoder.
"""

import torch

GAIN = 0.3  # how much of a surprise goes into the speed
WHOLE = 0.6  # share of its usual size from which a mask is all of its object, so that its centre can be believed
RESIZE = 0.1  # how fast the usual size follows that of the mask


class Motion:
    """Rows as in the memory bank; a row's state is its centre, its speed, its usual size, and whether it has a speed."""

    def __init__(self, side: int, device: torch.device) -> None:
        at = torch.arange(side, device=device, dtype=torch.float32) + 0.5
        # (side * side, 3): the moments of a mask are one product with it
        self._moments = torch.stack(
            [at.repeat(side), at.repeat_interleave(side), torch.ones(side**2, device=device)], 1
        )
        self._state = torch.zeros(0, 6, device=device)  # x, y, their speeds, area, 1 once the speed is known

    def places(self) -> torch.Tensor:
        """The centres of a mask's pixels, (side * side, 2)."""
        return self._moments[:, :2]

    def expected(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The centres (N, 2) to be expected on the next frame, and the usual areas (N,)."""
        return self._state[:, :2] + self._state[:, 2:4], self._state[:, 4].clamp(min=1)

    def measure(self, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, side, side) -> centres (N, 2), areas (N,)."""
        sums = (masks > 0).flatten(1).float() @ self._moments
        return sums[:, :2] / sums[:, 2:].clamp(min=1), sums[:, 2]

    def follow(self, masks: torch.Tensor) -> None:
        """Take in the next frame's masks (N, side, side); tracks that show none or only a part go straight on."""
        centres, areas = self.measure(masks)
        expected, usual = self.expected()
        speed, known = self._state[:, 2:4], self._state[:, 5:]
        believed = (areas >= WHOLE * usual)[:, None]
        surprise = centres - expected
        faster = speed + torch.where(known > 0, GAIN, 1.0) * surprise
        self._state = torch.cat(
            [
                torch.where(believed, centres, expected),
                torch.where(believed, faster, speed),
                torch.where(areas > 0, usual + RESIZE * (areas - usual), usual)[:, None],
                torch.where(believed, 1.0, known),
            ],
            dim=1,
        )

    def start(self, masks: torch.Tensor) -> None:
        """Add rows that are where their masks (B, side, side) are."""
        centres, areas = self.measure(masks)
        still = torch.zeros_like(centres)
        self._state = torch.cat([self._state, torch.cat([centres, still, areas[:, None], still[:, :1]], 1)])

    def restart(self, row: int, mask: torch.Tensor) -> None:
        """A row's object has been found elsewhere, at ``mask`` (side, side)."""
        centre, area = self.measure(mask[None])
        self._state[row] = torch.cat([centre[0], torch.zeros_like(centre[0]), area, torch.zeros_like(area)])

    def reorder(self, rows: list[int]) -> None:
        self._state = self._state[rows]
