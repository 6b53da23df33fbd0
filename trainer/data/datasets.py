"""Where the pictures come from: CIFAR-10 by name, or folders with a folder for each class."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torchvision.datasets import CIFAR10

from stages.errors import ConfigError, SourceError
from trainer.counting import counted
from trainer.data.pictures import Pictures, read_picture

CIFAR_10 = "cifar10"
SPLITS = ("train", "val", "test")
VALIDATION = 0.1  # of the training pictures, where there is no folder "val"


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Pictures that are known to be readable. ``test`` is None where there is none."""

    labels: tuple[str, ...]  # sorted; a picture's target is an index into them
    train: Pictures
    val: Pictures
    test: Pictures | None
    skipped: tuple[str, ...] = ()  # a line for each file that is no readable picture


def load_data(where: str, seed: int, quiet: bool = True) -> Data:
    """``cifar10``, which torchvision downloads, FOLDER/<class>/ or FOLDER/{train,val,test}/<class>/.

    ``seed`` decides which pictures become the validation split where there is none; each class gives the same share.
    Every file is decoded once, to name and skip the broken ones; unless ``quiet`` that shows. Raises ConfigError for
    folders that make no sense, SourceError when a download fails.
    """
    if where == CIFAR_10:
        return _cifar_10(seed)
    folder = Path(where)
    if not folder.is_dir():
        raise ConfigError(f'--data {where}: no such folder; give one with a folder for each class, or "{CIFAR_10}"')
    split = _is_split(folder)
    labels = _classes(folder / "train" if split else folder)
    skipped: list[str] = []
    found: dict[str, Pictures] = {}
    for name in SPLITS if split else ("train",):
        place = folder / name if split else folder
        if place.is_dir():
            found[name] = _read_split(place, labels, skipped, quiet)
    train = found["train"]
    train, val = (train, found["val"]) if "val" in found else _validation(train, labels, seed)
    return Data(labels, train, val, found.get("test"), tuple(skipped))


def _cifar_10(seed: int) -> Data:
    root = Path(torch.hub.get_dir()) / "datasets"
    try:
        train, test = (CIFAR10(root, train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise SourceError(
            f"{CIFAR_10}: cannot be downloaded ({error}); where there is a network, download {CIFAR10.url} and put it "
            f"into {root}"
        ) from error
    everything, rest = (Pictures(part.data, np.asarray(part.targets, np.int64)) for part in (train, test))
    labels = tuple(train.classes)
    return Data(labels, *_validation(everything, labels, seed), rest)


def _is_split(folder: Path) -> bool:
    """Whether its folders are train, val and test, with the classes in them; a class may well be named train.

    Raises ConfigError for a mixture, of which something would be learned that nobody meant.
    """
    names = set(_classes_in(folder))
    if "train" in names and _classes_in(folder / "train"):
        if strangers := names.difference(SPLITS):
            raise ConfigError(
                f"--data: {folder} has a folder {min(strangers)} beside train; those beside it are val and test, and "
                f"classes are folders in each of the three"
            )
        return True
    if names and names <= {"val", "test"} and all(_classes_in(folder / name) for name in names):
        raise ConfigError(f"--data: {folder} has {' and '.join(sorted(names))} but no folder train to learn from")
    return False


def _classes(folder: Path) -> tuple[str, ...]:
    """The names of the folders in ``folder``. Raises ConfigError when there are fewer than two."""
    names = tuple(sorted(_classes_in(folder)))
    if len(names) < 2:
        what = f"only one class ({names[0]})" if names else "no class"
        raise ConfigError(f"--data: {folder} has {what}; make a folder for each of two or more classes in it")
    return names


def _read_split(folder: Path, labels: Sequence[str], skipped: list[str], quiet: bool) -> Pictures:
    """The readable pictures below ``folder``; the others are added to ``skipped``."""
    strangers = set(_classes_in(folder)) - set(labels)
    if strangers:
        raise ConfigError(
            f"--data: {folder} has the class {min(strangers)}, which the training pictures do not; "
            f"add it to them or take it away"
        )
    found = {target: _files(folder / label) for target, label in enumerate(labels) if (folder / label).is_dir()}
    if not found:
        raise ConfigError(f"--data: {folder} is empty; put a folder for each class into it, or remove it")
    kept: list[Path] = []
    targets: list[int] = []
    files = [(path, target) for target, paths in found.items() for path in paths]
    for (path, target), complaint in zip(files, _complaints([path for path, _ in files], folder, quiet), strict=True):
        if complaint:
            skipped.append(complaint)
        else:
            kept.append(path)
            targets.append(target)
    # a class of which a split has no folder cannot be measured there, which is no fault
    for target in found.keys() - set(targets):
        what = "has no readable picture" if found[target] else "is empty"
        raise ConfigError(f"--data: the class {folder / labels[target]} {what}; add pictures or remove the folder")
    return Pictures(kept, np.asarray(targets, np.int64))


def _files(folder: Path) -> list[Path]:
    """All below it, but for hidden ones and those in hidden folders."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _complaints(files: Sequence[Path], folder: Path, quiet: bool) -> Sequence[str]:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        try:
            read = pool.map(_complaint, files)
            return list(read if quiet else counted(read, len(files), f"pictures of {folder}"))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C need not wait for all that was planned
            raise


def _complaint(path: Path) -> str:
    """Why the file is no picture; "" if it is one."""
    try:
        read_picture(path)
    except SourceError as error:
        return str(error)
    return ""


def _validation(train: Pictures, labels: Sequence[str], seed: int) -> tuple[Pictures, Pictures]:
    """The same share of each class for validation, as nearly as whole pictures permit."""
    counts = np.bincount(train.targets, minlength=len(labels))
    if counts.min() < 2:
        lonely = labels[int(counts.argmin())]
        raise ConfigError(f"--data: the class {lonely} has a single picture; training and validation need one each")
    size = max(round(VALIDATION * len(train)), len(labels))
    indices: NDArray[np.int64] = np.arange(len(train))
    kept, held_out = train_test_split(indices, test_size=size, random_state=seed, stratify=train.targets)
    return train.take(np.sort(kept)), train.take(np.sort(held_out))


def _classes_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
