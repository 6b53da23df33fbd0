"""How files begin that hold neither video nor weights."""

GIT_LFS = b"version https://git-lfs"  # a pointer in place of the file
ARCHIVES = (  # gzip, xz, 7-Zip, RAR, bzip2, Zstandard; not zip, in which PyTorch stores weights
    b"\x1f\x8b",
    b"\xfd7zXZ",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!",
    b"BZh",
    b"\x28\xb5\x2f\xfd",
)


def begins_tar(head: bytes) -> bool:
    """Whether a tar archive begins with these bytes, 262 at least."""
    return head[257:262] == b"ustar"
