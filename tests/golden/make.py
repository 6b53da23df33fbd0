"""Write the golden messages and the masks in them: what every reader of the mask stream must understand.

    python -m tests.golden.make

``vectors/index.json`` lists the messages in the order in which they are published: name, stream, kind, the files of
their parts, and for each object (by its id) the file of its mask, a PNG with 0 and 255. The parts' files hold the very
bytes of the multipart message, without a line end of their own.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from stages.output import wire
from stages.output.masks import Masks
from stages.output.wire import Header, Kind
from tests.golden.scenes import ORIGINS, PROMPTS, SESSIONS, Mask, Scene, events, scenes, states

FOLDER = Path(__file__).parent / "vectors"
PICTURE = Path(__file__).with_name("picture.jpg")  # 16x12; a file, since encoders differ
PUBLISHED_AT = 1795459200.301112
PARTS = ("topic", "header.json", "picture.jpg")


@dataclass(frozen=True)
class Vector:
    """A message and the masks, by id, that its header holds."""

    name: str
    stream: str
    kind: Kind
    parts: list[bytes]
    masks: dict[int, Mask] = field(default_factory=dict)


def vectors() -> Iterator[Vector]:
    """All messages, in the order in which they are published."""
    seq: Counter[tuple[str, Kind]] = Counter()

    def place(stream: str, kind: Kind) -> dict[str, Any]:
        seq[stream, kind] += 1
        number = seq[stream, kind] - 1
        about = {"stream": stream, "session": SESSIONS[stream], "seq": number, "published_at": PUBLISHED_AT}
        return about | ORIGINS.get(stream, {})

    for stream, name, event in events():
        yield _vector(name, Kind.EVENT, wire.event_header(epoch=0, **place(stream, Kind.EVENT), **event))
    for scene in scenes():
        about = place(scene.stream, Kind.MASKS)
        yield _masks(scene, about)
        if scene.result.frame.image.shape == cv2.imread(str(PICTURE)).shape:
            picture = PICTURE.read_bytes()
            yield _vector(scene.name, Kind.FRAME, wire.frame_header(scene.result, **about), picture)
    for stream, name, state in states():
        yield _vector(name, Kind.STATUS, wire.status_header(epoch=0, **place(stream, Kind.STATUS), **state))


def _masks(scene: Scene, about: dict[str, Any]) -> Vector:
    header = wire.masks_header(
        scene.result, Masks.from_full(scene.masks), prompts=PROMPTS, encoding=scene.encoding, **about
    )
    masks = {track.id: mask for track, mask in zip(scene.result.tracks, scene.masks, strict=True)}
    return _vector(scene.name, Kind.MASKS, header, masks=masks)


def _vector(name: str, kind: Kind, header: Header, blob: bytes | None = None, **more: Any) -> Vector:
    stream = header["stream"]
    return Vector(f"{kind}-{name}", stream, kind, wire.pack(wire.topic(stream, kind), header, blob), **more)


def write(folder: Path) -> None:
    """All vectors and their index into ``folder``, which is emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    index = [_write(vector, folder / vector.name) for vector in vectors()]
    (folder / "index.json").write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n")


def _write(vector: Vector, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True)
    names = PARTS[: len(vector.parts)]
    for name, part in zip(names, vector.parts, strict=True):
        (folder / name).write_bytes(part)
    for number, mask in vector.masks.items():
        cv2.imwrite(str(folder / f"mask-{number}.png"), mask.astype("uint8") * 255, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return {
        "name": vector.name,
        "stream": vector.stream,
        "kind": str(vector.kind),
        "parts": [f"{folder.name}/{name}" for name in names],
        "masks": {str(number): f"{folder.name}/mask-{number}.png" for number in vector.masks},
    }


if __name__ == "__main__":
    write(FOLDER)
