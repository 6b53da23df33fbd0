"""``maskcast keys new`` and the files it makes: whole, nobody else's to read, never overwritten, checked when used."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from zmq.auth import load_certificate

from daemon.__main__ import main
from stages.errors import ConfigError, OutputError
from stages.output.curve_keys import allowed_clients, key_pair, new_client, new_server, server_public, server_secret

pytestmark = pytest.mark.usefixtures("bare_machine")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the daemon's keys."""
    new_server(tmp_path / "keys")
    return tmp_path / "keys"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def here(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path.mkdir(exist_ok=True)
    monkeypatch.chdir(path)
    return path


def test_keys_new_makes_the_daemon_s_pair_and_says_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "etc" / "maskcast" / "curve"
    assert main(["keys", "new", "--dir", str(folder)]) == 0
    public, secret = load_certificate(folder / "server.key_secret")
    assert load_certificate(folder / "server.key") == (public, None)
    assert secret is not None
    assert zmq.curve_public(secret) == public
    said = capsys.readouterr().out
    assert f'[publish] curve_dir = "{folder}"' in said
    assert f"maskcast keys new --dir {folder} --client NAME" in said
    assert secret.decode() not in said


def test_folders_and_files_are_their_owner_s_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        new_server(tmp_path / "keys")
        new_client(tmp_path / "keys", "gate", tmp_path)
    finally:
        os.umask(before)
    made = [tmp_path / "keys", *(tmp_path / "keys").rglob("*"), tmp_path / "gate.key_secret"]
    assert {path.name: oct(mode(path)) for path in made} == {
        "keys": "0o700",
        "clients": "0o700",
        "server.key": "0o600",
        "server.key_secret": "0o600",
        "gate.key": "0o600",
        "gate.key_secret": "0o600",
    }


@pytest.mark.process
def test_no_moment_passes_at_which_others_could_read_a_secret(tmp_path: Path) -> None:
    """Without a umask a file has the mode that it was created with, unless it is changed later: nothing is."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from stages.output.curve_keys import new_client, new_server\n"
        "def refuse(event, _):\n"
        "    if event == 'os.chmod':\n"
        "        os._exit(9)\n"
        "os.umask(0)\n"
        "sys.addaudithook(refuse)\n"
        "new_server(Path(sys.argv[1]))\n"
        "new_client(Path(sys.argv[1]), 'gate', Path(sys.argv[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "keys")]).returncode == 0
    assert {mode(path) for path in (tmp_path / "keys").glob("*.key_secret")} == {0o600}


def test_a_client_s_secret_goes_to_the_current_folder_and_its_public_half_to_the_daemon(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = here(tmp_path / "elsewhere", monkeypatch)
    assert main(["keys", "new", "--dir", str(keys), "--client", "wall-display"]) == 0
    public, secret = load_certificate(elsewhere / "wall-display.key_secret")
    assert secret is not None
    assert zmq.curve_public(secret) == public
    assert allowed_clients(keys) == (frozenset({public}), [])
    assert not list(keys.rglob("wall-display.key_secret")), "the daemon does not need it"
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == ("there: maskcast watch tcp://127.0.0.1:5555 --key wall-display.key_secret --server server.key")


def test_the_folder_is_that_of_the_flag_then_of_the_settings(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(f"[publish]\nendpoint = 'tcp://*:7777'\ncurve_dir = '{tmp_path / 'set'}'\n")
    assert main(["keys", "new", "--config", str(file)]) == 0
    assert main(["keys", "new", "--config", str(file), "--dir", str(tmp_path / "flag")]) == 0
    assert server_secret(tmp_path / "set") != server_secret(tmp_path / "flag")


def test_the_printed_command_names_this_host_where_the_daemon_listens_everywhere(
    keys: Path, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(tmp_path, monkeypatch)
    file.write_text(f"[publish]\nendpoint = 'tcp://0.0.0.0:7777'\ncurve_dir = '{keys}'\n")
    assert main(["keys", "new", "--config", str(file), "--client", "gate"]) == 0
    assert f"maskcast watch tcp://{os.uname().nodename}:7777 --key gate.key_secret" in capsys.readouterr().out


@pytest.mark.parametrize("taken", ["server.key_secret", "server.key"])
def test_keys_of_the_daemon_are_never_overwritten_and_nothing_half_made_is_left(tmp_path: Path, taken: str) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / taken).write_text("precious")
    with pytest.raises(ConfigError, match=f"{taken} exists and is kept"):
        new_server(folder)
    assert {path.name for path in folder.iterdir()} == {taken, "clients"}
    assert (folder / taken).read_text() == "precious"


@pytest.mark.parametrize("taken", ["keys/clients/gate.key", "gate.key_secret"])
def test_keys_of_a_client_are_never_overwritten_and_nothing_half_made_is_left(
    keys: Path, tmp_path: Path, taken: str
) -> None:
    (tmp_path / taken).write_text("precious")
    with pytest.raises(ConfigError, match=r"gate\.key\w* exists and is kept"):
        new_client(keys, "gate", tmp_path)
    assert [path.read_text() for path in tmp_path.rglob("gate.*")] == ["precious"]


def test_a_link_laid_where_a_secret_goes_is_not_followed(keys: Path, tmp_path: Path) -> None:
    (tmp_path / "gate.key_secret").symlink_to(tmp_path / "trap")
    with pytest.raises(ConfigError, match="exists and is kept"):
        new_client(keys, "gate", tmp_path)
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../gate", "a/b", "/etc/gate", ".hidden", "-x", "a b", "a\n", "ü", "a" * 65]
)
def test_a_client_s_name_must_be_one_for_a_file(keys: Path, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="must be 1 to 64 letters"):
        new_client(keys, name, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_client_needs_the_daemon_s_keys_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"make the daemon's keys first: maskcast keys new --dir {tmp_path}"):
        new_client(tmp_path, "gate", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another folder with --dir"):
        new_server(tmp_path / "file" / "keys")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_makes_keys_for_whoever_owns_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(0o700)
    os.chown(folder, 1234, 1234)
    new_server(folder)
    new_client(folder, "gate", tmp_path)
    assert {path.stat().st_uid for path in folder.rglob("*")} == {1234}
    assert (tmp_path / "gate.key_secret").stat().st_uid == 0


def test_the_daemon_s_keys_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder of CURVE keys; make keys with: maskcast keys new --dir"):
        server_secret(tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"server\.key_secret: no such file or directory; make keys with"):
        server_secret(tmp_path)


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o666])
def test_a_secret_that_others_may_read_is_refused_with_the_chmod_that_helps(keys: Path, bits: int) -> None:
    secret = keys / "server.key_secret"
    secret.chmod(bits)
    with pytest.raises(ConfigError, match=f"others than its owner may read this secret key: chmod 600 {secret}"):
        server_secret(keys)
    secret.chmod(0o400)
    assert server_secret(keys)


@pytest.mark.parametrize("place", ["", "clients"])
def test_a_folder_that_others_may_write_to_is_refused_with_the_chmod_that_helps(keys: Path, place: str) -> None:
    (keys / place).chmod(0o777)
    with pytest.raises(ConfigError, match=f"others than its owner may let themselves in: chmod go-w {keys / place}"):
        server_secret(keys)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not a CURVE key file"),
        ("\x00\xff", "not a CURVE key file"),
        ('public-key = "short"\nsecret-key = "short"', "holds a broken key"),
        (f'public-key = "{"~" * 40}"\nsecret-key = "{"~" * 40}"', "holds a broken key"),
        (f'public-key = "{"#" * 40}"\nsecret-key = "{"#" * 40}"', "holds a broken key"),
        (f'public-key = "{"a" * 40}"', "holds no secret key"),
    ],
)
def test_a_broken_key_file_is_one_line(keys: Path, text: str, problem: str) -> None:
    (keys / "server.key_secret").write_text(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        server_secret(keys)
    assert "server.key_secret" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_halves_of_different_pairs_are_noticed(keys: Path, tmp_path: Path) -> None:
    new_server(tmp_path / "other")
    (tmp_path / "other" / "server.key").replace(keys / "server.key")
    with pytest.raises(ConfigError, match=r"server\.key does not belong to server\.key_secret"):
        server_secret(keys)


def test_one_broken_client_costs_the_others_nothing(keys: Path, tmp_path: Path) -> None:
    new_client(keys, "gate", tmp_path)
    (keys / "clients" / "broken.key").write_text("nonsense")
    (keys / "clients" / "folder.key").mkdir()
    (keys / "clients" / "notes.txt").write_text("not looked at")
    allowed, problems = allowed_clients(keys)
    assert allowed == {key_pair(tmp_path / "gate.key_secret", "")[0]}
    assert [problem.split(": ")[0] for problem in problems] == [
        str(keys / "clients" / name) for name in ("broken.key", "folder.key")
    ]


def test_a_subscriber_finds_the_daemon_s_key_in_its_public_file(keys: Path) -> None:
    assert server_public(keys / "server.key") == zmq.curve_public(server_secret(keys))
    with pytest.raises(ConfigError, match=r"no such file or directory; name the daemon's server\.key"):
        server_public(keys / "missing.key")
