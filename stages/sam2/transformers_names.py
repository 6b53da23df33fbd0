"""The names of SAM 2's weights in transformers (Sam2VideoModel), turned into those of the sam2 package."""

import re
from collections.abc import Mapping

import torch

_POINTS = "sam_prompt_encoder.point_embeddings"

# (pattern, replacement), applied in this order to every name
_RENAMED = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^shared_image_embedding\.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding"),
        (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
        (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
        (r"^prompt_encoder\.", "sam_prompt_encoder."),
        (r"^mask_decoder\.", "sam_mask_decoder."),
        (r"patch_embed\.projection", "patch_embed.proj"),
        (r"shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
        (r"(?<=\.)point_embed\.", "point_embeddings."),
        (r"mask_embed\.conv1", "mask_downscaling.0"),
        (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
        (r"mask_embed\.conv2", "mask_downscaling.3"),
        (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
        (r"mask_embed\.conv3", "mask_downscaling.6"),
        (r"upscale_conv1", "output_upscaling.0"),
        (r"upscale_layer_norm", "output_upscaling.1"),
        (r"upscale_conv2", "output_upscaling.3"),
        # networks of three layers, then those of two
        (r"(output_hypernetworks_mlps\.\d+|\w+_head|object_pointer_proj)\.layers\.0", r"\1.layers.1"),
        (r"(output_hypernetworks_mlps\.\d+|\w+_head|object_pointer_proj)\.proj_out", r"\1.layers.2"),
        (r"(output_hypernetworks_mlps\.\d+|\w+_head|object_pointer_proj|mlp)\.proj_in", r"\1.layers.0"),
        (r"mlp\.proj_out", "mlp.layers.1"),
        (r"^memory_encoder\.projection", "memory_encoder.out_proj"),
        (r"^memory_encoder\.feature_projection", "memory_encoder.pix_feat_proj"),
        (r"mask_downsampler\.final_conv", "mask_downsampler.encoder.12"),
        (r"memory_fuser\.", "fuser."),
        (r"\.scale$", ".gamma"),
        (r"depthwise_conv", "dwconv"),
        (r"pointwise_conv", "pwconv"),
        (r"\.o_proj\.", ".out_proj."),
        (r"layer_norm_final_attn", "norm_final_attn"),
        (r"(?<=\.)layer_norm", "norm"),
        (r"^memory_temporal_positional_encoding", "maskmem_tpos_enc"),
        (r"^no_memory_embedding", "no_mem_embed"),
        (r"^no_memory_positional_encoding", "no_mem_pos_enc"),
        (r"^no_object_pointer", "no_obj_ptr"),
        (r"^occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
        (r"^object_pointer_proj", "obj_ptr_proj"),
        (r"^temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"),
    )
)


def is_of_transformers(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are the weights of a Sam2VideoModel."""
    return "vision_encoder.backbone.patch_embed.projection.weight" in state


def of_sam2_package(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights under the names of the sam2 package; unknown names stay as they are."""
    renamed = {_name(name): weights for name, weights in state.items()}
    points = renamed.pop(f"{_POINTS}.weight", None)
    if points is not None:  # a row of (4, C) for each kind of point: outside, inside, first and second corner of a box
        renamed |= {f"{_POINTS}.{kind}.weight": row[None] for kind, row in enumerate(points)}
    return renamed


def _name(name: str) -> str:
    if found := re.match(r"memory_encoder\.mask_downsampler\.layers\.(\d+)\.(conv|layer_norm)\.(.+)", name):
        place = 3 * int(found[1]) + (found[2] == "layer_norm")  # the third of each is an activation
        return f"memory_encoder.mask_downsampler.encoder.{place}.{found[3]}"
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name
