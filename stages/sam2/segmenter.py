"""SAM 2 and 2.1 as a segmenter: encode, prompt, propagate, encode memories.

Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024, https://arxiv.org/abs/2408.00714.

The model runs on square images of ``image_size``; ``S`` is the side of its feature map, image_size / 16, ``L`` S x S.
In stages and daemon only the modules of stages/sam2 use the sam2 package.
"""

import math
import zlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import get_1d_sine_pe

from stages.graphs import Graphs, Step, Tensors, run_padded
from stages.sam2.attention import LeanOptions, lean_options
from stages.sam2.precision import round_weights
from stages.sam2.streaming import StreamingSAM2
from stages.segmentation.memory import MemoryTokens, StoredMemory
from stages.segmentation.outputs import PICTURE_MEAN, PICTURE_STD, FrameFeatures, Heads, concatenate
from stages.types import Image

_VIDEO_LENGTH = 1 << 30  # frames; sam2 wants a number, a stream has no end
_SIZE_STEP = 32  # pixels; the side of the input is a multiple of it
_MAX_BATCH = 64  # most objects in one forward pass
_MAX_STATIC_BATCH = 16  # the same on a GPU: the keys of one object take tens of megabytes, and sizes should be few
_CHECKED = 8  # numbers of each tensor of weights that are in the checksum
_MAX_LOGIT = 32.0  # logits are clamped to +- this before they prompt a correction, as upstream does


