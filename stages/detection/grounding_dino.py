"""Grounding DINO (Liu et al., ECCV 2024, arXiv 2303.05499) in transformers: text prompts and images -> boxes."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torchvision.ops import batched_nms, box_convert, clip_boxes_to_image

from stages.detection.caption_cache import CaptionCache, CaptionTensors
from stages.detection.captions import Caption, build_captions
from stages.detection.graphed_parts import GraphedPart
from stages.detection.load import load_grounding_dino
from stages.detection.prompts import Prompt
from stages.detection.vocabulary import Vocabulary
from stages.errors import WindowError
from stages.graphs import Graphs
from stages.types import Detections, Image

EMBEDDED = Path(__file__).parents[1] / "embedded" / "detector"
MOST_PROMPTS = 64  # lists of prompts whose captions are kept
TOGETHER = 4  # pictures in one call on a GPU; on a CPU a full-size model gains nothing
_PARTS = ("backbone", "encoder", "decoder")  # of the network, that graphs can run
NMS_IOU = 0.7  # of two boxes of one prompt with a larger IoU, the one with the lower score is dropped


# what to write in place of an unknown word
_ENGLISH = "say it in English, in common words"
_SHAPES = "the embedded model knows colours and shapes only, such as 'red circle'"


class GroundingDino:
    """A checkpoint of the Grounding DINO family; a `stages.detection.base.Detector`.

    ``model`` is a hub id or a folder in the format of ``save_pretrained``. With a ``dtype`` other than float32 the
    matrix products and convolutions are autocast, and their weights are stored in ``dtype``; reference points, the
    sampling grids of deformable attention and norms stay float32 (with all of the model in bfloat16 the error of boxes
    was more than three times as large).

    ``graphs`` runs the backbone, the encoder and the decoder; what is between them uploads sizes to the device, which
    cannot be captured.

    Raises ModelError, one line, when the checkpoint cannot be loaded completely.
    """

    def __init__(
        self, model: str | Path, device: torch.device, dtype: torch.dtype, graphs: Graphs | None = None
    ) -> None:
        self.name = str(model)
        self.network, processor = load_grounding_dino(self.name)
        _store_products_in(dtype, self.network)
        self.network.to(device).eval().requires_grad_(False)
        self.together = TOGETHER if device.type == "cuda" else 1
        self._device, self._dtype = device, dtype
        self._pictures = processor.image_processor
        self._vocabulary = Vocabulary(processor.tokenizer, _SHAPES if model == EMBEDDED else _ENGLISH)
        config = self.network.config
        self._longest_caption: int = min(config.max_text_len, config.text_config.max_position_embeddings)
        self._written = lru_cache(MOST_PROMPTS)(self._write)
        self._captions = CaptionCache(self.network.model.text_backbone, device)
        self._graphs = graphs
        if graphs:
            for part in _PARTS:
                GraphedPart(getattr(self.network.model, part), part, graphs)

    @property
    def graph_fallbacks(self) -> int:
        """Sizes for which a part of the network has no graph, though this detector has graphs."""
        return self._graphs.fallbacks if self._graphs else 0

    def scale(self, height: int, width: int) -> float:
        """By which factor a picture of this size in pixels is resized; of two, for width and height, the smaller."""
        size = self._pictures.size
        if size.shortest_edge and size.longest_edge:
            return float(min(size.shortest_edge / min(height, width), size.longest_edge / max(height, width)))
        tall, wide = size.height or size.max_height, size.width or size.max_width
        return float(min(tall / height, wide / width))

    def captions(self, prompts: Sequence[Prompt]) -> tuple[Caption, ...]:
        """The text inputs for ``prompts``. Raises ConfigError naming a prompt that the model cannot read."""
        return self._written(tuple(prompts))

    def _write(self, prompts: tuple[Prompt, ...]) -> tuple[Caption, ...]:
        tokens = [self._vocabulary.tokens(prompt) for prompt in prompts]
        return tuple(build_captions(prompts, tokens, self._longest_caption))

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
        queries = torch.cat([self._forward(pictures, caption, text_threshold) for caption in captions], 1).cpu()
        if not queries.isfinite().all():
            raise WindowError(f"detector {self.name}: scores are not numbers; try precision float32")
        return [_select(found, image.shape[:2], box_threshold) for found, image in zip(queries, images, strict=True)]

    def _forward(self, pictures: Any, caption: Caption, text_threshold: float) -> torch.Tensor:
        """All queries (B, Q, 6) on the device, which is not waited for: box cxcywh in [0, 1], score, prompt.

        The score of a query whose prompt does not reach ``text_threshold`` is 0. It is not finite where one of the
        query's scores is not.
        """
        with self._captions.reading(caption) as read:
            ids = read.input_ids.expand(len(pictures["pixel_values"]), -1)
            # a weight that is cast once for several graphs would be gone when they are replayed: no cache
            with torch.autocast(
                self._device.type, self._dtype, enabled=self._dtype != torch.float32, cache_enabled=False
            ):
                out = self.network(input_ids=ids, **pictures)
        scores, prompts = _assign_prompts(out.logits.float().sigmoid(), read, text_threshold)
        return torch.cat([out.pred_boxes.float(), scores[..., None], prompts[..., None]], -1)


def _store_products_in(dtype: torch.dtype, network: torch.nn.Module) -> None:
    """Convert once the weights that autocast would convert at each forward pass. The outputs stay the same."""
    for module in network.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            module.to(dtype)


def _assign_prompts(
    tokens: torch.Tensor, caption: CaptionTensors, text_threshold: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token scores (B, Q, at least T) in [0, 1] -> score and prompt of each query, (B, Q).

    The score is 0 where the best token of the prompt is below ``text_threshold``, NaN where a score is not finite.
    """
    tokens = tokens[..., caption.words]
    best = (tokens @ caption.weights).argmax(-1)
    text_scores = tokens.masked_fill(caption.owners != best[..., None], 0).amax(-1)
    scores = tokens.amax(-1)  # NaN where one of them is
    return scores.masked_fill((text_scores < text_threshold) & scores.isfinite(), 0), caption.prompts[best]


def _select(queries: torch.Tensor, size: tuple[int, int], threshold: float) -> Detections:
    """The detections of one image of ``size`` (height, width) from its queries (Q, 6) on the CPU.

    Applies the box threshold and non-maximum suppression.
    """
    queries = queries[(queries[:, 4] >= threshold) & (queries[:, 4] > 0)]
    boxes, scores, prompts = queries[:, :4], queries[:, 4], queries[:, 5].long()
    height, width = size
    boxes = box_convert(boxes, "cxcywh", "xyxy") * torch.tensor([width, height, width, height])
    boxes = clip_boxes_to_image(boxes, size)
    best = batched_nms(boxes, scores, prompts, NMS_IOU)
    return Detections(boxes[best].numpy(), scores[best].numpy(), prompts[best].numpy())
