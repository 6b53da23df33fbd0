"""Looks for one object around the place where it is expected, when its mask no longer looks like it."""

import torch

from stages.segmentation.base import Segmenter
from stages.segmentation.outputs import FrameFeatures, Heads
from stages.tracking.cues import Cues
from stages.tracking.identity import looks
from stages.tracking.identity.learning import compare
from stages.tracking.identity.trust import Trust

DOUBTFUL = 1.0  # likeness below which a mask is doubted
SHRUNK = 0.6  # share of the usual area below which it is, too
OFFSETS = -1.0, -0.5, 0.0, 0.5, 1.0  # widths from the expected place, in both directions, at which points are set
LEAST_AREA = 20  # pixels of a mask that is compared
AREA_WORTH, PLACE_WORTH = 2.0, 1.0  # likeness that a factor of e in area costs, and one width of distance
BETTER = 0.5  # by how much another mask must be more like the object


def look_again(
    segmenter: Segmenter,
    features: FrameFeatures,
    cues: Cues,
    expected: tuple[torch.Tensor, torch.Tensor],
    parts: tuple[int, ...],
    heads: Heads,
) -> Heads | None:
    """The heads of a mask nearby that is more like the one object of ``cues`` than that of ``heads``; None for none.

    ``expected``: its centre (1, 2) and usual area (1,) on this frame, in pixels of the masks; ``parts`` as from
    `looks.sizes`. Synchronises with the device.
    """
    own = _Compared(segmenter, features, cues, expected, parts, heads)
    if own.likeness[0] >= DOUBTFUL and own.areas[0] >= SHRUNK * expected[1][0]:
        return None
    offsets = torch.tensor([(x, y) for x in OFFSETS for y in OFFSETS], device=heads.masks.device)
    places = expected[0] + offsets * expected[1].sqrt()
    inside = ((places >= 0) & (places < heads.masks.shape[-1])).all(1)
    if not inside.any():
        return None
    points = places[inside][:, None] * (segmenter.image_size / heads.masks.shape[-1])
    found = segmenter.prompt_points(features, points, torch.ones(points.shape[:2], dtype=torch.long))
    other = _Compared(segmenter, features, cues, expected, parts, found)
    best = int(other.score.argmax())
    better = other.likeness[best] > 0 and other.score[best] > own.score[0] + BETTER
    return found.take([best]) if better else None


class _Compared:
    """How B masks compare with the object: likeness of looks, areas, and a score of both and the place; each (B,)."""

    def __init__(
        self,
        segmenter: Segmenter,
        features: FrameFeatures,
        cues: Cues,
        expected: tuple[torch.Tensor, torch.Tensor],
        parts: tuple[int, ...],
        heads: Heads,
    ) -> None:
        described = looks.describe(segmenter, features, heads.masks)
        self.likeness = torch.from_numpy(compare(described, cues.views, parts, Trust()).likeness[:, 0])
        centres, areas = (part.cpu() for part in cues.centres_and_areas(heads.masks))
        place, usual = (part.cpu() for part in expected)
        away = (centres - place).norm(dim=1) / usual.sqrt()
        change = (areas.clamp(min=1) / usual).log().abs()
        score = self.likeness - AREA_WORTH * change - PLACE_WORTH * away
        self.areas, self.score = areas, torch.where(areas >= LEAST_AREA, score, -torch.inf)