class Sam2Segmenter:
    """A loaded SAM 2 on one device; a `stages.segmentation.base.Segmenter`. It holds no state of any stream."""

    def __init__(
        self,
        model: SAM2Base,
        device: torch.device,
        dtype: torch.dtype,
        compiled: bool = False,
        graphs: Graphs | None = None,
        lean: LeanOptions | None = None,
    ) -> None:
        """``dtype``: float32, or bfloat16, to which weights are rounded; ``compiled`` compiles all that runs per frame.

        ``graphs`` runs what is captured. ``lean``: how memory attention runs; None chooses by the device.
        """
        model.__class__ = StreamingSAM2
        self._model: Any = model.to(device).eval().requires_grad_(False)
        self._model.move_position_codes()
        self._lean = lean or lean_options(model.memory_attention, device, dtype, compiled)
        self._model.prepare_attention(self._lean)
        if dtype != torch.float32:
            round_weights(self._model, dtype)
        if compiled:
            self._model.compile()
        self.device = device
        self.dtype = dtype
        self._scaled_models: dict[int, Sam2Segmenter] = {}  # the same weights for other image sizes, by size
        self.static = device.type != "cpu" or compiled or graphs is not None
        self.graphs = graphs
        self.image_size: int = model.image_size
        self.side = self.image_size // model.backbone_stride
        self.memory_dim: int = model.mem_dim
        self.pointer_dim: int = model.hidden_dim
        fine = model.use_high_res_features_in_sam
        self.level_dims = (model.hidden_dim // 8, model.hidden_dim // 4) if fine else (model.hidden_dim,) * 2
        self.recent_memories: int = model.num_maskmem - 1
        self.recent_pointers: int = model.max_obj_ptrs_in_encoder - 1
        self._memory_positions: torch.Tensor | None = None
        self._mean = torch.tensor(PICTURE_MEAN, device=device)[:, None, None]
        self._std = torch.tensor(PICTURE_STD, device=device)[:, None, None]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The weights as they are kept, under upstream's names."""
        return dict(self._model.state_dict())

    @cached_property
    def checksum(self) -> int:
        """CRC-32 of some weights of all layers, the same on each device and in each precision.

        They are rounded to bfloat16 first, since that is all that the lowest precision has of them.
        """
        weights = [tensor.flatten() for _, tensor in sorted(self.state_dict().items()) if tensor.is_floating_point()]
        some = torch.cat([each[:: max(1, len(each) // _CHECKED)][:_CHECKED].bfloat16() for each in weights])
        return zlib.crc32(some.view(torch.int16).cpu().numpy().tobytes())

    def scaled(self, scale: float) -> "Sam2Segmenter":
        """The same weights for images of ``scale`` times this one's size, to the nearest multiple of 32.

        Never compiled: that takes time, during which every stream would wait.
        """
        size = max(_SIZE_STEP, round(self.image_size * scale / _SIZE_STEP) * _SIZE_STEP)
        if size == self.image_size:
            return self
        if size not in self._scaled_models:
            model = self._model.with_image_size(size)
            self._scaled_models[size] = Sam2Segmenter(
                model, self.device, self.dtype, graphs=self.graphs, lean=self._lean
            )
        return self._scaled_models[size]

    @property
    def graph_fallbacks(self) -> int:
        """Shapes of steps for which there is no graph, though this segmenter has graphs."""
        return self.graphs.fallbacks if self.graphs else 0

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """What runs in this context is captured, if this segmenter has graphs."""
        if self.graphs is None:
            yield
        else:
            with self.graphs.capturing():
                yield

    @torch.inference_mode()
    def run(self, step: Step, shared: Tensors, rows: Tensors, **static: Hashable) -> Tensors:
        """Run a step: from a graph, if it was captured; where ``static``, with padded rows."""
        size = self.padded(len(rows[0]))
        if self.graphs is None:
            return run_padded(step, size, shared, rows, static)
        return self.graphs.run(step, size, shared, rows, static)

    @torch.inference_mode()
    def encode(self, images: Sequence[Image]) -> list[FrameFeatures]:
        """Encode T images, uint8 (H, W, 3) RGB of any sizes, in one pass."""
        pixels = torch.cat([self._preprocess(image) for image in images])
        *vision, positions, pictures = self.run(self._encode, (), (pixels,))
        frames = []
        for t, picture in enumerate(pictures):
            levels = [level[t][:, None] for level in vision]
            sizes = [(math.isqrt(len(level)),) * 2 for level in levels]
            frames.append(FrameFeatures(levels, positions[t][:, None], sizes, picture))
        # the strides of a view depend on the window's length, and a compiled graph is valid for one of them only
        return [frame.copy() for frame in frames] if self.static else frames

    def _encode(self, _: Tensors, rows: Tensors) -> Tensors:
        """Images (T, 3, image_size, image_size) -> the levels of features, position codes, pictures, each (T, ...)."""
        (pixels,) = rows
        encoded = self._model.forward_image(pixels)
        _, vision, positions, _ = self._model._prepare_backbone_features(encoded)
        pictures = F.interpolate(pixels, (4 * self.side, 4 * self.side), mode="area")
        return *(level.transpose(0, 1) for level in (*vision, positions[-1])), pictures

    def _preprocess(self, image: Image) -> torch.Tensor:
        """The model's input for one image, (1, 3, image_size, image_size).

        Images are resized one by one, so that a large one stays in the CPU's cache.
        """
        source = torch.from_numpy(np.ascontiguousarray(image))
        pixels = (source.pin_memory() if self.device.type == "cuda" else source).to(self.device, non_blocking=True)
        pixels = pixels.permute(2, 0, 1)[None].float() / 255
        size = (self.image_size, self.image_size)
        return (F.interpolate(pixels, size, mode="bilinear", antialias=True) - self._mean) / self._std

    def empty_heads(self) -> Heads:
        """The heads of no objects."""
        empty = torch.zeros(0, device=self.device)
        return Heads(empty.reshape(0, 4 * self.side, 4 * self.side), empty, empty.reshape(0, self.pointer_dim))

    @torch.inference_mode()
    def propagate(self, frame: FrameFeatures, groups: Sequence[StoredMemory]) -> Heads:
        """Find the objects of all ``groups`` on the frame, in their order."""
        objects = sum(len(group.rows[0]) for group in groups)
        if not self.static and objects <= _MAX_BATCH:
            return self._decode(frame, objects, memory=[group.tokens for group in groups])
        parts = []
        for group in groups:
            shared = group.clock, frame.positions, *frame.vision
            for rows in self._batches(len(group.rows[0])):
                tensors = tuple(tensor[rows] for tensor in group.rows)
                parts.append(Heads(*self.run(self._propagate, shared, tensors, read=group.read)))
        return concatenate(parts)

    def _propagate(
        self, shared: Tensors, rows: Tensors, read: Callable[[torch.Tensor, Tensors], MemoryTokens]
    ) -> Tensors:
        """The heads of the B objects whose stored memory is ``rows``."""
        clock, *features = shared
        return self._decode(self._frame(features), len(rows[0]), memory=[read(clock, rows)])

    @torch.inference_mode()
    def prompt_points(self, frame: FrameFeatures, points: torch.Tensor, labels: torch.Tensor) -> Heads:
        """Segment B objects from points (B, P, 2) in model pixels.

        ``labels`` (B, P): 1 inside the object, 0 outside, 2 and 3 the corners of a box.
        """
        shared, inputs = (frame.positions, *frame.vision), self._point_inputs(points, labels)
        batches = self._batches(len(points))
        return concatenate(
            [Heads(*self.run(self._segment, shared, tuple(tensor[rows] for tensor in inputs))) for rows in batches]
        )

    def _segment(self, shared: Tensors, rows: Tensors) -> Tensors:
        """The heads of the B objects that points and labels show."""
        return self._decode(self._frame(shared), len(rows[0]), points=rows)

    def prompt_boxes(self, frame: FrameFeatures, boxes: torch.Tensor) -> Heads:
        """Segment B objects from boxes (B, 4), xyxy in model pixels."""
        corners = torch.tensor([[2, 3]]).expand(len(boxes), 2)
        return self.prompt_points(frame, boxes.reshape(-1, 2, 2), corners)

    @torch.inference_mode()
    def prompt_mask(self, frame: FrameFeatures, mask: NDArray[np.bool_]) -> Heads:
        """Segment one object from a mask (H, W) of any size."""
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
        """Segment one object again from points and labels as in `prompt_points` and its mask (1, 4 S, 4 S) so far.

        ``memory`` holds what is stored of earlier frames; None on the frame of the first prompt.
        """
        previous = masks[:, None].clamp(-_MAX_LOGIT, _MAX_LOGIT)
        groups = None if memory is None else [memory]
        return self._decode(frame, 1, groups, self._point_inputs(points, labels), previous_masks=previous)

    def padded(self, objects: int) -> int:
        """The number of objects with which the model runs for ``objects``: a power of two where ``static``."""
        return 1 << max(0, objects - 1).bit_length() if self.static else objects

    def batch_sizes(self, objects: int) -> list[int]:
        """The sizes to which up to ``objects`` rows are padded; [1] where they are not padded."""
        largest = self.padded(objects) if self.static else 1
        return [1 << power for power in range(largest.bit_length())]

    def _batches(self, objects: int) -> list[slice]:
        """The rows of each forward pass."""
        most = _MAX_STATIC_BATCH if self.static else _MAX_BATCH
        return [slice(start, min(start + most, objects)) for start in range(0, objects, most)]

    def _point_inputs(self, points: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return points.to(self.device), labels.to(self.device, torch.int32)

    def _frame(self, features: Sequence[torch.Tensor]) -> FrameFeatures:
        """The features of a frame from position codes and levels; they have no picture."""
        positions, *vision = features
        sizes = [(math.isqrt(len(level)),) * 2 for level in vision]
        return FrameFeatures(vision, positions, sizes, positions.new_empty(0))

    def _decode(
        self,
        frame: FrameFeatures,
        objects: int,
        memory: Sequence[MemoryTokens] | None = None,
        points: Sequence[torch.Tensor] | None = None,
        masks: torch.Tensor | None = None,
        previous_masks: torch.Tensor | None = None,
    ) -> Heads:
        out = self._model.track_step(
            frame_idx=0,
            is_init_cond_frame=memory is None,
            current_vision_feats=[v.expand(-1, objects, -1) for v in frame.vision],
            current_vision_pos_embeds=[frame.positions.expand(-1, objects, -1)],
            feat_sizes=frame.sizes,
            point_inputs=None if points is None else {"point_coords": points[0], "point_labels": points[1]},
            mask_inputs=masks,
            output_dict=memory,
            num_frames=_VIDEO_LENGTH,
            run_mem_encoder=False,
            prev_sam_mask_logits=previous_masks,
        )
        logits, presence = out["pred_masks"][:, 0].float(), out["object_score_logits"][:, 0].float()
        return Heads(logits, presence, out["obj_ptr"]).finite()

    @torch.inference_mode()
    def encode_memory(self, frame: FrameFeatures, heads: Heads) -> torch.Tensor:
        """The spatial memories (B, L, C_mem) of B objects on the frame."""
        shared = (frame.vision[-1],)
        batches = self._batches(len(heads.masks))
        return torch.cat(
            [self.run(self._memorise, shared, (heads.masks[rows], heads.presence[rows]))[0] for rows in batches]
        )

    def _memorise(self, shared: Tensors, rows: Tensors) -> Tensors:
        """The memories (B, L, C_mem) of masks (B, 4 S, 4 S) and presence (B,), on the coarsest level of features."""
        (features,), (masks, presence) = shared, rows
        size = (self.image_size, self.image_size)
        memory, _ = self._model._encode_new_memory(
            current_vision_feats=[features.expand(-1, len(masks), -1)],
            feat_sizes=[(self.side, self.side)],
            pred_masks_high_res=F.interpolate(masks[:, None], size, mode="bilinear", align_corners=False),
            object_score_logits=presence[:, None],
            is_mask_from_pts=False,
        )
        return (memory.flatten(2).transpose(1, 2),)

    @torch.inference_mode()
    def memory_position_encoding(self) -> torch.Tensor:
        """The spatial position encoding of a memory, (L, C_mem); always the same tensor."""
        if self._memory_positions is not None:
            return self._memory_positions
        like = torch.zeros(1, self.memory_dim, self.side, self.side, device=self.device)
        codes: torch.Tensor = self._model.memory_encoder.position_encoding(like)
        self._memory_positions = codes.flatten(2)[0].T.contiguous()
        return self._memory_positions

    @torch.inference_mode()
    def memory_time_encoding(self) -> torch.Tensor:
        """The temporal encodings of spatial memories, (num_maskmem, C_mem): one frame old first, conditioning last."""
        ages: torch.Tensor = self._model.maskmem_tpos_enc[:, 0, 0].detach()
        return ages

    @torch.inference_mode()
    def pointer_time_encoding(self, ages: torch.Tensor) -> torch.Tensor:
        """The temporal encodings (B, P, C_mem) of object pointers that are ``ages`` (B, P) frames old."""
        if not self._model.add_tpos_enc_to_obj_ptrs:
            return torch.zeros(*ages.shape, self.memory_dim, device=self.device)
        dim = self.pointer_dim if self._model.proj_tpos_enc_in_obj_ptrs else self.memory_dim
        codes: torch.Tensor = self._model.obj_ptr_tpos_proj(get_1d_sine_pe(ages / self.recent_pointers, dim=dim))
        return codes
