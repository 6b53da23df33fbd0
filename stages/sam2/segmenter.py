"""SAM 2 and 2.1: encode, prompt, propagate, memorise. Only the files of this folder touch the sam2 package.

Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024, https://arxiv.org/abs/2408.00714.

The model runs on square pictures of ``image_size``; ``S`` is the side of its feature map, image_size / 16, ``L`` S x S.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import get_1d_sine_pe

from stages.sam2.streaming import StreamingSAM2
from stages.segmentation.memory import MemoryTokens
from stages.segmentation.outputs import FrameFeatures, Heads, joined
from stages.types import Image

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ENDLESS = 1 << 30  # the stream's length, as far as sam2 asks
_STEP = 32  # pixels: what the side of the input is a multiple of
_GROUP = 64  # objects that go through the model at once,
_STATIC_GROUP = 16  # and on a GPU, where the keys of one take tens of megabytes and sizes should be few
_CERTAIN = 32.0  # logits beyond it are clamped before they prompt a correction, as upstream does


class Sam2Segmenter:
    """A loaded SAM 2 on one device; a `stages.segmentation.base.Segmenter`."""

    def __init__(self, model: SAM2Base, device: torch.device, dtype: torch.dtype, compiled: bool = False) -> None:
        model.__class__ = StreamingSAM2
        self._model: Any = model.to(device).eval().requires_grad_(False)
        self._model.adopt()
        if compiled:
            self._model.compile()
        self.device = device
        self._dtype = dtype
        self._others: dict[int, Sam2Segmenter] = {}  # the same weights for other sizes
        self.static = device.type != "cpu" or compiled  # few shapes, so that graphs and kernels are used again
        self._cast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
        self.image_size: int = model.image_size
        self.side = self.image_size // model.backbone_stride
        self.memory_dim: int = model.mem_dim
        self.pointer_dim: int = model.hidden_dim
        self.recent_memories: int = model.num_maskmem - 1
        self.recent_pointers: int = model.max_obj_ptrs_in_encoder - 1
        self._mean = torch.tensor(_MEAN, device=device)[:, None, None]
        self._std = torch.tensor(_STD, device=device)[:, None, None]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The weights, under upstream's names."""
        return dict(self._model.state_dict())

    def scaled(self, scale: float) -> "Sam2Segmenter":
        """The same weights for pictures of ``scale`` times this one's size, to the nearest multiple of 32.

        Never compiled: compiling takes a minute, in which no stream would move.
        """
        size = max(_STEP, round(self.image_size * scale / _STEP) * _STEP)
        if size == self.image_size:
            return self
        if size not in self._others:
            self._others[size] = Sam2Segmenter(self._model.at(size), self.device, self._dtype)
        return self._others[size]

    @torch.inference_mode()
    def encode(self, images: Sequence[Image]) -> list[FrameFeatures]:
        """One encoder pass for T pictures of one size, uint8 (H, W, 3) RGB."""
        pixels = torch.cat([self._scaled(image) for image in images])
        with self._cast:
            encoded = self._model.forward_image(pixels)
        _, vision, positions, sizes = self._model._prepare_backbone_features(encoded)
        small = F.interpolate(pixels, (4 * self.side, 4 * self.side), mode="area")
        frames = [
            FrameFeatures([v[:, t : t + 1] for v in vision], positions[-1][:, t : t + 1], sizes, small[t])
            for t in range(len(images))
        ]
        # a view's strides tell the window's length, and graphs hold for one
        return [frame.alone() for frame in frames] if self.static else frames

    def _scaled(self, image: Image) -> torch.Tensor:
        """A picture as the model takes it, (1, 3, image_size, image_size); one by one, large ones stay in the cache."""
        held = torch.from_numpy(np.ascontiguousarray(image))
        pixels = (held.pin_memory() if self.device.type == "cuda" else held).to(self.device, non_blocking=True)
        pixels = pixels.permute(2, 0, 1)[None].float() / 255
        size = (self.image_size, self.image_size)
        return (F.interpolate(pixels, size, mode="bilinear", antialias=True) - self._mean) / self._std

    def nothing(self) -> Heads:
        """The heads of no objects."""
        empty = torch.zeros(0, device=self.device)
        return Heads(empty.reshape(0, 4 * self.side, 4 * self.side), empty, empty.reshape(0, self.pointer_dim))

    @torch.inference_mode()
    def propagate(self, frame: FrameFeatures, memory: MemoryTokens) -> Heads:
        """Find the B objects of ``memory`` on the frame."""
        return self._in_groups(
            len(memory.tokens), lambda rows, size: self._decode(frame, size, memory=memory.rows(rows).padded(size))
        )

    @torch.inference_mode()
    def prompt_points(self, frame: FrameFeatures, points: torch.Tensor, labels: torch.Tensor) -> Heads:
        """Objects from points (B, P, 2), model pixels; labels (B, P): 1 inside, 0 outside, 2 and 3 a box's corners."""
        return self._in_groups(
            len(points),
            lambda rows, size: self._decode(frame, size, points=self._points(points[rows], labels[rows], size)),
        )

    def prompt_boxes(self, frame: FrameFeatures, boxes: torch.Tensor) -> Heads:
        """Objects from boxes (B, 4), xyxy in model pixels."""
        corners = torch.tensor([[2, 3]]).expand(len(boxes), 2)
        return self.prompt_points(frame, boxes.reshape(-1, 2, 2), corners)

    @torch.inference_mode()
    def prompt_mask(self, frame: FrameFeatures, mask: NDArray[np.bool_]) -> Heads:
        """One object from a mask (H, W) of any size."""
        inputs = torch.from_numpy(mask)[None, None].float().to(self.device)
        size = (self.image_size, self.image_size)
        if inputs.shape[-2:] != size:
            inputs = (F.interpolate(inputs, size, mode="bilinear", antialias=True) >= 0.5).float()
        return self._decode(frame, 1, masks=inputs)

    @torch.inference_mode()
    def correct(
        self,
        frame: FrameFeatures,
        points: torch.Tensor,
        labels: torch.Tensor,
        masks: torch.Tensor,
        memory: MemoryTokens | None,
    ) -> Heads:
        """One object segmented again from points and labels as above and its mask (1, 4 S, 4 S) so far.

        ``memory`` is what is remembered of earlier frames, None on the frame of the first prompt.
        """
        before = masks[:, None].clamp(-_CERTAIN, _CERTAIN)
        return self._decode(frame, 1, memory, self._points(points, labels, 1), before=before)

    def _in_groups(self, objects: int, decode: Callable[[slice, int], Heads]) -> Heads:
        """What ``decode`` says of all objects; it gets some of their rows and the number of objects to pad them to."""
        return joined([decode(rows, size).take(slice(rows.stop - rows.start)) for rows, size in self._groups(objects)])

    def sizes(self, objects: int) -> list[int]:
        """The numbers of objects that the model runs with, of up to ``objects``; [1] where they are not padded."""
        largest = self._groups(objects)[0][1] if self.static else 1
        return [1 << power for power in range(largest.bit_length())]

    def _groups(self, objects: int) -> list[tuple[slice, int]]:
        """Rows that go through the model together, and the number of objects to pad them to."""
        most = _STATIC_GROUP if self.static else _GROUP
        groups = [slice(start, min(start + most, objects)) for start in range(0, objects, most)]
        sizes = [rows.stop - rows.start for rows in groups]
        return [(rows, 1 << (n - 1).bit_length() if self.static else n) for rows, n in zip(groups, sizes, strict=True)]

    def _points(self, points: torch.Tensor, labels: torch.Tensor, objects: int) -> dict[str, torch.Tensor]:
        """sam2's point inputs, padded to a number of objects."""
        more = objects - len(points)
        coordinates = F.pad(points.to(self.device), (0, 0, 0, 0, 0, more))
        return {
            "point_coords": coordinates,
            "point_labels": F.pad(labels.to(self.device, torch.int32), (0, 0, 0, more)),
        }

    def _decode(
        self,
        frame: FrameFeatures,
        objects: int,
        memory: MemoryTokens | None = None,
        points: dict[str, torch.Tensor] | None = None,
        masks: torch.Tensor | None = None,
        before: torch.Tensor | None = None,
    ) -> Heads:
        with self._cast:
            out = self._model.track_step(
                frame_idx=0,
                is_init_cond_frame=memory is None,
                current_vision_feats=[v.expand(-1, objects, -1) for v in frame.vision],
                current_vision_pos_embeds=[frame.positions.expand(-1, objects, -1)],
                feat_sizes=frame.sizes,
                point_inputs=points,
                mask_inputs=masks,
                output_dict=memory,
                num_frames=_ENDLESS,
                run_mem_encoder=False,
                prev_sam_mask_logits=before,
            )
        logits, presence = out["pred_masks"][:, 0].float(), out["object_score_logits"][:, 0].float()
        return Heads(logits, presence, out["obj_ptr"]).finite()

    @torch.inference_mode()
    def memorise(self, frame: FrameFeatures, heads: Heads) -> torch.Tensor:
        """The spatial memories (B, L, C_mem) of B objects on the frame."""
        parts = []
        for rows, size in self._groups(len(heads.masks)):
            masks, presence = heads.masks[rows], heads.presence[rows]
            more = size - len(masks)
            padded = F.pad(masks, (0, 0, 0, 0, 0, more)), F.pad(presence, (0, more))
            parts.append(self._memorise(frame, *padded)[: len(masks)])
        return torch.cat(parts)

    def _memorise(self, frame: FrameFeatures, masks: torch.Tensor, presence: torch.Tensor) -> torch.Tensor:
        size = (self.image_size, self.image_size)
        with self._cast:
            memory, _ = self._model._encode_new_memory(
                current_vision_feats=[v.expand(-1, len(masks), -1) for v in frame.vision],
                feat_sizes=frame.sizes,
                pred_masks_high_res=F.interpolate(masks[:, None], size, mode="bilinear", align_corners=False),
                object_score_logits=presence[:, None],
                is_mask_from_pts=False,
            )
        encoded: torch.Tensor = memory.flatten(2).transpose(1, 2)
        return encoded

    @torch.inference_mode()
    def memory_places(self) -> torch.Tensor:
        """The code of each place in a spatial memory, (L, C_mem)."""
        like = torch.zeros(1, self.memory_dim, self.side, self.side, device=self.device)
        codes: torch.Tensor = self._model.memory_encoder.position_encoding(like)
        return codes.flatten(2)[0].T

    @torch.inference_mode()
    def memory_ages(self) -> torch.Tensor:
        """The code of a spatial memory's age, (num_maskmem, C_mem): one frame at 0, ..., conditioning frames last."""
        ages: torch.Tensor = self._model.maskmem_tpos_enc[:, 0, 0].detach()
        return ages

    @torch.inference_mode()
    def pointer_ages(self, frames: torch.Tensor) -> torch.Tensor:
        """The codes (B, P, C_mem) of pointers that are ``frames`` (B, P) old."""
        if not self._model.add_tpos_enc_to_obj_ptrs:
            return torch.zeros(*frames.shape, self.memory_dim, device=self.device)
        dim = self.pointer_dim if self._model.proj_tpos_enc_in_obj_ptrs else self.memory_dim
        codes: torch.Tensor = self._model.obj_ptr_tpos_proj(get_1d_sine_pe(frames / self.recent_pointers, dim=dim))
        return codes
