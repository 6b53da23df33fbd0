"""Writes a video file of the built-in test source, as a substitute for a recording.

python -m tests.support.clip FILE.mp4 [--seconds S] [--size WIDTHxHEIGHT] [--seed N]
"""

import argparse
from pathlib import Path

from stages.testsrc.world import ShapesWorld
from tests.support.media import write_video


def make_clip(path: Path, size: tuple[int, int] = (128, 96), seconds: float = 4, fps: int = 25, seed: int = 0) -> Path:
    """An MP4 of ShapesWorld, with an I-frame twice a second, no B-frames and one slice a picture, as cameras send it.

    ``size`` is (width, height).
    """
    width, height = size
    world = ShapesWorld(seed, width, height, fps=fps)
    pictures = [world.render(t)[0] for t in range(round(seconds * fps))]
    # slice threads, PyAV's choice, would cut each picture in as many slices as the machine has cores
    options = {"g": str(max(1, fps // 2)), "sc_threshold": "0", "bf": "0", "thread_type": "frame"}
    return write_video(path, pictures, rate=fps, codec_options=options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, metavar="FILE.mp4")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--size", default="256x256", metavar="WIDTHxHEIGHT")
    parser.add_argument("--seed", type=int, default=103, help="of the world")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    make_clip(arguments.path, (width, height), arguments.seconds, seed=arguments.seed)
    labels = ShapesWorld(arguments.seed, width, height).labels
    print(f"{arguments.path}: {arguments.seconds:g} s of {', '.join(dict.fromkeys(labels))}")


if __name__ == "__main__":
    main()
