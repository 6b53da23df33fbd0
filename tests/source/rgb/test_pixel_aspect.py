"""Pictures whose pixels are not square are brought to square pixels, before anything looks at them."""

import json
from fractions import Fraction
from itertools import groupby

import av
import numpy as np
import pytest

from daemon.settings.load import load
from stages.errors import ConfigError
from stages.source.rgb.pixel_aspect import parse_pixel_aspect, square_size
from stages.source.source import open_source
from stages.testsrc.world import ShapesWorld
from tests.source.rgb.clips import with_frames_that_say, with_pasp, write_clip
from tests.support.media import numbered, quarters, turn
from tests.support.program import Program, lines_of

X264 = {"codec": "libx264", "options": {"bf": "0"}}


def sizes(path, **options) -> list[tuple[int, int]]:
    """(width, height) of the frames, without repetitions."""
    shapes = [frame.image.shape for frame in open_source(str(path), **options).frames()]
    return [(width, height) for (height, width, _), _ in groupby(shapes)]


def clip(path, aspect, size=(120, 96), **options):
    return write_clip(path, numbered(4, *size), aspect=Fraction(aspect), **{**X264, **options})


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.avi", "clip.h264"])
def test_the_side_that_is_too_short_grows(tmp_path, name):
    assert sizes(clip(tmp_path / name, "3/2")) == [(180, 96)]
    assert sizes(clip(tmp_path / name, "3/4")) == [(120, 128)]


@pytest.mark.parametrize(
    ("size", "aspect", "square"),
    [
        ((720, 576), "16/15", (768, 576)),  # PAL 4:3
        ((720, 576), "64/45", (1024, 576)),  # PAL 16:9
        ((704, 480), "40/33", (854, 480)),  # NTSC 16:9
        ((352, 576), "32/11", (1024, 576)),  # half D1 16:9
        ((960, 1080), "2", (1920, 1080)),  # "1080N" recorders
        ((704, 240), "5/11", (704, 528)),  # one field of NTSC
        ((1440, 1080), "4/3", (1920, 1080)),  # HDV
        ((1919, 1079), "1", (1919, 1079)),
        ((1920, 1080), "1919/1920", (1920, 1080)),  # rounding in a container
        ((9000, 100), "2", (9000, 100)),  # too large
    ],
)
def test_sizes_of_well_known_formats(size, aspect, square):
    assert square_size(*size, Fraction(aspect)) == square


@pytest.mark.parametrize("frames_say", ["4/3", "1", "3/4"])
def test_the_container_goes_before_the_frames(tmp_path, frames_say):
    """As in FFmpeg and in players."""
    assert sizes(with_pasp(clip(tmp_path / "clip.mp4", frames_say), 3, 2)) == [(180, 96)]


def test_nonsense_in_the_container_leaves_it_to_the_frames(tmp_path):
    assert sizes(with_pasp(clip(tmp_path / "clip.mp4", "4/3"), 1, 5000)) == [(160, 96)]


@pytest.mark.parametrize("nonsense", ["1/1000", "1000/1", "65535/1"])
def test_a_shape_that_no_format_has_means_square(tmp_path, nonsense):
    path = with_frames_that_say(clip(tmp_path / "clip.ts", "3/2"), f"sample_aspect_ratio={nonsense}")
    assert sizes(path) == [(120, 96)]


def test_a_shape_that_makes_a_full_picture_a_ribbon_is_a_mistake(tmp_path):
    """Some channels send 16:9 whole and say pixels of 2:1; set by hand it counts."""
    path = clip(tmp_path / "clip.ts", "2", (128, 72))
    assert sizes(path) == [(128, 72)]
    assert sizes(path, pixel_aspect=Fraction(2)) == [(256, 72)]


