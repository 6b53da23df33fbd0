"""`maskcast completion`: what a shell offers is what the commands take."""

import subprocess
from pathlib import Path

import pytest

from daemon.__main__ import main
from tests.support.program import PATIENCE
from tests.support.tools import needs_tool

pytestmark = pytest.mark.process
ASK = {
    "bash": 'source "$1"; COMP_WORDS=(${@:2} ""); COMP_CWORD=$(($# - 1)); _shtab_maskcast; echo "${COMPREPLY[@]}"',
    "fish": 'source $argv[1]; complete -C (string join " " -- $argv[2..])" "',
}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("maskcast",), {"run", "completion", "train"}),
        (("maskcast", "models"), {"fetch", "list", "compile"}),
        (("maskcast", "run", "--precision"), {"auto", "float32", "bfloat16"}),
        (("maskcast", "run", "--log-format"), {"text", "json"}),
        (("maskcast", "evaluate", "--data"), {"pictures"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", pytest.param("fish", marks=needs_tool("fish", "fish"))])
def test_a_shell_offers_commands_values_and_files(shell, words, offered, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    assert main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    command = [shell, *(("--no-config",) if shell == "fish" else ()), "-c", ASK[shell]]
    command += ["bash"] if shell == "bash" else []
    shown = subprocess.run(
        [*command, str(script), *words], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    words_shown = {line.partition("\t")[0].rstrip("/") for line in shown.stdout.replace(" ", "\n").splitlines()}
    assert offered <= words_shown, shown


def test_zsh_gets_a_script_for_every_command(capsys):
    assert main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef maskcast")
    assert all(name in script for name in ("run", "evaluate", "--log-format", "(text json)"))


def test_an_unknown_shell_is_refused_in_a_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "tcsh"])
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err
