"""Checkpoints on disk: whole or not there, and checked before a training goes on from one."""

import io
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from stages.classification.classifier import load_checkpoint
from stages.errors import ConfigError, OutputError

_TRAINING = ("optimizer", "schedule", "epoch", "step", "sums", "history", "best", "waited", "options")


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write beside ``path`` and rename, so that at any moment the old file or the new one is there, complete.

    Raises OutputError; the old file is then as it was.
    """
    beside = path.with_name(f".{path.name}.partial")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({len(content) / 1e6:.0f} MB): {error.strerror}; make room there, or give another "
            f"folder with --out"
        ) from error
    finally:
        beside.unlink(missing_ok=True)  # what an error or Ctrl-C has left of it


def save(path: Path, contents: dict[str, Any]) -> None:
    """Write a checkpoint, as ``write_whole`` does. It is built in memory: torch's own writer hides a full disk."""
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    write_whole(path, buffer.getbuffer())


def make_room(folder: Path, size: int) -> None:
    """Create ``folder``; raises OutputError when it cannot be, or when ``size`` bytes do not fit."""
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
    """The checkpoint of a training that is to go on. Raises ModelError or ConfigError."""
    _, contents = load_checkpoint(path)
    if any(key not in contents for key in _TRAINING):
        raise ConfigError(f"--resume: {path} holds a model but no training to go on with; start one without --resume")
    return contents
