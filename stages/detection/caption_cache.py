"""What a detector needs of a caption at each picture, computed once: its tensors, and the text backbone's output."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from stages.detection.captions import NO_PROMPT, Caption

MOST = 64  # captions kept; the longest one of BERT base takes 0.8 MB in float32


@dataclass(slots=True, eq=False)
class CaptionTensors:
    """A caption of T tokens on the device, W of them words of its P prompts."""

    input_ids: torch.Tensor  # (1, T) int64
    words: torch.Tensor  # (W,) int64, the tokens that are words
    owners: torch.Tensor  # (W,) int64, which of the P prompts each word is from
    weights: torch.Tensor  # (W, P) float32; scores of words @ weights = mean scores of prompts
    prompts: torch.Tensor  # (P,) int64, as numbered in `Caption.prompt_of_token`
    features: torch.Tensor | None = None  # (1, T, C), the text backbone's output, once it has run


class CaptionCache:
    """Keeps what belongs to the captions used last, at most ``MOST``; the text backbone runs once for each.

    It replaces the ``forward`` of ``backbone``, a BERT inside a model of transformers, so that the model's own forward
    can stay as it is. Which caption is read is known before that runs, so the device is not asked for token ids. The
    thread that runs the model owns the cache.
    """

    def __init__(self, backbone: Any, device: torch.device) -> None:
        self._device = device
        self._kept: OrderedDict[Caption, CaptionTensors] = OrderedDict()
        self._current: CaptionTensors | None = None
        self._run = backbone.forward
        backbone.forward = self._forward

    @contextmanager
    def reading(self, caption: Caption) -> Iterator[CaptionTensors]:
        """The tensors of a caption; inside the block the model reads this caption and no other."""
        found = self._kept.pop(caption, None) or self._tensors(caption)
        self._kept[caption] = self._current = found
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)
        try:
            yield found
        finally:
            self._current = None

    def _tensors(self, caption: Caption) -> CaptionTensors:
        words = [token for token, owner in enumerate(caption.prompt_of_token) if owner != NO_PROMPT]
        prompts, owners = torch.tensor(caption.prompt_of_token)[words].unique(return_inverse=True)
        member = torch.nn.functional.one_hot(owners).float()
        on_host = torch.tensor([caption.input_ids]), torch.tensor(words), owners, member / member.sum(0), prompts
        return CaptionTensors(*(tensor.to(self._device) for tensor in on_host))

    def _forward(self, *inputs: Any, **more: Any) -> Any:
        """The text backbone's output for a batch of one and the same caption; its inputs have the batch in front."""
        current = self._current
        if current is None:
            return self._run(*inputs, **more)
        batch = len(inputs[0])
        if current.features is None:
            first = (each[:1] if isinstance(each, torch.Tensor) else each for each in inputs)
            current.features = self._run(*first, **more)[0]
        return BaseModelOutput(last_hidden_state=current.features.expand(batch, -1, -1))
