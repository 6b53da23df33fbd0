"""CURVE key files in the format of pyzmq and czmq: NAME.key holds a public key, NAME.key_secret both keys of a pair.

The daemon's folder holds its own pair, server.key and server.key_secret, and clients/*.key: the public keys of all
allowed subscribers.
"""

import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq
from zmq.auth import load_certificate
from zmq.utils import z85

from stages.errors import ConfigError, OutputError

SERVER = "server.key"
SERVER_SECRET = "server.key_secret"  # noqa: S105 -- the name of a file
CLIENTS = "clients"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def new_server(folder: Path) -> None:
    """Create the daemon's key pair, and its folders if they are missing. Raises ConfigError, OutputError."""
    _make_folders(folder)
    public, secret = zmq.curve_keypair()
    with _remove_on_failure() as written:
        _write(folder / SERVER_SECRET, "SECRET key of the maskcast daemon: it stays here", public, secret, written)
        _write(folder / SERVER, "public key of the maskcast daemon: every subscriber needs it", public, b"", written)


def new_client(folder: Path, name: str, destination: Path) -> tuple[Path, Path]:
    """Create a key pair for a subscriber: the public key goes into ``folder``, the secret one into ``destination``.

    Returns the paths of both files. Raises ConfigError for a name that is not valid or already taken, OutputError.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--client {name!r}: must be 1 to 64 letters (a to z), digits, dots, dashes and underscores, "
            "the first not a dot or dash"
        )
    _public_key(folder / SERVER, f"make the daemon's keys first: maskcast keys new --dir {folder}")
    _make_folders(folder)
    public, secret = zmq.curve_keypair()
    allowed, private = folder / CLIENTS / f"{name}.key", destination / f"{name}.key_secret"
    with _remove_on_failure() as written:
        about = f"SECRET key of the maskcast subscriber {name}: for it alone"
        _write(private, about, public, secret, written, for_daemon=False)
        _write(allowed, f"public key of the maskcast subscriber {name}: lets it in", public, b"", written)
    return allowed, private


def server_secret(folder: Path) -> bytes:
    """The daemon's secret key, Z85. Raises ConfigError, also if other users may read it or write to the folders."""
    make = f"make keys with: maskcast keys new --dir {folder}"
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder of CURVE keys; {make}")
    for path in (folder, folder / CLIENTS):
        if path.exists() and path.stat().st_mode & 0o022:
            raise ConfigError(f"{path}: others than its owner may let themselves in: chmod go-w {path}")
    public, secret = key_pair(folder / SERVER_SECRET, make)
    if _public_key(folder / SERVER, make) != public:
        raise ConfigError(f"{folder / SERVER} does not belong to {SERVER_SECRET}; remove both and {make}")
    return secret


def key_pair(path: Path, advice: str) -> tuple[bytes, bytes]:
    """Public and secret key, Z85, from a file that holds both. Raises ConfigError, whose text ends with ``advice``."""
    _, secret = _read(path, advice)
    if secret is None:
        raise ConfigError(f"{path}: holds no secret key; {advice}")
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path}: others than its owner may read this secret key: chmod 600 {path}")
    return zmq.curve_public(_validated(path, secret, advice)), secret


def server_public(path: Path) -> bytes:
    """The daemon's public key, Z85, from the file that a subscriber has. Raises ConfigError."""
    return _public_key(path, "name the daemon's server.key")


def allowed_clients(folder: Path) -> tuple[frozenset[bytes], list[str]]:
    """The public keys, Z85, of all allowed subscribers, and a message for each file that holds no valid key."""
    keys, problems = set(), []
    for path in sorted((folder / CLIENTS).glob("*.key")):
        try:
            keys.add(_public_key(path, "make it again or remove it"))
        except ConfigError as error:
            problems.append(str(error))
    return frozenset(keys), problems


def _public_key(path: Path, advice: str) -> bytes:
    return _validated(path, _read(path, advice)[0], advice)


def _read(path: Path, advice: str) -> tuple[bytes, bytes | None]:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: not a file; {advice}")
        with path.open("rb"):  # its errors are clearer than those of load_certificate
            return load_certificate(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        advice = "give it to the user that runs this" if isinstance(error, PermissionError) else advice
        raise ConfigError(f"{path}: {reason}; {advice}") from None
    except ValueError:
        raise ConfigError(f"{path}: not a CURVE key file; {advice}") from None


def _validated(path: Path, key: bytes, advice: str) -> bytes:
    try:
        if len(z85.decode(key)) == 32:
            return key
    except (KeyError, ValueError, struct.error):
        pass
    raise ConfigError(f"{path}: holds a broken key; {advice}")


def _make_folders(folder: Path) -> None:
    """Create both folders with mode 0700 from the start. Missing parents get the default permissions."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for path in (folder, folder / CLIENTS):
            if not path.exists():
                path.mkdir(0o700)
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                _chown_to_owner_of(path.parent, descriptor)
                os.close(descriptor)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror}; choose another folder with --dir") from None


def _write(path: Path, about: str, public: bytes, secret: bytes, written: list[Path], for_daemon: bool = True) -> None:
    """Create a key file with mode 0600 and append its path to ``written``. An existing file is never overwritten.

    A file ``for_daemon`` gets the owner of its folder: the daemon's user.
    """
    lines = [f"#   {about}", "metadata", "curve", f'    public-key = "{public.decode()}"']
    lines += [f'    secret-key = "{secret.decode()}"'] if secret else []
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        written.append(path)
        with os.fdopen(descriptor, "w") as file:
            if for_daemon:
                _chown_to_owner_of(path.parent, descriptor)
            file.write("\n".join([*lines, ""]))
    except FileExistsError:
        raise ConfigError(f"{path} exists and is kept; to make a new key, move it away first") from None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder") from None


def _chown_to_owner_of(folder: Path, descriptor: int) -> None:
    """When run as root, give the file to the folder's owner: the user that runs the daemon."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


@contextmanager
def _remove_on_failure() -> Iterator[list[Path]]:
    """Yield a list for the paths of written files; on failure remove them, because half a pair blocks a retry."""
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
