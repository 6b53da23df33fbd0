"""Train the embedded SAM 2 from scratch on the test source.

Each step draws a few worlds, prompts their objects on the first frame (sometimes again on a later one) and propagates.
Memories are built from the true mask at first (teacher forcing), later from the model's own mask. Three changes let a
small SAM 2 learn to use its memory: normalised neck outputs (``stages.sam2.streaming.NormNeck``), cross attention that
initially attends to equal positions, and temporal position codes as large as the spatial ones.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import SAM2Base

from stages.sam2.load import EMBEDDED, build
from stages.testsrc.wild.world import WildWorld
from stages.testsrc.world import ShapesWorld
from trainer.embedded.batches import batches
from trainer.embedded.clips import (
    MIN_AREA,
    Batch,
    Phase,
    Prompt,
    box_prompt,
    draw_batch,
    draw_prompt,
    on_device,
    prepare,
)
from trainer.embedded.progress import Progress, Run

CURRICULUM = (
    Phase(0.08, 128, 2, 8, (1.0, 1.0)),
    Phase(0.18, 128, 3, 8, (1.0, 0.3)),
    Phase(0.50, 128, 6, 4, (0.3, 0.0)),
    Phase(0.75, 192, 6, 4, (0.0, 0.0)),
    Phase(1.00, 256, 8, 3, (0.0, 0.0)),
)
# for training an already trained model further
FURTHER = (Phase(0.7, 256, 6, 3, (0.0, 0.0)), Phase(1.0, 256, 9, 2, (0.0, 0.0)))


@torch.no_grad()
def init_memory(model: SAM2Base) -> None:
    """Set initial values with which the model uses its memory from the first steps."""
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


class DecoderOutputs:
    """The latest outputs of the mask decoder, before the model blanks the masks of absent objects."""

    masks: torch.Tensor
    ious: torch.Tensor
    presence: torch.Tensor

    def __init__(self, model: SAM2Base) -> None:
        model.sam_mask_decoder.register_forward_hook(self._store)

    def _store(self, _module: Any, _inputs: Any, outputs: Any) -> None:
        self.masks, self.ious, _, self.presence = outputs


def frame_loss(outputs: DecoderOutputs, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum of mask, presence and IoU losses of one frame; each object's IoU (B,); whether it is visible (B,)."""
    visible = (truth.flatten(1).sum(1) > 0).float()
    total = visible.sum().clamp(min=1)
    logits = F.interpolate(outputs.masks, truth.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    target = truth.float()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).mean(1)
    probability, flat = logits.sigmoid().flatten(1), target.flatten(1)
    dice = 1 - (2 * (probability * flat).sum(1) + 1) / (probability.sum(1) + flat.sum(1) + 1)
    mask_loss = ((8 * entropy + dice) * visible).sum() / total
    weight = torch.where(visible > 0, 1.0, 3.0)  # absence is rare
    presence_loss = (
        F.binary_cross_entropy_with_logits(outputs.presence[:, 0], visible, reduction="none") * weight
    ).mean()
    predicted = logits.detach() > 0
    union = (predicted | truth).flatten(1).sum(1).clamp(min=1)
    iou = (predicted & truth).flatten(1).sum(1) / union
    iou_loss = ((outputs.ious[:, 0] - iou).abs() * visible).sum() / total
    return mask_loss + 0.5 * presence_loss + 0.1 * iou_loss, iou, visible


