"""Folders of pictures to training, validation and test pictures; what makes no sense is one clear line."""

import hashlib
import os
import pickle
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10

from stages.classification.card import Preprocessing
from stages.errors import ConfigError, SourceError
from tests.trainer.training import two_colours, write_picture
from trainer.data.datasets import load_data
from trainer.data.images import Augment, Collate, ImageDataset, Prepare, read_image, unwrap_read_errors


def shares(pictures: ImageDataset) -> dict[int, int]:
    return dict(Counter(pictures.targets.tolist()))


def test_without_a_folder_val_a_tenth_of_each_class_is_held_out(tmp_path: Path) -> None:
    for index in range(60):
        write_picture(tmp_path / "common" / f"{index}.jpg", index)
    for index in range(20):
        write_picture(tmp_path / "rare" / f"{index}.jpg", index)
    data = load_data(str(tmp_path), seed=0)
    assert data.labels == ("common", "rare")
    assert (shares(data.train), shares(data.val), data.test) == ({0: 54, 1: 18}, {0: 6, 1: 2}, None)
    assert not set(data.train.images) & set(data.val.images)


def test_the_seed_decides_what_is_held_out(tmp_path: Path) -> None:
    folder = str(two_colours(tmp_path, 20))
    first, again, other = (load_data(folder, seed).val.images for seed in (1, 1, 2))
    assert first == again != other


def test_folders_train_val_and_test_are_taken_as_they_are(tmp_path: Path) -> None:
    for split, each in (("train", 3), ("val", 2), ("test", 1)):
        two_colours(tmp_path / split, each)
    data = load_data(str(tmp_path), seed=0)
    assert data.test is not None
    assert [shares(part) for part in (data.train, data.val, data.test)] == [{0: 3, 1: 3}, {0: 2, 1: 2}, {0: 1, 1: 1}]
    places = [path.parts[-3:-1] for path in data.train.images]
    assert places == [("train", data.labels[target]) for target in data.train.targets]


def test_a_class_without_a_picture_to_test_with_is_no_fault(tmp_path: Path) -> None:
    two_colours(tmp_path / "train", 4)
    write_picture(tmp_path / "test" / "red" / "0.jpg")
    data = load_data(str(tmp_path), seed=0)
    assert data.test is not None
    assert shares(data.test) == {1: 1}


def test_broken_pictures_are_named_and_skipped(tmp_path: Path) -> None:
    two_colours(tmp_path, 4)
    whole = (tmp_path / "red" / "000.jpg").read_bytes()
    (tmp_path / "red" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "red" / "empty.png").touch()
    (tmp_path / "blue" / "notes.txt").write_text("sorted on Monday")
    (tmp_path / "blue" / ".DS_Store").write_text("hidden files are nobody's pictures")
    (tmp_path / "blue" / ".thumbnails").mkdir()
    (tmp_path / "blue" / ".thumbnails" / "000.jpg").write_bytes(whole)
    data = load_data(str(tmp_path), seed=0)
    named = ("blue/notes.txt", "red/cut.jpg", "red/empty.png")
    assert [line.partition(": ")[0] for line in data.skipped] == [f"cannot read {tmp_path / name}" for name in named]
    assert len(data.train) + len(data.val) == 8


def test_what_file_managers_and_notebooks_leave_is_no_class_and_no_picture(tmp_path: Path) -> None:
    two_colours(tmp_path, 3)
    for folder in ("__MACOSX", ".ipynb_checkpoints", "@eaDir", "$RECYCLE.BIN"):
        write_picture(tmp_path / folder / "0.jpg")
        write_picture(tmp_path / "red" / folder / "0.jpg")
    for file in (".DS_Store", "Thumbs.db", "desktop.ini", "._000.jpg"):
        (tmp_path / "red" / file).write_bytes(b"no picture")
        (tmp_path / file).write_bytes(b"no class")
    data = load_data(str(tmp_path), seed=0)
    assert (data.labels, data.skipped) == (("blue", "red"), ())
    assert len(data.train) + len(data.val) == 6


