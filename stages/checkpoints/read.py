"""Reading a file of weights, without running code from it."""

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from stages.checkpoints.files import is_safetensors, why_not_weights
from stages.checkpoints.kinds import advice, kind_of_classes
from stages.errors import ModelError

_INSIDE = ("model", "state_dict", "model_state_dict")  # keys under which training programs put the state dict
_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel, of torch.compile


def read_weights(path: Path, role: str) -> dict[str, Any]:
    """What a file of torch.save or safetensors holds, on the CPU.

    Pickled classes are refused (``weights_only=True``), so that the file cannot run code. ``role``, such as
    "segmenter", begins the text of the ModelError that is raised for a file without weights; the text names what the
    file is, if that is known.
    """
    subject = f"{role}: {path}"
    try:
        if problem := why_not_weights(path):
            raise ModelError(f"{subject} {problem}")
        with path.open("rb") as file:
            safe = is_safetensors(file.read(9))
    except FileNotFoundError as error:
        raise ModelError(f"{subject} does not exist") from error
    except OSError as error:
        raise ModelError(f"{subject} cannot be read: {error.strerror}") from error
    try:
        loaded = load_file(path) if safe else _unpickle(path)
    except SafetensorError as error:
        raise ModelError(f"{subject} is damaged ({error}); fetch it again") from error
    except Exception as error:  # torch.load passes on any error of the unpickler
        raise ModelError(f"{subject} {_why_refused(path, role, error)}") from error
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{subject} holds a {type(loaded).__name__}, not weights by name; {advice(role)}")
    return dict(loaded)


def state_dict(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The weights by name in what `read_weights` returned: all of it, or what stands under a usual key.

    The prefixes of DistributedDataParallel and torch.compile are cut off. Empty where there are none.
    """
    inside = (content[key] for key in _INSIDE if isinstance(content.get(key), Mapping))
    found = next(inside, content)
    state = {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _unpickle(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about unreadable files before it raises
        # only files in zip format can be mapped into memory, which spares a copy of the weights
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _why_refused(path: Path, role: str, error: Exception) -> str:
    """What a file is that torch.load refused, to follow its name."""
    classes = sorted(_pickled_classes(path, error))
    if kind := kind_of_classes(classes):
        return f"is {kind}; {advice(role, kind)}"
    if classes:
        return f"holds Python objects ({classes[0]}), which could run code; save the state_dict() of the model alone"
    return f"is damaged, or no checkpoint of PyTorch; fetch it again, or {advice(role)}"


def _pickled_classes(path: Path, error: Exception) -> Iterator[str]:
    """The classes and functions in a pickle that torch.load refuses to build; nothing is unpickled."""
    if zipfile.is_zipfile(path):
        try:
            yield from torch.serialization.get_unsafe_globals_in_checkpoint(path)
        except Exception:  # a broken pickle
            return
    else:  # of torch before 1.6; the error names the first
        yield from re.findall(r"GLOBAL (\w[\w.]*)", str(error))
