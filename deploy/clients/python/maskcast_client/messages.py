"""What the user gets: frames, their objects, events. Made from headers as they travel; new keys are ignored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskcast_client.errors import MessageError
from maskcast_client.rle import Crop, cut

if TYPE_CHECKING:
    from supervision import Detections

Header = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class TrackedObject:
    """One object on one frame. Its mask is decoded when ``crop`` or ``mask`` is first read."""

    id: int  # the same on all frames of a session
    prompt: str | None  # as written; None for an object that was added by hand
    score: float  # of the detection, when the object was last detected
    presence: float  # how sure the segmenter is that the object shows, 0 to 1
    state: str  # "new", "tracked" or "occluded" (kept, without a visible pixel)
    box: tuple[float, float, float, float]  # xyxy in pixels, half-open; zeros for an empty mask
    area: int  # pixels
    rle: Header = field(repr=False)  # COCO run lengths of the whole picture, as pycocotools reads them

    @cached_property
    def cropped(self) -> Crop:
        """The rectangle around the mask, and the run lengths in it."""
        return cut(self.rle)

    @cached_property
    def crop(self) -> NDArray[np.bool_]:
        """The mask inside the smallest rectangle around it, bool (h, w); (0, 0) for an empty mask.

        Raises MessageError when the mask is damaged, as ``offset`` and ``mask`` do.
        """
        return self.cropped.pixels()

    @property
    def offset(self) -> tuple[int, int]:
        """Column and row (x, y) of the crop's upper left pixel in the picture."""
        return self.cropped.x, self.cropped.y

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The mask of the whole picture, bool (height, width): a new array each time."""
        whole = np.zeros(self.rle["size"], np.bool_)
        x, y, width, height, _ = self.cropped
        whole[y : y + height, x : x + width] = self.crop
        return whole


@dataclass(frozen=True)
class Label:
    """What the classifier names: the whole frame, or the object with this ``id``."""

    label: str
    score: float
    id: int | None = None


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a stream with its objects."""

    stream: str
    index: int  # the frame's number in the stream
    session: str  # a UUID, new each time the daemon starts; ids count within it
    epoch: int  # one higher each time the source was opened again or changed its picture size
    seq: int
    captured_at: float  # seconds: since the file's start with clock "file", else Unix time
    clock: str  # "file", "arrival" or "rtcp"
    pts: int | None  # the container's time stamp, in units of ``time_base`` seconds
    time_base: Fraction
    published_at: float  # Unix time
    width: int
    height: int
    keyframe: bool  # the detector ran on this frame
    dropped_before: int  # frames that the daemon lost before this one
    objects: tuple[TrackedObject, ...]
    classes: tuple[Label, ...]
    lost: int  # messages of frames that were published before this one and did not arrive here
    restarted: bool  # the daemon or the stream has started anew since the frame before: ids begin again
    predecessor: str | None  # the session that this one continues on another daemon; None where there is none
    fence: int | None  # rises each time a fleet gives the stream to another daemon; None outside a fleet
    header: Header = field(repr=False)  # the message as it came
    names: dict[str, int] = field(repr=False)  # numbers of the prompts for ``detections``, shared by all frames
    picture: bytes | Path | None = field(default=None, repr=False)

    @cached_property
    def jpeg(self) -> bytes | None:
        """The annotated picture as it came; None where there is none: see ``images`` of ``subscribe``."""
        return self.picture.read_bytes() if isinstance(self.picture, Path) else self.picture

    @cached_property
    def image(self) -> NDArray[np.uint8] | None:
        """The annotated picture, uint8 (height, width, 3) RGB; None where there is none.

        Needs OpenCV or Pillow. Raises MessageError when the JPEG is damaged.
        """
        from maskcast_client.pictures import decode

        return None if self.jpeg is None else decode(self.jpeg)

    @cached_property
    def detections(self) -> "Detections":
        """The objects that show, as supervision's Detections; needs supervision. Occluded objects are left out.

        ``tracker_id`` is the id, ``confidence`` the score, ``class_id`` a number for each prompt, ``mask`` a
        CompactMask (supervision 0.28 or later; before, bool (N, H, W)). ``data`` has ``class_name`` (the prompt),
        ``state`` and ``presence``.
        """
        from maskcast_client.detections import detections

        return detections(self)

    def to_rows(self) -> list[dict[str, Any]]:
        """A flat dict for each object, without its mask: ``pandas.DataFrame(rows)`` makes a table of them."""
        about = {"stream": self.stream, "session": self.session, "frame": self.index, "captured_at": self.captured_at}
        return [
            {
                **about,
                **{name: getattr(thing, name) for name in ("id", "prompt", "score", "presence", "state", "area")},
                **dict(zip(("x0", "y0", "x1", "y1"), thing.box, strict=True)),
            }
            for thing in self.objects
        ]


@dataclass(frozen=True)
class Event:
    """Something that happened to a track or a stream."""

    stream: str
    type: str  # such as "track_started", "source_down": the daemon's manual lists them
    reason: str  # for people
    frame: int | None
    track: int | None  # the id of the object
    prompt: str | None
    session: str
    epoch: int
    seq: int
    published_at: float  # Unix time
    lost: int  # events before this one that did not arrive here
    restarted: bool  # the daemon or the stream has started anew since the event before
    predecessor: str | None  # as of a frame
    fence: int | None  # as of a frame
    header: Header = field(repr=False, compare=False)


def read_frame(
    header: Header, lost: int, restarted: bool, names: dict[str, int], picture: bytes | Path | None = None
) -> Frame:
    """The frame of a masks header. Raises MessageError when a field is missing or of another type."""
    try:
        return Frame(
            stream=header["stream"],
            index=header["frame"],
            session=header["session"],
            epoch=header["epoch"],
            seq=header["seq"],
            captured_at=header["captured_at"],
            clock=header["clock"],
            pts=header["pts"],
            time_base=Fraction(*header["time_base"]),
            published_at=header["published_at"],
            width=header["width"],
            height=header["height"],
            keyframe=header["keyframe"],
            dropped_before=header["dropped_before"],
            objects=tuple(_object(item) for item in header["objects"]),
            classes=tuple(Label(item["label"], item["score"], item.get("id")) for item in header["classes"]),
            lost=lost,
            restarted=restarted,
            predecessor=header.get("predecessor"),
            fence=header.get("fence"),
            header=header,
            names=names,
            picture=picture,
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise MessageError(f"a masks message is damaged: {type(error).__name__} {error}") from None


def read_event(header: Header, lost: int, restarted: bool) -> Event:
    """The event of an event header. Raises MessageError when a field is missing."""
    same = ("stream", "type", "reason", "frame", "track", "prompt", "session", "epoch", "seq", "published_at")
    try:
        return Event(
            **{key: header[key] for key in same},
            lost=lost,
            restarted=restarted,
            predecessor=header.get("predecessor"),
            fence=header.get("fence"),
            header=header,
        )
    except KeyError as error:
        raise MessageError(f"an event message is damaged: it has no {error}") from None


def _object(item: Header) -> TrackedObject:
    x0, y0, x1, y1 = item["box"]
    return TrackedObject(
        id=item["id"],
        prompt=item["prompt"],
        score=item["score"],
        presence=item["presence"],
        state=item["state"],
        box=(x0, y0, x1, y1),
        area=item["area"],
        rle={"size": item["mask"]["size"], "counts": item["mask"]["counts"]},
    )
