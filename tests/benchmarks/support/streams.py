"""The tracker and upstream's video predictor behind one interface: boxes on the first frame, then frame by frame."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from sam2 import sam2_video_predictor

from stages.sam2.load import load_segmenter
from stages.sam2.segmenter import Sam2Segmenter
from stages.tracking.tracker import Tracker, TrackerOptions
from stages.types import Clock, Frame, Image, Window
from tests.benchmarks.support.stopwatch import Stopwatch
from tests.sam2.upstream import build_upstream, normalised

ENDLESS = 1 << 30  # clip length that upstream is told; below 16 it would use fewer object pointers

sam2_video_predictor.tqdm = lambda frames, desc: frames  # no progress bar inside a measurement


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model with the stopwatch of its stages."""

    network: Any  # a Sam2Segmenter, or upstream's predictor
    dtype: torch.dtype
    watch: Stopwatch
    attends: tuple[Any, str]  # owner and name of the memory attention's method

    def capturing(self) -> AbstractContextManager[None]:
        """In this context a tracker with graphs captures what it runs for the first time."""
        capturing: Callable[[], AbstractContextManager[None]] = getattr(self.network, "capturing", nullcontext)
        return capturing()

    def start(self, image: Image, boxes: NDArray[np.float32]) -> "OurStream | UpstreamStream":
        """Start a stream with one object for each of ``boxes`` (N, 4), xyxy in pixels of its first frame."""
        if isinstance(self.network, Sam2Segmenter):
            return OurStream(self.network, image, boxes)
        stream = UpstreamStream(self.network, image, boxes, self.dtype)
        self.watch.watch("encode", stream, "_pixels")
        return stream


def load_ours(
    weights: str, device: torch.device, dtype: torch.dtype, compiled: bool = False, graphs: bool = False
) -> Model:
    """Our segmenter with watched stages; ``weights`` and the flags as for load_segmenter.

    With ``graphs`` only the encoder is watched: the other stages run inside graphs.
    """
    segmenter = load_segmenter(weights, device, dtype, compiled, graphs)
    watch = Stopwatch(device)
    watch.watch("encode", segmenter, "encode")
    if graphs:
        return Model(segmenter, dtype, watch, (segmenter._model, "_attend"))
    watch.watch("attend", segmenter._model, "_attend")
    watch.watch("decode", segmenter._model, "_forward_sam_heads")
    watch.watch("memorise", segmenter, "encode_memory")
    return Model(segmenter, dtype, watch, (segmenter._model, "_attend"))


def load_upstream(
    config: Path, weights: Path, device: torch.device, dtype: torch.dtype, optimised: bool = False
) -> Model:
    """SAM2VideoPredictor, or with ``optimised`` the compiled predictor of upstream's ``vos_optimized=True``."""
    with redirect_stdout(sys.stderr):  # it prints that compiling is slow
        predictor = build_upstream(config, optimised=optimised)
    predictor.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["model"])
    predictor.to(device)
    watch = Stopwatch(device)
    watch.watch("encode", predictor, "forward_image")
    watch.watch("attend", predictor.memory_attention, "forward")
    watch.watch("decode", predictor, "_forward_sam_heads")
    watch.watch("memorise", predictor, "_encode_new_memory")
    return Model(predictor, dtype, watch, (predictor.memory_attention, "forward"))


class OurStream:
    """The tracker without gating and re-identification, which upstream does not have."""

    def __init__(self, segmenter: Sam2Segmenter, image: Image, boxes: NDArray[np.float32]) -> None:
        options = TrackerOptions(max_objects=len(boxes), lost_after=1 << 30, gate=False, reidentify=False)
        self._tracker, self._count = Tracker(segmenter, options), 0
        self.step([image])
        for box in boxes:
            self._tracker.add(box=box)

    def step(self, images: Sequence[Image]) -> torch.Tensor:
        """Track T frames; returns mask logits (T, N, h, w)."""
        frames = tuple(Frame(t, t, Fraction(1, 30), t / 30, Clock.FILE, i) for t, i in enumerate(images, self._count))
        self._count += len(frames)
        return torch.stack([result.masks for result in self._tracker.step(Window(0, frames, False), None)])


class UpstreamStream:
    """A predictor and its inference state, which holds all frames and all outputs so far.

    Like the tracker it takes uint8 images and returns masks at the mask decoder's resolution: the predictor is told
    that the video has this resolution, so that it does not resize masks to the frame size.
    """

    def __init__(self, predictor: Any, image: Image, boxes: NDArray[np.float32], dtype: torch.dtype) -> None:
        self._predictor, device = predictor, predictor.device
        self._cast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
        side = predictor.image_size // 4
        clip = ([self._pixels(image)], side, side)
        with self._cast, patch.object(sam2_video_predictor, "load_video_frames", return_value=clip):
            self.state = predictor.init_state("")
            self.state["num_frames"] = ENDLESS
            height, width = image.shape[:2]
            for number, box in enumerate(boxes * side / np.array([width, height] * 2, np.float32)):
                predictor.add_new_points_or_box(self.state, 0, number, box=box)

    def step(self, images: Sequence[Image]) -> torch.Tensor:
        """Track T frames one after the other; returns mask logits (T, N, h, w) on the host."""
        masks = []
        for image in images:
            moment = len(self.state["images"])
            self.state["images"].append(self._pixels(image))
            with self._cast:
                [(_, _, found)] = self._predictor.propagate_in_video(self.state, moment, 0)
            masks.append(found[:, 0])
        return torch.stack(masks).cpu()

    @torch.inference_mode()
    def _pixels(self, image: Image) -> torch.Tensor:
        """The model's input (3, S, S), preprocessed as in the tracker."""
        picture = torch.from_numpy(image).to(self._predictor.device, non_blocking=True)
        return normalised(self._predictor, picture[None])[0]


def held_bytes(state: dict[str, Any]) -> tuple[int, int]:
    """Bytes of the frames in an inference state, and bytes of everything else in it."""
    seen: set[int] = set()
    frames = _storage_bytes(state["images"], seen)
    return frames, _storage_bytes(state, seen)


def _storage_bytes(held: Any, seen: set[int]) -> int:
    """Bytes of all tensors in nested dictionaries and sequences; a storage shared by views counts once."""
    if isinstance(held, torch.Tensor):
        storage = held.untyped_storage()
        if storage.data_ptr() in seen:
            return 0
        seen.add(storage.data_ptr())
        return storage.nbytes()
    if isinstance(held, dict):
        held = held.values()
    elif not isinstance(held, list | tuple):
        return 0
    return sum(_storage_bytes(one, seen) for one in held)
