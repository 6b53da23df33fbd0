"""The moving picture at the top of README: the built-in source beside what the daemon makes of it.

python -m tests.readme.demo_picture [--out FILE.webp]

It runs ``maskcast run`` with the embedded models on the world of ``maskcast demo`` and records the annotated frames.
Source and result stand side by side in an animated WebP, under the prompts.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from daemon.commands.demo import HEIGHT, OBJECTS, SEED, WIDTH
from stages.testsrc.open_world import open_world

PICTURE = Path(__file__).parents[2] / "deploy" / "pictures" / "demo.webp"
SHOWN = (448, 252)  # pixels of each of the two pictures
FRAMES, SKIP = 300, 3  # ten seconds, of which every third frame is shown
GAP, STRIP = 12, 32  # pixels between the pictures, and above them for the text
QUALITY = 80  # of the WebP; 1 to 100
PAPER, INK, DIM = (22, 24, 32), (236, 239, 244), (150, 156, 170)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PICTURE, metavar="FILE.webp")
    out = parser.parse_args().out
    world = open_world("wild", SEED, WIDTH, HEIGHT, OBJECTS)
    prompts = tuple(dict.fromkeys(world.labels))
    with tempfile.TemporaryDirectory() as folder:
        results = annotated(prompts, Path(folder))
        sheets = [sheet(world.render(t)[0], Image.open(results[t]), prompts) for t in range(0, FRAMES, SKIP)]
    out.parent.mkdir(parents=True, exist_ok=True)
    duration = round(1000 * SKIP / world.fps)  # milliseconds
    sheets[0].save(out, save_all=True, append_images=sheets[1:], duration=duration, loop=0, quality=QUALITY, method=6)
    print(f"{out}: {len(sheets)} frames, {out.stat().st_size:,} bytes")


def annotated(prompts: tuple[str, ...], folder: Path) -> list[Path]:
    """The annotated frames that the daemon records, as JPEG files in order."""
    source = f"testsrc://shapes?wild=1&seed={SEED}&objects={OBJECTS}&frames={FRAMES}&size={WIDTH}x{HEIGHT}"
    models = ("--detector", "embedded", "--segmenter", "embedded", "--device", "cpu")
    ports = ("--publish", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0")
    command = [sys.executable, "-m", "daemon", "run", source, "--prompt", *prompts, *models, *ports]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MASKCAST_")}
    environment = {**clean, "MASKCAST_PUBLISH__JPEG_QUALITY": "95"}
    subprocess.run([*command, "--record", str(folder), "--frames"], env=environment, check=True)
    return sorted((folder / "shapes-frames").glob("*.jpg"))


def sheet(source: np.ndarray, result: Image.Image, prompts: tuple[str, ...]) -> Image.Image:
    """One frame of the moving picture: the source, the result, and above them what they are."""
    page = Image.new("RGB", (2 * SHOWN[0] + GAP, SHOWN[1] + STRIP), PAPER)
    page.paste(Image.fromarray(source).resize(SHOWN, Image.Resampling.LANCZOS), (0, STRIP))
    page.paste(result.resize(SHOWN, Image.Resampling.LANCZOS), (SHOWN[0] + GAP, STRIP))
    write = ImageDraw.Draw(page)
    font = ImageFont.load_default(15)
    write.text((8, 7), "prompts: ", DIM, font)
    write.text((8 + write.textlength("prompts: ", font), 7), ", ".join(prompts), INK, font)
    return page


if __name__ == "__main__":
    main()
