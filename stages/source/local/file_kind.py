"""What a local file is that FFmpeg does not open as a video."""

from pathlib import Path

from stages.file_signatures import ARCHIVES, GIT_LFS, begins_tar

_RAW = frozenset((".yuv", ".raw", ".rgb", ".bgr", ".rgba", ".nv12", ".i420", ".uyvy", ".yuyv", ".gray"))
_ARCHIVE = "an archive, not a video; unpack it and name a file in it"
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    *((beginning, _ARCHIVE) for beginning in (b"PK\x03\x04", *ARCHIVES)),
    (b"%PDF", "a PDF document, not a video; name a video file"),
    (b"\x93NUMPY", "a NumPy array, not a video; write its pictures to a video file or to a folder of PNG files"),
    (GIT_LFS, "a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`"),
)


def kind_of(path: Path) -> str | None:
    """What the file is and what to do with it; None when that is not known. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(4096)
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if begins_tar(head):
        return _ARCHIVE
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and b"ANIM" in head:
        return "an animated WebP, which FFmpeg cannot read before version 9; convert it: magick IN.webp OUT.mp4"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return "a HEIC picture; convert it to JPEG"
    if path.suffix.lower() in _RAW:
        return (
            "raw pictures without a header, whose size FFmpeg cannot know; convert it: "
            "ffmpeg -f rawvideo -pixel_format yuv420p -video_size WIDTHxHEIGHT -i IN OUT.mkv"
        )
    if not head.strip(b"\0"):
        return "the file holds only zeros; copy or record it again"
    return _text(head)


def _text(head: bytes) -> str | None:
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n").lower()
    if text.startswith(("<!doctype html", "<html")):
        return "a web page, perhaps what a failed download has left; download it again"
    control = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    if control or text[:-1].count("\ufffd"):
        return None
    return "a text file, not a video; a list of files has lines such as: file 'clip.mp4'"
