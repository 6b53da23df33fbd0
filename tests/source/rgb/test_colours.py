"""The colours of a picture are those that a player shows, whatever its encoding."""

from fractions import Fraction
from itertools import product

import av
import numpy as np
import pycocotools.mask
import pytest

from stages.source.rgb.color_tags import ColorTags
from stages.source.rgb.to_rgb import RgbConverter
from stages.source.source import open_source
from stages.testsrc.world import ShapesWorld
from tests.source.rgb.clips import (
    BT601,
    BT709,
    BT2020,
    FULL,
    HLG_TAGS,
    LIMITED,
    NO_TAGS,
    PQ,
    PQ_TAGS,
    UNSPECIFIED,
    bt2020,
    hlg,
    pq,
    with_frames_that_say,
    write_clip,
)
from tests.support.media import turn
from tests.support.program import Program, lines_of

# libx265 leaves the dts of a clip shorter than its run of B-frames to chance
ONE_PICTURE = "log-level=none:lossless=1:bframes=0"
X265 = {"codec": "libx265", "options": {"x265-params": ONE_PICTURE}}
MASTERED = ":master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
DEEP = "yuv420p10le"
NEAR = 6  # of 255: swscale, which fills the table, is 4 to 5 off for these saturated colours; untreated PQ over 20


