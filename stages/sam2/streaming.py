"""Subclasses of sam2's classes for streams: memory attention over tokens passed in, for all objects in one batch."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from sam2.modeling.backbones.image_encoder import FpnNeck
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import LayerNorm2d

from stages.sam2.attention import LeanOptions, use_lean_attention, use_maskable_attention
from stages.segmentation.memory import MemoryTokens


class NormNeck(FpnNeck):
    """FpnNeck with a LayerNorm on every level.

    Trained from scratch without it, the outputs grow so large that they hide the mask in the memory.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.norms = torch.nn.ModuleList(LayerNorm2d(self.d_model) for _ in self.convs)

    def forward(self, xs: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        features, positions = super().forward(xs)
        return [norm(x) for norm, x in zip(self.norms, features, strict=True)], positions


class StreamingSAM2(SAM2Base):
    """SAM2Base that reads its memory from groups of `MemoryTokens` instead of from upstream's dictionaries of frames.

    The groups, a sequence that holds the objects in order, are passed as upstream's argument ``output_dict``.
    """

    def prepare_attention(self, lean: LeanOptions | None) -> None:
        """Give the cross attentions of a plain SAM2Base a key mask; ``lean``: make all of them what GPUs run fast."""
        if lean is None:
            use_maskable_attention(self.memory_attention)
        else:
            use_lean_attention(self.memory_attention, self.image_size // self.backbone_stride, lean)

    def move_position_codes(self) -> None:
        """Move the position codes that sam2 computes in advance, always on the first GPU, to the device of the weights.

        They are no buffers, so `to` leaves them there, and each frame would copy them.
        """
        for module in self.modules():
            if isinstance(module, PositionEmbeddingSine):
                module.cache = {size: codes.to(self.device) for size, codes in module.cache.items()}

    def with_image_size(self, image_size: int) -> "StreamingSAM2":
        """The same model for square images of another size, a multiple of 32; it shares the weights.

        It is not compiled, even if this one is.
        """
        shared = {id(weights): weights for weights in (*self.parameters(), *self.buffers())}
        other = copy.deepcopy(self, shared)  # tensors in the memo are not copied
        for owner in (other, other.image_encoder):
            for compiled in ("_attend", "forward"):
                owner.__dict__.pop(compiled, None)
        side = image_size // self.backbone_stride
        other.image_size, other.sam_image_embedding_size = image_size, side
        prompts = other.sam_prompt_encoder
        prompts.input_image_size, prompts.image_embedding_size = (image_size,) * 2, (side,) * 2
        prompts.mask_input_size = (4 * side,) * 2
        return other

    def compile(self) -> None:
        """Compile the image encoder and the memory attention, where most of the time goes.

        The attention is one graph with static shapes. Mask decoder and memory encoder stay as they are: they would
        double the number of graphs.
        """
        torch._dynamo.config.recompile_limit = 64  # a few batch sizes, each with and without a key mask
        setattr(self, "_attend", torch.compile(self._attend, fullgraph=True, dynamic=False))  # noqa: B010 - a method
        with torch.inference_mode():  # the encoder keeps position codes: compiled before, it would be compiled again
            self.image_encoder(torch.zeros(1, 3, self.image_size, self.image_size, device=self.device))
        # windows differ in length: from the second length on, torch treats the encoder's batch size as dynamic
        self.image_encoder.forward = torch.compile(self.image_encoder.forward)

    def _prepare_memory_conditioned_features(
        self,
        frame_idx: int,
        is_init_cond_frame: bool,
        current_vision_feats: list[torch.Tensor],
        current_vision_pos_embeds: list[torch.Tensor],
        feat_sizes: list[tuple[int, int]],
        output_dict: Any,
        num_frames: int,
        track_in_reverse: bool = False,  # noqa: ARG002 (sam2's signature; streams run forward)
    ) -> torch.Tensor:
        if is_init_cond_frame:
            prompted: torch.Tensor = super()._prepare_memory_conditioned_features(
                frame_idx, True, current_vision_feats, current_vision_pos_embeds, feat_sizes, output_dict, num_frames
            )
            return prompted
        features, positions = current_vision_feats[-1], current_vision_pos_embeds[-1]
        conditioned = self._attend(features[:, :1].transpose(0, 1), positions[:, :1].transpose(0, 1), output_dict)
        height, width = feat_sizes[-1]
        return conditioned.transpose(1, 2).reshape(len(conditioned), self.hidden_dim, height, width)

    def _attend(self, features: torch.Tensor, positions: torch.Tensor, groups: Sequence[MemoryTokens]) -> torch.Tensor:
        """MemoryAttention.forward for B objects. features, positions: (1, L, C) of the frame; returns (B, L, C).

        The first self-attention has the same input for all objects, so it runs once. The cross attention runs once per
        group, because the number of keys and the need of a key mask are those of a group.
        """
        attention = self.memory_attention
        memories = [_Memory(group, features.dtype) for group in groups]
        sizes = [len(group.tokens) for group in groups]
        objects = sum(sizes)
        out = (features + 0.1 * positions).to(features.dtype) if attention.pos_enc_at_input else features
        positions = positions.to(features.dtype)
        for number, layer in enumerate(attention.layers):
            out = layer._forward_sa(out, positions)
            if number == 0:
                out, positions = out.expand(objects, -1, -1), positions.expand(objects, -1, -1)
            queries = layer.norm2(out)
            if layer.pos_enc_at_cross_attn_queries:
                queries = queries + positions
            attended = [memory.attend(layer, q) for q, memory in zip(queries.split(sizes), memories, strict=True)]
            out = out + (attended[0] if len(attended) == 1 else torch.cat(attended))
            out = out + layer.linear2(layer.activation(layer.linear1(layer.norm3(out))))
        normed: torch.Tensor = attention.norm(out)
        return normed


class _Memory:
    """A group's memory as all layers read it: its tokens are cast, and added to their positions, once per frame."""

    def __init__(self, group: MemoryTokens, dtype: torch.dtype) -> None:
        self._group = group
        self._values = group.tokens.to(dtype)
        self._keys = (group.tokens + group.positions).to(dtype)

    def attend(self, layer: Any, queries: torch.Tensor) -> torch.Tensor:
        """The cross attention of a layer."""
        keys = self._keys if layer.pos_enc_at_cross_attn_keys else self._values
        group = self._group
        out: torch.Tensor = layer.cross_attn_image(queries, keys, self._values, group.pointer_tokens, group.valid)
        return out