def test_links_to_folders_are_followed_and_a_circle_of_them_ends(tmp_path: Path) -> None:
    two_colours(tmp_path / "data", 3)
    for name in ("monday", "tuesday"):
        write_picture(tmp_path / "elsewhere" / name / "0.jpg")
    (tmp_path / "data" / "red" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "monday" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "green").symlink_to(tmp_path / "elsewhere")
    data = load_data(str(tmp_path / "data"), seed=0)
    assert data.labels == ("blue", "green", "red")
    assert shares(data.train) == {0: 2, 1: 1, 2: 4}
    assert shares(data.val) == {0: 1, 1: 1, 2: 1}


def test_a_name_is_the_same_however_its_accents_are_stored(tmp_path: Path) -> None:
    """Linux stores an accent with its letter, macOS may store it behind."""
    for split, name in (("train", "caf\u00e9"), ("val", "cafe\u0301")):
        two_colours(tmp_path / split, 2)
        write_picture(tmp_path / split / name / "0.jpg")
    data = load_data(str(tmp_path), seed=0)
    assert data.labels == ("blue", "caf\u00e9", "red")
    assert shares(data.val) == {0: 2, 1: 1, 2: 2}


def test_a_class_whose_name_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    two_colours(tmp_path, 3)
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")  # noqa: PTH102 - a Path holds text
    assert "caf\ufffd is not UTF-8; rename it" in ask(tmp_path)


def test_a_picture_that_has_gone_since_is_one_line_also_from_a_loader_s_process(tmp_path: Path) -> None:
    gone = ImageDataset([tmp_path / "gone.jpg"], np.zeros(1, np.int64))
    for workers in (0, 1):
        loader = DataLoader(gone, 1, collate_fn=Collate(Preprocessing(32)), num_workers=workers)
        with pytest.raises(SourceError) as error:
            list(unwrap_read_errors(loader))
        assert str(error.value) == f"cannot read {tmp_path / 'gone.jpg'}: No such file or directory"


def ask(folder: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load_data(str(folder), seed=0)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    assert "no such folder" in ask(tmp_path / "nowhere")


def test_one_class_is_an_error(tmp_path: Path) -> None:
    write_picture(tmp_path / "red" / "0.jpg")
    assert "only one class (red)" in ask(tmp_path)


def test_no_class_is_an_error(tmp_path: Path) -> None:
    write_picture(tmp_path / "0.jpg")
    assert "no class" in ask(tmp_path)


def test_an_empty_class_is_an_error(tmp_path: Path) -> None:
    two_colours(tmp_path, 3)
    (tmp_path / "green").mkdir()
    assert "green is empty" in ask(tmp_path)


def test_a_class_of_broken_pictures_is_an_error(tmp_path: Path) -> None:
    two_colours(tmp_path, 3)
    (tmp_path / "green").mkdir()
    (tmp_path / "green" / "0.jpg").write_text("no picture")
    assert "green has no readable picture" in ask(tmp_path)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_was_never_trained_on_is_an_error(tmp_path: Path, split: str) -> None:
    two_colours(tmp_path / "train", 3)
    two_colours(tmp_path / split, 1)
    write_picture(tmp_path / split / "green" / "0.jpg")
    assert f"{split} has the class green, which the training pictures do not" in ask(tmp_path)


def test_a_class_may_be_named_train(tmp_path: Path) -> None:
    """It is a split only where there are classes in it."""
    for name in ("train", "tram"):
        for index in range(3):
            write_picture(tmp_path / name / f"{index}.jpg", index)
    assert load_data(str(tmp_path), seed=0).labels == ("train", "tram")


@pytest.mark.parametrize(
    ("splits", "expected"),
    [(("train", "valid"), "a folder valid beside train"), (("test", "val"), "has test and val but no folder train")],
)
def test_folders_of_which_nobody_can_tell_what_they_are_are_an_error(
    tmp_path: Path, splits: tuple[str, ...], expected: str
) -> None:
    for split in splits:
        two_colours(tmp_path / split, 3)
    assert expected in ask(tmp_path)


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    two_colours(tmp_path / "train", 3)
    (tmp_path / "test").mkdir()
    assert "test is empty" in ask(tmp_path)


def test_a_class_of_one_picture_cannot_be_divided(tmp_path: Path) -> None:
    two_colours(tmp_path, 3)
    write_picture(tmp_path / "green" / "0.jpg")
    assert "green has a single picture" in ask(tmp_path)


def test_cifar10_comes_as_torchvision_stores_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive in the original's format where torchvision would download it to; only its checksums are this one's."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    base, names = tmp_path / "datasets" / CIFAR10.base_folder, [f"data_batch_{i}" for i in range(1, 6)]
    base.mkdir(parents=True)
    rng = np.random.default_rng(0)
    sums = {}
    for name in [*names, "test_batch"]:
        pixels = rng.integers(0, 256, (20, 3072), np.uint8)
        sums[name] = write_pickle(base / name, {"data": pixels, "labels": [i % 10 for i in range(20)]})
    classes = [f"class {i}" for i in range(10)]
    meta = write_pickle(base / "batches.meta", {"label_names": classes})
    archive = base.parent / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(base, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in names])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})
    data = load_data("cifar10", seed=0)
    assert data.labels == tuple(classes)
    assert data.test is not None
    assert (shares(data.train), shares(data.val)) == (dict.fromkeys(range(10), 9), dict.fromkeys(range(10), 1))
    picture, target = data.test[7]
    assert target == 7
    stored = pickle.loads((base / "test_batch").read_bytes())["data"][7]
    assert np.array_equal(picture.numpy().reshape(-1), stored)  # red, green, blue planes


