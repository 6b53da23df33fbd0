"""Upstream's video predictor, and pictures in its input format."""

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.sam2_video_predictor import SAM2VideoPredictor

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build_upstream(config: Path, image_size: int | None = None, optimised: bool = False) -> SAM2VideoPredictor:
    """The predictor of a sam2 configuration file, its post-processing off, with random weights.

    ``optimised`` is what upstream's ``vos_optimized=True`` builds, which is compiled.
    """
    model = OmegaConf.load(config).model
    model._target_ = f"sam2.sam2_video_predictor.SAM2VideoPredictor{'VOS' if optimised else ''}"
    model.compile_image_encoder = optimised
    model.image_size = image_size or model.image_size
    return instantiate(model, _recursive_=True).eval().requires_grad_(False)


def normalised(predictor: SAM2VideoPredictor, pictures: torch.Tensor) -> torch.Tensor:
    """uint8 (T, H, W, 3) RGB -> (T, 3, image_size, image_size), scaled as the tracker does it."""
    size = (predictor.image_size, predictor.image_size)
    pixels = F.interpolate(pictures.permute(0, 3, 1, 2).float() / 255, size, mode="bilinear", antialias=True)
    mean, std = _moments(pictures.device)
    return (pixels - mean) / std


@cache
def _moments(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Sent to the device once: a benchmark must not wait for them."""
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (_MEAN, _STD))
    return mean, std
