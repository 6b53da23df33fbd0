"""README and the chapters: short enough, every link leads somewhere, and their tables are complete."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from daemon.__main__ import COMMANDS
from daemon.metrics.registry import Metrics
from tests.api.test_openapi import ROUTES
from tests.support.demo_picture import PICTURE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DAEMON = (ROOT / "daemon" / "README.md").read_text()
TESTS = (ROOT / "tests" / "README.md").read_text()
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "README.md"] + [
    page
    for room in ("daemon", "stages", "trainer", "deploy", "tests")
    for page in (ROOT / room).rglob("*.md")
    if "node_modules" not in page.parts
]
NAMED = re.findall(r"^\| `maskcast (\w+)`", DAEMON, re.MULTILINE)  # commands
OPENAPI = ("get", "/openapi.json")


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(text: str, heading: str) -> str:
    return re.split(r"^## ", text.split(f"\n## {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_readme_is_a_page_for_newcomers():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        target = target / "README.md" if target.is_dir() else target
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("room", ["daemon", "stages", "trainer", "deploy", "tests"])
def test_readme_links_to_every_chapter(room):
    assert f"]({room}/README.md)" in README


def test_the_table_of_commands_has_all_of_them():
    assert sorted(COMMANDS) == sorted(NAMED)


@pytest.mark.process
@pytest.mark.parametrize("command", NAMED)
def test_every_command_has_a_help_with_an_example(command):
    shown = subprocess.run([sys.executable, "-m", "daemon", command, "--help"], capture_output=True, text=True)
    assert shown.returncode == 0
    assert f"maskcast {command}" in shown.stdout.split("examples:")[1]


def test_the_table_of_metrics_has_all_of_them():
    rows = re.findall(r"^\| (`.+?) \|", section(DAEMON, "Metrics"), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    families = [family for family in Metrics().registry.collect() if family.name.startswith("maskcast_")]
    suffix = {"counter": "_total"}
    there = [family.name.removeprefix("maskcast_") + suffix.get(family.type, "") for family in families]
    assert sorted(named) == sorted(there)


def test_the_table_of_routes_has_all_of_them():
    named = set()
    for methods, paths in re.findall(r"^\| `([A-Z, ]+) (/.*?) \|", section(DAEMON, "HTTP"), re.MULTILINE):
        named |= {(method.lower(), path) for path in re.findall(r"/[^`]*", paths) for method in methods.split(", ")}
    there = {(method, path) for path, methods in ROUTES.items() for method in methods}
    assert named == there | {OPENAPI}


def test_readme_and_the_chapter_name_every_package_that_ci_installs():
    script = (ROOT / ".ci" / "run").read_text().replace("\\\n", "")
    [installed] = re.findall(r"install --no-install-recommends (.+)", script)
    for text in (README, TESTS):
        [line] = re.findall(r"apt-get install --no-install-recommends (.+)", text.replace("\\\n", ""))
        assert line.split() == installed.split()


def test_the_picture_in_readme_is_small_and_moves():
    """Between 6 and 10 seconds."""
    assert f"]({PICTURE.relative_to(ROOT)})" in README
    assert PICTURE.stat().st_size <= 1_500_000
    milliseconds = 0
    with Image.open(PICTURE) as picture:
        for frame in range(picture.n_frames):
            picture.seek(frame)
            picture.load()
            milliseconds += picture.info["duration"]
    assert 6_000 <= milliseconds <= 10_000
