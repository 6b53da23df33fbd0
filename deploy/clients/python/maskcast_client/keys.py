"""The three CURVE keys of a subscriber."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from maskcast_client.errors import KeysError

_KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")  # Z85, https://rfc.zeromq.org/spec/32/


@dataclass(frozen=True)
class Keys:
    """The daemon's public key and the subscriber's own pair, 40 characters each. Raises KeysError for others."""

    server: str
    public: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("server", "public", "secret"):
            if not _KEY.fullmatch(getattr(self, name)):
                raise KeysError(f"the {name} key is not a CURVE key: it must have 40 characters of Z85")

    @classmethod
    def read(cls, own: str | Path, server: str | Path) -> "Keys":
        """From files as ``maskcast keys new`` writes them: ``NAME.key_secret`` and the daemon's ``server.key``.

        Raises KeysError, also when others than its owner may read the secret key.
        """
        pair = _read(Path(own))
        if "secret" not in pair:
            raise KeysError(f"{own}: holds no secret key; name the file NAME.key_secret of maskcast keys new")
        if Path(own).stat().st_mode & 0o077:
            raise KeysError(f"{own}: others than its owner may read this secret key: chmod 600 {own}")
        return cls(_read(Path(server))["public"], pair["public"], pair["secret"])


def _read(path: Path) -> dict[str, str]:
    """``public`` and, if there is one, ``secret`` of a key file."""
    try:
        found = dict(re.findall(r'^\s*(public|secret)-key\s*=\s*"(.*)"\s*$', path.read_text("utf-8"), re.MULTILINE))
    except OSError as error:
        raise KeysError(f"{path}: {(error.strerror or str(error)).lower()}; name a key file") from None
    except UnicodeDecodeError:
        found = {}
    if "public" not in found:
        raise KeysError(f"{path}: not a CURVE key file; name one that maskcast keys new has written")
    return found
