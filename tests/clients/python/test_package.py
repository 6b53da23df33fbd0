"""The distribution maskcast-client: what its wheel holds and needs, and that it works from there."""

import subprocess
import sys
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.clients.clients import CLIENTS
from tests.support.program import PATIENCE

pytestmark = pytest.mark.process

PACKAGE = CLIENTS / "python"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Built as pip does, by the backend that pyproject.toml names; no network is needed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=PACKAGE, check=True, capture_output=True, timeout=PATIENCE)
    [path] = folder.glob("*.whl")
    return ZipFile(path)


def test_the_wheel_holds_the_package_and_its_types(wheel: ZipFile) -> None:
    there = {str(path.relative_to(PACKAGE)) for path in (PACKAGE / "maskcast_client").glob("*.*")}
    assert "maskcast_client/py.typed" in there
    assert there == {name for name in wheel.namelist() if name.startswith("maskcast_client/")}


def test_it_needs_pyzmq_and_numpy_only(wheel: ZipFile) -> None:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    needs = HeaderParser().parsestr(wheel.read(name).decode()).get_all("Requires-Dist", [])
    assert {need.split(">")[0] for need in needs if "extra ==" not in need} == {"numpy", "pyzmq"}


def test_it_works_from_the_wheel(wheel: ZipFile, tmp_path: Path) -> None:
    """Without the checkout, and where neither supervision nor a decoder of pictures can be imported."""
    wheel.extractall(tmp_path)
    code = """
import sys
for name in ("supervision", "cv2", "PIL"):
    sys.modules[name] = None
import maskcast_client
from maskcast_client.messages import read_frame
from tests.clients.golden import header_of
frame = read_frame(header_of("masks-foreign"), 0, False, {}, b"jpeg")
print(maskcast_client.__file__, frame.objects[0].mask.sum())
for name in ("detections", "image"):
    try:
        getattr(frame, name)
    except maskcast_client.MaskcastError as error:
        print(error)
"""
    code = code.replace("from tests.clients.golden import header_of", golden_reader())
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert shown.stdout.splitlines() == [
        f"{tmp_path / 'maskcast_client' / '__init__.py'} 18",
        "frame.detections needs supervision: pip install supervision",
        "frame.image needs Pillow or OpenCV: pip install pillow",
    ]


def golden_reader() -> str:
    path = CLIENTS.parents[1] / "tests" / "golden" / "vectors"
    return f"import json; header_of = lambda name: json.load(open(f'{path}/{{name}}/header.json'))"
