"""Decoding on the GPU: what happens where that does not work, and that it changes nothing where it does."""

import re

import av
import numpy as np
import pytest

import stages.source.ffmpeg
from stages.source.gpu_decoder import DecoderTrial, _hwaccel, cuda_decoder
from stages.source.source import open_source
from tests.support.media import numbered, numbers, write_video

needs_decoder = pytest.mark.skipif(cuda_decoder(0) is None, reason="no GPU that FFmpeg can decode on")
OPTIONS = {"g": "10", "sc_threshold": "0", "bf": "0"}


@pytest.fixture
def packets(tmp_path):
    """100 real packets, every tenth a key picture."""
    path = write_video(tmp_path / "video.mp4", numbered(50) * 2, codec_options=OPTIONS)
    with av.open(str(path)) as video:
        yield [packet for packet in video.demux(video=0) if packet.size]


def test_a_decoder_that_fails_on_a_key_picture_has_failed(packets):
    assert DecoderTrial().failed(packets[0], error=True)


def test_a_decoder_that_fails_before_a_key_picture_has_not(packets):
    """Whoever joins a camera in the middle of a group of pictures sees that."""
    trial = DecoderTrial()
    assert not any(trial.failed(packet, error=True) for packet in packets[1:10] * 20)
    assert trial.failed(packets[10], error=True)


def test_a_decoder_that_brings_nothing_for_long_has_failed(packets):
    trial = DecoderTrial()
    assert not any(trial.failed(packet, error=False) for packet in packets[:20])
    assert any(trial.failed(packet, error=False) for packet in packets)


def test_after_a_failed_trial_the_source_is_read_from_its_start_in_software(tmp_path, monkeypatch):
    """The failure is real, the first key picture is damaged; only the name of the decoder is not."""
    path = write_video(tmp_path / "video.mp4", numbered(30), codec_options=OPTIONS)
    data = path.read_bytes()
    found = re.search(rb"\x80\0\0..\x65", data, re.DOTALL)  # the end of the encoder's note, a length, a key picture
    assert found is not None
    path.write_bytes(data[: found.end()] + bytes(40) + data[found.end() + 40 :])
    opened = []

    def decoder_of(stream):
        opened.append(stream)
        return "cuda" if len(opened) == 1 else "software"

    monkeypatch.setattr(stages.source.ffmpeg, "decoder_of", decoder_of)
    source = open_source(str(path), gpu=0)
    assert source.decoder == "cuda"
    frames = list(source.frames())
    assert source.decoder == "software"
    assert numbers(frames) == list(range(10, 30))
    assert opened[0] is not opened[-1]
    assert source.decode_errors == 1  # by the software


def test_a_gpu_is_tried_once_and_not_at_each_opening(tmp_path):
    path = write_video(tmp_path / "video.mp4", numbered(2))
    cuda_decoder(0)
    before = cuda_decoder.cache_info()
    for _ in range(3):
        open_source(str(path), gpu=0).close()
    after = cuda_decoder.cache_info()
    assert (after.hits, after.misses) == (before.hits + 3, before.misses)


def test_the_decoder_is_on_the_gpu_that_was_asked_for_in_torchs_context_first():
    first, second = _hwaccel(1, primary=True), _hwaccel(1, primary=False)
    assert (first.device_id, first.options) == (1, {"primary_ctx": "1"})
    assert (second.device_id, second.options) == (1, {})


@pytest.mark.gpu
@needs_decoder
@pytest.mark.parametrize("name", ["video.mp4", "video.ts"])
def test_the_gpus_pictures_are_those_of_the_software(tmp_path, name):
    path = write_video(tmp_path / name, numbered(50, 640, 480), codec_options=OPTIONS)
    source = open_source(str(path), gpu=0)
    on_gpu, in_software = list(source.frames()), list(open_source(str(path)).frames())
    assert source.decoder == "cuda"
    assert [(frame.pts, frame.captured_at) for frame in on_gpu] == [(f.pts, f.captured_at) for f in in_software]
    for one, other in zip(on_gpu, in_software, strict=True):
        assert one.image.shape == other.image.shape
        assert np.abs(one.image.astype(int) - other.image.astype(int)).max() <= 2


@pytest.mark.gpu
@needs_decoder
def test_what_the_gpu_cannot_decode_is_decoded_in_software_and_says_so(tmp_path):
    path = write_video(tmp_path / "video.mkv", numbered(20), codec="ffv1")
    source = open_source(str(path), gpu=0)
    assert numbers(source.frames()) == list(range(20))
    assert source.decoder == "software"
