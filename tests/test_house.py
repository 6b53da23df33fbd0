"""Rules of the repository: the size of folders, no circles of imports, markers of tests."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("daemon", "stages", "trainer")
MOST = 12  # files of a folder, not counting those of its subfolders
COUNTED = {".py", ".js", ".css", ".html"}  # documents, data, pictures and weights are not counted
# names with which a test module starts other programs
STARTERS = {"subprocess", "Program", "RtspServer", "maskcast", "error_of", "small_disk", "on_small_disk", "running"}


def test_no_folder_has_more_than_a_dozen_files():
    """``__init__.py`` is not counted either."""
    files = [path for name in (*PACKAGES, "tests") for path in (ROOT / name).rglob("*") if path.suffix in COUNTED]
    folders = [path.parent for path in files if path.name != "__init__.py"]
    assert {str(folder): folders.count(folder) for folder in folders if folders.count(folder) > MOST} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_in_a_circle(package):
    """Imports for type checking count too."""
    graph = grimp.build_graph(package, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


def test_modules_that_start_programs_mark_tests_with_process():
    """`make quick` leaves out what is marked."""
    unmarked = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text()
        imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in imports for alias in node.names}
        if names & STARTERS and "pytest.mark.process" not in text:
            unmarked.append(str(path))
    assert unmarked == []
