"""Split a vision transformer into a frozen and a trainable part."""

from typing import Any, NamedTuple

import torch
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer
from torchvision.models.swin_transformer import PatchMerging, PatchMergingV2

from stages.errors import ConfigError
from stages.plural import plural


class Halves(NamedTuple):
    """``trained(frozen(images))`` are the model's logits; both parts share the model's parameters."""

    frozen: nn.Sequential  # has no trainable parameter; empty when everything trains
    trained: nn.Sequential


def freeze(model: nn.Module, unfreeze: int | None) -> Halves:
    """Freeze the model except its last ``unfreeze`` blocks, the norm after them and the head; None: freeze nothing.

    The frozen part is in eval mode, so that stochastic depth does not make its output random. Raises ConfigError when
    the model has fewer blocks.
    """
    before, blocks, after = _sequence(model)
    count = sum(_is_block(module) for module in blocks)
    if unfreeze is None:
        return Halves(nn.Sequential(), nn.Sequential(*before, *blocks, *after))
    if unfreeze > count:
        raise ConfigError(f"--unfreeze {unfreeze}: the model has {count} {plural(count, 'block')}")
    start, remaining = len(blocks), unfreeze
    while remaining:
        start -= 1
        remaining -= _is_block(blocks[start])
    halves = Halves(nn.Sequential(*before, *blocks[:start]), nn.Sequential(*blocks[start:], *after))
    model.requires_grad_(False)
    halves.trained.requires_grad_(True)
    halves.frozen.eval()
    return halves


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Number of all parameters, and of the trainable ones."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)


def _is_block(module: nn.Module) -> bool:
    """False for a Swin's patch merging layers, which do not count as blocks; they train if a block before them does."""
    return not isinstance(module, PatchMerging | PatchMergingV2)


def _sequence(model: Any) -> tuple[list[nn.Module], list[nn.Module], list[nn.Module]]:
    """The model's forward pass as three lists of modules to run in sequence: embedding, blocks, norm and head."""
    if isinstance(model, VisionTransformer):
        embedding = _ViTEmbedding(model)
        return [embedding], list(model.encoder.layers), [model.encoder.ln, _ClassToken(), model.heads]
    assert isinstance(model, SwinTransformer)
    embedding, *stages = model.features
    blocks = [block for stage in stages for block in (stage if isinstance(stage, nn.Sequential) else [stage])]
    return [embedding], blocks, [model.norm, model.permute, model.avgpool, model.flatten, model.head]


class _ViTEmbedding(nn.Module):
    """(B, 3, S, S) -> (B, 1 + patches, C): the part of torchvision's VisionTransformer before its blocks."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.conv_proj, self.dropout = model.conv_proj, model.encoder.dropout
        self.class_token, self.pos_embedding = model.class_token, model.encoder.pos_embedding

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(patches), -1, -1), patches], dim=1)
        embedded: torch.Tensor = self.dropout(tokens + self.pos_embedding)
        return embedded


class _ClassToken(nn.Module):
    """(B, tokens, C) -> (B, C): the class token, which is the first."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, 0]
