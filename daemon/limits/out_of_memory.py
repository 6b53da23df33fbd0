"""Running out of memory: how it shows, and how what a failure still holds is let go."""

import re
import traceback
from collections.abc import Iterator

import torch

# cuDNN and cuBLAS, which allocate for themselves, only have words for it; so has torch on a CPU
_WORDS = re.compile(
    r"out of memory|can't allocate memory|not enough memory"
    r"|CU(DNN|BLAS|SOLVER|SPARSE|FFT)_\w*ALLOC(ATION)?_FAILED"
    r"|CUBLAS_STATUS_NOT_INITIALIZED when calling .?cublas(Lt)?Create"
    r"|unable to find an engine to execute this computation"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error``, or what it was raised from, means that there was no memory left, of the GPU or the machine."""
    return any(
        isinstance(cause, (MemoryError, torch.OutOfMemoryError))
        or (isinstance(cause, RuntimeError) and _WORDS.search(str(cause)) is not None)
        for cause in _chain(error)
    )


def let_go(error: BaseException) -> None:
    """Free what ``error`` keeps alive, the variables of the functions that failed, and what torch holds in reserve.

    Until then an error that is kept, if only to be shown, keeps the window's tensors.
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
