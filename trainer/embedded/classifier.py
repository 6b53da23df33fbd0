"""The embedded classifier: which colour is most of what shows, on whole frames and on crops of one object."""

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
from stages.testsrc.world import ShapesWorld, Truth
from stages.types import Image
from trainer.embedded.worlds import FIRST_TRAINING_SEED, draw_world

LABELS = ("nothing", *(f"mostly {colour}" for colour in COLOURS))
PREPROCESSING = Preprocessing(size=64)
OPTIONS = {"image_size": 64, "stem": [16, 32, 64], "hidden_dim": 64, "num_layers": 3, "num_heads": 4, "mlp_dim": 128}
CLEAR = 0.8  # the second colour over the first; nothing is learned from what is closer
SMALLEST = 150  # pixels at 256 x 256 that make a colour show
FRAMES = 8  # of each world
CROPS = 2  # of each frame, at most


def name_colour(truth: Truth, image: Image, box: NDArray[np.float32] | None = None) -> tuple[int, bool]:
    """The place in LABELS of what shows, in the whole frame or in the crop around ``box``; and whether it is clear."""
    names = [label.split()[0] for label in truth.labels]
    masks = truth.masks if box is None else [crop(mask, box) for mask in truth.masks]
    areas = np.array([sum(mask.sum() for mask, name in zip(masks, names, strict=True) if name == c) for c in COLOURS])
    second, first = np.sort(areas)[-2:]
    least = SMALLEST * image.shape[0] * image.shape[1] / 256**2
    if first < least:
        return 0, first == 0
    return 1 + int(areas.argmax()), second < CLEAR * first


def samples(world: ShapesWorld, index: int) -> Iterator[tuple[Image, int, bool]]:
    """The frame ``index`` and the crop of each object of which enough shows: picture, label and whether it is clear."""
    image, truth = world.render(index)
    yield image, *name_colour(truth, image)
    for box, mask in zip(truth.boxes, truth.masks, strict=True):
        if mask.sum() >= SMALLEST:
            yield crop(image, box), *name_colour(truth, image, box)


def draw_pool(rng: np.random.Generator, worlds: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of ``worlds`` worlds, uint8 (P, 3, 64, 64), and their labels (P,)."""
    pictures, labels = [], []
    for _ in range(worlds):
        world = ShapesWorld(int(rng.integers(FIRST_TRAINING_SEED, 1 << 31)), objects=0)
        if rng.random() < 0.9:
            world = draw_world(rng, int(rng.integers(1, 7)))
        for index in rng.integers(0, 600, FRAMES):
            frame, *crops = samples(world, int(index))
            for picture, label, clear in (frame, *(crops[i] for i in rng.permutation(len(crops))[:CROPS])):
                if clear:
                    pictures.append(PREPROCESSING.fit(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]))
                    labels.append(label)
    return torch.cat(pictures), torch.tensor(labels)


def vary(rng: np.random.Generator, pictures: torch.Tensor) -> torch.Tensor:
    """Flips, and another brightness: neither changes a name."""
    if rng.random() < 0.5:
        pictures = pictures.flip(3)
    if rng.random() < 0.5:
        pictures = pictures.flip(2)
    factor = torch.from_numpy(rng.uniform(0.85, 1.15, (len(pictures), 1, 1, 1)).astype(np.float32))
    return (pictures.float() * factor / 255).clamp(0, 1)


@torch.inference_mode()
def score(model: nn.Module, worlds: int = 100, every: int = 30, frames: int = 150) -> dict[str, float]:
    """Accuracy on held-out worlds, every other one hard: of frames and crops, of all and of the clear ones."""
    model.eval()
    right: dict[str, list[bool]] = {name: [] for name in ("frames", "clear_frames", "crops", "clear_crops")}
    for seed in range(worlds):
        world = ShapesWorld(seed, hard=True) if seed % 2 else ShapesWorld(seed, objects=seed // 2 % 7)
        for index in range(0, frames, every):
            drawn = list(samples(world, index))
            found = model(PREPROCESSING([picture for picture, _, _ in drawn])).argmax(1).tolist()
            for number, ((_, label, clear), named) in enumerate(zip(drawn, found, strict=True)):
                kind = "crops" if number else "frames"
                right[kind].append(named == label)
                if clear:
                    right[f"clear_{kind}"].append(named == label)
    model.train()
    return {name: round(float(np.mean(answers)), 4) for name, answers in right.items()}


def train(
    steps: int,
    out: Path,
    seed: int = 0,
    start: Path | None = None,
    batch: int = 64,
    worlds: int = 600,
    report_every: int = 200,
) -> None:
    """Train and write the checkpoint ``out``; ``start`` is one to train further."""
    learning_rate = 3e-4 if start else 1e-3
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build_model("compact_vit", len(LABELS), options=OPTIONS)
    if start:
        model.load_state_dict(torch.load(start, weights_only=True)["model"])
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.02)
    began, losses = time.monotonic(), []
    pictures, labels = draw_pool(rng, worlds)
    print(f"{len(labels)} pictures, {torch.bincount(labels, minlength=len(LABELS)).tolist()} by label", flush=True)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1, (step + 1) / 100) * (1 + math.cos(math.pi * step / steps)) / 2
        chosen = torch.from_numpy(rng.integers(0, len(labels), batch))
        logits = model(PREPROCESSING.normalise(vary(rng, pictures[chosen])))
        loss = F.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if (step + 1) % report_every == 0 or step + 1 == steps:
            minutes = (time.monotonic() - began) / 60
            print(f"{minutes:6.1f} min  step {step + 1:5d}  loss {np.mean(losses[-report_every:]):.3f}", flush=True)
    metrics = score(model)
    print(f"held out: {metrics}", flush=True)
    card = Card("compact_vit", LABELS, PREPROCESSING, metrics, OPTIONS)
    torch.save(checkpoint(card, model), out)
