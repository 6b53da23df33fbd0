"""Train the embedded Grounding DINO and its tokenizer from scratch on the test source.

Four changes let this small Grounding DINO learn within an hour: vision-text fusion from the first step (the library
starts with a layer scale of 1e-4), class logits that start at -4 through a constant channel of the final layer norms, a
Hungarian loss on every decoder layer, and a dense loss on the proposals, which the library's loss does not train.
"""

import math
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_convert, box_iou
from transformers import GroundingDinoForObjectDetection
from transformers.models.grounding_dino.modeling_grounding_dino import build_label_maps

from stages.testsrc.truth import World
from stages.testsrc.world import ShapesWorld
from trainer.embedded.batches import batches
from trainer.embedded.captions import Inputs, draw_sample, encode, encode_captions
from trainer.embedded.grounding_dino import build_model, build_processor, calibrate, vocabulary
from trainer.embedded.losses import batch_loss
from trainer.embedded.progress import Progress
from trainer.embedded.run import Run
from trainer.embedded.worlds import draw_world, hard_world, wild_world

CALIBRATION = 10_000  # first seed of the worlds for choosing the threshold; not used for training or tests
SIZES = ((0.0, 128), (0.55, 256))  # from this fraction of the steps on: side of the input in pixels


def calibration_world(number: int) -> World:
    """A world for choosing the threshold; one in four is hard, every second one is wild."""
    seed = CALIBRATION + number
    if number % 2:
        return wild_world(seed)
    return hard_world(seed) if number % 4 else ShapesWorld(seed, objects=1 + number % 6)


@torch.no_grad()
def score_queries(
    model: GroundingDinoForObjectDetection, size: int, count: int = 200
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(scores, whether true positive) of all queries on calibration worlds; missed boxes are positives of score -1."""
    model.eval()
    rng = np.random.default_rng(7)
    words = vocabulary()
    rows = []
    for start in range(0, count, 20):
        samples = [draw_sample(rng, calibration_world(seed)) for seed in range(start, start + 20)]
        ids = encode_captions(np.random.default_rng(1), samples, words)
        inputs = encode(samples, ids, size).to(model.device)
        out = model(pixel_values=inputs.pixels, input_ids=inputs.ids, attention_mask=inputs.mask)
        maps = build_label_maps(out.logits.cpu(), ids)
        found = out.logits.sigmoid().cpu(), out.pred_boxes.cpu()
        for sample, logits, boxes, phrase_map in zip(samples, *found, maps, strict=True):
            score, phrase = torch.stack([logits[:, tokens.bool()].amax(-1) for tokens in phrase_map], -1).max(-1)
            ious = box_iou(box_convert(boxes, "cxcywh", "xyxy"), box_convert(sample.boxes, "cxcywh", "xyxy"))
            ious = ious * (phrase[:, None] == sample.phrase_of_box[None])
            positive, matched = torch.zeros(len(score)), set()
            for query in score.argsort(descending=True).tolist():
                for box in ious[query].argsort(descending=True).tolist() if ious.shape[1] else []:
                    if ious[query, box] >= 0.5 and box not in matched:
                        matched.add(box)
                        positive[query] = 1
                        break
            rows.append((score, positive))
            missed = len(sample.boxes) - len(matched)
            rows.append((torch.full((missed,), -1.0), torch.ones(missed)))
    model.train()
    return rows


def best_threshold(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    """The threshold with the highest F1, with its f1, precision and recall."""
    score, positive = (torch.cat(column) for column in zip(*rows, strict=True))
    results = []
    for threshold in np.arange(0.1, 0.8, 0.05):
        kept = score >= threshold
        true_positives = float(positive[kept].sum())
        precision, recall = true_positives / max(1, int(kept.sum())), true_positives / float(positive.sum())
        results.append((2 * precision * recall / max(precision + recall, 1e-9), precision, recall, float(threshold)))
    return {n: round(v, 3) for n, v in zip(("f1", "precision", "recall", "threshold"), max(results), strict=True)}


def size_at(progress: float, further: bool) -> int:
    """Side of the input at ``progress``, in [0, 1); the largest where a trained model is trained ``further``."""
    return [size for since, size in SIZES if further or progress >= since][-1]


def draw_step(steps: int, seed: int, count: int, further: bool, step: int) -> Inputs:
    """The ``count`` pictures of a step, with their captions."""
    rng = np.random.default_rng([seed, step])
    samples = [draw_sample(rng, draw_world(rng, int(rng.integers(1, 7)))) for _ in range(count)]
    return encode(samples, encode_captions(rng, samples, vocabulary()), size_at(step / steps, further))


def train(run: Run, batch: int = 16, report_every: int = 50) -> None:
    """Train and write model and processor to the folder ``run.out`` with ``save_pretrained``.

    A model that is trained further gets a smaller learning rate, and the largest input size only.
    """
    steps, out, model = run.steps, run.out, build_model().to(run.device)
    without_decay = [p for p in model.parameters() if p.ndim < 2]
    with_decay = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": without_decay, "weight_decay": 0.0}, {"params": with_decay, "weight_decay": 1e-2}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98))
    training = Progress(model, optimizer, out)
    training.start(run.start, lambda path: GroundingDinoForObjectDetection.from_pretrained(path).state_dict())
    average, learning_rate = training.average, 5e-4 if training.further else 1e-3
    draw = partial(draw_step, steps, run.seed, batch * run.factor, training.further)
    started, losses = time.monotonic(), []
    model.train()
    for step, inputs in enumerate(batches(draw, training.step, steps, run.workers), training.step):
        progress = step / steps
        size = size_at(progress, training.further)
        for group in optimizer.param_groups:
            cosine = (1 + math.cos(math.pi * max(0, progress - 0.1) / 0.9)) / 2
            group["lr"] = learning_rate * min(1, (step + 1) / 150) * (cosine + 0.01)
        loss = batch_loss(model, inputs.to(run.device))
        optimizer.zero_grad()
        loss.backward()
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)):
            optimizer.step()
        training.advance(min(0.998, 1 - 1 / (step * 0.1 + 2)))
        losses.append(float(loss.detach()))
        if (step + 1) % report_every == 0:
            minutes = (time.monotonic() - started) / 60
            print(
                f"{minutes:6.1f} min  step {step + 1:5d}  {size} px  loss {np.mean(losses[-report_every:]):.3f}",
                flush=True,
            )
        if (step + 1) % (report_every * 6) == 0 or step + 1 == steps:
            print(f"  set aside: {best_threshold(score_queries(average, size))}", flush=True)
            save(average, out, SIZES[-1][1])
    calibrate(average, best_threshold(score_queries(average, SIZES[-1][1]))["threshold"])
    print(f"calibrated: {best_threshold(score_queries(average, SIZES[-1][1], 400))}", flush=True)
    save(average, out, SIZES[-1][1])
    training.finish()


def save(model: GroundingDinoForObjectDetection, out: Path, size: int) -> None:
    model.save_pretrained(out)
    build_processor(size).save_pretrained(out)
