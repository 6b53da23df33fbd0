"""Train the embedded classifier: the dominant colour of the shapes, on frames and on crops of single objects."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from stages.classification.classifier import Card, Preprocessing, build_model, checkpoint
from stages.classification.crops import crop
from stages.testsrc.bodies import COLOURS
from stages.testsrc.truth import Truth, World
from stages.testsrc.world import ShapesWorld
from stages.types import Image
from trainer.embedded.worlds import FIRST_TRAINING_SEED, draw_world

LABELS = ("nothing", *(f"mostly {colour}" for colour in COLOURS))
PREPROCESSING = Preprocessing(size=64)
OPTIONS = {"image_size": 64, "stem": [16, 32, 64], "hidden_dim": 64, "num_layers": 3, "num_heads": 4, "mlp_dim": 128}
MAX_RATIO = 0.8  # of the second largest colour area to the largest; samples above it are ambiguous and not used
MIN_AREA = 150  # pixels at 256 x 256 from which on a colour counts
FRAMES = 8  # per world
MAX_CROPS = 2  # per frame


def dominant_colour(truth: Truth, image: Image, box: NDArray[np.float32] | None = None) -> tuple[int, bool]:
    """Label of the frame, or of the crop around ``box``, as an index into LABELS; and whether it is unambiguous."""
    names = [label.split()[0] for label in truth.labels]
    masks = truth.masks if box is None else [crop(mask, box) for mask in truth.masks]
    areas = np.array([sum(mask.sum() for mask, name in zip(masks, names, strict=True) if name == c) for c in COLOURS])
    second, first = np.sort(areas)[-2:]
    min_area = MIN_AREA * image.shape[0] * image.shape[1] / 256**2
    if first < min_area:
        return 0, first == 0
    return 1 + int(areas.argmax()), second < MAX_RATIO * first


def samples(world: World, index: int) -> Iterator[tuple[Image, int, bool]]:
    """Frame ``index`` and the crop of each clearly visible object: image, label, whether it is unambiguous."""
    image, truth = world.render(index)
    yield image, *dominant_colour(truth, image)
    for box, mask in zip(truth.boxes, truth.masks, strict=True):
        if mask.sum() >= MIN_AREA:
            yield crop(image, box), *dominant_colour(truth, image, box)


def draw_pool(rng: np.random.Generator, worlds: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unambiguous images of ``worlds`` random worlds, uint8 (P, 3, 64, 64), and their labels (P,)."""
    images, labels = [], []
    for _ in range(worlds):
        world: World = ShapesWorld(int(rng.integers(FIRST_TRAINING_SEED, 1 << 31)), objects=0)
        if rng.random() < 0.9:
            world = draw_world(rng, int(rng.integers(1, 7)))
        for index in rng.integers(0, 600, FRAMES):
            frame, *crops = samples(world, int(index))
            for image, label, clear in (frame, *(crops[i] for i in rng.permutation(len(crops))[:MAX_CROPS])):
                if clear:
                    images.append(PREPROCESSING.fit(torch.from_numpy(image.copy()).permute(2, 0, 1)[None]))
                    labels.append(label)
    return torch.cat(images), torch.tensor(labels)


def augment(rng: np.random.Generator, images: torch.Tensor) -> torch.Tensor:
    """Random flips and brightness, which do not change the label."""
    if rng.random() < 0.5:
        images = images.flip(3)
    if rng.random() < 0.5:
        images = images.flip(2)
    factor = torch.from_numpy(rng.uniform(0.85, 1.15, (len(images), 1, 1, 1)).astype(np.float32))
    return (images.float() * factor / 255).clamp(0, 1)


@torch.inference_mode()
def score(model: nn.Module, worlds: int = 100, every: int = 30, frames: int = 150) -> dict[str, float]:
    """Accuracy on held-out worlds, every second one hard: on frames and crops, on all and on the unambiguous ones."""
    model.eval()
    correct: dict[str, list[bool]] = {name: [] for name in ("frames", "clear_frames", "crops", "clear_crops")}
    for seed in range(worlds):
        world = ShapesWorld(seed, hard=True) if seed % 2 else ShapesWorld(seed, objects=seed // 2 % 7)
        for index in range(0, frames, every):
            labelled = list(samples(world, index))
            predicted = model(PREPROCESSING([image for image, _, _ in labelled])).argmax(1).tolist()
            for number, ((_, label, clear), prediction) in enumerate(zip(labelled, predicted, strict=True)):
                kind = "crops" if number else "frames"
                correct[kind].append(prediction == label)
                if clear:
                    correct[f"clear_{kind}"].append(prediction == label)
    model.train()
    return {name: round(float(np.mean(values)), 4) for name, values in correct.items()}


def train(
    steps: int,
    out: Path,
    seed: int = 0,
    start: Path | None = None,
    batch: int = 64,
    worlds: int = 600,
    report_every: int = 200,
) -> None:
    """Train and write the checkpoint ``out``. ``start``: a checkpoint to train further."""
    learning_rate = 3e-4 if start else 1e-3
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build_model("compact_vit", len(LABELS), options=OPTIONS)
    if start:
        model.load_state_dict(torch.load(start, weights_only=True)["model"])
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.02)
    started, losses = time.monotonic(), []
    images, labels = draw_pool(rng, worlds)
    print(f"{len(labels)} pictures, {torch.bincount(labels, minlength=len(LABELS)).tolist()} by label", flush=True)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1, (step + 1) / 100) * (1 + math.cos(math.pi * step / steps)) / 2
        chosen = torch.from_numpy(rng.integers(0, len(labels), batch))
        logits = model(PREPROCESSING.normalise(augment(rng, images[chosen])))
        loss = F.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if (step + 1) % report_every == 0 or step + 1 == steps:
            minutes = (time.monotonic() - started) / 60
            print(f"{minutes:6.1f} min  step {step + 1:5d}  loss {np.mean(losses[-report_every:]):.3f}", flush=True)
    metrics = score(model)
    print(f"held out: {metrics}", flush=True)
    card = Card("compact_vit", LABELS, PREPROCESSING, metrics, OPTIONS)
    torch.save(checkpoint(card, model), out)