def roll_out(
    model: SAM2Base,
    outputs: DecoderOutputs,
    batch: Batch,
    make_prompt: Callable[[torch.Tensor], Prompt],
    teacher_forcing: float = 0.0,
    reprompt: int = 0,
) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
    """Prompt the objects on the first frame (and on frame ``reprompt`` if not 0) and propagate.

    Returns the mean loss, and per frame (IoU, visible, score), each (B,). ``teacher_forcing``: probability that a
    memory is built from the true mask.
    """
    clips, count = batch.images.shape[1], len(batch.clip)
    _, features, positions, sizes = model._prepare_backbone_features(model.forward_image(batch.images.flatten(0, 1)))
    memory: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    device = batch.images.device
    loss, loss_frames, report = torch.zeros((), device=device), 0, []
    for t, number in enumerate(batch.times):
        of_frame = slice(t * clips, (t + 1) * clips)
        current = [f[:, of_frame][:, batch.clip] for f in features]
        position = [p[:, of_frame][:, batch.clip] for p in positions]
        truth = batch.masks[t]
        prompted = t == 0 or (t == reprompt and bool(truth.flatten(1).any(1).all()))
        points, mask = on_device(make_prompt(truth.cpu()), device) if prompted else (None, None)
        out, sam, _, _ = model._track_step(
            number, prompted, current, position, sizes, points, mask, memory, 1 << 30, False, None
        )
        high, out["obj_ptr"], score = sam[4], sam[5], sam[6]
        if mask is None:
            this_loss, iou, visible = frame_loss(outputs, truth)
            loss, loss_frames = loss + this_loss, loss_frames + 1
            report.append((iou, visible, outputs.presence[:, 0].detach()))
            use_truth = torch.rand(count, device=device) < teacher_forcing
            high = torch.where(use_truth[:, None, None, None], truth[:, None] * 20.0 - 10.0, high)
            score = torch.where(use_truth[:, None], visible[:, None] * 20 - 10, score)
        else:
            report.append((torch.ones(count, device=device),) * 3)
        if t + 1 < len(batch.times):
            model._encode_memory_in_output(current, sizes, points, True, high, score, out)
        memory["cond_frame_outputs" if prompted else "non_cond_frame_outputs"][number] = out
    return loss / max(loss_frames, 1), report


@torch.no_grad()
def evaluate(model: SAM2Base, outputs: DecoderOutputs, clips: int = 12, frames: int = 24) -> dict[str, float]:
    """Evaluate on held-out worlds, prompted once, without teacher forcing.

    Mean IoU where visible: on the first frame, on propagated frames, on late ones (from 16 on); share of absent objects
    that the model calls absent.
    """
    model.eval()
    first: list[float] = []
    propagated: list[float] = []
    late: list[float] = []
    absent: list[float] = []
    for seed in range(clips):
        world = (ShapesWorld(seed), ShapesWorld(seed, hard=True), WildWorld(seed))[seed % 3]
        rendered = [world.render(t) for t in range(frames)]
        masks = np.stack([truth.masks for _, truth in rendered])
        masks = masks[:, masks[0].sum((1, 2)) >= MIN_AREA]
        if not masks.shape[1]:
            continue
        images, small = prepare([image for image, _ in rendered], masks, model.image_size)
        clip = torch.zeros(small.shape[1], dtype=torch.long)
        batch = Batch(images[:, None], small, clip, list(range(frames))).to(model.device)
        _, report = roll_out(model, outputs, batch, box_prompt)
        for t, of_frame in enumerate(report):
            iou, visible, score = (values.tolist() for values in of_frame)
            clearly_visible = small[t].flatten(1).sum(1) >= 60
            for i in range(len(iou)):
                if clearly_visible[i]:
                    (propagated if t else first).append(iou[i] if score[i] > 0 else 0.0)
                    if t >= 16:
                        late.append(propagated[-1])
                elif not visible[i]:
                    absent.append(float(score[i] < 0))
    means = {"first": first, "propagated": propagated, "late": late, "absent": absent}
    return {name: round(float(np.mean(values)), 3) if values else math.nan for name, values in means.items()}


def phase_of(curriculum: tuple[Phase, ...], progress: float) -> tuple[Phase, float]:
    """The phase at ``progress``, in [0, 1), and where in the phase that is, from 0 to 1."""
    number = next(i for i, phase in enumerate(curriculum) if progress < phase.until)
    begin, phase = curriculum[number - 1].until if number else 0.0, curriculum[number]
    return phase, (progress - begin) / (phase.until - begin)


