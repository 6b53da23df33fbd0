"""SAM 2 in one half precision: its weights are rounded once, and what needs float32 is named here.

Nothing is autocast. Each border between the precisions is a cast of a module's inputs or outputs, a hook of the module.
nn.LayerNorm computes its statistics in float32 whatever the precision of its input.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import LayerNorm2d

# modules, whose inputs are cast, and parameters
FLOAT32 = (
    "image_encoder.trunk.pos_embed",  # position codes: summed in float32, then rounded
    "image_encoder.trunk.pos_embed_window",
    "sam_prompt_encoder",  # coordinates, and position codes that turn several times across the picture
    "mask_downsample",  # masks that are prompts
    "sam_mask_decoder.output_upscaling.4",  # the activation whose product with the next are the mask logits
    "sam_mask_decoder.output_hypernetworks_mlps",
    "sam_mask_decoder.iou_prediction_head",  # chooses one of several masks
    "sam_mask_decoder.pred_obj_score_head",  # presence
    "obj_ptr_proj",  # object pointers
    "no_obj_ptr",
    "obj_ptr_tpos_proj",  # codes of time
    "maskmem_tpos_enc",
)


class _RoundedPositions(Hiera):
    """Hiera whose position codes, computed in float32, are rounded before they are added."""

    def _get_pos_embed(self, hw: tuple[int, int]) -> torch.Tensor:
        codes: torch.Tensor = super()._get_pos_embed(hw)
        return codes.to(self.patch_embed.proj.weight.dtype)


class _ChannelNorm(LayerNorm2d):
    """LayerNorm2d by torch's layer norm, whose statistics are float32; sam2 writes it out in the input's precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels_last = x.to(self.weight.dtype).permute(0, 2, 3, 1)
        return F.layer_norm(channels_last, self.weight.shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


def round_weights(model: SAM2Base, dtype: torch.dtype) -> None:
    """Make a model run in ``dtype``, a half precision, except for what `FLOAT32` names; nothing if it does already."""
    if model.memory_attention.norm.weight.dtype == dtype:
        return
    for path, module in model.named_modules():
        for name, weights in module.named_parameters(prefix=path, recurse=False):
            if not _keeps_float32(name):
                rounded = torch.nn.Parameter(weights.to(dtype), requires_grad=False)
                setattr(module, name.rpartition(".")[2], rounded)
        if type(module) is LayerNorm2d and not _keeps_float32(path):
            module.__class__ = _ChannelNorm
    model.image_encoder.trunk.__class__ = _RoundedPositions
    for module in (model.image_encoder, model.sam_mask_decoder, model.memory_encoder):
        _cast_inputs(module, dtype)
    # upstream adds the levels of its feature pyramid in float32
    model.image_encoder.neck.register_forward_hook(partial(_round_features, dtype=dtype))
    decoder = model.sam_mask_decoder
    for module in (
        decoder.output_upscaling[4],
        *decoder.output_hypernetworks_mlps,
        decoder.iou_prediction_head,
        *([decoder.pred_obj_score_head] if decoder.pred_obj_scores else []),
        model.obj_ptr_proj,
    ):
        _cast_inputs(module, torch.float32)


def _keeps_float32(path: str) -> bool:
    return any(path == kept or path.startswith(f"{kept}.") for kept in FLOAT32)


def _cast_inputs(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast all floating-point inputs of a module."""

    def cast(_: torch.nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        return _cast(args, dtype), _cast(kwargs, dtype)

    module.register_forward_pre_hook(cast, with_kwargs=True)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """The same tensor, or tensors in tuples, lists and dictionaries, in ``dtype``; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _cast(part, dtype) for key, part in value.items()}
    return type(value)(_cast(part, dtype) for part in value) if isinstance(value, tuple | list) else value


def _round_features(
    _: torch.nn.Module, __: Any, outputs: tuple[list[torch.Tensor], list[torch.Tensor]], dtype: torch.dtype
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The neck's features, rounded, and their position codes as they are."""
    features, positions = outputs
    return [x.to(dtype) for x in features], positions
