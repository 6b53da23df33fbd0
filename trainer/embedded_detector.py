"""Train the embedded Grounding DINO and its tokenizer from scratch on the test source.

What makes so small a Grounding DINO learn within an hour: vision and text fused from the first step (the library starts
at a layer scale of 1e-4), class logits that start at -4 through a constant channel of the final layer norms, a Hungarian
loss on every decoder layer, and a dense loss on the two-stage proposals, which the library's own loss never trains.
"""

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torchvision.ops import box_convert, box_iou, generalized_box_iou_loss
from transformers import (
    BertConfig,
    BertTokenizer,
    ConvNextConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
)
from transformers.loss.loss_grounding_dino import GroundingDinoHungarianMatcher
from transformers.models.grounding_dino.modeling_grounding_dino import build_label_maps

from stages.testsrc import COLOURS, LABELS, SHAPES, ShapesWorld

FIRST_TRAINING_SEED = 1_000_000  # seeds below are held out
CLEARLY_VISIBLE = 0.3  # share of a shape that must show for it to be an object; below it is left out of the prompt
SIZES = ((0.0, 128), (0.55, 192))  # from this share of the steps on, the side of the input
LONGEST_CAPTION = 48  # tokens
UNKNOWN = -1  # a phrase of words that the vocabulary lacks
CLS, SEP, UNK, DOT = 101, 102, 100, 1012  # ids that transformers' Grounding DINO hard-codes, and BERT's own
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def vocabulary() -> dict[str, int]:
    words = {"[PAD]": 0, "[UNK]": UNK, "[CLS]": CLS, "[SEP]": SEP, "[MASK]": 103, ".": DOT, "?": 1029}
    known = [*COLOURS, *SHAPES, "a", "the", "##s", ","]
    words |= {word: 200 + i for i, word in enumerate(known)}
    taken = set(words.values())
    return words | {f"[unused{i}]": i for i in range(1, 1030) if i not in taken}


def build_processor(size: int) -> GroundingDinoProcessor:
    words = dict(sorted(vocabulary().items(), key=lambda item: item[1]))
    tokenizer = BertTokenizer(vocab=words, do_lower_case=True, model_max_length=LONGEST_CAPTION)
    pictures = GroundingDinoImageProcessor(size={"height": size, "width": size}, do_pad=False)
    return GroundingDinoProcessor(pictures, tokenizer)


def build_model() -> GroundingDinoForObjectDetection:
    backbone = ConvNextConfig(
        num_stages=3,
        hidden_sizes=[32, 64, 128],
        depths=[1, 2, 2],
        layer_scale_init_value=1.0,
        out_features=["stage2", "stage3"],
    )
    text = BertConfig(
        vocab_size=1030,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=LONGEST_CAPTION,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=64,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=30,
        num_feature_levels=2,
        max_text_len=LONGEST_CAPTION,
        dropout=0.0,
        fusion_droppath=0.0,
        two_stage=True,
        embedding_init_target=True,
        auxiliary_loss=True,
        disable_custom_kernels=True,
    )
    model = GroundingDinoForObjectDetection(config)
    init_for_scratch(model)
    return model


@torch.no_grad()
def init_for_scratch(model: GroundingDinoForObjectDetection) -> None:
    inner = model.model
    for layer in inner.encoder.layers:
        layer.fusion_layer.vision_param.fill_(0.5)
        layer.fusion_layer.text_param.fill_(0.1)
    enhancer = inner.encoder.layers[-1].text_enhancer_layer
    text_norm = enhancer.final_layer_norm if hasattr(enhancer, "final_layer_norm") else enhancer.layer_norm_after
    for norm, weight, bias in (
        (text_norm, 1.0, 2.0),
        (inner.decoder.layer_norm, 0.35, -2.0),
        (inner.enc_output_norm, 0.35, -2.0),
    ):
        norm.weight.fill_(weight)
        norm.weight[0] = 0  # channel 0 is a constant: its product, -4, is the logits' bias
        norm.bias[0] = bias
    inner.encoder_output_bbox_embed.layers[-1].bias[2:] = 1.3
    inner.query_position_embeddings.weight.normal_(0, 0.5)


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and its caption's phrases, as indices into LABELS or UNKNOWN."""

    image: NDArray[np.uint8]
    phrases: list[int]
    boxes: torch.Tensor  # (N, 4) cxcywh in [0, 1]
    phrase_of_box: torch.Tensor  # (N,) index into phrases


def draw_sample(rng: np.random.Generator, seed: int, most_phrases: int = 6) -> Sample:
    world = ShapesWorld(seed, objects=int(rng.integers(1, 7)))
    image, truth = world.render(int(rng.integers(0, 600)))
    numbers = [LABELS.index(label) for label in truth.labels]
    unclear = {n for n, share in zip(numbers, truth.visible, strict=True) if 0.02 < share < CLEARLY_VISIBLE}
    shown = {n for n, share in zip(numbers, truth.visible, strict=True) if share >= CLEARLY_VISIBLE}
    phrases = draw_phrases(
        rng, sorted(shown - unclear), sorted(set(range(len(LABELS))) - shown - unclear), most_phrases
    )
    keep = [i for i, n in enumerate(numbers) if n in phrases and truth.visible[i] >= CLEARLY_VISIBLE]
    boxes = torch.from_numpy(truth.boxes[keep] / np.array([world.width, world.height] * 2, np.float32))
    return Sample(
        image,
        phrases,
        box_convert(boxes.view(-1, 4), "xyxy", "cxcywh"),
        torch.tensor([phrases.index(numbers[i]) for i in keep], dtype=torch.long),
    )


