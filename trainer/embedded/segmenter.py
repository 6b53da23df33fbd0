"""Train the embedded SAM 2 from scratch on the test source.

Every step draws a few worlds, prompts their objects on the first frame (sometimes again on a later one) and propagates.
The memory of a frame is first built from the true mask, later from the model's own. What lets a small SAM 2 learn to
use its memory at all: normalised neck outputs (``stages.sam2.streaming.NormNeck``), cross attention that starts by
looking where the object was, and temporal codes that are visible beside the sine codes.
"""

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import SAM2Base

from stages.sam2.load import EMBEDDED, build
from stages.testsrc.world import ShapesWorld
from trainer.embedded.clips import SMALLEST, Batch, Phase, Prompt, box_prompt, draw_batch, draw_prompt, prepare

CURRICULUM = (
    Phase(0.08, 128, 2, 8, (1.0, 1.0)),
    Phase(0.18, 128, 3, 8, (1.0, 0.3)),
    Phase(0.58, 128, 6, 4, (0.3, 0.0)),
    Phase(0.86, 192, 6, 4, (0.0, 0.0)),
    Phase(1.00, 192, 9, 3, (0.0, 0.0)),
)
FURTHER = (Phase(0.6, 192, 6, 4, (0.0, 0.0)), Phase(1.0, 192, 9, 3, (0.0, 0.0)))  # for a model that is trained


@torch.no_grad()
def init_memory(model: SAM2Base) -> None:
    """Initial values with which the memory is used from the first steps."""
    for layer in model.memory_attention.layers:
        attention = layer.cross_attn_image
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.mul_(0.5)
            projection.bias.fill_(2.5)  # after RoPE, equal positions attend to each other
        for projection in (attention.v_proj, attention.out_proj):
            projection.weight.mul_(1.7)
    torch.nn.init.trunc_normal_(model.maskmem_tpos_enc, std=0.5)
    model.memory_encoder.mask_downsampler.encoder[-1].weight.mul_(2.0)
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(2.0)


class Heads:
    """Keeps what the mask decoder last said, before an absent object's mask is blanked."""

    masks: torch.Tensor
    ious: torch.Tensor
    presence: torch.Tensor

    def __init__(self, model: SAM2Base) -> None:
        model.sam_mask_decoder.register_forward_hook(self._keep)

    def _keep(self, _module: Any, _inputs: Any, outputs: Any) -> None:
        self.masks, self.ious, _, self.presence = outputs


