"""How fast maskcast_client reads frames, on one core, against pycocotools.

python -m tests.benchmarks.client [--frames N] [--objects N] [--size WxH] [--json]

Frames per second of: JSON and masks inside their boxes; the same with whole masks; supervision's Detections with
compact masks; and pycocotools' decode of the same messages. The objects are blobs with rough edges, 60 to 360 pixels
wide, at random places. Also milliseconds of ``import maskcast_client``, the median of five processes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pycocotools.mask

from maskcast_client import Frame
from maskcast_client.messages import read_frame
from tests.clients.golden import header_of

SIZES = (60, 360)  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--size", default="1920x1080", metavar="WxH")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    messages = [message(seed, arguments.objects, height, width) for seed in range(arguments.frames)]
    rates = {name: rate(read, messages) for name, read in READERS.items()}
    report = {
        "fps": rates,
        "crops_over_pycocotools": rates["crops"] / rates["pycocotools"],
        "masks_over_pycocotools": rates["masks"] / rates["pycocotools"],
        "import_ms": statistics.median(import_seconds() for _ in range(5)) * 1000,
        "bytes_a_message": sum(map(len, messages)) / len(messages),
    }
    if arguments.json:
        print(json.dumps(report))
        return
    for name, fps in rates.items():
        print(f"{name:12} {fps:8.1f} frames/s, {fps / rates['pycocotools']:6.1f} times pycocotools")
    print(f"import maskcast_client: {report['import_ms']:.0f} ms; a message: {report['bytes_a_message']:,.0f} bytes")


def message(seed: int, objects: int, height: int, width: int) -> bytes:
    """A masks header as it travels."""
    random = np.random.default_rng(seed)
    about = header_of("masks-foreign")["objects"][0]
    things: list[Any] = []
    for number in range(1, objects + 1):
        mask = np.zeros((height, width), np.uint8, order="F")
        h, w = random.integers(*np.minimum(SIZES, (height + 1, width + 1)).tolist(), 2).clip(max=(height, width))
        y, x = random.integers(0, height - h + 1), random.integers(0, width - w + 1)
        rows, columns = np.mgrid[:h, :w]
        rough = 0.1 * np.sin(columns / 5) * np.sin(rows / 7) + random.normal(0, 0.01, (h, w))
        mask[y : y + h, x : x + w] = (2 * rows / h - 1) ** 2 + (2 * columns / w - 1) ** 2 + rough < 0.9
        code = pycocotools.mask.encode(mask)
        code = {"size": code["size"], "counts": code["counts"].decode()}
        things.append(about | {"id": number, "area": int(mask.sum()), "mask": code})
    return json.dumps(header_of("masks-foreign") | {"width": width, "height": height, "objects": things}).encode()


def frame(text: bytes) -> Frame:
    return read_frame(json.loads(text), 0, False, {})


def by_pycocotools(text: bytes) -> None:
    for thing in json.loads(text)["objects"]:
        pycocotools.mask.decode(thing["mask"])


READERS: dict[str, Callable[[bytes], object]] = {
    "crops": lambda text: [thing.crop for thing in frame(text).objects],
    "masks": lambda text: [thing.mask for thing in frame(text).objects],
    "detections": lambda text: frame(text).detections,
    "pycocotools": by_pycocotools,
}


def rate(read: Callable[[bytes], object], messages: list[bytes]) -> float:
    """Frames per second of this thread's own time, the best of three rounds."""
    read(messages[0])
    best = float("inf")
    for _ in range(3):
        began = time.thread_time()
        for text in messages:
            read(text)
        best = min(best, time.thread_time() - began)
    return len(messages) / best


def import_seconds() -> float:
    code = "import time; a = time.perf_counter(); import maskcast_client; print(time.perf_counter() - a)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(shown.stdout)


if __name__ == "__main__":
    main()
