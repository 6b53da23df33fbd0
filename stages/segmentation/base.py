"""The contract of a segmenter: masks from prompts, masks propagated from frame to frame, memories of past frames."""

from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from stages.graphs import Step, Tensors
from stages.segmentation.memory import MemoryTokens, StoredMemory
from stages.segmentation.outputs import FrameFeatures, Heads
from stages.types import Image


class Segmenter(Protocol):
    """A loaded video segmenter on one device. It holds no state of any stream: the tracker stores the memories.

    The model runs on square images of ``image_size``. ``S`` is the side of its feature map, ``L`` = S x S; masks have
    4 S x 4 S logits. ``C_mem`` and ``C`` are the channels of a spatial memory and of an object pointer.
    """

    device: torch.device
    dtype: torch.dtype  # of features and of the tokens that it attends to
    static: bool  # tensor shapes are kept to a few sizes, so that compiled graphs and GPU kernels are reused
    image_size: int
    side: int  # S
    memory_dim: int  # C_mem
    pointer_dim: int  # C
    level_dims: tuple[int, int]  # channels of the two finer levels of a frame's features
    recent_memories: int  # most recent frames whose spatial memories the model attends to
    recent_pointers: int  # most recent frames whose object pointers the model attends to

    @property
    def graph_fallbacks(self) -> int:
        """Shapes of steps that run without a graph, though this segmenter has graphs."""

    @property
    def checksum(self) -> int:
        """CRC-32 of some weights of all layers, the same on each device and in each precision."""

    def scaled(self, scale: float) -> "Segmenter":
        """The same weights for images of ``scale`` times this one's size, rounded to a size that the model takes."""

    def batch_sizes(self, objects: int) -> list[int]:
        """The sizes to which up to ``objects`` rows are padded; [1] where they are not padded."""

    def padded(self, objects: int) -> int:
        """The number of rows that a step for ``objects`` objects runs with."""

    def run(self, step: Step, shared: Tensors, rows: Tensors, **static: Hashable) -> Tensors:
        """The outputs of a step for the objects of ``rows``.

        Rows are padded with zeros to a few sizes where ``static``. A step that was captured is replayed as a graph.
        """

    def capturing(self) -> AbstractContextManager[None]:
        """Steps that run in this context are captured, where the device has graphs and this segmenter uses them."""

    def empty_heads(self) -> Heads:
        """The heads of no objects."""

    def encode(self, images: Sequence[Image]) -> list[FrameFeatures]:
        """Encode T images, uint8 (H, W, 3) RGB of any sizes, in one pass."""

    def prompt_boxes(self, frame: FrameFeatures, boxes: torch.Tensor) -> Heads:
        """Segment B objects from boxes (B, 4), xyxy in model pixels."""

    def prompt_points(self, frame: FrameFeatures, points: torch.Tensor, labels: torch.Tensor) -> Heads:
        """Segment B objects from points (B, P, 2) in model pixels.

        ``labels`` (B, P): 1 inside the object, 0 outside, 2 and 3 the corners of a box.
        """

    def prompt_mask(self, frame: FrameFeatures, mask: NDArray[np.bool_]) -> Heads:
        """Segment one object from a mask (H, W) of any size."""

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

    def propagate(self, frame: FrameFeatures, groups: Sequence[StoredMemory]) -> Heads:
        """Find the objects of all ``groups`` on the frame, in their order."""

    def encode_memory(self, frame: FrameFeatures, heads: Heads) -> torch.Tensor:
        """The spatial memories (B, L, C_mem) of B objects on the frame."""

    def memory_position_encoding(self) -> torch.Tensor:
        """The spatial position encoding of a memory, (L, C_mem); always the same tensor."""

    def memory_time_encoding(self) -> torch.Tensor:
        """The temporal encodings of spatial memories, (recent_memories + 1, C_mem).

        Index 0 is for a memory that is one frame old, 1 for two frames, and so on; the last is for conditioning frames.
        """

    def pointer_time_encoding(self, ages: torch.Tensor) -> torch.Tensor:
        """The temporal encodings (B, P, C_mem) of object pointers that are ``ages`` (B, P) frames old."""
