"""Keys of maskcast_client: right ones from files and strings, and one line for wrong ones."""

from pathlib import Path

import pytest
import zmq

from maskcast_client import Keys, KeysError
from stages.output.curve_keys import new_client, new_server


def test_keys_are_read_as_the_daemon_writes_them(tmp_path: Path) -> None:
    new_server(tmp_path)
    _, own = new_client(tmp_path, "wall", tmp_path)
    keys = Keys.read(own, tmp_path / "server.key")
    assert zmq.curve_public(keys.secret.encode()).decode() == keys.public
    assert keys.server in (tmp_path / "server.key").read_text()
    assert keys.secret not in repr(keys)
    own.chmod(0o644)
    with pytest.raises(KeysError, match="chmod 600"):
        Keys.read(own, tmp_path / "server.key")
    with pytest.raises(KeysError, match=r"clients/wall.key: holds no secret key; name the file NAME.key_secret"):
        Keys.read(tmp_path / "clients" / "wall.key", tmp_path / "server.key")


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b'public-key = "short"'])
def test_a_wrong_file_is_an_error(content: bytes | None, tmp_path: Path) -> None:
    new_server(tmp_path / "curve")
    path = tmp_path / "wrong.key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeysError, match=r"no such file|not a CURVE key file|the server key is not a CURVE key"):
        Keys.read(tmp_path / "curve" / "server.key_secret", path)
