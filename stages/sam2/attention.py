"""The attention layers of SAM 2's memory attention, with a key mask: one form for the CPU, one for GPUs.

Both have the parameters of sam2's RoPEAttention and give its result. They differ in what a device runs fast.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.position_encoding import apply_rotary_enc
from sam2.modeling.sam.transformer import RoPEAttention

from stages.sam2.split_attention import Splitting, attend_in_parts, splitting_of


@dataclass(frozen=True, slots=True)
class LeanOptions:
    """How `LeanAttention` runs.

    ``narrow``: the values keep the memory's channels, and are projected after they have been attended to.
    ``splitting``: None where keys are never split.
    """

    narrow: bool = True
    splitting: Splitting | None = None


class MaskableAttention(RoPEAttention):
    """RoPEAttention with an optional key mask: the fastest on a CPU. RoPE multiplies complex numbers."""

    freqs_cis: torch.Tensor

    def forward(
        self,
        q: torch.Tensor,  # (B, queries, C)
        k: torch.Tensor,  # (B, keys, C_mem)
        v: torch.Tensor,  # (B, keys, C_mem)
        num_k_exclude_rope: int = 0,  # how many of the last keys get no rotary encoding
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
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=_of_all_queries(valid))
        attended: torch.Tensor = self.out_proj(self._recombine_heads(out))
        return attended


class LeanAttention(RoPEAttention):
    """RoPEAttention with an optional key mask, for GPUs: few kernels, few copies, nothing that a compiler cannot trace.

    RoPE has real cosines and sines, computed once, and rotates the projected keys in place. Rows of the softmax sum to
    one. So the values can be attended to in the channels of the memory, a quarter of the layer's in SAM 2, and be
    projected afterwards. Where few objects leave a part of the GPU without work, the keys are split (`Splitting`).
    """

    cosines: torch.Tensor  # (L, channels of a head), float32
    sines: torch.Tensor  # the same; those of even channels are negative
    narrow: bool
    splitting: Splitting | None

    def prepare(self, cosines: torch.Tensor, sines: torch.Tensor, options: LeanOptions) -> None:
        """Set the rotary codes of one feature map, and how to run; again for another size."""
        self.__dict__.pop("freqs_cis", None)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        one_head = self.num_heads == 1
        self.narrow = options.narrow and one_head and self.kv_in_dim < self.internal_dim
        self.splitting = options.splitting if one_head else None

    def forward(
        self,
        q: torch.Tensor,  # (B, L, C)
        k: torch.Tensor,  # (B, M * L + ``num_k_exclude_rope``, C_mem)
        v: torch.Tensor,  # the same shape
        num_k_exclude_rope: int = 0,  # how many of the last keys get no rotary encoding
        valid: torch.Tensor | None = None,  # (B, keys) bool key mask
    ) -> torch.Tensor:
        queries, keys = self._separated(self.q_proj(q)), self._separated(self.k_proj(k))
        self._rotate(queries)
        self._rotate(keys[:, :, : keys.shape[2] - num_k_exclude_rope])
        values = v[:, None] if self.narrow else self._separated(self.v_proj(v))
        out = self._recombine_heads(self._attend(queries, keys, values, valid))
        attended: torch.Tensor = self.out_proj(self.v_proj(out) if self.narrow else out)
        return attended

    def _separated(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, C) -> (B, heads, N, C / heads), a view."""
        separated: torch.Tensor = x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        return separated

    def _rotate(self, x: torch.Tensor) -> None:
        """Rotate the channels of (B, heads, M * L, C) in pairs, in place; M feature maps of L places."""
        maps = x.unflatten(2, (-1, len(self.cosines)))
        pairs = maps.unflatten(-1, (-1, 2))
        swapped = pairs.flip(-1).flatten(-2)
        maps.mul_(self.cosines).addcmul_(swapped, self.sines)

    def _attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, valid: torch.Tensor | None
    ) -> torch.Tensor:
        parts = 1
        if self.splitting is not None and valid is None:
            parts = self.splitting.parts(len(queries), queries.shape[2], keys.shape[2])
        if self.splitting is None or parts == 1:
            return F.scaled_dot_product_attention(queries, keys, values, attn_mask=_of_all_queries(valid))
        return attend_in_parts(queries, keys, values, parts, self.splitting.attend)


def _of_all_queries(valid: torch.Tensor | None) -> torch.Tensor | None:
    return None if valid is None else valid[:, None, None, :]


def rotary_codes(compute: Callable[..., torch.Tensor], side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The cosines and sines (side * side, C) of a feature map, as `LeanAttention` takes them.

    ``compute``: a RoPEAttention's ``compute_cis``. A complex product (a + bi)(cos + i sin) is the pair
    (a cos - b sin, b cos + a sin), so each channel has its cosine, and the sine that its neighbour is multiplied by.
    """
    codes = compute(end_x=side, end_y=side)
    cosines, sines = codes.real, codes.imag
    return cosines.repeat_interleave(2, dim=1), torch.stack([-sines, sines], dim=2).flatten(1)


def use_maskable_attention(memory_attention: Any) -> None:
    """Give the cross attentions of a MemoryAttention a key mask."""
    for layer in memory_attention.layers:
        layer.cross_attn_image.__class__ = MaskableAttention


def use_lean_attention(memory_attention: Any, side: int, options: LeanOptions) -> None:
    """Make all attentions of a MemoryAttention lean, for feature maps of ``side`` x ``side``."""
    codes: dict[tuple[int, float], tuple[torch.Tensor, torch.Tensor]] = {}
    for layer in memory_attention.layers:
        for attention in (layer.self_attn, layer.cross_attn_image):
            compute = attention.compute_cis
            key = compute.keywords["dim"], compute.keywords["theta"]
            if key not in codes:
                device = attention.q_proj.weight.device
                cosines, sines = rotary_codes(compute, side)
                codes[key] = cosines.to(device), sines.to(device)
            attention.__class__ = LeanAttention
            attention.prepare(*codes[key], options)


def lean_options(memory_attention: Any, device: torch.device, dtype: torch.dtype, compiled: bool) -> LeanOptions | None:
    """How the attentions run best on the device; None: not as `LeanAttention`, which on a CPU takes longer."""
    if device.type == "cpu" and not compiled:
        return None
    if device.type != "cuda" or dtype == torch.float32:
        return LeanOptions()
    across = memory_attention.layers[0].cross_attn_image
    splitting = splitting_of(device, dtype, across.internal_dim // across.num_heads, across.kv_in_dim)
    # no other kernel that is fast takes values with fewer channels than the keys
    return LeanOptions(narrow=splitting is not None, splitting=splitting)
