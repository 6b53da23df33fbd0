"""``maskcast image``: masks of single pictures, checked against pictures whose truth is known."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from daemon.__main__ import main
from stages.output import rle, wire
from stages.pictures import read_picture
from stages.testsrc.truth import Truth
from stages.testsrc.world import ShapesWorld

EMBEDDED = ["--detector", "embedded", "--segmenter", "embedded", "--device", "cpu"]


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but the test's own, and one core."""
    monkeypatch.delenv("MASKCAST_CONFIG", raising=False)
    torch.set_num_threads(1)


def draw(path: Path, seed: int = 0) -> Truth:
    """Save the first picture of a shapes world; its truth."""
    image, truth = ShapesWorld(seed).render(0)
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return truth


def test_picture_gets_a_header_whose_masks_are_the_objects_and_an_annotated_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = draw(tmp_path / "shapes.png")
    out = tmp_path / "out"
    arguments = [str(tmp_path / "shapes.png"), "--prompt", ", ".join(truth.labels), "--out", str(out), "--json"]
    assert main(["image", *arguments, *EMBEDDED]) == 0
    header = wire.unpack([b"v1/shapes/masks", (out / "shapes.json").read_bytes()]).header
    assert (header["width"], header["height"], header["stream"]) == (256, 256, "shapes")
    hits = 0
    for item in header["objects"]:
        own = truth.masks[[label == item["prompt"] for label in truth.labels]]
        found = rle.decode(item["mask"])
        hits += ((own & found).sum((1, 2)) / (own | found).sum((1, 2))).max() > 0.5
    assert hits >= 1
    [summary] = json.loads(capsys.readouterr().out)["pictures"]
    assert [item["prompt"] for item in summary["objects"]] == [item["prompt"] for item in header["objects"]]
    annotated = read_picture(Path(summary["annotated"]))
    assert annotated.shape == (256, 256, 3)
    assert np.abs(annotated.astype(int) - read_picture(tmp_path / "shapes.png")).max() > 60


def test_small_objects_of_a_large_picture_are_found_in_tiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """36 pictures of the test source in one: shapes are a sixth of the size of most that the model was trained on."""
    worlds = [ShapesWorld(seed, objects=1) for seed in range(500, 536)]
    rows = [np.concatenate([world.render(0)[0] for world in worlds[i : i + 6]], 1) for i in range(0, 36, 6)]
    cv2.imwrite(str(tmp_path / "mosaic.png"), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
    prompts = ", ".join(dict.fromkeys(world.labels[0] for world in worlds))
    found = {}
    for tiles in ("off", "16"):
        out = ["--out", str(tmp_path / tiles), "--tiles", tiles, "--json"]
        assert main(["image", str(tmp_path / "mosaic.png"), "--prompt", prompts, *out, *EMBEDDED]) == 0
        [summary] = json.loads(capsys.readouterr().out)["pictures"]
        found[tiles] = len(summary["objects"])
    assert 24 <= found["16"] <= 60
    assert found["16"] >= 2 * found["off"]


def test_pictures_of_one_stem_do_not_overwrite_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        draw(tmp_path / folder / "x.png")
    pictures = [str(tmp_path / folder / "x.png") for folder in ("a", "b")]
    assert main(["image", *pictures, "--prompt", "red circle", "--out", str(tmp_path / "out"), *EMBEDDED]) == 0
    names = {"x.json", "x.masks.jpg", "x-2.json", "x-2.masks.jpg"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_unreadable_picture_is_a_line_and_the_others_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:100])
    names = ("missing.png", "", "empty.png", "text.png", "cut.png", "good.png")
    pictures = [str(tmp_path / name) for name in names]
    assert main(["image", *pictures, "--prompt", "red circle", "--out", str(tmp_path / "out"), *EMBEDDED]) == 1
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 5
    for name in names[:-1]:
        assert any(line.startswith(f"maskcast: error: cannot read {tmp_path / name}: ") for line in lines)
    assert printed.out.startswith(pictures[-1])


def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "x.png")
    out = tmp_path / "x.png" / "out"
    assert main(["image", str(tmp_path / "x.png"), "--prompt", "car", "--out", str(out), *EMBEDDED]) == 1
    assert f"cannot create {out}: " in capsys.readouterr().err


def test_picture_is_read_as_rgb_whatever_its_channels(tmp_path: Path) -> None:
    pixels = np.full((4, 6, 4), (255, 0, 0, 10), np.uint8)  # blue in OpenCV's order, nearly transparent
    cv2.imwrite(str(tmp_path / "rgba.png"), pixels)
    cv2.imwrite(str(tmp_path / "grey.png"), pixels[..., 0])
    assert (read_picture(tmp_path / "rgba.png") == (0, 0, 255)).all()
    assert (read_picture(tmp_path / "grey.png") == (255, 255, 255)).all()


def test_picture_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    plain = cv2.imencode(".jpg", pixels)[1].tobytes()
    orientation = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # TIFF: tag 0x112 = 6, turn right
    exif = b"Exif\0\0" + orientation
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "phone.jpg").write_bytes(plain[:2] + segment + plain[2:])
    picture = read_picture(tmp_path / "phone.jpg")
    assert picture.shape == (32, 16, 3)
    assert picture[4, 8].min() > 200
    assert picture[28, 8].max() < 50


def test_prompts_of_unknown_words_are_refused_or_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "x.png")
    arguments = ["image", str(tmp_path / "x.png"), "--out", str(tmp_path / "out"), *EMBEDDED, "--prompt"]
    assert main([*arguments, "red circle", "赤い丸"]) == 2
    assert "knows no word of '赤い丸'" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())
    assert main([*arguments, "赤い circle"]) == 0
    assert "maskcast: warning: prompt '赤い circle': the detector does not know '赤い'" in capsys.readouterr().err
