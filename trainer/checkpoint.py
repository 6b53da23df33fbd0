"""Checkpoint files: written atomically, and checked before a training resumes from one."""

import io
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from stages.classification.classifier import load_checkpoint
from stages.errors import ConfigError, OutputError

_TRAINING = ("optimizer", "schedule", "epoch", "step", "sums", "history", "best", "waited", "options")


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a temporary file and rename it to ``path``, so that there is always a complete file, the old or the new.

    Raises OutputError; the old file is then unchanged.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({len(content) / 1e6:.0f} MB): {error.strerror}; make room there, or give another "
            f"folder with --out"
        ) from error
    finally:
        partial.unlink(missing_ok=True)  # left by an error or Ctrl-C


def save(path: Path, contents: dict[str, Any]) -> None:
    """Write a checkpoint atomically. It is built in memory first, because torch's own writer hides a full disk."""
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    write_atomically(path, buffer.getbuffer())


def create_folder(folder: Path, size: int) -> None:
    """Create ``folder``. Raises OutputError when that fails or when less than ``size`` bytes are free."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(f"cannot create {folder}: {error.strerror}; choose another folder with --out") from error
    if free < size:
        raise OutputError(
            f"{folder} has {free / 1e6:.0f} MB left and the checkpoints need {size / 1e6:.0f} MB; make room there, or "
            f"give another folder with --out"
        )


def read(path: Path) -> dict[str, Any]:
    """Read the checkpoint of a training to resume. Raises ModelError or ConfigError."""
    _, contents = load_checkpoint(path)
    if any(key not in contents for key in _TRAINING):
        raise ConfigError(f"--resume: {path} holds a model but no training to go on with; start one without --resume")
    return contents