def draw_phrases(rng: np.random.Generator, shown: list[int], absent: list[int], most: int) -> list[int]:
    """Some of what is shown, and absent ones that mostly share its colour or its shape."""
    shown = list(rng.permutation(shown)) if shown else []
    wanted = [int(n) for n in shown[: int(rng.integers(0 if rng.random() < 0.15 else 1, 5))]]
    near = [
        n
        for n in absent
        if any(n // len(SHAPES) == s // len(SHAPES) or n % len(SHAPES) == s % len(SHAPES) for s in shown)
    ]
    phrases = list(wanted)
    for _ in range(int(rng.integers(0 if wanted else 1, max(2, most - len(wanted) + 1)))):
        if rng.random() < 0.08:
            phrases.append(UNKNOWN)
        else:
            pick = int(rng.choice(near if near and rng.random() < 0.65 else absent))
            if pick not in phrases:
                phrases.append(pick)
    return [int(n) for n in rng.permutation(phrases)]


def encode_captions(rng: np.random.Generator, samples: list[Sample], words: dict[str, int]) -> torch.Tensor:
    """(B, L) token ids, padded with 0. Some phrases carry an article or a plural, as people write them."""
    rows = []
    for sample in samples:
        row = [CLS]
        for phrase in sample.phrases:
            if phrase == UNKNOWN:
                known = [words[w] for w in (*COLOURS, *SHAPES)]
                row += [[UNK], [UNK, UNK], [int(rng.choice(known)), UNK]][int(rng.integers(3))]
            else:
                if rng.random() < 0.05:
                    row.append(words[str(rng.choice(["a", "the"]))])
                row += [words[word] for word in LABELS[phrase].split()]
                if rng.random() < 0.05:
                    row.append(words["##s"])
            row.append(DOT)
        rows.append([*row, SEP])
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for padded, row in zip(ids, rows, strict=True):
        padded[: len(row)] = torch.tensor(row)
    return ids


def pixels(samples: list[Sample], size: int) -> torch.Tensor:
    """(B, 3, size, size), resized and normalised as the saved processor does it."""
    images = torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2).float() / 255
    return (F.interpolate(images, (size, size), mode="bilinear", antialias=True) - MEAN) / STD


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
    return ((5 * (boxes - target).abs().sum(1) + 2 * overlap) * weight).sum()


MATCHER = GroundingDinoHungarianMatcher(class_cost=2.0, bbox_cost=5.0, giou_cost=2.0)


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
    """The encoder's proposals, one a cell of each level: a penalty-reduced focal loss on Gaussians (CenterNet, Zhou et al. 2019)."""
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
        logits: Any,
        labels: Any,
        device: Any,
        pred_boxes: Any,
        config: Any,
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


@torch.no_grad()
def score_held_out(
    model: GroundingDinoForObjectDetection, size: int, count: int = 200
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """On held-out worlds, every (score, is it a true positive) of the queries, and the boxes missed, as one list."""
    model.eval()
    rng = np.random.default_rng(7)
    words = vocabulary()
    rows = []
    for start in range(0, count, 20):
        samples = [draw_sample(rng, seed) for seed in range(start, start + 20)]
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


@torch.no_grad()
def calibrate(model: GroundingDinoForObjectDetection, best: float, wanted: float = 0.3) -> None:
    """Shift all logits by a constant, so that the best threshold becomes the daemon's default."""
    shift = math.log(wanted / (1 - wanted)) - math.log(best / (1 - best))
    enhancer = model.model.encoder.layers[-1].text_enhancer_layer
    text_norm = enhancer.final_layer_norm if hasattr(enhancer, "final_layer_norm") else enhancer.layer_norm_after
    text_norm.weight[0] = 0  # it stayed near its initial 0; exactly constant from here on
    model.model.decoder.layer_norm.bias[0] += shift / float(text_norm.bias[0])


def train(
    steps: int, out: Path, seed: int = 0, learning_rate: float = 1e-3, batch: int = 16, report_every: int = 50
) -> None:
    """Train and write model and processor to the folder ``out`` with ``save_pretrained``."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    words, model = vocabulary(), build_model()
    average = copy.deepcopy(model)
    plain = [p for p in model.parameters() if p.ndim < 2]
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 1e-2}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
    began, losses = time.monotonic(), []
    model.train()
    for step in range(steps):
        progress = step / steps
        size = [s for since, s in SIZES if progress >= since][-1]
        for group in optimizer.param_groups:
            cosine = (1 + math.cos(math.pi * max(0, progress - 0.1) / 0.9)) / 2
            group["lr"] = learning_rate * min(1, (step + 1) / 150) * (cosine + 0.01)
        samples = [draw_sample(rng, int(rng.integers(FIRST_TRAINING_SEED, 1 << 31))) for _ in range(batch)]
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
            print(f"  held out: {best_threshold(score_held_out(average, size))}", flush=True)
            save(average, out, SIZES[-1][1])
    calibrate(average, best_threshold(score_held_out(average, SIZES[-1][1]))["threshold"])
    print(f"calibrated: {best_threshold(score_held_out(average, SIZES[-1][1], 400))}", flush=True)
    save(average, out, SIZES[-1][1])


def save(model: GroundingDinoForObjectDetection, out: Path, size: int) -> None:
    model.save_pretrained(out)
    build_processor(size).save_pretrained(out)
