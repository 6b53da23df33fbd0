"""A stand-in for CUDA's graphs on the CPU: it records operations with their tensors, and runs them again."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# of which the host needs a value; in inference mode composite operations come whole
_NEED_A_VALUE = {"nonzero", "_local_scalar_dense", "item", "is_nonzero", "masked_select", "_unique2", "unique_dim"}
_NEED_A_VALUE |= {"argwhere", "equal", "repeat_interleave.self_Tensor", "where"}
_INDEXED = {"index.Tensor", "index_put", "index_put_", "_index_put_impl_"}


class _Recorder(TorchDispatchMode):
    """Records each operation with its arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[torch.Tensor]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).removeprefix("aten.").removesuffix(".default")
        if name in _NEED_A_VALUE or (name in _INDEXED and _has_bool_index(args)):
            raise RuntimeError("operation not permitted when stream is capturing")
        out = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, _tensors(out)))
        return out


class RecordedGraph:
    """Like a CUDA graph, a replay knows addresses only: what the host decided at the capture stays decided."""

    def __init__(self, recorder: _Recorder) -> None:
        self._operations = recorder.operations
        self.replays = 0

    def replay(self) -> None:
        """Run all operations again; the results are written to the tensors of the capture."""
        self.replays += 1
        for func, args, kwargs, results in self._operations:
            # before a result is written, since an operation may read what it writes
            fresh = _tensors(func(*args, **kwargs))
            for result, value in zip(results, fresh, strict=True):
                if result.data_ptr() != value.data_ptr():  # else a view, or written in place
                    result.copy_(value)


def record(run: Callable[[], tuple[torch.Tensor, ...]]) -> tuple[RecordedGraph, tuple[torch.Tensor, ...]]:
    """Capture what ``run`` does, as `stages.graphs.CudaCapture` does it."""
    recorder = _Recorder()
    with recorder:
        outputs = run()
    return RecordedGraph(recorder), outputs


def _has_bool_index(args: tuple[Any, ...]) -> bool:
    return any(index is not None and index.dtype == torch.bool for index in args[1])


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
