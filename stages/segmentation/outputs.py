"""What a segmenter returns for a frame and its objects. ``S`` is the side of its feature map."""

from typing import NamedTuple

import torch

ABSENT = -1024.0  # logit of an object that is not there, in SAM 2 (NO_OBJ_SCORE)


class FrameFeatures(NamedTuple):
    """One frame as the encoder sees it, for one object; three levels, the last one the coarsest."""

    vision: list[torch.Tensor]  # each (h * w, 1, C)
    positions: torch.Tensor  # of the coarsest level, (L, 1, C): no one reads the others'
    sizes: list[tuple[int, int]]
    picture: torch.Tensor  # (3, 4 S, 4 S) what the encoder saw, at the masks' resolution

    def alone(self) -> "FrameFeatures":
        """A contiguous copy, which does not keep the rest of its window's features alive."""
        *vision, positions, picture = (
            part.clone(memory_format=torch.contiguous_format) for part in (*self.vision, self.positions, self.picture)
        )
        return FrameFeatures(vision, positions, self.sizes, picture)


class Heads(NamedTuple):
    """What the mask decoder says of B objects on one frame."""

    masks: torch.Tensor  # (B, 4 S, 4 S) logits
    presence: torch.Tensor  # (B,) logit that the object is visible
    pointers: torch.Tensor  # (B, C) object pointers

    def take(self, rows: slice | list[int]) -> "Heads":
        """Those of some of the objects, in the given order."""
        return Heads(*(part[rows] for part in self))

    def without(self, absent: torch.Tensor) -> "Heads":
        """The same, with the objects that ``absent`` (B,) names said not to be visible."""
        masks = self.masks.masked_fill(absent[:, None, None], ABSENT)
        return Heads(masks, self.presence.masked_fill(absent, ABSENT), self.pointers)

    def finite(self) -> "Heads":
        """The same, with the objects whose numbers are not finite said not to be visible."""
        broken = ~(self.masks.isfinite().flatten(1).all(1) & self.presence.isfinite() & self.pointers.isfinite().all(1))
        heads = self.without(broken)
        return heads._replace(pointers=heads.pointers.masked_fill(broken[:, None], 0.0))


def joined(parts: list[Heads]) -> Heads:
    """The heads of all the objects, in order."""
    return parts[0] if len(parts) == 1 else Heads(*(torch.cat(part) for part in zip(*parts, strict=True)))
