"""Still pictures as sources: folders, patterns, lists and single pictures."""

import os
import shutil

import av
import cv2
import numpy as np
import pytest

from stages.errors import SourceError
from stages.source.ffmpeg import MediaSource
from stages.source.source import open_source
from stages.types import Clock
from tests.support.media import numbered, numbers, write_video


def write(path, number, width=64, height=48):
    """A numbered picture; its name may hold bytes that are not UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = cv2.cvtColor(numbered(number + 1, width, height)[number], cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(path.suffix.lower(), image)[1].tobytes())
    return path


def turned(path, number):
    """A JPEG whose EXIF says: turn it by a quarter to the right."""
    data = write(path, number).read_bytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    return path


def read(source):
    source = open_source(str(source))
    return source, list(source.frames())


def refusal(source):
    with pytest.raises(SourceError) as caught:
        read(source)
    assert "\n" not in str(caught.value)
    assert str(source) in str(caught.value)
    return str(caught.value)


# --- folders


def test_a_folder_gives_its_pictures_in_natural_order_and_leaves_out_everything_else(tmp_path):
    for number, name in enumerate(["a9.png", "a10.png", "A11.PNG", "b.jpg", "b2.bmp", "b10.webp", "c.tiff"]):
        write(tmp_path / name, number)
    for name in ("notes.txt", ".a1.png", "Thumbs.db", "clip.mp4"):
        (tmp_path / name).write_bytes(b"no picture")
    write(tmp_path / "inside" / "a1.png", 20)
    source, frames = read(tmp_path)
    assert numbers(frames) == list(range(7))
    assert (source.live, source.rate, source.frames_expected, source.decode_errors) == (False, 25.0, 7, 0)
    assert [frame.index for frame in frames] == list(range(7))
    assert [frame.captured_at for frame in frames] == pytest.approx([index / 25 for index in range(7)])
    assert [float(frame.pts * frame.time_base) for frame in frames] == pytest.approx([i / 25 for i in range(7)])
    assert {frame.clock for frame in frames} == {Clock.FILE}


def test_each_picture_has_its_own_size_and_is_turned_as_its_exif_says(tmp_path):
    write(tmp_path / "1.png", 1, 128, 96)
    turned(tmp_path / "2.jpg", 2)
    cv2.imwrite(str(tmp_path / "3.png"), np.full((10, 20), 7, np.uint16) * 257)
    _, frames = read(tmp_path)
    assert [frame.image.shape for frame in frames] == [(96, 128, 3), (64, 48, 3), (10, 20, 3)]
    assert numbers(frames[:2]) == [1, 2]
    assert {frame.image.dtype.name for frame in frames} == {"uint8"}


def test_a_picture_that_cannot_be_read_is_counted_and_named_and_keeps_its_time(tmp_path, caplog, capfd):
    for number in range(6):
        write(tmp_path / f"{number}.png", number)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:500])
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "4.png").unlink()
    (tmp_path / "4.png").symlink_to(tmp_path / "5.png")
    source = open_source(str(tmp_path))
    (tmp_path / "4.png").unlink()
    frames = list(source.frames())
    assert numbers(frames) == [0, 3, 5]
    assert [(frame.index, frame.dropped_before) for frame in frames] == [(0, 0), (3, 2), (5, 1)]
    assert [frame.captured_at for frame in frames] == pytest.approx([0, 3 / 25, 5 / 25])
    assert source.decode_errors == 3
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [
        f"cannot read {tmp_path / f'{number}.png'}" for number in (1, 2, 4)
    ]
    assert "ERROR" not in capfd.readouterr().err  # OpenCV's own lines


def test_of_many_damaged_pictures_the_first_ten_are_named(tmp_path, caplog):
    for number in range(30):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    said = refusal(tmp_path)
    assert "no picture of it can be read" in said
    assert len(caplog.records) == 10
    assert caplog.records[-1].getMessage().endswith("further ones are only counted")


def no_files(folder):
    pass


def videos(folder):
    write_video(folder / "gate.mp4", numbered(2))


def folders(folder):
    write(folder / "monday" / "1.png", 1)


def phone(folder):
    (folder / "IMG_0001.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "IMG_0002.HEIC").write_bytes(b"\0\0\0\x18ftypheic")


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (no_files, "the folder is empty; put pictures into it, or name a video file"),
        (videos, "the folder has videos but no pictures; name one of them, such as gate.mp4"),
        (folders, "no pictures in it, only folders; name one of them, such as monday"),
        (phone, "no pictures in it that can be read (2 files .heic); convert them to JPEG"),
    ],
)
def test_a_folder_without_pictures_is_refused_with_what_it_holds(tmp_path, fill, message):
    fill(tmp_path)
    assert message in refusal(tmp_path)


def test_closing_ends_the_pictures(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.png", number)
    source = open_source(str(tmp_path))
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


# --- patterns


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("%04d.png", ["0007.png", "0008.png", "0012.png", "9999.png", "12345.png"]),
        ("cam2_%d.jpg", ["cam2_8.jpg", "cam2_9.jpg", "cam2_10.jpg", "cam2_100.jpg"]),
        ("shot.%03d.tif", ["shot.900.tif", "shot.901.tif"]),
        ("b*.png", ["b1.png", "b02.png", "b10.png"]),
        ("?.png", ["1.png", "2.png"]),
    ],
)
def test_a_pattern_gives_its_pictures_from_any_first_number_and_over_holes(tmp_path, pattern, names):
    for number, name in enumerate(names):
        write(tmp_path / name, number)
    for name in ("other.png", "cam1_9.jpg", "00013.jpg", "b3.txt"):
        (tmp_path / name).write_bytes(b"no part of it")
    source, frames = read(tmp_path / pattern)
    assert numbers(frames) == list(range(len(names)))
    assert (source.rate, source.frames_expected) == (25.0, len(names))


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    path = write_video(tmp_path / "plain.mp4", numbered(3)).rename(tmp_path / "take [1] %02d?.mp4")
    assert numbers(read(path)[1]) == [0, 1, 2]


@pytest.mark.parametrize("pattern", ["%04d.png", "*.png", "missing/%d.png", "missing/*.png"])
def test_a_pattern_that_names_no_picture_is_refused(tmp_path, pattern):
    assert "no picture has such a name; check the folder and the pattern" in refusal(tmp_path / pattern)


def test_a_pattern_in_a_configuration_may_begin_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "frames" / "5.png", 1)
    assert numbers(read("~/frames/%d.png")[1]) == numbers(read("~/frames/*.png")[1]) == [1]


@pytest.mark.parametrize("inside", ["", "/%d.png", "/*.png"])
def test_a_folder_that_may_not_be_read_is_refused(tmp_path, inside):
    folder = tmp_path / "frames"
    write(folder / "5.png", 1)
    folder.chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read everything: be nobody for a moment
        os.seteuid(65534)
    try:
        with pytest.raises(SourceError, match=r"permission|no picture"):
            read(f"{folder}{inside}")
    finally:
        os.seteuid(user)
        folder.chmod(0o700)


def test_a_pattern_of_videos_is_refused_with_what_to_write(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(2))
    assert "names no pictures; write it without quotes to make each file a stream" in refusal(tmp_path / "*.mp4")


# --- lists


@pytest.mark.parametrize("name", ["list.ffconcat", "list.txt"])
def test_a_list_of_videos_may_name_any_path_and_its_clock_goes_on(tmp_path, name):
    """FFmpeg alone refuses absolute paths and "..": "unsafe file name"."""
    write_video(tmp_path / "a.mp4", numbered(10))
    write_video(tmp_path / "it's b.mp4", numbered(5))
    (tmp_path / "lists").mkdir()
    header = "ffconcat version 1.0\n" if name.endswith("ffconcat") else "# two parts\n"
    lines = f"file ../a.mp4\nfile '{tmp_path}/it'\\''s b.mp4'\n"
    (tmp_path / "lists" / name).write_text(header + lines)
    _, frames = read(tmp_path / "lists" / name)
    assert numbers(frames) == [*range(10), *range(5)]
    assert [frame.captured_at for frame in frames] == pytest.approx([index / 25 for index in range(15)], abs=0.002)


def test_a_list_of_pictures_may_mix_kinds_and_shows_each_for_its_duration(tmp_path):
    write(tmp_path / "a.png", 3)
    turned(tmp_path / "b.jpg", 4)
    write(tmp_path / "c.bmp", 5, 32, 24)
    (tmp_path / "list.txt").write_text(
        "file a.png\nduration 0.5\nfile 'b.jpg'\nduration 0:01:02.25\nfile a.png\nfile c.bmp\n"
    )
    source, frames = read(tmp_path / "list.txt")
    assert numbers(frames) == [3, 4, 3, 5]
    assert [frame.captured_at for frame in frames] == pytest.approx([0, 0.5, 62.75, 62.79])
    assert source.rate == pytest.approx(4 / 62.83)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file a.mp4\nfile gone.mp4\n", "gone.mp4, and there is no such file; check the list"),
        ("ffconcat version 1.0\n", "the list names no file; write lines such as: file 'clip.mp4'"),
        ("file a.mp4\nfile 'b.mp4\n", "line 2 cannot be read; check its quotes"),
        ("file a.mp4\nduration long\n", "line 2 cannot be read"),
        ("a.mp4\nb.mp4\n", "a text file, not a video; a list of files has lines such as: file 'clip.mp4'"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_with_the_reason(tmp_path, text, message):
    write_video(tmp_path / "a.mp4", numbered(2))
    (tmp_path / "list.txt").write_text(text)
    assert message in refusal(tmp_path / "list.txt")


def test_a_list_of_videos_of_several_codecs_is_refused_before_frames_are_lost(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(2))
    write_video(tmp_path / "b.avi", numbered(2), codec="mpeg4")
    (tmp_path / "list.txt").write_text("file a.mp4\nfile b.avi\n")
    assert "b.avi is mpeg4, the first file is h264; a list takes videos of one codec" in refusal(tmp_path / "list.txt")


# --- single pictures


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.tiff"])
def test_a_single_picture_is_one_frame(tmp_path, name):
    source, frames = read(write(tmp_path / name, 7))
    assert numbers(frames) == [7]
    assert source.frames_expected == 1


def test_a_single_picture_is_turned_as_its_exif_says(tmp_path):
    _, frames = read(turned(tmp_path / "a.jpg", 7))
    assert frames[0].image.shape == (64, 48, 3)


def test_jpegs_with_exif_inside_of_a_video_are_turned_too(tmp_path):
    """PyAV 18 has no name for FFmpeg's side data EXIF and fails on it."""
    data = turned(tmp_path / "a.jpg", 7).read_bytes()
    (tmp_path / "a.mjpeg").write_bytes(data * 5)
    source, frames = read(tmp_path / "a.mjpeg")
    assert isinstance(source, MediaSource)
    assert {frame.image.shape for frame in frames} == {(64, 48, 3)}
    assert set(numbers(frames)) == {7}


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_an_animation_gives_all_its_pictures(tmp_path, suffix):
    image = pytest.importorskip("PIL.Image")
    first, *others = (image.new("RGB", (64, 48), colour) for colour in ("red", "blue", "green"))
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=others, duration=100)
    _, frames = read(tmp_path / f"a{suffix}")
    assert [int(frame.image[0, 0].argmax()) for frame in frames] == [0, 2, 1]


