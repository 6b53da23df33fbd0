"""SAM 2 and 2.1: build, load. The only file that touches the sam2 package.

Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024, https://arxiv.org/abs/2408.00714.
"""

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.modeling.backbones.image_encoder import FpnNeck
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import LayerNorm2d


class NormNeck(FpnNeck):
    """FpnNeck with a LayerNorm on every level: trained from scratch, its outputs would drown the mask in the memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.norms = torch.nn.ModuleList(LayerNorm2d(self.d_model) for _ in self.convs)

    def forward(self, xs: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        features, positions = super().forward(xs)
        return [norm(x) for norm, x in zip(self.norms, features, strict=True)], positions


def build(config: Path, image_size: int | None = None) -> SAM2Base:
    """Build the architecture that a sam2 configuration file describes, with random weights.

    ``image_size`` (a multiple of 32) replaces the configured side of the square input.
    """
    model_config = OmegaConf.load(config).model
    if image_size is not None:
        model_config.image_size = image_size
        for attention in ("self_attention", "cross_attention"):
            model_config.memory_attention.layer[attention].feat_sizes = [image_size // 16] * 2
    model = instantiate(model_config, _recursive_=True)
    assert isinstance(model, SAM2Base)
    return model
