"""The detector's losses: Hungarian on every decoder layer, dense on the proposals."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torchvision.ops import box_convert, generalized_box_iou_loss
from transformers import GroundingDinoForObjectDetection
from transformers.loss.loss_grounding_dino import GroundingDinoHungarianMatcher

from trainer.embedded.captions import Sample, pixels

MATCHER = GroundingDinoHungarianMatcher(class_cost=2.0, bbox_cost=5.0, giou_cost=2.0)


def focal_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Lin et al. 2017, alpha 0.25, gamma 2, summed."""
    chance = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = chance * target + (1 - chance) * (1 - target)
    return ((0.25 * target + 0.75 * (1 - target)) * entropy * (1 - right) ** 2).sum()


def box_loss(boxes: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """5 L1 + 2 GIoU of (N, 4) cxcywh boxes, summed with ``weight`` (N,)."""
    if not len(boxes):
        return boxes.sum() * 0
    weight = torch.ones(len(boxes)) if weight is None else weight
    overlap = generalized_box_iou_loss(box_convert(boxes, "cxcywh", "xyxy"), box_convert(target, "cxcywh", "xyxy"))
    total: torch.Tensor = ((5 * (boxes - target).abs().sum(1) + 2 * overlap) * weight).sum()
    return total


def hungarian_loss(
    logits: torch.Tensor, boxes: torch.Tensor, maps: Any, mask: torch.Tensor, targets: list[dict[str, torch.Tensor]]
) -> torch.Tensor:
    """One decoder layer: logits (B, Q, L), boxes (B, Q, 4) cxcywh; unreduced by the number of boxes."""
    matched = MATCHER({"logits": logits, "pred_boxes": boxes, "label_maps": maps}, targets)
    classes, guesses, truths = torch.zeros_like(logits), [], []
    for i, (query, box) in enumerate(matched):
        classes[i, query] = maps[i][targets[i]["class_labels"][box]].float()
        guesses.append(boxes[i, query])
        truths.append(targets[i]["boxes"][box])
    valid = mask[:, None, :].expand_as(logits)
    return 2 * focal_loss(logits[valid], classes[valid]) + box_loss(torch.cat(guesses), torch.cat(truths))


def proposal_loss(
    logits: torch.Tensor,
    coordinates: torch.Tensor,
    maps: Any,
    mask: torch.Tensor,
    targets: list[dict[str, torch.Tensor]],
    sides: list[int],
) -> torch.Tensor:
    """The encoder's proposals, one a cell: a penalty-reduced focal loss on Gaussians (CenterNet, Zhou et al. 2019)."""
    centres, level = [], []
    for i, side in enumerate(sides):
        grid = (torch.arange(side) + 0.5) / side
        rows, columns = torch.meshgrid(grid, grid, indexing="ij")
        centres.append(torch.stack([columns, rows], -1).view(-1, 2))
        level += [i] * (side * side)
    cells, levels = torch.cat(centres), torch.tensor(level)
    heat, slack = torch.zeros_like(logits), torch.ones_like(logits)
    guesses, truths, weights = [], [], []
    for i, target in enumerate(targets):
        for phrase, box in zip(target["class_labels"].tolist(), target["boxes"], strict=True):
            tokens = maps[i][phrase].float()
            own = levels == (0 if float(box[2:].max()) < 0.3 else 1)
            distance = (cells - box[:2]).pow(2)
            near = torch.exp(-0.5 * (distance / (box[2:] * 0.2).pow(2)).sum(-1))
            centre = int(torch.where(own, distance.sum(-1), torch.inf).argmin())
            heat[i, centre] = torch.maximum(heat[i, centre], tokens)
            slack[i] = torch.minimum(slack[i], 1 - near[:, None] * tokens[None])
            picked = torch.unique(torch.cat([(own & (near > 0.6)).nonzero()[:, 0], torch.tensor([centre])]))
            guesses.append(coordinates[i, picked])
            truths.append(box.expand(len(picked), 4))
            weights.append(torch.full((len(picked),), 1 / len(picked)))
    x = logits.masked_fill(~mask[:, None, :], -20.0)
    chance = x.sigmoid()
    classes = heat * (1 - chance) ** 2 * -F.logsigmoid(x) + (1 - heat) * slack**4 * chance**2 * -F.logsigmoid(-x)
    loss = (classes * mask[:, None, :]).sum()
    return loss + box_loss(torch.cat(guesses).sigmoid(), torch.cat(truths), torch.cat(weights)) if guesses else loss


def batch_loss(
    model: GroundingDinoForObjectDetection, samples: list[Sample], ids: torch.Tensor, size: int
) -> torch.Tensor:
    targets = [{"class_labels": s.phrase_of_box, "boxes": s.boxes} for s in samples]
    boxes = max(1, sum(len(s.boxes) for s in samples))
    seen: dict[str, Any] = {}

    def on_layers(
        _logits: Any,
        _labels: Any,
        _device: Any,
        _boxes: Any,
        _config: Any,
        label_maps: Any,
        text_mask: torch.Tensor,
        outputs_class: Any = None,
        outputs_coord: Any = None,
        **_: Any,
    ) -> tuple[torch.Tensor, dict[str, Any], None]:
        mask = text_mask[:, 0]
        seen.update(maps=label_maps, mask=mask)
        layers = [
            hungarian_loss(c, b, label_maps, mask, targets) for c, b in zip(outputs_class, outputs_coord, strict=True)
        ]
        return torch.stack(layers).sum() / boxes, {}, None

    model.loss_function = on_layers
    out = model(pixel_values=pixels(samples, size), input_ids=ids, attention_mask=(ids != 0).long(), labels=targets)
    sides = [math.ceil(size / stride) for stride in (8, 16)]
    proposals = proposal_loss(
        out.enc_outputs_class, out.enc_outputs_coord_logits, seen["maps"], seen["mask"], targets, sides
    )
    loss: torch.Tensor = out.loss + proposals / boxes
    return loss