def test_an_animated_webp_is_read_or_refused_with_what_to_do(tmp_path):
    image = pytest.importorskip("PIL.Image")
    first, other = (image.new("RGB", (64, 48), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.webp", save_all=True, append_images=[other], duration=200)
    if av.library_versions["libavformat"][0] >= 63:  # FFmpeg 9
        red, blue = read(str(tmp_path / "a.webp"))[1]
        assert blue.captured_at - red.captured_at == pytest.approx(0.2)
        assert (red.image[24, 32].argmax(), blue.image[24, 32].argmax()) == (0, 2)
        return
    assert "an animated WebP, which FFmpeg cannot read before version 9; convert it" in refusal(tmp_path / "a.webp")


# --- names that are not UTF-8


def test_names_that_are_not_utf_8_are_opened_and_shown_escaped(tmp_path, caplog):
    raw = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    shutil.copy(write_video(tmp_path / "plain.mp4", numbered(2)), f"{raw}.mp4")
    assert numbers(read(f"{raw}.mp4")[1]) == [0, 1]
    assert numbers(read(f"file://{tmp_path}/caf%E9.mp4")[1]) == [0, 1]
    folder = tmp_path / "pictures"
    write(folder / os.fsdecode(b"1\xe9.png"), 3)
    (folder / os.fsdecode(b"2\xe9.png")).write_bytes(b"x")
    assert numbers(read(folder)[1]) == [3]
    assert f"{folder}/2\\xe9.png" in caplog.text
    with pytest.raises(SourceError, match=r"nope\\xe9.mp4: no such file"):
        open_source(os.fsdecode(b"nope\xe9.mp4"))