def patches(width: int = 144, height: int = 96) -> np.ndarray:
    """Twelve even colours on 4 x 3 fields."""
    colours = np.array(
        [
            [(235, 235, 235), (130, 130, 130), (24, 24, 24), (200, 170, 140)],
            [(220, 40, 30), (40, 200, 60), (40, 60, 210), (230, 210, 40)],
            [(190, 60, 190), (60, 190, 200), (90, 60, 40), (250, 130, 30)],
        ],
        np.uint8,
    )
    return colours.repeat(height // 3, axis=0).repeat(width // 4, axis=1)


def first(path, **options):
    source = open_source(str(path), **options)
    image = next(source.frames()).image
    source.close()
    return image


def difference(image, truth) -> float:
    """Mean absolute difference, but for the pixels next to another colour."""
    height, width = truth.shape[0] // 3, truth.shape[1] // 4
    inner = np.zeros((height, width), bool)
    inner[4:-4, 4:-4] = True
    everywhere = np.tile(inner, (3, 4))
    return float(np.abs(image.astype(int) - truth)[everywhere].mean())


# --- HDR and wide gamuts


@pytest.mark.parametrize(
    ("encode", "tags", "metadata"), [(pq, PQ_TAGS, ""), (hlg, HLG_TAGS, ""), (pq, PQ_TAGS, MASTERED)]
)
def test_hdr_becomes_the_sdr_picture_it_was_made_of(tmp_path, encode, tags, metadata):
    """With or without HDR10's description of the display on which it was made."""
    options = {"x265-params": f"{ONE_PICTURE}{metadata}"}
    path = write_clip(tmp_path / "hdr.mp4", [encode(patches())], tags, pix_fmt=DEEP, codec="libx265", options=options)
    assert difference(first(path), patches()) < NEAR


def test_what_is_brighter_than_reference_white_is_clipped(tmp_path):
    """A lamp of 1000 cd/m² is white; PQ code 0.7518 (SMPTE ST 2084)."""
    lamp = np.full((96, 144, 3), round(0.7518 * 65535), np.uint16)
    assert first(write_clip(tmp_path / "lamp.mkv", [lamp], PQ_TAGS, pix_fmt=DEEP)).min() >= 254


def test_a_wide_gamut_without_hdr_becomes_bt709(tmp_path):
    tags = ColorTags(BT2020, 14, BT2020, LIMITED)
    path = write_clip(tmp_path / "wide.mkv", [bt2020(patches())], tags, pix_fmt=DEEP)
    assert difference(first(path), patches()) < NEAR


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_tags_in_the_container_alone_count(tmp_path, suffix):
    clip = write_clip(tmp_path / f"clip.{suffix}", [pq(patches())], PQ_TAGS, pix_fmt=DEEP, **X265)
    silent = with_frames_that_say(clip, "colour_primaries=2:transfer_characteristics=2:matrix_coefficients=2")
    assert difference(first(silent), patches()) < NEAR


def test_tags_in_the_frames_alone_count(tmp_path):
    path = write_clip(tmp_path / "bare.hevc", [pq(patches())], PQ_TAGS, pix_fmt=DEEP, **X265)
    assert difference(first(path), patches()) < NEAR


def test_where_frames_and_container_differ_the_frames_count(tmp_path):
    sdr = ColorTags(BT709, BT709, BT709, LIMITED)
    clip = write_clip(tmp_path / "clip.mp4", [pq(patches())], PQ_TAGS, said=sdr, pix_fmt=DEEP, **X265)
    says = with_frames_that_say(clip, "colour_primaries=9:transfer_characteristics=16:matrix_coefficients=9")
    assert difference(first(says), patches()) < NEAR


def test_hlg_that_is_announced_as_an_alternative_counts(tmp_path):
    """Broadcasts that older receivers also understand name BT.2020 in the VUI and HLG in an SEI message."""
    options = {"x265-params": f"{ONE_PICTURE}:atc-sei=18"}
    said = ColorTags(BT2020, 14, BT2020, LIMITED)
    path = write_clip(
        tmp_path / "dvb.ts", [hlg(patches())], HLG_TAGS, said=said, pix_fmt=DEEP, codec="libx265", options=options
    )
    assert difference(first(path), patches()) < NEAR


def test_hdr_without_any_tag_stays_as_it_is(tmp_path):
    """Nothing tells that it is HDR: dull, as in every player."""
    tagged = write_clip(tmp_path / "tagged.mkv", [pq(patches())], PQ_TAGS, pix_fmt=DEEP)
    bare = write_clip(tmp_path / "bare.mkv", [pq(patches())], PQ_TAGS, said=NO_TAGS, pix_fmt=DEEP)
    assert difference(first(bare), patches()) > 20 > difference(first(tagged), patches())


@pytest.mark.parametrize(
    "pix_fmt",
    ["yuv420p", "nv12", "p010le", "p016le", "yuv420p12le", "yuv422p10le", "yuv444p12le", "gbrp10le", "yuva420p10le"],
)
@pytest.mark.parametrize("size", [(144, 96), (143, 95)], ids=["even", "odd"])
def test_every_layout_of_hdr_has_the_same_colours(tmp_path, pix_fmt, size):
    """Those of GPU decoders included: nv12, p010le, p016le."""
    width, height = size
    path = write_clip(tmp_path / "hdr.mkv", [pq(patches())], PQ_TAGS, pix_fmt="yuv444p12le")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        converter = RgbConverter(stream)
        frame = next(container.decode(stream))
        other = frame.reformat(width, height, pix_fmt, dst_color_range=FULL if "gbr" in pix_fmt else LIMITED)
        other.color_trc, other.color_primaries = PQ, BT2020
        image = converter.rgb(other)
    assert image.shape == (height, width, 3)
    assert difference(np.pad(image, ((0, 96 - height), (0, 144 - width), (0, 0)), "edge"), patches()) < NEAR


def test_hdr_is_rotated_and_its_pixels_are_made_square(tmp_path):
    squeezed = np.ascontiguousarray(patches()[:, ::2])
    path = write_clip(tmp_path / "phone.mp4", [pq(squeezed)], PQ_TAGS, pix_fmt=DEEP, aspect=Fraction(2), **X265)
    image = first(turn(path, (0, 1, -1, 0)))
    assert image.shape == (144, 96, 3)
    assert difference(np.rot90(image), patches()) < NEAR


@pytest.mark.process
def test_masks_of_hdr_are_as_good_as_those_of_sdr(tmp_path):
    """The embedded models see the same shapes in all three; each mask of SDR has its like."""
    world = ShapesWorld(118)
    pictures = [world.render(index)[0] for index in range(16)]
    write_clip(tmp_path / "sdr.mkv", pictures, ColorTags(BT709, 1, 1, LIMITED), pix_fmt="yuv444p")
    for name, encode, tags in (("pq", pq, PQ_TAGS), ("hlg", hlg, HLG_TAGS)):
        options = {"x265-params": "log-level=none", "crf": "10"}
        images = [encode(picture) for picture in pictures]
        write_clip(tmp_path / f"{name}.mp4", images, tags, pix_fmt=DEEP, codec="libx265", options=options)
    clips = [str(tmp_path / name) for name in ("sdr.mkv", "pq.mp4", "hlg.mp4")]
    run = Program(*clips, "--prompt", ", ".join(world.labels), "--record", str(tmp_path / "out"))
    assert run.end()[0] == 0
    quality = {
        name: overlap(lines_of(tmp_path / "out" / f"{name}.masks.jsonl"), world) for name in ("sdr", "pq", "hlg")
    }
    assert quality["sdr"] > 0.8
    assert quality["pq"] == pytest.approx(quality["sdr"], abs=0.03)
    assert quality["hlg"] == pytest.approx(quality["sdr"], abs=0.03)


def overlap(lines, world) -> float:
    """Mean IoU with the true masks; an object that was not found counts 0."""
    overlaps = []
    for line in lines:
        masks = [(thing["prompt"], pycocotools.mask.decode(thing["mask"]).astype(bool)) for thing in line["objects"]]
        for label, truth in zip(world.labels, world.render(line["frame"])[1].masks, strict=True):
            if truth.any():
                found = [(mask & truth).sum() / (mask | truth).sum() for prompt, mask in masks if prompt == label]
                overlaps.append(max(found, default=0))
    return float(np.mean(overlaps))


# --- matrix and range


@pytest.mark.parametrize(
    ("size", "matrix"),
    [((720, 576), BT601), ((1280, 720), BT709), ((720, 1280), BT709)],
    ids=["SD", "HD", "upright HD"],
)
def test_without_a_tag_hd_is_taken_for_bt709_and_sd_for_bt601(tmp_path, size, matrix):
    tags = ColorTags(matrix, 1, 1, LIMITED)
    path = write_clip(tmp_path / "clip.mkv", [patches(*size)], tags, said=NO_TAGS)
    assert difference(first(path), patches(*size)) < 2


@pytest.mark.parametrize("matrix", [BT709, BT601, BT2020])
@pytest.mark.parametrize("in_range", [LIMITED, FULL])
def test_matrix_and_range_of_the_tags_are_used(tmp_path, matrix, in_range):
    path = write_clip(tmp_path / "clip.mkv", [patches()], ColorTags(matrix, 1, 1, in_range))
    assert difference(first(path), patches()) < 2


def test_unknown_and_reserved_tags_are_taken_for_missing_ones(tmp_path):
    """Also those that swscale refuses, such as YCgCo or a reserved number: there is a picture for each."""
    path = write_clip(tmp_path / "clip.mkv", [patches()], ColorTags(BT601, 1, 1, LIMITED))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        converter = RgbConverter(stream)
        frame = next(container.decode(stream))
        for matrix, transfer, primaries, in_range in product((0, 3, 8, 14, 77), (0, 3, 77), (0, 3, 77), (0, 3)):
            frame.colorspace, frame.color_trc, frame.color_primaries = matrix, transfer, primaries
            frame.color_range = in_range
            assert difference(converter.rgb(frame), patches()) < 2


@pytest.mark.parametrize(
    ("pix_fmt", "in_range"), [("gray", FULL), ("gray", LIMITED), ("gray10le", LIMITED), ("gray16le", 0)]
)
def test_grey_has_its_whole_range(tmp_path, pix_fmt, in_range):
    grey = patches().mean(axis=2).round().astype(np.uint8)
    path = write_clip(tmp_path / "grey.mkv", [grey[..., None].repeat(3, axis=2)], pix_fmt="gray16le")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream)).reformat(format=pix_fmt)
        if in_range == LIMITED:
            deep = pix_fmt == "gray10le"
            plane = np.frombuffer(frame.planes[0], np.uint16 if deep else np.uint8)
            plane[:] = np.rint(plane * (219 / 255)) + (64 if deep else 16)
        frame.color_range = in_range
        image = RgbConverter(stream).rgb(frame)
    assert difference(image, grey[..., None].repeat(3, axis=2)) < 2


@pytest.mark.parametrize("pix_fmt", ["bgr0", "bgra", "gbrp10le", "gbrp16le", "yuva420p", "yuv444p", "yuv411p"])
def test_other_layouts_have_the_same_colours(tmp_path, pix_fmt):
    tags = NO_TAGS if "b" in pix_fmt else ColorTags(BT601, UNSPECIFIED, UNSPECIFIED, LIMITED)
    path = write_clip(tmp_path / "clip.mkv", [patches()], tags, pix_fmt=pix_fmt)
    assert difference(first(path), patches()) < 3