def write_pickle(path: Path, contents: object) -> str:
    path.write_bytes(pickle.dumps(contents))
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_cifar10_without_a_network_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    with pytest.raises(SourceError, match=f"download http://127.0.0.1:9/.* and put it into {tmp_path}/datasets"):
        load_data("cifar10", seed=0)


@pytest.mark.parametrize(
    "sizes", [[(20, 20), (20, 20)], [(20, 20), (90, 60)], [(90, 160), (90, 160)], [(32, 32), (32, 32)]]
)
def test_pictures_reach_the_network_as_the_daemon_prepares_them_to_the_bit(sizes: list[tuple[int, int]]) -> None:
    preprocessing = Preprocessing(32)
    torch.manual_seed(0)
    pictures = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    batch, targets = Collate(preprocessing)([(picture, i) for i, picture in enumerate(pictures)])
    daemon = preprocessing([picture.permute(1, 2, 0).numpy() for picture in pictures])
    assert torch.equal(Prepare(preprocessing)(batch), daemon)
    assert targets.tolist() == [0, 1]


def test_augmentation_differs_between_groups_repeats_with_the_seed_and_keeps_what_is_shown() -> None:
    augment = Augment(Preprocessing(32))
    batch = torch.zeros(24, 3, 16, 16, dtype=torch.uint8)
    batch[:, 0] = 200
    batch[:, :, :8] //= 2
    torch.manual_seed(1)
    first = augment(batch)
    torch.manual_seed(1)
    assert torch.equal(first, augment(batch))
    assert first.shape == (24, 3, 32, 32)
    assert first.dtype == torch.float32
    assert torch.equal(first[0], first[7])  # one draw
    assert not torch.equal(first[0], first[8])  # another
    red, green, _ = first.mean((0, 2, 3))
    assert red > green + 0.5


def test_pictures_are_turned_upright_and_always_rgb(tmp_path: Path) -> None:
    grey, alpha = tmp_path / "grey.png", tmp_path / "alpha.png"
    Image.new("L", (8, 6), 77).save(grey)
    Image.new("RGBA", (8, 6), (77, 77, 77, 77)).save(alpha)
    for path in (grey, alpha):
        picture = read_image(path)
        assert (picture.shape, picture.dtype) == ((3, 6, 8), torch.uint8)
        assert picture.unique().tolist() == [77]
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation
    Image.new("RGB", (32, 16)).save(tmp_path / "wide.jpg", exif=turned)
    assert read_image(tmp_path / "wide.jpg").shape == (3, 32, 16)
