"""CUDA graphs: a step that was captured once is replayed with one launch, instead of some hundred launches.

A step is a pure function of tensors. All that changes from frame to frame is in tensors, and no step asks the device
for a value.

A graph reads its inputs from tensors at fixed addresses. Rows are padded with zeros to a few sizes, so that few graphs
serve any number of objects. Graphs of one step use the same input tensors if the largest size is captured first.
"""

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

import torch
import torch.nn.functional as F

Tensors = tuple[torch.Tensor, ...]
Step = Callable[..., Tensors]
"""A pure function ``step(shared, rows, **static) -> outputs``.

The tensors of ``rows`` and ``outputs`` have one row per object, those of ``shared`` have not; ``static`` are hashable
values. Where ``rows`` is empty, ``outputs`` may have any shapes.
"""

TOLERANCE = 0.02  # largest difference of a graph's outputs from the step's, as a share of the largest value
CHECKED_REPLAYS = 2  # how often a graph is compared with its step; the second time it has other inputs

log = logging.getLogger(__name__)


class Graph(Protocol):
    """Operations that were captured with the addresses of their tensors."""

    def replay(self) -> None:
        """Run them all again."""


class Graphs:
    """The graphs of one model; captured and replayed by one thread, in inference mode."""

    def __init__(self, model: str, capture: Callable[[Callable[[], Tensors]], tuple[Graph, Tensors]]) -> None:
        """``capture`` runs a function and returns what it did as a graph, and the outputs that the graph writes.

        ``model``: what warnings call it.
        """
        self._model = model
        self.captured = 0
        self.fallbacks = 0  # shapes of steps for which there is no graph
        self._capture = capture
        self._capturing = False
        self._replays: dict[Hashable, _Replay | None] = {}  # None: this shape of the step runs as it is
        self._inputs: dict[Hashable, _Input] = {}
        self._warned: set[str] = set()

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Shapes of steps that run in this context for the first time are captured."""
        self._capturing = True
        try:
            yield
        finally:
            self._capturing = False

    def run(self, step: Step, size: int, shared: Tensors, rows: Tensors, static: dict[str, Hashable]) -> Tensors:
        """The outputs of ``step`` for the B objects of ``rows``: by the graph for ``size`` objects, if there is one.

        ``size`` is the batch, for messages, where ``rows`` is empty.
        """
        key = (
            (step, size, *static.items()),
            tuple((tensor.shape, tensor.dtype) for tensor in shared),
            tuple((tensor.shape[1:], tensor.dtype) for tensor in rows),
        )
        if key not in self._replays:
            self._replays[key] = self._captured(step, size, shared, rows, static)
        replay = self._replays[key]
        if replay is None:
            return run_padded(step, size, shared, rows, static)
        outputs = replay(shared, rows)
        if replay.count <= CHECKED_REPLAYS:
            expected = run_padded(step, size, shared, rows, static)
            if not all(_close(*pair) for pair in zip(outputs, expected, strict=True)):
                self.captured -= 1
                self._replays[key] = None
                self.leave_out(_name(step), size, "its graph gives other results")
                return expected
        return outputs

    def _captured(
        self, step: Step, size: int, shared: Tensors, rows: Tensors, static: dict[str, Hashable]
    ) -> "_Replay | None":
        if not self._capturing:
            self.leave_out(_name(step), size, "this shape was not expected")
            return None
        before = set(self._inputs)
        try:
            inputs = [self._input(step, number, like.shape, like) for number, like in enumerate(shared)]
            row_inputs = [self._input(step, ~number, (size, *like.shape[1:]), like) for number, like in enumerate(rows)]
            replay = _Replay(inputs, row_inputs, size)
            replay.fill(shared, rows)
            replay.graph, replay.outputs = self._capture(lambda: step(*replay.tensors, **static))
        except Exception as error:  # whatever a driver, a kernel or the allocator objects to
            log.debug("capture failed", exc_info=True)
            reason = (str(error) or type(error).__name__).splitlines()[0]
            self.leave_out(_name(step), size, f"capture failed: {reason}")
            for made in self._inputs.keys() - before:
                del self._inputs[made]
            return None
        self.captured += 1
        return replay

    def _input(self, step: Step, number: int, shape: Sequence[int], like: torch.Tensor) -> "_Input":
        """The input that all graphs of a step share which read this format; a new one if it has too few rows."""
        key = step, number, tuple(shape if number >= 0 else shape[1:]), like.dtype
        if key not in self._inputs or self._inputs[key].tensor.shape[:1] < torch.Size(shape[:1]):
            self._inputs[key] = _Input(like.new_zeros(shape))
        return self._inputs[key]

    def leave_out(self, name: str, size: int, reason: str) -> None:
        """Count a shape of a step that runs without a graph; the first of each step is a warning."""
        self.fallbacks += 1
        level = logging.DEBUG if name in self._warned else logging.WARNING
        self._warned.add(name)
        log.log(
            level, "%s: %s runs without a CUDA graph for a batch of %d, and slower: %s", self._model, name, size, reason
        )


class _Input:
    """A tensor at a fixed address from which graphs read; the rows that are not in use are zeros."""

    def __init__(self, zeros: torch.Tensor) -> None:
        self.tensor = zeros
        self._filled = 0

    def fill(self, value: torch.Tensor) -> None:
        """Copy ``value`` into the first rows."""
        if not value.ndim:
            self.tensor.copy_(value)
            return
        self.tensor[: len(value)].copy_(value)
        if len(value) < self._filled:
            self.tensor[len(value) : self._filled].zero_()
        self._filled = len(value)


class _Replay:
    """One graph with its inputs and outputs."""

    graph: Graph
    outputs: Tensors

    def __init__(self, shared: Sequence[_Input], rows: Sequence[_Input], size: int) -> None:
        self.count = 0
        self._shared, self._rows, self._size = shared, rows, size

    @property
    def tensors(self) -> tuple[Tensors, Tensors]:
        """What the graph reads."""
        shared = tuple(each.tensor for each in self._shared)
        return shared, tuple(each.tensor[: self._size] for each in self._rows)

    def fill(self, shared: Tensors, rows: Tensors) -> None:
        """Copy the inputs of the next replay."""
        for target, value in zip((*self._shared, *self._rows), (*shared, *rows), strict=True):
            target.fill(value)

    def __call__(self, shared: Tensors, rows: Tensors) -> Tensors:
        self.count += 1
        self.fill(shared, rows)
        self.graph.replay()
        objects = len(rows[0]) if rows else None
        return tuple((output if objects is None else output[:objects]).clone() for output in self.outputs)


def run_padded(step: Step, size: int, shared: Tensors, rows: Tensors, static: dict[str, Hashable]) -> Tensors:
    """The outputs of ``step`` for the B objects of ``rows``, padded with zeros to ``size``."""
    objects = len(rows[0]) if rows else size
    if objects == size:
        return step(shared, rows, **static)
    padded = tuple(F.pad(tensor, (0, 0) * (tensor.ndim - 1) + (0, size - objects)) for tensor in rows)
    return tuple(output[:objects] for output in step(shared, padded, **static))


def _name(step: Step) -> str:
    return str(getattr(step, "__name__", repr(step))).strip("_")


def _close(output: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether a graph's output is the step's. Synchronises with the device.

    Each row is measured by its own largest value: the logits of an object that is absent are large and equal.
    """
    same = (output == expected) | ((output != output) & (expected != expected))
    if not output.is_floating_point():
        return bool(same.all())
    difference, size = (output.float() - expected.float()).abs(), expected.float().abs().nan_to_num(0, 0, 0)
    if size.ndim > 1:
        size = size.flatten(1).amax(1).reshape(-1, *[1] * (size.ndim - 1))
    return bool((same | (difference <= TOLERANCE * size.clamp(min=1))).all())