def frame_loss(heads: Heads, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mask, presence and IoU losses of one frame; also each object's IoU and whether it is visible."""
    visible = (truth.flatten(1).sum(1) > 0).float()
    total = visible.sum().clamp(min=1)
    logits = F.interpolate(heads.masks, truth.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    target = truth.float()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).mean(1)
    probability, flat = logits.sigmoid().flatten(1), target.flatten(1)
    dice = 1 - (2 * (probability * flat).sum(1) + 1) / (probability.sum(1) + flat.sum(1) + 1)
    mask_loss = ((8 * entropy + dice) * visible).sum() / total
    rarity = torch.where(visible > 0, 1.0, 3.0)
    presence_loss = (
        F.binary_cross_entropy_with_logits(heads.presence[:, 0], visible, reduction="none") * rarity
    ).mean()
    guess = logits.detach() > 0
    union = (guess | truth).flatten(1).sum(1).clamp(min=1)
    iou = (guess & truth).flatten(1).sum(1) / union
    iou_loss = ((heads.ious[:, 0] - iou).abs() * visible).sum() / total
    return mask_loss + 0.5 * presence_loss + 0.1 * iou_loss, iou, visible


def roll_out(
    model: SAM2Base,
    heads: Heads,
    batch: Batch,
    draw: Callable[[torch.Tensor], Prompt],
    truth_rate: float = 0.0,
    again: int = 0,
) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
    """Prompt on the first frame (and on ``again``), propagate; the mean loss, and per frame (IoU, visible, score)."""
    clips, count = batch.images.shape[1], len(batch.clip)
    _, features, positions, sizes = model._prepare_backbone_features(model.forward_image(batch.images.flatten(0, 1)))
    memory: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    loss, scored, report = torch.zeros(()), 0, []
    for t, number in enumerate(batch.times):
        of_frame = slice(t * clips, (t + 1) * clips)
        current = [f[:, of_frame][:, batch.clip] for f in features]
        place = [p[:, of_frame][:, batch.clip] for p in positions]
        truth = batch.masks[t]
        prompted = t == 0 or (t == again and bool(truth.flatten(1).any(1).all()))
        points, mask = draw(truth) if prompted else (None, None)
        out, sam, _, _ = model._track_step(
            number, prompted, current, place, sizes, points, mask, memory, 1 << 30, False, None
        )
        high, out["obj_ptr"], score = sam[4], sam[5], sam[6]
        if mask is None:
            one, iou, visible = frame_loss(heads, truth)
            loss, scored = loss + one, scored + 1
            report.append((iou, visible, heads.presence[:, 0].detach()))
            use = torch.rand(count) < truth_rate
            high = torch.where(use[:, None, None, None], truth[:, None] * 20.0 - 10.0, high)
            score = torch.where(use[:, None], visible[:, None] * 20 - 10, score)
        else:
            report.append((torch.ones(count), torch.ones(count), torch.ones(count)))
        if t + 1 < len(batch.times):
            model._encode_memory_in_output(current, sizes, points, True, high, score, out)
        memory["cond_frame_outputs" if prompted else "non_cond_frame_outputs"][number] = out
    return loss / max(scored, 1), report


@torch.no_grad()
def evaluate(model: SAM2Base, heads: Heads, clips: int = 12, frames: int = 24) -> dict[str, float]:
    """Free-running on held-out worlds, prompted once: IoU where visible, share of absent frames called absent."""
    model.eval()
    first: list[float] = []
    propagated: list[float] = []
    late: list[float] = []
    absent: list[float] = []
    for seed in range(clips):
        world = ShapesWorld(seed)
        rendered = [world.render(t) for t in range(frames)]
        masks = np.stack([truth.masks for _, truth in rendered])
        masks = masks[:, masks[0].sum((1, 2)) >= SMALLEST]
        if not masks.shape[1]:
            continue
        images, small = prepare([image for image, _ in rendered], masks, model.image_size)
        batch = Batch(images[:, None], small, torch.zeros(small.shape[1], dtype=torch.long), list(range(frames)))
        _, report = roll_out(model, heads, batch, box_prompt)
        for t, (iou, visible, score) in enumerate(report):
            shown = small[t].flatten(1).sum(1) >= 60
            for i in range(len(iou)):
                if shown[i]:
                    (propagated if t else first).append(float(iou[i]) if score[i] > 0 else 0.0)
                    if t >= 16:
                        late.append(propagated[-1])
                elif not visible[i]:
                    absent.append(float(score[i] < 0))
    means = {"first": first, "propagated": propagated, "late": late, "absent": absent}
    return {name: round(float(np.mean(values)), 3) if values else math.nan for name, values in means.items()}


def train(steps: int, out: Path, seed: int = 0, start: Path | None = None, report_every: int = 50) -> None:
    """Train and write the averaged weights to ``out`` in upstream's format, ``{"model": state_dict}``.

    ``start`` is such a file to train further, with a smaller learning rate and at full size only.
    """
    learning_rate, curriculum = (4e-4, FURTHER) if start else (1.5e-3, CURRICULUM)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build(EMBEDDED / "segmenter.yaml")
    if start:
        model.load_state_dict(torch.load(start, weights_only=True)["model"])
    else:
        init_memory(model)
    average = copy.deepcopy(model)
    heads, average_heads = Heads(model), Heads(average)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    began, losses, ious = time.monotonic(), [], []
    for step in range(steps):
        progress = step / steps
        number = next(i for i, p in enumerate(curriculum) if progress < p.until)
        phase, since = curriculum[number], curriculum[number - 1].until if number else 0.0
        truth_rate = float(np.interp(progress, (since, phase.until), phase.truth))
        resize(model, phase.size)
        for group in optimizer.param_groups:
            group["lr"] = (
                learning_rate * min(1, (step + 1) / 100) * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)
            )
        again = int(rng.integers(2, phase.frames)) if phase.frames > 3 and rng.random() < 0.3 else 0
        model.train()
        loss, report = roll_out(
            model, heads, draw_batch(rng, phase), lambda masks: draw_prompt(rng, masks), truth_rate, again
        )
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        decay = min(0.998, (step + 1) / (step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        losses.append(float(loss.detach()))
        ious.append([float((iou * seen).sum() / seen.sum().clamp(min=1)) for iou, seen, _ in (report[0], report[-1])])
        if (step + 1) % report_every == 0:
            first, last = np.mean(ious[-report_every:], 0)
            minutes = (time.monotonic() - began) / 60
            print(
                f"{minutes:6.1f} min  step {step + 1:5d}  {phase.size} px T{phase.frames}"
                f"  loss {np.mean(losses[-report_every:]):.3f}  IoU first {first:.3f} last {last:.3f}",
                flush=True,
            )
        if (step + 1) % (report_every * 6) == 0 or step + 1 == steps:
            resize(average, curriculum[-1].size if progress > 0.6 else phase.size)
            print(f"  held out: {evaluate(average, average_heads)}", flush=True)
            resize(average, curriculum[-1].size)
            save(average, out)


def resize(model: SAM2Base, size: int) -> None:
    """Set the side of the square input; the weights serve every size."""
    model.image_size = size
    model.sam_image_embedding_size = size // model.backbone_stride
    prompt = model.sam_prompt_encoder
    prompt.input_image_size = (size, size)
    prompt.image_embedding_size = (size // 16, size // 16)
    prompt.mask_input_size = (size // 4, size // 4)


def save(model: SAM2Base, out: Path) -> None:
    beside = out.with_suffix(".tmp")
    torch.save({"model": {k: v.clone() for k, v in model.state_dict().items()}}, beside)
    beside.replace(out)
