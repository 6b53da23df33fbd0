"""A picture file looks the same to the trainer, to ``maskcast image`` and, as a video of one frame, to the daemon."""

import io
import struct
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path

import av
import cv2
import numpy as np
import PIL.Image
import pytest

from stages.errors import SourceError
from stages.pictures import read_picture
from stages.source.source import open_source

RAMP = np.linspace(0, 65535, 48 * 60).reshape(48, 60).round().astype(np.uint16)
NOISE = np.random.default_rng(4).integers(0, 256, (40, 56, 3), np.uint8)


def save(folder: Path, name: str, pixels: "np.ndarray | PIL.Image.Image", **options: object) -> Path:
    picture = PIL.Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    picture.save(folder / name, **options)
    return folder / name


def save_by_opencv(folder: Path, name: str, pixels: np.ndarray) -> Path:
    assert cv2.imwrite(str(folder / name), pixels)
    return folder / name


def error_of(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        read_picture(path)
    [text] = str(caught.value).splitlines()
    assert text.startswith(f"cannot read {path}: ")
    return text.removeprefix(f"cannot read {path}: ")


def assert_ramp(picture: np.ndarray) -> None:
    """All 256 levels, from black to white, each as often as the others."""
    assert (picture.dtype, picture.shape) == (np.uint8, (48, 60, 3))
    assert (np.diff(picture[..., 0].ravel().astype(int)) >= 0).all()
    assert len(np.unique(picture)) == 256
    assert abs(picture.mean() - 127.5) < 1


@pytest.mark.parametrize("name", ["grey.png", "grey.pgm", "colour.png", "colour.ppm"])
def test_ramp_of_16_bits_stays_a_ramp_as_in_a_video(tmp_path: Path, name: str) -> None:
    path = save_by_opencv(tmp_path, name, np.dstack([RAMP] * 3) if name.startswith("colour") else RAMP)
    picture = read_picture(path)
    assert_ramp(picture)
    with closing(open_source(str(path))) as source:
        [frame] = source.frames()
    assert_ramp(frame.image)
    assert np.abs(frame.image.astype(int) - picture).max() <= 1


def test_ramps_in_tiff_files_stay_ramps(tmp_path: Path) -> None:
    """16 bits in either order of bytes, in grey and in colour, and floats from 0 to 1."""
    assert_ramp(read_picture(save_by_opencv(tmp_path, "grey.tif", RAMP)))
    assert_ramp(read_picture(save_by_opencv(tmp_path, "colour.tif", np.dstack([RAMP] * 3))))
    assert_ramp(read_picture(save(tmp_path, "big.tif", RAMP.astype(">u2"))))
    assert_ramp(read_picture(save(tmp_path, "float.tif", (RAMP / 65535).astype(np.float32))))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.float32([[0, 0.5], [1, 255]]), "floats from 0 to 255; scale them to 0 to 1, or save 8 or 16 bits"),
        (np.float32([[0, np.nan], [1, 1]]), "floats from nan to nan; scale them"),
        (np.int32([[0, 1], [70000, 2]]), "pixels of 32-bit integers; save it with 8 or 16 bits"),
    ],
)
def test_values_without_a_known_range_are_refused(tmp_path: Path, values: np.ndarray, reason: str) -> None:
    assert error_of(save(tmp_path, "x.tif", values)).startswith(reason)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    plain = PIL.Image.fromarray(NOISE).convert(mode)
    picture = read_picture(save(tmp_path, "x.tif", plain))
    assert np.array_equal(picture, np.array(plain.convert("RGB")))


def test_first_frame_of_an_animation_is_the_picture(tmp_path: Path) -> None:
    first, second = (PIL.Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    for name in ("x.gif", "x.png"):
        assert (read_picture(save(tmp_path, name, first, save_all=True, append_images=[second])) == (255, 0, 0)).all()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as the module does, but pytest forgets that
def test_picture_with_damaged_exif_is_read_as_it_stands(tmp_path: Path) -> None:
    tag = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x09\0\x63\0\0"  # more than the data has
    path = save(tmp_path, "x.jpg", NOISE, exif=b"Exif\0\0" + tag)
    assert read_picture(path).shape == NOISE.shape


@pytest.mark.process
def test_no_warning_of_the_library_reaches_the_terminal(tmp_path: Path) -> None:
    """A palette with transparency, and EXIF data that ends too early; each is read."""
    palette = PIL.Image.fromarray(NOISE).quantize(16)
    paths = [
        save(tmp_path, "palette.png", palette, transparency=bytes(range(16))),
        save(tmp_path, "exif.jpg", NOISE, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12"),
    ]
    script = "import sys, pathlib; from stages.pictures import read_picture\n"
    script += "for name in sys.argv[1:]: print(read_picture(pathlib.Path(name)).shape)"
    done = subprocess.run([sys.executable, "-c", script, *map(str, paths)], capture_output=True, text=True, check=True)
    assert (done.stdout.split("\n")[:2], done.stderr) == (["(40, 56, 3)"] * 2, "")


def test_damaged_and_foreign_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    memory = io.BytesIO()
    PIL.Image.fromarray(NOISE).save(memory, "JPEG")
    contents = {
        "cut.jpg": (memory.getvalue()[:-300], "damaged (image file is truncated"),
        "empty.png": (b"", "not a picture that Pillow knows, or damaged"),
        "text.jpg": (b"no picture", "not a picture that Pillow knows, or damaged"),
        "clip.mp4": (b"no video either", "a video, not a picture; give it to `maskcast run`"),
        "phone.HEIC": (b"\0\0\0\x18ftypheic", "HEIC, which Pillow does not read; convert it"),
        "camera.nef": (memory.getvalue(), "a camera's raw picture; export it"),
    }
    for name, (data, reason) in contents.items():
        (tmp_path / name).write_bytes(data)
        assert error_of(tmp_path / name).startswith(reason)
    assert error_of(tmp_path / "missing.heic") == "No such file or directory"
    assert error_of(tmp_path) == "Is a directory"


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_small_file_of_a_huge_picture_is_refused(tmp_path: Path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 50_000, 8, 0, 0, 0, 0))
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))))
    assert error_of(tmp_path / "x.png") == "30000x50000 is more than 178 million pixels; scale it down"


def test_picture_of_a_hundred_million_pixels_is_read(tmp_path: Path) -> None:
    """Also with warnings as errors, as here."""
    path = save(tmp_path, "x.png", PIL.Image.new("1", (10_000, 10_000)))
    assert read_picture(path).shape == (10_000, 10_000, 3)


def test_avif_is_read_where_pillow_can(tmp_path: Path) -> None:
    pytest.importorskip("PIL.AvifImagePlugin")
    path = save(tmp_path, "x.avif", PIL.Image.new("RGB", (64, 48), (200, 30, 30)))
    assert np.abs(read_picture(path).astype(int) - (200, 30, 30)).max() < 6
    with av.open(str(path)) as container:
        [frame] = container.decode(video=0)
    assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - (200, 30, 30)).max() < 6
