"""Decoded frames to RGB: CPU time of a picture of 1920 x 1080, by what it is made of, against plain 10-bit SDR.

python -m tests.benchmarks.rgb.to_rgb [--size 1920x1080] [--rounds 15] [--json]

A row has the fastest round of each. `swscale` is FFmpeg's own conversion of HDR.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
from av.video.reformatter import VideoReformatter

from stages.source.rgb.color_tags import ColorTags
from stages.source.rgb.to_rgb import RgbConverter
from stages.testsrc.world import ShapesWorld
from tests.source.rgb.clips import BT709, LIMITED, NO_TAGS, PQ_TAGS, pq, write_clip

SDR_TAGS = ColorTags(BT709, BT709, BT709, LIMITED)
DEEP = "yuv420p10le"


def tagged(frame: av.VideoFrame, tags: ColorTags) -> av.VideoFrame:
    frame.colorspace, frame.color_trc, frame.color_primaries = tags.matrix, tags.transfer, tags.primaries
    frame.color_range = tags.range
    return frame


def kinds(width: int, height: int, folder: Path) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    picture = pq(ShapesWorld(118, width, height).render(0)[0])
    path = write_clip(folder / "clip.mkv", [picture], PQ_TAGS, said=NO_TAGS, pix_fmt=DEEP)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        converter, stretcher = RgbConverter(stream), RgbConverter(stream, Fraction(2))
    p010 = frame.reformat(format="p010le")
    half = frame.reformat(width=width // 2, format=DEEP)
    reformatter = VideoReformatter()
    return {
        "SDR, 10 bits": lambda: converter.rgb(tagged(frame, SDR_TAGS)),
        "SDR, pixels of 2:1": lambda: stretcher.rgb(tagged(half, SDR_TAGS)),
        "HDR (PQ)": lambda: converter.rgb(tagged(frame, PQ_TAGS)),
        "HDR as a GPU decodes it": lambda: converter.rgb(tagged(p010, PQ_TAGS)),
        "HDR, pixels of 2:1": lambda: stretcher.rgb(tagged(half, PQ_TAGS)),
        "HDR by swscale": lambda: reformatter.reformat(
            tagged(frame, PQ_TAGS), format="rgb24", dst_color_trc=BT709, dst_color_primaries=BT709, threads=1
        ).to_ndarray(),
    }


def milliseconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rgb.to_rgb", description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1920x1080", metavar="WIDTHxHEIGHT")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        timed = kinds(width, height, Path(folder))
    for work in timed.values():  # fills the tables
        work()
    fastest = {name: min(milliseconds(work) for _ in range(arguments.rounds)) for name, work in timed.items()}
    plain = fastest["SDR, 10 bits"]
    rows = [{"picture": name, "ms": round(ms, 2), "over_sdr": round(ms / plain, 2)} for name, ms in fastest.items()]
    if arguments.json:
        print(json.dumps({"rows": rows}))
        return
    print("| picture | ms | / SDR |\n|---|---|---|")
    for row in rows:
        print(f"| {row['picture']} | {row['ms']:.1f} | {row['over_sdr']:.2f} |")


if __name__ == "__main__":
    main()
