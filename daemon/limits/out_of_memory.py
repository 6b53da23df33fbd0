"""Recognises errors that mean out of memory, and frees what an error keeps alive."""

import re
import traceback
from collections.abc import Iterator

import torch

# cuDNN and cuBLAS allocate memory themselves and only say so in words, as does torch on a CPU
_WORDS = re.compile(
    r"out of memory|can't allocate memory|not enough memory"
    r"|CU(DNN|BLAS|SOLVER|SPARSE|FFT)_\w*ALLOC(ATION)?_FAILED"
    r"|CUBLAS_STATUS_NOT_INITIALIZED when calling .?cublas(Lt)?Create"
    r"|unable to find an engine to execute this computation"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` or one of its causes means that the GPU or the machine had no memory left."""
    return any(
        isinstance(cause, (MemoryError, torch.OutOfMemoryError))
        or (isinstance(cause, RuntimeError) and _WORDS.search(str(cause)) is not None)
        for cause in _chain(error)
    )


def free_memory_of(error: BaseException) -> None:
    """Free the local variables that the tracebacks of ``error`` keep alive, and torch's unused reserve.

    An error that is kept, if only to be shown, would otherwise keep the window's tensors.
    """
    for cause in _chain(error):
        traceback.clear_frames(cause.__traceback__)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
