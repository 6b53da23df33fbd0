"""Grounding DINO (Liu et al., ECCV 2024, arXiv 2303.05499) in transformers: text prompts and images -> boxes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import batched_nms, box_convert, clip_boxes_to_image

from stages.detection.captions import NO_PROMPT, Caption, build_captions
from stages.detection.load import load_grounding_dino
from stages.detection.prompts import Prompt
from stages.detection.vocabulary import Vocabulary
from stages.errors import WindowError
from stages.types import Detections, Image

EMBEDDED = Path(__file__).parents[1] / "embedded" / "detector"
NMS_IOU = 0.7  # of two boxes of one prompt with a larger IoU, the one with the lower score is dropped


# what to write in place of an unknown word
_ENGLISH = "say it in English, in common words"
_SHAPES = "the embedded model knows colours and shapes only, such as 'red circle'"


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
        self.network, processor = load_grounding_dino(self.name)
        self.network.to(device).eval()
        self._device, self._dtype = device, dtype
        self._pictures = processor.image_processor
        self._vocabulary = Vocabulary(processor.tokenizer, _SHAPES if model == EMBEDDED else _ENGLISH)
        config = self.network.config
        self._longest_caption: int = min(config.max_text_len, config.text_config.max_position_embeddings)

    def captions(self, prompts: Sequence[Prompt]) -> list[Caption]:
        """The text inputs for ``prompts``. Raises ConfigError naming a prompt that the model cannot read."""
        tokens = [self._vocabulary.tokens(prompt) for prompt in prompts]
        return build_captions(prompts, tokens, self._longest_caption)

    def doubts(self, prompts: Sequence[Prompt]) -> list[str]:
        """A line for each prompt with a word that the model does not know. Raises ConfigError as `captions` does."""
        self.captions(prompts)
        return [doubt for prompt in prompts if (doubt := self._vocabulary.doubt(prompt))]

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
