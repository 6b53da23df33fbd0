"""Load labelled images: CIFAR-10, or a folder with a folder for each class."""

import os
import unicodedata
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
from trainer.data.images import ImageDataset, read_image
from trainer.progress_bar import progress_bar

CIFAR_10 = "cifar10"
SPLITS = ("train", "val", "test")
_LEFT_OVER = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "system volume information")
VALIDATION = 0.1  # share of the training images, where there is no folder "val"


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The splits of a dataset; all images are readable. ``test`` is None where there is no such split."""

    labels: tuple[str, ...]  # sorted; an image's target is an index into them
    train: ImageDataset
    val: ImageDataset
    test: ImageDataset | None
    skipped: tuple[str, ...] = ()  # a message for each file that is not a readable image


def load_data(source: str, seed: int, quiet: bool = True) -> Data:
    """Load ``cifar10``, which torchvision downloads, FOLDER/<class>/ or FOLDER/{train,val,test}/<class>/.

    ``seed`` selects the images of the validation split where there is no folder for it; each class gives the same
    share. Every file is decoded once, to skip broken ones; the progress is shown unless ``quiet``. Raises ConfigError
    for folders with another layout, SourceError when a download fails.
    """
    if source == CIFAR_10:
        return _load_cifar10(seed)
    folder = Path(source)
    if not folder.is_dir():
        raise ConfigError(f'--data {source}: no such folder; give one with a folder for each class, or "{CIFAR_10}"')
    split = _is_split(folder)
    labels = _classes(folder / "train" if split else folder)
    skipped: list[str] = []
    found: dict[str, ImageDataset] = {}
    for name in SPLITS if split else ("train",):
        split_folder = folder / name if split else folder
        if split_folder.is_dir():
            found[name] = _read_split(split_folder, labels, skipped, quiet)
    train = found["train"]
    train, val = (train, found["val"]) if "val" in found else _split_validation(train, labels, seed)
    return Data(labels, train, val, found.get("test"), tuple(skipped))


def _load_cifar10(seed: int) -> Data:
    root = Path(torch.hub.get_dir()) / "datasets"
    try:
        train, test = (CIFAR10(root, train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise SourceError(
            f"{CIFAR_10}: cannot be downloaded ({error}); where there is a network, download {CIFAR10.url} and put it "
            f"into {root}"
        ) from error
    train_images, test_images = (ImageDataset(part.data, np.asarray(part.targets, np.int64)) for part in (train, test))
    labels = tuple(train.classes)
    return Data(labels, *_split_validation(train_images, labels, seed), test_images)


def _is_split(folder: Path) -> bool:
    """Whether ``folder`` has the folders train, val and test with classes in them; a class may be named train, too.

    Raises ConfigError for a mixture of splits and classes, and for val or test without train.
    """
    names = set(_subfolders(folder))
    if "train" in names and _subfolders(folder / "train"):
        if unknown := names.difference(SPLITS):
            raise ConfigError(
                f"--data: {folder} has a folder {min(unknown)} beside train; those beside it are val and test, and "
                f"classes are folders in each of the three"
            )
        return True
    if names and names <= {"val", "test"} and all(_subfolders(folder / name) for name in names):
        raise ConfigError(f"--data: {folder} has {' and '.join(sorted(names))} but no folder train to learn from")
    return False


def _classes(folder: Path) -> tuple[str, ...]:
    """The class names: the subfolders of ``folder``, sorted. Raises ConfigError when there are fewer than two."""
    names = tuple(sorted(_subfolders(folder)))
    if len(names) < 2:
        what = f"only one class ({names[0]})" if names else "no class"
        raise ConfigError(f"--data: {folder} has {what}; make a folder for each of two or more classes in it")
    return names


def _read_split(folder: Path, labels: Sequence[str], skipped: list[str], quiet: bool) -> ImageDataset:
    """The readable images below ``folder``; a message for each other file is added to ``skipped``."""
    folders = _subfolders(folder)
    unknown = set(folders) - set(labels)
    if unknown:
        raise ConfigError(
            f"--data: {folder} has the class {min(unknown)}, which the training pictures do not; "
            f"add it to them or take it away"
        )
    found = {target: _files(folders[label]) for target, label in enumerate(labels) if label in folders}
    if not found:
        raise ConfigError(f"--data: {folder} is empty; put a folder for each class into it, or remove it")
    kept: list[Path] = []
    targets: list[int] = []
    files = [(path, target) for target, paths in found.items() for path in paths]
    for (path, target), error in zip(files, _read_errors([path for path, _ in files], folder, quiet), strict=True):
        if error:
            skipped.append(error)
        else:
            kept.append(path)
            targets.append(target)
    # a split may lack the folder of a class: this class is then not measured there
    for target in found.keys() - set(targets):
        what = "has no readable picture" if found[target] else "is empty"
        raise ConfigError(f"--data: the class {folder / labels[target]} {what}; add pictures or remove the folder")
    return ImageDataset(kept, np.asarray(targets, np.int64))


def _files(folder: Path) -> list[Path]:
    """All files below ``folder``, sorted, without what file managers and notebooks have left.

    Links to folders are followed, each folder once: a link may lead to a folder that holds it.
    """
    files, seen = list[Path](), set[str]()
    for place, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(place))
        kept = (name for name in sorted(folders) if not _is_left_over(name))
        folders[:] = [name for name in kept if os.path.realpath(Path(place, name)) not in seen]
        files += [Path(place, name) for name in names if not _is_left_over(name)]
    return sorted(path for path in files if path.is_file())


def _is_left_over(name: str) -> bool:
    """Whether a file or folder is hidden or was made by macOS, Windows or a NAS beside the pictures."""
    return name.startswith((".", "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN")) or name.lower() in _LEFT_OVER


def _read_errors(files: Sequence[Path], folder: Path, quiet: bool) -> Sequence[str]:
    """``_read_error`` of each file, on all cores."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        try:
            errors = pool.map(_read_error, files)
            return list(errors if quiet else progress_bar(errors, len(files), f"pictures of {folder}"))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the files that are queued
            raise


def _read_error(path: Path) -> str:
    """Why the file is not a readable image; "" if it is one."""
    try:
        read_image(path)
    except SourceError as error:
        return str(error)
    return ""


def _split_validation(train: ImageDataset, labels: Sequence[str], seed: int) -> tuple[ImageDataset, ImageDataset]:
    """Split ``train`` into training and validation images, stratified by class."""
    counts = np.bincount(train.targets, minlength=len(labels))
    if counts.min() < 2:
        rarest = labels[int(counts.argmin())]
        raise ConfigError(f"--data: the class {rarest} has a single picture; training and validation need one each")
    size = max(round(VALIDATION * len(train)), len(labels))
    indices: NDArray[np.int64] = np.arange(len(train))
    kept, held_out = train_test_split(indices, test_size=size, random_state=seed, stratify=train.targets)
    return train.take(np.sort(kept)), train.take(np.sort(held_out))


def _subfolders(folder: Path) -> dict[str, Path]:
    """The folders in ``folder`` by their names as composed Unicode (macOS may store an "é" as two characters).

    Raises ConfigError for a name that is not UTF-8, as of an archive made on Windows.
    """
    found = {}
    for path in folder.iterdir():
        if path.is_dir() and not _is_left_over(path.name):
            try:
                path.name.encode()
            except UnicodeEncodeError:
                name = os.fsencode(path.name).decode(errors="replace")
                raise ConfigError(f"--data: the name of the folder {folder / name} is not UTF-8; rename it") from None
            found[unicodedata.normalize("NFC", path.name)] = path
    return found
