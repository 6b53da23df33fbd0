"""What a segmenter returns for a frame and its objects. ``S`` is the side of its feature map."""

from typing import NamedTuple

import torch

PICTURE_MEAN, PICTURE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, RGB
ABSENT = -1024.0  # logit of an object that is not visible, in SAM 2 (NO_OBJ_SCORE)


class FrameFeatures(NamedTuple):
    """The encoder's features of one frame, with a batch of 1; three levels, the coarsest last."""

    vision: list[torch.Tensor]  # each (h * w, 1, C)
    positions: torch.Tensor  # position encoding of the coarsest level, (L, 1, C); those of the others are not used
    sizes: list[tuple[int, int]]  # (h, w) of each level
    picture: torch.Tensor  # (3, 4 S, 4 S) the input image at the masks' resolution, normalised by PICTURE_MEAN and _STD

    def copy(self) -> "FrameFeatures":
        """A contiguous copy that does not keep the features of the rest of its window in memory."""
        *vision, positions, picture = (
            part.clone(memory_format=torch.contiguous_format) for part in (*self.vision, self.positions, self.picture)
        )
        return FrameFeatures(vision, positions, self.sizes, picture)


class Heads(NamedTuple):
    """The mask decoder's outputs for B objects on one frame."""

    masks: torch.Tensor  # (B, 4 S, 4 S) logits
    presence: torch.Tensor  # (B,) logit that the object is visible
    pointers: torch.Tensor  # (B, C) object pointers

    def take(self, rows: slice | list[int] | torch.Tensor) -> "Heads":
        """The heads of some of the objects, in the given order. On a GPU the host waits for a list to be copied."""
        return Heads(*(part[rows] for part in self))

    def mark_absent(self, absent: torch.Tensor) -> "Heads":
        """The same heads, with the objects in ``absent`` (B,) bool set to not visible."""
        masks = self.masks.masked_fill(absent[:, None, None], ABSENT)
        return Heads(masks, self.presence.masked_fill(absent, ABSENT), self.pointers)

    def finite(self) -> "Heads":
        """The same heads, with the objects that have NaN or infinite values set to not visible."""
        broken = ~(self.masks.isfinite().flatten(1).all(1) & self.presence.isfinite() & self.pointers.isfinite().all(1))
        heads = self.mark_absent(broken)
        return heads._replace(pointers=heads.pointers.masked_fill(broken[:, None], 0.0))


def concatenate(parts: list[Heads]) -> Heads:
    """The heads of all objects, in order."""
    return parts[0] if len(parts) == 1 else Heads(*(torch.cat(part) for part in zip(*parts, strict=True)))
