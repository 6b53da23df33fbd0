"""Sources that are written in a way that cannot be opened: what to write instead."""

import re
from pathlib import Path

_NETWORK = r"(rtsps?|rtmps?|https?|srt|udp|tcp)"
_SCHEMES = {
    "554": "rtsp",
    "8554": "rtsp",
    "1935": "rtmp",
    "80": "http",
    "8080": "http",
    "443": "https",
    "8443": "https",
}
# an IPv4 address; a name with dots and a port; a name with a port that is usual for video
_PLACE = re.compile(
    rf"(?:[^/\s]*@)?(\d+(?:\.\d+){{3}}(?::\d+)?|[\w-]+(?:\.[\w-]+)+:\d+|[\w-]+:(?:{'|'.join(_SCHEMES)}))(/.*)?"
)
_WEB_PAGE = re.compile(
    r"https?://(?:[\w-]+\.)*(youtube\.com|youtu\.be|twitch\.tv|vimeo\.com)(?=[:/?#]|$)", re.IGNORECASE
)
_PIPE = (
    "a pipe cannot be read; write to a file, or send it with ffmpeg ... -f mpegts udp://127.0.0.1:5000 and read that"
)
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"


def advice(source: str) -> str | None:
    """What is wrong with ``source``, which is not a file, and what to write instead; None when nothing is known.

    The text shows no part of an address but its scheme, host and port.
    """
    camera = re.fullmatch(r"/?dev/video(\d+)|(\d{1,2})", source)
    if camera or source.lower() in ("webcam", "camera", "cam", "usb"):
        number = (camera[1] or camera[2]) if camera else "0"
        return f"for a camera at this machine write v4l2:///dev/video{int(number)}"
    if source in ("-", "/dev/stdin", "pipe:", "pipe:0"):
        return _PIPE
    if _WEB_PAGE.match(source):
        return "a web page, not a video; `yt-dlp -g PAGE` prints the address of its video, which can be opened"
    if (bare := source.strip().strip(_QUOTES).strip()) != source and bare:
        if "://" in bare:
            return "write the address without quotes and spaces around it"
        if Path(bare).exists():
            return f"there is a file {bare}: write it without quotes and spaces around it"
    if scheme := re.match(rf"{_NETWORK}:(?!//)", source, re.IGNORECASE):
        name = scheme[1].lower()
        return f"two slashes belong after {name}: as in {name}://HOST/PATH"
    if drive := re.match(r"([a-z]):[\\/](.*)", source, re.IGNORECASE):
        path = drive[2].replace("\\", "/")
        return f"a path of Windows; under WSL it is /mnt/{drive[1].lower()}/{path}, elsewhere copy the file here"
    if place := bare_address(source):
        port = place.partition(":")[2]
        schemes = (_SCHEMES[port],) if port in _SCHEMES else ("rtsp", "http")
        return f"an address needs its scheme: {' or '.join(f'{scheme}://{place}/PATH' for scheme in schemes)}"
    return None


def bare_address(source: str) -> str | None:
    """Host and port of an address that is written without its scheme; None for anything else."""
    address = _PLACE.fullmatch(source)
    return address[1] if address else None
