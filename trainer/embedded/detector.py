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
from transformers import GroundingDinoForObjectDetection

from trainer.embedded.batches import batches
from trainer.embedded.calibration import CALIBRATION, CHECK, best_threshold, count
from trainer.embedded.captions import Inputs, draw_sample, encode, encode_captions
from trainer.embedded.grounding_dino import build_model, build_processor, calibrate, vocabulary
from trainer.embedded.losses import batch_loss
from trainer.embedded.progress import Progress, Run
from trainer.embedded.worlds import draw_world

SIZES = ((0.0, 128), (0.55, 256))  # from this fraction of the steps on: side of the input in pixels


def size_at(progress: float, further: bool) -> int:
    """Side of the input at ``progress``, in [0, 1); the largest where a trained model is trained ``further``."""
    return [size for since, size in SIZES if further or progress >= since][-1]


def draw_step(steps: int, seed: int, count: int, further: bool, step: int) -> Inputs:
    """The ``count`` pictures of a step, two of each world, because creating one takes long, with their captions."""
    rng = np.random.default_rng([seed, step])
    worlds = [draw_world(rng, int(rng.integers(1, 7))) for _ in range(count // 2)]
    samples = [draw_sample(rng, world) for world in worlds for _ in range(2)]
    return encode(samples, encode_captions(rng, samples, vocabulary()), size_at(step / steps, further))


def train(run: Run, batch: int = 16, report_every: int = 50) -> None:
    """Train and write model and processor to the folder ``run.out`` with ``save_pretrained``.

    A model that is trained further gets a smaller learning rate, and the largest input size only.
    """
    torch.manual_seed(run.seed)
    steps, out, model = run.steps, run.out, build_model().to(run.device)
    without_decay = [p for p in model.parameters() if p.ndim < 2]
    with_decay = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": without_decay, "weight_decay": 0.0}, {"params": with_decay, "weight_decay": 1e-2}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98))
    training = Progress(model, optimizer, run)
    training.start(lambda path: GroundingDinoForObjectDetection.from_pretrained(path).state_dict())
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
        if (step + 1) % (report_every * 6) == 0:
            save(average, out)
            print(f"  set aside: {best_threshold(count(out, CHECK))[1]}", flush=True)
    save(average, out)
    calibrate(average, best_threshold(count(out, CALIBRATION))[0])
    save(average, out)
    print(f"calibrated: {best_threshold(count(out, CHECK))[1]}", flush=True)
    training.finish()


def save(model: GroundingDinoForObjectDetection, out: Path) -> None:
    model.save_pretrained(out)
    build_processor(SIZES[-1][1]).save_pretrained(out)
