"""Train the embedded Grounding DINO and its tokenizer from scratch on the test source.

What makes so small a Grounding DINO learn within an hour: vision and text fused from the first step (the library
starts at a layer scale of 1e-4), class logits that start at -4 through a constant channel of the final layer norms, a
Hungarian loss on every decoder layer, and a dense loss on the proposals, which the library's own loss never trains.
"""

import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_convert, box_iou
from transformers import GroundingDinoForObjectDetection
from transformers.models.grounding_dino.modeling_grounding_dino import build_label_maps

from stages.testsrc.world import ShapesWorld
from trainer.embedded.captions import draw_sample, encode_captions, pixels
from trainer.embedded.grounding_dino import build_model, build_processor, calibrate, vocabulary
from trainer.embedded.losses import batch_loss
from trainer.embedded.worlds import draw_world, hard_world

CALIBRATION = 10_000  # first seed of the worlds on which the threshold is chosen; none of training, none of a test
SIZES = ((0.0, 128), (0.55, 192))  # from this share of the steps on, the side of the input


def set_aside_world(number: int) -> ShapesWorld:
    """Every other one is hard."""
    seed = CALIBRATION + number
    return hard_world(seed) if number % 2 else ShapesWorld(seed, objects=1 + number % 6)


@torch.no_grad()
def score_set_aside(
    model: GroundingDinoForObjectDetection, size: int, count: int = 200
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """On worlds set aside for this, every (score, is it a true positive) of the queries, and the boxes missed."""
    model.eval()
    rng = np.random.default_rng(7)
    words = vocabulary()
    rows = []
    for start in range(0, count, 20):
        samples = [draw_sample(rng, set_aside_world(seed)) for seed in range(start, start + 20)]
        ids = encode_captions(np.random.default_rng(1), samples, words)
        out = model(pixel_values=pixels(samples, size), input_ids=ids, attention_mask=(ids != 0).long())
        maps = build_label_maps(out.logits, ids)
        for sample, logits, boxes, phrase_map in zip(samples, out.logits.sigmoid(), out.pred_boxes, maps, strict=True):
            score, phrase = torch.stack([logits[:, tokens.bool()].amax(-1) for tokens in phrase_map], -1).max(-1)
            overlap = box_iou(box_convert(boxes, "cxcywh", "xyxy"), box_convert(sample.boxes, "cxcywh", "xyxy"))
            overlap = overlap * (phrase[:, None] == sample.phrase_of_box[None])
            right, taken = torch.zeros(len(score)), set()
            for query in score.argsort(descending=True).tolist():
                for box in overlap[query].argsort(descending=True).tolist() if overlap.shape[1] else []:
                    if overlap[query, box] >= 0.5 and box not in taken:
                        taken.add(box)
                        right[query] = 1
                        break
            rows.append((score, right))
            rows.append(
                (torch.full((len(sample.boxes) - len(taken),), -1.0), torch.ones(len(sample.boxes) - len(taken)))
            )
    model.train()
    return rows


def best_threshold(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    score, right = (torch.cat(column) for column in zip(*rows, strict=True))
    found = []
    for threshold in np.arange(0.1, 0.8, 0.05):
        kept = score >= threshold
        true = float(right[kept].sum())
        precision, recall = true / max(1, int(kept.sum())), true / float(right.sum())
        found.append((2 * precision * recall / max(precision + recall, 1e-9), precision, recall, float(threshold)))
    return {n: round(v, 3) for n, v in zip(("f1", "precision", "recall", "threshold"), max(found), strict=True)}


def train(
    steps: int, out: Path, seed: int = 0, start: Path | None = None, batch: int = 16, report_every: int = 50
) -> None:
    """Train and write model and processor to the folder ``out`` with ``save_pretrained``.

    ``start`` is a folder of such a model to train further, with a smaller learning rate and full-size pictures only.
    """
    learning_rate = 3e-4 if start else 1e-3
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    words, model = vocabulary(), GroundingDinoForObjectDetection.from_pretrained(start) if start else build_model()
    average = copy.deepcopy(model)
    plain = [p for p in model.parameters() if p.ndim < 2]
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 1e-2}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
    began, losses = time.monotonic(), []
    model.train()
    for step in range(steps):
        progress = step / steps
        size = [s for since, s in SIZES if start or progress >= since][-1]
        for group in optimizer.param_groups:
            cosine = (1 + math.cos(math.pi * max(0, progress - 0.1) / 0.9)) / 2
            group["lr"] = learning_rate * min(1, (step + 1) / 150) * (cosine + 0.01)
        samples = [draw_sample(rng, draw_world(rng, int(rng.integers(1, 7)))) for _ in range(batch)]
        loss = batch_loss(model, samples, encode_captions(rng, samples, words), size)
        optimizer.zero_grad()
        loss.backward()
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)):
            optimizer.step()
        decay = min(0.998, 1 - 1 / (step * 0.1 + 2))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        losses.append(float(loss.detach()))
        if (step + 1) % report_every == 0:
            minutes = (time.monotonic() - began) / 60
            print(
                f"{minutes:6.1f} min  step {step + 1:5d}  {size} px  loss {np.mean(losses[-report_every:]):.3f}",
                flush=True,
            )
        if (step + 1) % (report_every * 6) == 0 or step + 1 == steps:
            print(f"  set aside: {best_threshold(score_set_aside(average, size))}", flush=True)
            save(average, out, SIZES[-1][1])
    calibrate(average, best_threshold(score_set_aside(average, SIZES[-1][1]))["threshold"])
    print(f"calibrated: {best_threshold(score_set_aside(average, SIZES[-1][1], 400))}", flush=True)
    save(average, out, SIZES[-1][1])


def save(model: GroundingDinoForObjectDetection, out: Path, size: int) -> None:
    model.save_pretrained(out)
    build_processor(size).save_pretrained(out)
