"""Snapshots: a tracker's state as bytes, to go on in another process, on another device or in another precision.

Layout: a header (mark, version of the format, length and CRC-32 of what follows), then the state as ``torch.save``
writes it: tensors on the CPU and plain values. They are read with ``weights_only=True``, so that no code runs, and
checked: forged bytes are refused, and take no more memory than there are of them.

Raise `VERSION` with each change of what a state holds.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any, get_type_hints

import torch

from stages.errors import SnapshotError
from stages.segmentation.base import Segmenter
from stages.tracking.identity.looks import sizes
from stages.tracking.identity.trust import Trust
from stages.tracking.identity.views import VIEWS
from stages.tracking.memory.ring import CONDITIONING
from stages.tracking.track_table import TrackRecord, TrackTable
from stages.types import TrackEvent

VERSION = 2
_MARK = b"maskcast tracker"
_HEADER = struct.Struct(">16sIQI")  # mark, version, bytes that follow, their CRC-32


def dump(state: dict[str, Any], segmenter: Segmenter, image_size: int) -> bytes:
    """The snapshot of a state, of a tracker with this model at its own size, tracking at ``image_size``."""
    buffer = io.BytesIO(bytes(_HEADER.size))
    buffer.seek(_HEADER.size)
    torch.save({"model": model_of(segmenter), "image_size": image_size, "state": state}, buffer)
    with buffer.getbuffer() as content, content[_HEADER.size :] as body:
        _HEADER.pack_into(content, 0, _MARK, VERSION, len(body), zlib.crc32(body))
    return buffer.getvalue()


def load(data: bytes, segmenter: Segmenter) -> tuple[dict[str, Any], Segmenter]:
    """The state that a snapshot holds, and the model at the image size at which the state was made.

    ``segmenter`` is the model at its own size. Raises SnapshotError for another model or version, and for bytes that
    are damaged or no snapshot.
    """
    body, ours = _body(data), model_of(segmenter)
    try:
        content = _content(body)
        made, size, state = str(content["model"]), content["image_size"], content["state"]
        if made == ours:
            whole = 0 < size <= segmenter.image_size
            at_size = segmenter.scaled(size / segmenter.image_size) if whole else segmenter
            if not (at_size.image_size == size and _is_whole(state, at_size, len(body))):
                raise ValueError("the parts do not fit")
    except Exception as error:  # forged bytes can raise anything
        raise SnapshotError("snapshot: its content makes no sense; take a new one") from error
    if made != ours:
        raise SnapshotError(f"snapshot: of another model ({made[:200]}) than here ({ours}); use one model everywhere")
    return state, at_size


def model_of(segmenter: Segmenter) -> str:
    """What a model must be for a state to fit it: its sizes, and a checksum of some of its weights."""
    return (
        f"{segmenter.recent_memories + 1} memories of {segmenter.memory_dim} channels, "
        f"{segmenter.recent_pointers + 1} pointers of {segmenter.pointer_dim}, weights {segmenter.checksum:08x}"
    )


def _body(data: bytes) -> memoryview:
    """What follows the header. Raises SnapshotError."""
    if len(data) < _HEADER.size or not data.startswith(_MARK):
        raise SnapshotError(f"snapshot: these {len(data):,} bytes are no snapshot of a tracker; take a new one")
    _, version, length, checksum = _HEADER.unpack_from(data)
    if version != VERSION:
        raise SnapshotError(
            f"snapshot: version {version}, but this maskcast reads version {VERSION}; run one release on all machines"
        )
    body = memoryview(data)[_HEADER.size :]
    if len(body) < length:
        raise SnapshotError(f"snapshot: cut off: {len(body):,} of {length:,} bytes; send it again")
    if len(body) > length or zlib.crc32(body) != checksum:
        raise SnapshotError("snapshot: damaged: its checksum is wrong; send it again")
    return body


def _content(body: memoryview) -> Any:
    """What ``torch.save`` has written. Raises ValueError for a file that is larger once it is read."""
    with zipfile.ZipFile(io.BytesIO(body)) as file:
        if any(part.compress_type != zipfile.ZIP_STORED for part in file.infolist()):
            raise ValueError("compressed")
    return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)


def _is_whole(state: dict[str, Any], segmenter: Segmenter, size: int) -> bool:
    """Whether the parts of a state fit each other, the model, and the ``size`` in bytes of the snapshot.

    Where a part is missing or of another kind, it may raise anything.
    """
    bank, cues, gallery = state["bank"], state["cues"], state["gallery"]
    table, ended = TrackTable(), [TrackRecord(**record) for record in gallery["records"]]
    table.load_state_dict(state["table"])
    rows, dim = len(table.rows), sum(sizes(segmenter))
    expected = [
        (cues["motion"], (rows, 6), torch.float32),
        (cues["colours"], (rows, 3), torch.float32),
        *((part["looks"], (len(of), VIEWS, dim), torch.float32) for part, of in ((cues, table.rows), (gallery, ended))),
        *((part["seen"], (len(of), VIEWS), torch.int64) for part, of in ((cues, table.rows), (gallery, ended))),
        (state["masks"], (math.ceil(rows * (4 * segmenter.side) ** 2 / 8),), torch.uint8),
    ]
    memory, pointer = (segmenter.side**2, segmenter.memory_dim), (segmenter.pointer_dim,)
    rings = (
        (bank["memories"], segmenter.recent_memories, memory),
        (bank["pointers"], segmenter.recent_pointers, pointer),
    )
    whole = _are_typed((*table.rows, *ended, *table.take_events()))
    for ring, most, slot in rings:
        frames, written, values = ring["frames"], ring["written"], ring["values"]
        recent = min(max(1, frames.shape[1] - CONDITIONING), most)
        expected += [
            (frames, (rows, CONDITIONING + recent), torch.int64),
            (written, (rows,), torch.int64),
            (values, (int((frames >= 0).sum()), *slot), values.dtype),
        ]
        # a frame is that of a value, -1 for none; all rows have their first conditioning frame
        whole = whole and bool((frames >= -1).all() and (frames < state["clock"]).all() and (frames[:, 0] >= 0).all())
        whole = whole and bool((written >= 0).all())
    trust = Trust().state_dict()
    expected += [(state["trust"][name], value.shape, value.dtype) for name, value in trust.items()]
    whole = whole and state["trust"].keys() == trust.keys() and Trust.fits(state["trust"])
    overlaps, next_id = state["overlaps"], state["table"]["next_id"]
    numbers = [state["clock"], state["frame"], next_id, *(number for pair in overlaps for number in pair)]
    whole = whole and isinstance(overlaps, list) and all(len(pair) == 3 for pair in overlaps)
    whole = whole and all(isinstance(number, int) for number in numbers)
    whole = whole and all(record.id < next_id for record in (*table.rows, *ended))
    # a tensor can repeat few bytes for ever
    whole = whole and sum(tensor.nbytes for tensor, _, _ in expected) <= size
    return whole and all(tensor.shape == shape and tensor.dtype == dtype for tensor, shape, dtype in expected)


def _are_typed(records: Iterable[TrackRecord | TrackEvent]) -> bool:
    """Whether each field has a value of its type."""
    typed = ((record, name, kind) for record in records for name, kind in get_type_hints(type(record)).items())
    return all(isinstance(getattr(record, name), kind) for record, name, kind in typed)
