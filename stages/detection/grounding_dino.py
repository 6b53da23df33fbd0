"""Grounding DINO (Liu et al., ECCV 2024, arXiv 2303.05499) in transformers: text prompts and images -> boxes."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from huggingface_hub.utils import logging as hub_log
from torchvision.ops import batched_nms, box_convert, clip_boxes_to_image
from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoProcessor
from transformers.utils import logging as transformers_log

from stages.detection.captions import CLS, NO_PROMPT, SEP, STOP, Caption, build_captions
from stages.detection.prompts import Prompt
from stages.errors import ModelError, WindowError
from stages.hub import copy_from_elsewhere, reachable
from stages.types import Detections, Image

EMBEDDED = Path(__file__).parents[1] / "embedded" / "detector"
FAMILY = ("grounding-dino", "mm-grounding-dino")  # model types of transformers with the same interface
NMS_IOU = 0.7  # of two boxes of one prompt with a larger IoU, the one with the lower score is dropped


class GroundingDino:
    """A checkpoint of the Grounding DINO family; a `stages.detection.base.Detector`.

    ``model`` is a hub id or a folder in the format of ``save_pretrained``. With a ``dtype`` other than float32 the
    weights stay float32 and the matrix products are autocast, so that reference points and the sampling grids of
    deformable attention stay exact (with all of the model in bfloat16 the error of boxes was more than three times as
    large).

    Raises ModelError, one line, when the checkpoint cannot be loaded completely.
    """

    def __init__(self, model: str | Path, device: torch.device, dtype: torch.dtype) -> None:
        self.name = str(model)
        self.network, processor = _load(self.name)
        self.network.to(device).eval()
        self._device, self._dtype = device, dtype
        self._pictures, self._tokenizer = processor.image_processor, processor.tokenizer
        config = self.network.config
        self._longest_caption: int = min(config.max_text_len, config.text_config.max_position_embeddings)

    def captions(self, prompts: Sequence[Prompt]) -> list[Caption]:
        """The text inputs for ``prompts``. Raises ConfigError naming a prompt that the model cannot read."""
        tokens = [self._tokenizer.encode(prompt.phrase, add_special_tokens=False, verbose=False) for prompt in prompts]
        return build_captions(prompts, tokens, self._longest_caption)

    def passes(self, prompts: Sequence[Prompt]) -> int:
        """Number of forward passes for one image: one per caption. Raises ConfigError as `captions` does."""
        return len(self.captions(prompts))

    @torch.inference_mode()
    def detect(
        self, images: Sequence[Image], prompts: Sequence[Prompt], box_threshold: float, text_threshold: float
    ) -> list[Detections]:
        """Find ``prompts`` on each of ``images`` (uint8 (H, W, 3) RGB, sizes may differ); best scores first.

        A query is kept when its best token scores at least ``box_threshold``; this score becomes the detection's. Its
        prompt is the one with the best mean score over its tokens (as in the reference's COCO evaluation), and the best
        token of that prompt must score at least ``text_threshold``. Then non-maximum suppression per prompt at IoU 0.7.
        Boxes are clipped to the image.

        Raises ConfigError for a prompt that the model cannot read, WindowError when the scores are not finite.
        """
        captions = self.captions(prompts)
        if not images or not captions:
            return [Detections.empty() for _ in images]
        pictures = self._pictures(
            images=[torch.from_numpy(image.copy()).permute(2, 0, 1) for image in images],
            do_pad=True,  # images of one batch may differ in size
            input_data_format="channels_first",
            device=self._device,
            return_tensors="pt",
        )
        queries = [self._forward(pictures, caption, text_threshold) for caption in captions]
        boxes, scores, owners = (torch.cat(parts, 1) for parts in zip(*queries, strict=True))
        return [
            _select(boxes[i], scores[i], owners[i], image.shape[:2], box_threshold) for i, image in enumerate(images)
        ]

    def _forward(
        self, pictures: Any, caption: Caption, text_threshold: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Boxes (B, Q, 4) cxcywh in [0, 1], scores (B, Q) and prompts (B, Q) of all queries, on the CPU.

        The score of a query whose prompt does not reach ``text_threshold`` is 0.
        """
        ids = torch.tensor(caption.input_ids, device=self._device)
        batch = len(pictures["pixel_values"])
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            out = self.network(input_ids=ids.expand(batch, -1), **pictures)
        tokens = out.logits[..., : len(ids)].float().sigmoid()
        boxes = out.pred_boxes.float()
        if not bool(tokens.isfinite().all() & boxes.isfinite().all()):
            raise WindowError(f"detector {self.name}: scores are not numbers; try precision float32")
        prompt_of_token = torch.tensor(caption.prompt_of_token, device=self._device)
        scores, prompts = _assign_prompts(tokens, prompt_of_token, text_threshold)
        return boxes.cpu(), scores.cpu(), prompts.cpu()


def _assign_prompts(
    tokens: torch.Tensor, prompt_of_token: torch.Tensor, text_threshold: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token scores (B, Q, T) in [0, 1] and the prompt of each token (T,) -> score and prompt of each query, (B, Q).

    The score is 0 where the best token of the prompt is below ``text_threshold``.
    """
    words = prompt_of_token != NO_PROMPT
    tokens, prompt_of_token = tokens[..., words], prompt_of_token[words]
    prompts, member = torch.unique(prompt_of_token, return_inverse=True)
    weights = torch.nn.functional.one_hot(member).float()
    best = (tokens @ (weights / weights.sum(0))).argmax(-1)
    text_scores = tokens.masked_fill(member != best[..., None], 0).amax(-1)
    return tokens.amax(-1).masked_fill(text_scores < text_threshold, 0), prompts[best]


def _select(
    boxes: torch.Tensor, scores: torch.Tensor, prompts: torch.Tensor, size: tuple[int, int], threshold: float
) -> Detections:
    """The detections of one image of ``size`` (height, width) from its queries (Q, 4), (Q,), (Q,).

    Applies the box threshold and non-maximum suppression.
    """
    keep = (scores >= threshold) & (scores > 0)
    boxes, scores, prompts = boxes[keep], scores[keep], prompts[keep]
    height, width = size
    boxes = box_convert(boxes, "cxcywh", "xyxy") * torch.tensor([width, height, width, height])
    boxes = clip_boxes_to_image(boxes, size)
    best = batched_nms(boxes, scores, prompts, NMS_IOU)
    return Detections(boxes[best].numpy(), scores[best].numpy(), prompts[best].numpy().astype(np.int64))


def _load(name: str) -> tuple[Any, Any]:
    """The complete model, in float32 on the CPU, and its processor. Raises ModelError."""
    _check_path(name)
    local = Path(name).is_dir()
    offline = not local and not reachable()  # then only the cache is used
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(name, local_files_only=offline)
            if config.model_type not in FAMILY:
                raise ModelError(f"detector {name} is a {config.model_type!r} model: give one of {', '.join(FAMILY)}")
            processor = AutoProcessor.from_pretrained(name, local_files_only=offline)
            model, report = AutoModelForZeroShotObjectDetection.from_pretrained(
                name,
                local_files_only=offline,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except ModelError:
        raise
    except Exception as error:  # any error of json, safetensors, the configuration or the hub
        if offline and isinstance(error, OSError):  # not in the cache, or incomplete
            raise ModelError(copy_from_elsewhere("detector", name)) from error
        help_ = (
            "is the folder whole? copy or fetch it again"
            if local
            else "check the name, or give a folder with the model"
        )
        raise ModelError(f"detector {name} cannot be loaded: {_first_sentence(error)}; {help_}") from error
    _check_weights(name, report)
    _check_tokenizer(name, processor.tokenizer, config.text_config.vocab_size)
    return model, processor


def _check_path(name: str) -> None:
    """Raise ModelError for a path that is not a model folder; transformers would take it for a hub id."""
    path = Path(name)
    if path.is_dir() and not (path / "config.json").is_file():
        inside = sorted(file.parent for file in path.glob("*/config.json"))
        help_ = f"; give the folder inside it, {inside[0]}" if len(inside) == 1 else "; is it another folder?"
        raise ModelError(f"detector {name}: the folder holds no model (no config.json){help_}")
    if not path.is_dir() and (path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise ModelError(f"detector {name}: no such folder; give a model folder or a hub id such as owner/name")


def _first_sentence(error: Exception) -> str:
    """The first sentence of an error's text, of at most 200 characters."""
    text = str(error).strip() or type(error).__name__
    return shorten(re.split(r"\.\s+(?=[A-Z])|(?<!:)\n", text)[0], 200).rstrip(".")


def _check_weights(name: str, report: dict[str, Any]) -> None:
    """Raise ModelError for weights that do not fit exactly: transformers would fill them with random numbers."""
    for kind in ("missing", "mismatched", "unexpected"):
        if keys := report[f"{kind}_keys"]:
            first = min(key if isinstance(key, str) else key[0] for key in keys)
            raise ModelError(
                f"detector {name} does not fit its config.json: {len(keys)} {kind} weights, such as {first}"
            )


def _check_tokenizer(name: str, tokenizer: Any, vocabulary: int) -> None:
    """Raise ModelError for a tokenizer without BERT's special ids, which the model's code uses to separate phrases."""
    words = tokenizer.encode("car", add_special_tokens=False)
    if tokenizer.encode("car. car.") != [CLS, *words, STOP, *words, STOP, SEP] or len(tokenizer) > vocabulary:
        raise ModelError(f"detector {name}: its tokenizer files are missing or another model's (not BERT's ids)")


@contextmanager
def _quiet() -> Iterator[None]:
    """Switch off the logs and progress bars of transformers and huggingface_hub for the time of the block."""
    bars = transformers_log.is_progress_bar_enabled()
    levels = transformers_log.get_verbosity(), hub_log.get_verbosity()
    transformers_log.disable_progress_bar()
    transformers_log.set_verbosity(CRITICAL)
    hub_log.set_verbosity(CRITICAL)
    try:
        yield
    finally:
        transformers_log.set_verbosity(levels[0])
        hub_log.set_verbosity(levels[1])
        if bars:
            transformers_log.enable_progress_bar()