def test_where_the_shape_changes_the_picture_size_changes(tmp_path):
    parts = [clip(tmp_path / f"{number}.ts", aspect) for number, aspect in enumerate(("1", "2", "2/3"))]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert sizes(joined) == [(120, 96), (240, 96), (120, 144)]


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (0, -1, 1, 0)])
def test_pixels_are_made_square_before_the_picture_is_rotated(tmp_path, matrix):
    path = turn(write_clip(tmp_path / "phone.mp4", [quarters(64, 96)], aspect=Fraction(3, 2), **X264), matrix)
    image = next(open_source(str(path)).frames()).image
    assert image.shape == (96, 96, 3)
    assert np.abs(np.rot90(image, 1 if matrix[1] > 0 else -1).astype(int) - quarters(96, 96)).mean() < 8


def test_interlaced_pictures_too(tmp_path):
    path = tmp_path / "tape.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(64, 45)
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(quarters(720, 576), "rgb24")), *stream.encode()]:
            container.mux(packet)
    image = next(open_source(str(path)).frames()).image
    assert image.shape == (576, 1024, 3)
    assert np.abs(image.astype(int) - quarters(1024, 576)).mean() < 4


def test_a_set_shape_replaces_what_the_source_says(tmp_path):
    silent, wrong = clip(tmp_path / "silent.mp4", "1"), clip(tmp_path / "wrong.mkv", "3/2")
    assert sizes(silent, pixel_aspect=parse_pixel_aspect("2:1")) == [(240, 96)]
    assert sizes(wrong, pixel_aspect=parse_pixel_aspect("1:1")) == [(120, 96)]
    assert sizes(wrong, pixel_aspect=parse_pixel_aspect("")) == [(180, 96)]


@pytest.mark.parametrize("text", ["2", "2/1", "0:1", "1:0", "-2:1", "1:1000", "2:1 ", "a:b", "1.5:1", "٢:1"])
def test_a_set_shape_that_is_none_is_refused_with_an_example(tmp_path, text):
    file = tmp_path / "maskcast.toml"
    stream = f'name = "gate"\nsource = "gate.mp4"\nprompts = ["car"]\npixel_aspect = {json.dumps(text)}\n'
    file.write_text(f"[[streams]]\n{stream}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r'pixel_aspect.*must be width:height, as in "2:1"'):
        load(file)


@pytest.mark.process
def test_masks_recording_and_header_have_square_pixels(tmp_path):
    """A circle is as wide as high again: in its mask, in the header's size, and in the recorded video."""
    world = ShapesWorld(118, 256, 256)
    pictures = [world.render(index)[0] for index in range(10)]
    squeezed = [np.ascontiguousarray(picture[:, ::2]) for picture in pictures]
    write_clip(tmp_path / "says.mp4", squeezed, aspect=Fraction(2), **X264)
    write_clip(tmp_path / "silent.mp4", squeezed, **X264)
    configuration = tmp_path / "maskcast.toml"
    prompts = json.dumps(list(world.labels))
    configuration.write_text(
        "".join(
            f'[[streams]]\nname = "{name}"\nsource = "{tmp_path / name}.mp4"\nprompts = {prompts}\n{more}\n'
            for name, more in (("says", ""), ("silent", 'pixel_aspect = "2:1"'))
        )
    )
    run = Program("--config", str(configuration), "--record", str(tmp_path / "out"))
    assert run.end()[0] == 0
    for name in ("says", "silent"):
        lines = lines_of(tmp_path / "out" / f"{name}.masks.jsonl")
        assert {(line["width"], line["height"]) for line in lines} == {(256, 256)}
        assert {tuple(thing["mask"]["size"]) for line in lines for thing in line["objects"]} == {(256, 256)}
        assert len({thing["id"] for thing in lines[-1]["objects"]}) == len(world.labels)
        with av.open(str(tmp_path / "out" / f"{name}.mp4")) as video:
            stream = video.streams.video[0]
            assert (stream.width, stream.height, stream.sample_aspect_ratio or 1) == (256, 256, 1)
