"""What a file is that holds no weights, by its bytes: pointers, web pages, archives, exports, broken downloads."""

import json
import re
import tarfile
import zipfile
from pathlib import Path

from stages.file_signatures import ARCHIVES, GIT_LFS, begins_tar
from stages.plural import plural

_HEAD = 2048  # bytes that are looked at
_FETCH_AGAIN = "fetch it again"
_PYTORCH = "give the weights in the format of PyTorch (.pt, .pth) or safetensors"

_EXPORTS = (  # (name, suffixes, pattern at the start)
    ("a GGUF file", (".gguf",), rb"GGUF"),
    ("an ONNX model", (".onnx",), rb"\x08.\x12.(pytorch|onnx|tf2onnx|skl2onnx)"),
    ("a TensorRT engine", (".engine", ".plan", ".trt"), rb"ftrt|ptrt"),
    ("a TensorFlow Lite model", (".tflite",), rb".{4}TFL3"),
    ("an HDF5 file", (".h5", ".hdf5"), rb"\x89HDF"),
)


def why_not_weights(path: Path) -> str | None:
    """What the file is and what to do, to follow its name; None where it may well hold weights. Raises OSError."""
    size = path.stat().st_size
    if size == 0:
        return f"is empty, as after a download that failed: {_FETCH_AGAIN}"
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(GIT_LFS):
        return "is a Git LFS pointer, not the weights: run `git lfs pull` in its folder, or download the file itself"
    for name, suffixes, pattern in _EXPORTS:
        if re.match(pattern, head, re.DOTALL) or path.suffix.lower() in suffixes:
            return f"is {name}: {_PYTORCH}"
    if re.match(rb"\s*<(!doctype|html|head|\?xml|error)", head, re.IGNORECASE):
        return f"is a web page, not the weights, as after a download from the wrong address: {_FETCH_AGAIN}"
    if head.startswith(b"PK\x03\x04"):
        return _why_not_zip(path, size)
    if head.startswith(ARCHIVES) or (begins_tar(head) and tarfile.is_tarfile(path)):
        return "is a packed archive: unpack it and give the file with the weights"
    if is_safetensors(head):
        return _why_not_safetensors(path, size)
    if _is_text(head):
        wanted = "the checkpoint beside it" if _is_settings(path) else "a file of weights"
        return f"is a text, not the weights: give {wanted}"
    return None


def is_safetensors(head: bytes) -> bool:
    """Whether a file with these first bytes is in the format of safetensors: a length, then a JSON object."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30


def _why_not_zip(path: Path, size: int) -> str | None:
    """torch.save and TorchScript write zip files."""
    if not zipfile.is_zipfile(path):
        return f"is cut off after {size:,} {plural(size, 'byte')}, as by a download that broke off: {_FETCH_AGAIN}"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("constants.pkl") for name in names):
        return f"is a TorchScript export: {_PYTORCH}"
    if not any(name.endswith("data.pkl") for name in names):
        return "is a zip archive: unpack it and give the file with the weights"
    return None


def _why_not_safetensors(path: Path, size: int) -> str | None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length)
    try:
        tensors = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
        whole = 8 + length + max((entry["data_offsets"][1] for entry in tensors), default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = 8 + length + 1 if len(header) < length else size
    if size < whole:
        return f"is cut off: it has {size:,} of {whole:,} bytes or more; {_FETCH_AGAIN}"
    return None


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", "ignore")  # the last character may be cut
    return len(text) >= len(head) // 4 and all(letter.isprintable() or letter.isspace() for letter in text)


def _is_settings(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml", ".json", ".py", ".toml")
