"""Losses of the embedded detector: Hungarian on every decoder layer, dense on the proposals."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torchvision.ops import box_convert, generalized_box_iou_loss
from transformers import GroundingDinoForObjectDetection
from transformers.loss.loss_grounding_dino import GroundingDinoHungarianMatcher

from trainer.embedded.captions import Inputs

MATCHER = GroundingDinoHungarianMatcher(class_cost=2.0, bbox_cost=5.0, giou_cost=2.0)


def focal_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Focal loss (Lin et al. 2017), alpha 0.25, gamma 2, summed."""
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    true_probability = probability * target + (1 - probability) * (1 - target)
    return ((0.25 * target + 0.75 * (1 - target)) * entropy * (1 - true_probability) ** 2).sum()


def box_loss(boxes: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """5 L1 + 2 GIoU loss of (N, 4) cxcywh boxes, summed with ``weight`` (N,)."""
    if not len(boxes):
        return boxes.sum() * 0
    weight = boxes.new_ones(len(boxes)) if weight is None else weight
    giou_loss = generalized_box_iou_loss(box_convert(boxes, "cxcywh", "xyxy"), box_convert(target, "cxcywh", "xyxy"))
    total: torch.Tensor = ((5 * (boxes - target).abs().sum(1) + 2 * giou_loss) * weight).sum()
    return total


def hungarian_loss(
    logits: torch.Tensor, boxes: torch.Tensor, maps: Any, mask: torch.Tensor, targets: list[dict[str, torch.Tensor]]
) -> torch.Tensor:
    """Loss of one decoder layer, not divided by the number of boxes: logits (B, Q, L), boxes (B, Q, 4) cxcywh.

    ``maps``: per image, (phrases, L) bool, the tokens of each phrase. ``mask``: (B, L) bool, the text's tokens.
    """
    matched = MATCHER({"logits": logits, "pred_boxes": boxes, "label_maps": maps}, targets)
    classes, predicted, true = torch.zeros_like(logits), [], []
    for i, (query, box) in enumerate(matched):
        classes[i, query] = maps[i][targets[i]["class_labels"][box]].float()
        predicted.append(boxes[i, query])
        true.append(targets[i]["boxes"][box])
    valid = mask[:, None, :].expand_as(logits)
    return 2 * focal_loss(logits[valid], classes[valid]) + box_loss(torch.cat(predicted), torch.cat(true))


def proposal_loss(
    logits: torch.Tensor,
    coordinates: torch.Tensor,
    maps: Any,
    mask: torch.Tensor,
    targets: list[dict[str, torch.Tensor]],
    sides: list[int],
) -> torch.Tensor:
    """Loss of the encoder's proposals, one per cell of the feature maps, whose widths are ``sides``.

    A penalty-reduced focal loss on Gaussians (CenterNet, Zhou et al. 2019), and a box loss near the centres.
    """
    centres, level = [], []
    for i, side in enumerate(sides):
        grid = (torch.arange(side) + 0.5) / side
        rows, columns = torch.meshgrid(grid, grid, indexing="ij")
        centres.append(torch.stack([columns, rows], -1).view(-1, 2))
        level += [i] * (side * side)
    cells, levels = torch.cat(centres).to(logits), torch.tensor(level, device=logits.device)
    heatmap, negative_weight = torch.zeros_like(logits), torch.ones_like(logits)
    predicted, true, weights = [], [], []
    for i, target in enumerate(targets):
        for phrase, box in zip(target["class_labels"].tolist(), target["boxes"], strict=True):
            tokens = maps[i][phrase].float()
            on_level = levels == (0 if float(box[2:].max()) < 0.3 else 1)
            distance = (cells - box[:2]).pow(2)
            gaussian = torch.exp(-0.5 * (distance / (box[2:] * 0.2).pow(2)).sum(-1))
            centre = int(torch.where(on_level, distance.sum(-1), torch.inf).argmin())
            heatmap[i, centre] = torch.maximum(heatmap[i, centre], tokens)
            negative_weight[i] = torch.minimum(negative_weight[i], 1 - gaussian[:, None] * tokens[None])
            positives = torch.unique(
                torch.cat([(on_level & (gaussian > 0.6)).nonzero()[:, 0], levels.new_tensor([centre])])
            )
            predicted.append(coordinates[i, positives])
            true.append(box.expand(len(positives), 4))
            weights.append(box.new_full((len(positives),), 1 / len(positives)))
    x = logits.masked_fill(~mask[:, None, :], -20.0)
    p = x.sigmoid()
    positive_loss = heatmap * (1 - p) ** 2 * -F.logsigmoid(x)
    negative_loss = (1 - heatmap) * negative_weight**4 * p**2 * -F.logsigmoid(-x)
    loss = ((positive_loss + negative_loss) * mask[:, None, :]).sum()
    return loss + box_loss(torch.cat(predicted).sigmoid(), torch.cat(true), torch.cat(weights)) if predicted else loss


def batch_loss(model: GroundingDinoForObjectDetection, inputs: Inputs) -> torch.Tensor:
    """Sum of all losses of a batch, divided by its number of boxes."""
    targets, size = inputs.targets, inputs.pixels.shape[-1]
    boxes = max(1, sum(len(target["boxes"]) for target in targets))
    captured: dict[str, Any] = {}

    def decoder_loss(
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
        captured.update(maps=label_maps, mask=mask)
        layers = [
            hungarian_loss(c, b, label_maps, mask, targets) for c, b in zip(outputs_class, outputs_coord, strict=True)
        ]
        return torch.stack(layers).sum() / boxes, {}, None

    model.loss_function = decoder_loss
    out = model(pixel_values=inputs.pixels, input_ids=inputs.ids, attention_mask=inputs.mask, labels=targets)
    sides = [math.ceil(size / stride) for stride in (8, 16)]
    proposals = proposal_loss(
        out.enc_outputs_class, out.enc_outputs_coord_logits, captured["maps"], captured["mask"], targets, sides
    )
    loss: torch.Tensor = out.loss + proposals / boxes
    return loss
