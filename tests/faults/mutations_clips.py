"""Intact clips and damaged copies; each damaged file is a function of its number.

Consecutive numbers cycle through the containers, then the kinds of damage, then the clips: three rounds on clips of the
test source, one on a real clip if there is one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from stages.testsrc.world import ShapesWorld
from tests.support.media import write_video

CONTAINERS = ("mp4", "ts", "mkv")
REAL = Path(__file__).parents[3] / "shared" / "data" / "clips"
PACKETS = 40  # per clip; real clips are long
SAME = {"fflags": "+bitexact"}  # reproducible: no random identifiers
INDEX_FIRST = {"movflags": "faststart"}  # an MP4 that is cut before its index cannot be read

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Damaged:
    """One damaged file, with its kind of damage and original clip."""

    path: Path
    container: str
    damage: str
    clip: str


class Clips:
    """The intact clips, created once in ``folder``, and their damaged copies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        world = ShapesWorld(4, 96, 64)
        pictures = [world.render(t)[0] for t in range(36)]
        shapes = write_video(folder / "whole.mp4", pictures, codec_options={"g": "9", "bf": "2"})
        self.shapes = self._copies(shapes, "shapes")
        self.real = [copy for clip in sorted(REAL.glob("*.mp4")) for copy in self._copies(clip, clip.stem)]

    def _copies(self, clip: Path, name: str) -> list[Path]:
        """Copies of the clip's first packets in each container."""
        return [_remux(clip, self._folder / f"{name}.{container}", _first) for container in CONTAINERS]

    def damaged(self, number: int) -> Damaged:
        """Create file ``number``; its bytes are reproducible as far as the encoder is, which is nearly always."""
        rng = np.random.default_rng([number, 0xDA])
        turn, which = divmod(number, len(CONTAINERS))
        lap, kind = divmod(turn, len(DAMAGES))
        round_of_four, quarter = divmod(lap, 4)
        clips = self.shapes
        if quarter == 3 and self.real:
            first = round_of_four * len(CONTAINERS) % len(self.real)
            clips = self.real[first : first + len(CONTAINERS)]
        clip, name = clips[which], list(DAMAGES)[kind]
        path = self._folder / f"{number:06d}-{name}{clip.suffix}"
        DAMAGES[name](rng, clip, path)
        return Damaged(path, CONTAINERS[which], name, clip.name)


def _flips(rng: Rng, clip: Path, path: Path) -> None:
    """Flip single bits anywhere."""
    data = _bytes(clip)
    places = rng.integers(0, len(data), int(rng.integers(1, 200)))
    data[places] ^= (1 << rng.integers(0, 8, len(places))).astype(np.uint8)
    path.write_bytes(data.tobytes())


def _header(rng: Rng, clip: Path, path: Path) -> None:
    """Replace bytes in the first 2,048 and last 512 bytes, where sizes, counts and offsets are."""
    data = _bytes(clip)
    end = min(len(data), 2048)
    places = rng.integers(-end // 4, end, int(rng.integers(1, 12)))
    data[places] = rng.integers(0, 256, len(places), np.uint8)
    path.write_bytes(data.tobytes())


def _zeroed(rng: Rng, clip: Path, path: Path) -> None:
    """Zero up to four spans, together up to two fifths of the file."""
    data = _bytes(clip)
    for start in rng.integers(0, len(data), int(rng.integers(1, 5))):
        data[start : start + int(rng.integers(1, len(data) // 10))] = 0
    path.write_bytes(data.tobytes())


def _cut(rng: Rng, clip: Path, path: Path) -> None:
    """Remove the end, or a span in the middle."""
    data = _bytes(clip)
    start, end = np.sort(rng.integers(1, len(data), 2))
    rest = data[end:] if rng.random() < 0.5 else data[:0]
    path.write_bytes(np.concatenate([data[:start], rest]).tobytes())


def _spans(rng: Rng, clip: Path, path: Path) -> None:
    """Swap up to four pairs of spans; in a transport stream, whole packets of 188 bytes."""
    data = _bytes(clip)
    unit = 188 if clip.suffix == ".ts" else 1
    for _ in range(int(rng.integers(1, 5))):
        size = int(rng.integers(1, len(data) // 20 // unit + 2)) * unit
        one, other = rng.integers(0, (len(data) - size) // unit + 1, 2) * unit
        data[one : one + size], data[other : other + size] = (
            data[other : other + size].copy(),
            data[one : one + size].copy(),
        )
    path.write_bytes(data.tobytes())


def _packets(rng: Rng, clip: Path, path: Path) -> None:
    """A valid container in which packets are permuted, one is missing and one is repeated."""

    def shuffle(payloads: list[bytes]) -> list[bytes]:
        order = np.arange(len(payloads))
        moved = rng.choice(order, int(rng.integers(2, len(order) + 1)), replace=False)
        order[np.sort(moved)] = moved
        twice = rng.integers(0, len(order), 2)
        order[twice[0]] = order[twice[1]]
        return [payloads[place] for place in order]

    _remux(clip, path, shuffle)


DAMAGES: dict[str, Callable[[Rng, Path, Path], None]] = {
    "flips": _flips,
    "header": _header,
    "zeroed": _zeroed,
    "cut": _cut,
    "spans": _spans,
    "packets": _packets,
}


def _first(payloads: list[bytes]) -> list[bytes]:
    return payloads[:PACKETS]


def _bytes(clip: Path) -> np.ndarray:
    return np.frombuffer(clip.read_bytes(), np.uint8).copy()


def _remux(clip: Path, path: Path, change: Callable[[list[bytes]], list[bytes]]) -> Path:
    """Write the payloads that ``change`` returns, with the original timestamps in order."""
    options = SAME | (INDEX_FIRST if path.suffix == ".mp4" else {})
    with av.open(str(clip)) as source, av.open(str(path), "w", options=options) as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        places = [packet for packet in source.demux(stream) if packet.size]
        for place, payload in zip(places, change([bytes(packet) for packet in places]), strict=False):
            packet = av.Packet(payload)
            packet.pts, packet.dts, packet.time_base = place.pts, place.dts, place.time_base
            packet.is_keyframe = place.is_keyframe
            packet.stream = copy
            target.mux(packet)
    return path
