"""Subclasses of sam2's classes for streams: memory attention over tokens passed in, for all objects in one batch."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.image_encoder import FpnNeck
from sam2.modeling.position_encoding import apply_rotary_enc
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import LayerNorm2d

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


class _MaskableAttention(RoPEAttention):
    """RoPEAttention with an optional key mask; the same parameters, and without a mask the same result."""

    freqs_cis: torch.Tensor

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        num_k_exclude_rope: int = 0,
        valid: torch.Tensor | None = None,  # (B, keys) bool key mask
    ) -> torch.Tensor:
        q, k, v = self.q_proj(q), self.k_proj(k), self.v_proj(v)
        q, k, v = (self._separate_heads(x, self.num_heads) for x in (q, k, v))
        if self.freqs_cis.shape[0] != q.shape[-2] or self.freqs_cis.device != q.device:
            side = math.isqrt(q.shape[-2])
            self.freqs_cis = self.compute_cis(end_x=side, end_y=side).to(q.device)
        spatial = k.shape[-2] - num_k_exclude_rope
        q, rotated = apply_rotary_enc(q, k[:, :, :spatial], freqs_cis=self.freqs_cis, repeat_freqs_k=self.rope_k_repeat)
        k = torch.cat([rotated, k[:, :, spatial:]], dim=2)
        mask = None if valid is None else valid[:, None, None, :]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        attended: torch.Tensor = self.out_proj(self._recombine_heads(out))
        return attended


class StreamingSAM2(SAM2Base):
    """SAM2Base that reads its memory from groups of `MemoryTokens` instead of from upstream's dictionaries of frames.

    The groups, a sequence that holds the objects in order, are passed as upstream's argument ``output_dict``.
    """

    def make_attention_maskable(self) -> None:
        """Give the cross attentions of a plain SAM2Base a key mask."""
        for layer in self.memory_attention.layers:
            layer.cross_attn_image.__class__ = _MaskableAttention

    def with_image_size(self, image_size: int) -> "StreamingSAM2":
        """The same model for square images of another size, a multiple of 32; it shares the weights.

        It is not compiled, even if this one is.
        """
        shared = {id(weights): weights for weights in (*self.parameters(), *self.buffers())}
        other = copy.deepcopy(self, shared)  # tensors in the memo are not copied
        for owner in (other, other.sam_mask_decoder, other.memory_encoder, other.image_encoder):
            for compiled in ("_attend", "forward"):
                owner.__dict__.pop(compiled, None)
        side = image_size // self.backbone_stride
        other.image_size, other.sam_image_embedding_size = image_size, side
        prompts = other.sam_prompt_encoder
        prompts.input_image_size, prompts.image_embedding_size = (image_size,) * 2, (side,) * 2
        prompts.mask_input_size = (4 * side,) * 2
        return other

    def compile(self) -> None:
        """Compile what runs on every frame, each part that runs for every object as one graph with static shapes."""
        torch._dynamo.config.recompile_limit = 64  # a few batch sizes, each with and without a key mask
        for owner, name in ((self, "_attend"), (self.sam_mask_decoder, "forward"), (self.memory_encoder, "forward")):
            setattr(owner, name, torch.compile(getattr(owner, name), fullgraph=True, dynamic=False))
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
        sizes = [len(group.tokens) for group in groups]
        objects = sum(sizes)
        out = features + 0.1 * positions if attention.pos_enc_at_input else features
        for number, layer in enumerate(attention.layers):
            out = layer._forward_sa(out, positions)
            if number == 0:
                out, positions = out.expand(objects, -1, -1), positions.expand(objects, -1, -1)
            queries = layer.norm2(out)
            if layer.pos_enc_at_cross_attn_queries:
                queries = queries + positions
            attended = [_cross_attend(layer, q, group) for q, group in zip(queries.split(sizes), groups, strict=True)]
            out = out + (attended[0] if len(attended) == 1 else torch.cat(attended))
            out = out + layer.linear2(layer.activation(layer.linear1(layer.norm3(out))))
        normed: torch.Tensor = attention.norm(out)
        return normed


def _cross_attend(layer: Any, queries: torch.Tensor, memory: MemoryTokens) -> torch.Tensor:
    keys = memory.tokens + memory.positions if layer.pos_enc_at_cross_attn_keys else memory.tokens
    out: torch.Tensor = layer.cross_attn_image(queries, keys, memory.tokens, memory.pointer_tokens, memory.valid)
    return out
