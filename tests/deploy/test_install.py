"""install.sh, run for real: into a folder, from a wheel of this tree.

PYTHONPATH lends the dependencies that are installed here, which are gigabytes: pip counts them as satisfied.
"""

import os
import re
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.deploy.prometheus import DEPLOY
from tests.support.small_disk import small_disk
from tests.support.tools import needs_tool

pytestmark = pytest.mark.process  # most of these tests

INSTALL = DEPLOY / "install.sh"
LENT = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
SMALL = """
[models]
detector = "embedded"
segmenter = "embedded"
device = "cpu"
[tracking]
max_objects = 1
"""
TREE = {
    "opt/maskcast/bin/maskcast": 0o755,
    "usr/lib/systemd/system/maskcast.service": 0o644,
    "usr/lib/sysusers.d/maskcast.conf": 0o644,
    "etc/logrotate.d/maskcast": 0o644,
    "etc/maskcast": 0o750,
    "etc/maskcast/maskcast.toml": 0o640,
    "etc/maskcast/curve": 0o700,
    "var/lib/maskcast": 0o750,
}


def install(*arguments: object, before: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*before, str(INSTALL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**LENT, **environment})


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(DEPLOY.parent)], check=True)
    return folder


@pytest.fixture(scope="module")
def root(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it was installed, once."""
    folder = tmp_path_factory.mktemp("root")
    done = install("--wheels", wheels, "--python", sys.executable, DESTDIR=str(folder))
    assert done.returncode == 0, done.stderr
    return folder


@needs_tool("shellcheck", "shellcheck")
def test_shellcheck_finds_nothing():
    done = subprocess.run(["shellcheck", INSTALL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", TREE)
def test_everything_lies_where_the_service_looks_for_it_and_secrets_are_not_for_all(path, root):
    assert oct(stat.S_IMODE((root / path).stat().st_mode)) == oct(TREE[path])


def test_the_program_works_from_its_own_venv_and_is_called_by_its_place_in_the_end(root):
    python = root / "opt/maskcast/bin/python"
    done = subprocess.run([python, "-m", "daemon", "--version"], capture_output=True, text=True, check=False, env=LENT)
    assert done.stdout.startswith("maskcast "), done.stderr
    where = subprocess.run(
        [python, "-c", "import daemon; print(daemon.__file__)"], cwd="/", capture_output=True, text=True
    )
    assert Path(where.stdout.strip()).is_relative_to(root)
    assert (root / "opt/maskcast/bin/maskcast").read_text().startswith("#!/opt/maskcast/bin/python")
    assert (root / "usr/local/bin/maskcast").readlink() == Path("/opt/maskcast/bin/maskcast")


def test_compile_runs_the_installed_program_with_the_services_configuration_and_caches(root):
    """As far as it goes without a compiler: the real one would take minutes."""
    configuration = root / "etc/maskcast/maskcast.toml"
    before = configuration.read_text()
    configuration.write_text(SMALL)
    try:
        done = install("--compile", "--root", root, CXX=str(root / "none"))
    finally:
        configuration.write_text(before)
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert said[-1].startswith("maskcast: error: models.compile = true: the segmenter cannot be compiled (")
    assert said[-1].endswith('does a C++ compiler work (apt-get install g++)? Else set models.compile = "auto"')
    assert (root / "var/cache/maskcast/inductor").is_dir()


def test_compile_needs_the_program(tmp_path):
    refused(install("--compile", "--root", tmp_path), 1, "maskcast is not installed in .*; install it first: .*")


def test_a_second_run_leaves_the_configuration_alone_and_removing_too(wheels, root):
    configuration = root / "etc/maskcast/maskcast.toml"
    configuration.write_text("# mine\n")
    done = install("--wheels", wheels, "--root", root, "--python", sys.executable)
    assert done.returncode == 0, done.stderr
    assert "maskcast.toml is kept" in done.stdout
    assert configuration.read_text() == "# mine\n"

    assert install("--uninstall", "--root", root).returncode == 0
    left = {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()}
    assert left == {"etc/maskcast/maskcast.toml"}
    assert (root / "var/lib/maskcast").is_dir()
    assert install("--uninstall", "--root", root).returncode == 0


def refused(done: subprocess.CompletedProcess[str], code: int, pattern: str) -> None:
    assert done.returncode == code
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(f"install.sh: {pattern}", last), done.stderr
    assert len([line for line in done.stderr.splitlines() if "warning" not in line]) == 1


def test_a_python_that_is_too_old_is_refused(tmp_path):
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    refused(install("--root", tmp_path / "root", "--python", old), 1, ".*python3.9: needs Python 3.11 or newer; .*")
    assert list((tmp_path / "root").iterdir()) == []


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path):
    before = tuple(small_disk(tmp_path))
    done = install("--root", tmp_path / "small" / "root", "--python", sys.executable, before=before)
    refused(done, 1, "/opt/maskcast needs 8 GB of disk, 0 GB are free at .*; make room there")
    assert list((tmp_path / "kept" / "root").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "pattern"),
    [
        (["--wheels", "missing"], 1, "--wheels missing: no such folder"),
        (["--wheels", "."], 1, "--wheels .*: holds no maskcast-.*whl; make it with: pip wheel .*"),
        (["--wheels"], 2, "--wheels needs a value; --help shows how"),
        (["--prefix", "x"], 2, "--prefix: no such option; --help shows which there are"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(arguments, code, pattern, tmp_path):
    root = [] if len(arguments) == 1 else ["--root", tmp_path / "root"]
    refused(install(*root, "--python", sys.executable, *arguments), code, pattern)


def test_help_says_how_it_is_called():
    done = install("--help")
    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--wheels", "--compile", "--uninstall", "--root", "DESTDIR"))


def test_the_readme_names_only_files_and_options_that_there_are():
    readme = (DEPLOY / "README.md").read_text()
    for named in re.findall(r"deploy/([\w./-]+\w)", readme):
        assert (DEPLOY / named).exists(), named
    for option in re.findall(r"install\.sh (--\w+)", readme):
        assert f"{option})" in INSTALL.read_text(), option