def draw_step(curriculum: tuple[Phase, ...], steps: int, seed: int, factor: int, step: int) -> Batch:
    """The clips of a step, ``factor`` times as many as its phase has."""
    phase, _ = phase_of(curriculum, step / steps)
    return draw_batch(np.random.default_rng([seed, step]), replace(phase, clips=factor * phase.clips))


def train(run: Run, report_every: int = 50) -> None:
    """Train and write the averaged weights (EMA) to ``run.out`` in upstream's format, ``{"model": state_dict}``.

    A model that is trained further gets a smaller learning rate, and larger inputs from the start.
    """
    steps, out = run.steps, run.out
    torch.manual_seed(run.seed)
    model = build(EMBEDDED / "segmenter.yaml").to(run.device)
    init_memory(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.01, betas=(0.9, 0.98))
    training = Progress(model, optimizer, run)
    training.start(lambda path: torch.load(path, map_location="cpu", weights_only=True)["model"])
    learning_rate, curriculum = (5e-4, FURTHER) if training.further else (1.5e-3, CURRICULUM)
    average = training.average
    outputs, average_outputs = DecoderOutputs(model), DecoderOutputs(average)
    drawn = batches(partial(draw_step, curriculum, steps, run.seed, run.factor), training.step, steps, run.workers)
    started, losses, ious = time.monotonic(), [], []
    for step, batch in enumerate(drawn, training.step):
        progress = step / steps
        phase, within = phase_of(curriculum, progress)
        teacher_forcing = float(np.interp(within, (0, 1), phase.teacher_forcing))
        torch.manual_seed(run.seed + step)
        rng = np.random.default_rng([run.seed, step, 1])
        resize(model, phase.size)
        for group in optimizer.param_groups:
            group["lr"] = (
                learning_rate * min(1, (step + 1) / 100) * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)
            )
        reprompt = int(rng.integers(2, phase.frames)) if phase.frames > 3 and rng.random() < 0.3 else 0
        model.train()
        loss, report = roll_out(
            model, outputs, batch.to(run.device), partial(draw_prompt, rng), teacher_forcing, reprompt
        )
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        training.advance(min(0.998, (step + 1) / (step + 20)))
        losses.append(float(loss.detach()))
        ious.append([float((iou * v).sum() / v.sum().clamp(min=1)) for iou, v, _ in (report[0], report[-1])])
        if (step + 1) % report_every == 0:
            first, last = np.mean(ious[-report_every:], 0)
            minutes = (time.monotonic() - started) / 60
            print(
                f"{minutes:6.1f} min  step {step + 1:5d}  {phase.size} px T{phase.frames}"
                f"  loss {np.mean(losses[-report_every:]):.3f}  IoU first {first:.3f} last {last:.3f}",
                flush=True,
            )
        if (step + 1) % (report_every * 6) == 0:
            resize(average, phase.size)
            print(f"  held out: {evaluate(average, average_outputs)}", flush=True)
            save(average, out)
    resize(average, curriculum[-1].size)
    print(f"held out: {evaluate(average, average_outputs)}", flush=True)
    save(average, out)
    training.finish()


def resize(model: SAM2Base, size: int) -> None:
    """Set the side of the square input; the same weights work for every size."""
    model.image_size = size
    model.sam_image_embedding_size = size // model.backbone_stride
    prompt = model.sam_prompt_encoder
    prompt.input_image_size = (size, size)
    prompt.image_embedding_size = (size // 16, size // 16)
    prompt.mask_input_size = (size // 4, size // 4)


def save(model: SAM2Base, out: Path) -> None:
    """Write the weights atomically."""
    partial = out.with_suffix(".tmp")
    torch.save({"model": {k: v.cpu().clone() for k, v in model.state_dict().items()}}, partial)
    partial.replace(out)