class CudaCapture:
    """Captures on a side stream of a device; all graphs take their memory from one pool."""

    def __init__(self, device: torch.device) -> None:
        self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()
        # Graphs of one stream share cuBLAS's workspace. Where one of them is deleted, PyTorch may free the workspace of
        # the others (https://github.com/pytorch/pytorch/issues/193402), so those without use are kept, too.
        self._graphs: list[torch.cuda.CUDAGraph] = []

    def __call__(self, run: Callable[[], Tensors]) -> tuple[Graph, Tensors]:
        """Run once as it is, so that libraries load kernels and choose algorithms, then capture."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._run_once(run)
            self._graphs.append(graph)
            try:
                # other threads decode and copy meanwhile: only this thread's calls must be fit for capture
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                outputs = run()
                graph.capture_end()
            except Exception:
                self._abandon(graph)
                raise
        current.wait_stream(self._stream)
        return graph, outputs

    def _run_once(self, run: Callable[[], Tensors]) -> None:
        """Run as it is. Raises RuntimeError where there is too little memory for a capture.

        What a capture has taken can't be freed again, and while it lasts PyTorch does not free what it has cached.
        """
        device = self._stream.device
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved(device)
        try:
            run()
        finally:
            self._stream.synchronize()
        needed = torch.cuda.memory_reserved(device) - before
        torch.cuda.empty_cache()
        if torch.cuda.mem_get_info(device)[0] < 2 * needed:  # the graph's, and those of the step beside it
            raise RuntimeError(f"it needs {needed / 2**20:.0f} MiB twice, and there is less")

    def _abandon(self, graph: torch.cuda.CUDAGraph) -> None:
        """End a capture that has failed, so that memory can be freed again and other steps can be captured."""
        with suppress(RuntimeError):  # the capture is broken, which is not the reason
            graph.capture_end()
        with suppress(RuntimeError):  # it has ended; before github.com/pytorch/pytorch/pull/180395 a broken one has not
            torch._C._cuda_endAllocateToPool(self._stream.device.index, self._pool)
        self._pool = torch.cuda.graph_pool_handle()  # before the same change the old one takes no more captures


def cuda_graphs(model: str, device: torch.device) -> Graphs | None:
    """Graphs for a model on ``device``; None where there are none."""
    return Graphs(model, CudaCapture(device)) if device.type == "cuda" else None
