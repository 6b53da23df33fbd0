"""A machine without network: what is missing is one line that says what to copy where, and what was copied works."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.models import ViT_B_16_Weights

from stages.detection.grounding_dino import EMBEDDED
from tests.cli.in_process import error_here
from tests.cli.test_cli import EMBEDDED as EMBEDDED_FLAGS
from tests.cli.test_cli import FREE, SHAPES, error_of, maskcast
from tests.support.checkpoints import write_sam2
from tests.support.hub import serving
from tests.support.program import lines_of
from tests.trainer.training import two_colours

pytestmark = pytest.mark.process  # most of these tests

DETECTOR, SEGMENTER = "IDEA-Research/grounding-dino-tiny", "facebook/sam2.1-hiera-tiny"
NO_NETWORK = ("unshare", "-rn")  # not even a name server
RUN = ("run", SHAPES, "--prompt", "red circle", *EMBEDDED_FLAGS, *FREE)


def refuses_namespaces() -> bool:
    return not shutil.which("unshare") or subprocess.run([*NO_NETWORK, "true"], capture_output=True).returncode != 0


needs_namespaces = pytest.mark.skipif(refuses_namespaces(), reason="this machine lets nobody unshare the network")


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small real checkpoints under the names of public ones."""
    folder = tmp_path_factory.mktemp("hub")
    write_sam2(folder, "tiny")
    return {DETECTOR: EMBEDDED, SEGMENTER: folder}


@pytest.mark.parametrize(
    ("role", "name", "offline"),
    [
        ("detector", DETECTOR, True),
        pytest.param("detector", DETECTOR, False, marks=needs_namespaces),
        pytest.param("segmenter", SEGMENTER, False, marks=needs_namespaces),
    ],
)
def test_without_network_and_weights_one_line_says_what_to_copy_where(
    offline: bool, role: str, name: str, tmp_path: Path
) -> None:
    setting = {"HF_HUB_OFFLINE": "1"} if offline else {}
    before = () if offline else NO_NETWORK
    error = error_of(*RUN, f"--{role}", name, code=1, before=before, HF_HOME=str(tmp_path), **setting)
    assert error == (
        f"{role} {name} is not on this machine, and the hub cannot be reached: where there is a network run `maskcast "
        f"models fetch --{role} {name} --to weights`, copy the folder weights here, and put the lines that it prints "
        "into the configuration"
    )


@needs_namespaces
def test_what_fetch_prints_runs_on_a_machine_without_network(repositories: dict[str, Path], tmp_path: Path) -> None:
    models = ("--detector", DETECTOR, "--segmenter", SEGMENTER)
    weights, home = tmp_path / "weights", {"HF_HOME": str(tmp_path / "home")}
    with serving(repositories) as hub:
        done = maskcast("models", "fetch", "--to", str(weights), *models, **home, HF_ENDPOINT=hub.endpoint)
    assert done.returncode == 0, done.stderr
    places = [str(weights / "grounding-dino-tiny"), str(weights / "sam2.1_hiera_tiny.pt")]
    assert done.stdout.splitlines()[0].endswith(", ".join(places))
    assert list(tomllib.loads(done.stdout)["models"].values()) == [*places, ""]
    config = tmp_path / "maskcast.toml"
    config.write_text(done.stdout)
    source = (
        "testsrc://shapes?seed=12&frames=2&size=128x128",
        "--prompt",
        "purple star, red circle",
        "--device",
        "cpu",
    )
    out = ("--record", str(tmp_path / "out"))
    other = {"HF_HOME": str(tmp_path / "other")}
    done = maskcast("run", *source, "--config", str(config), *FREE, *out, before=NO_NETWORK, **other)
    assert done.returncode == 0, done.stderr
    assert len(lines_of(tmp_path / "out" / "shapes.masks.jsonl")) == 2


@needs_namespaces
def test_models_in_the_cache_need_no_network(repositories: dict[str, Path], tmp_path: Path) -> None:
    home, models = {"HF_HOME": str(tmp_path)}, ("--detector", DETECTOR, "--segmenter", SEGMENTER)
    with serving(repositories) as hub:
        done = maskcast("models", "fetch", *models, **home, HF_ENDPOINT=hub.endpoint)
    assert done.returncode == 0, done.stderr
    done = maskcast("check", *models, "--device", "cpu", *FREE, before=NO_NETWORK, **home)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_download_that_breaks_off_is_one_line_leaves_no_half_file_and_can_be_repeated(
    repositories: dict[str, Path], tmp_path: Path
) -> None:
    weights, home = tmp_path / "weights", {"HF_HOME": str(tmp_path / "home")}
    fetch = ("models", "fetch", "--to", str(weights), "--detector", "embedded", "--segmenter", SEGMENTER)
    with serving(repositories) as hub:
        hub.breaks_off_after = 1_000_000
        done = maskcast(*fetch, **home, HF_ENDPOINT=hub.endpoint)
        *_, error = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (1, "")
        assert error.startswith(f"maskcast: error: segmenter {SEGMENTER}: cannot be downloaded: ")
        assert error.endswith("the same command again fetches what is missing")
        assert not list(weights.glob("*.pt"))
        hub.breaks_off_after = None
        done = maskcast(*fetch, **home, HF_ENDPOINT=hub.endpoint)
        assert done.returncode == 0, done.stderr
    [fetched] = weights.glob("*.pt")
    assert fetched.read_bytes() == (repositories[SEGMENTER] / fetched.name).read_bytes()


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])


def nest(folder: Path) -> None:
    """As when the folder above the model's is named."""
    inside = folder / "grounding-dino-tiny"
    inside.mkdir()
    for file in [file for file in folder.iterdir() if file.is_file()]:
        file.rename(inside / file.name)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "model.safetensors is cut off: it has 100,000 of [0-9,]+ bytes or more; fetch it again"),
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            "no file named model.safetensors.*; is the folder whole",
        ),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
        (lambda folder: (folder / "config.json").write_text("{"), "; is the folder whole"),
        (nest, "no config.json.*; give the folder inside it"),
    ],
)
def test_a_detector_that_was_not_copied_whole_is_one_line(
    damage: Callable[[Path], None], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], bare_machine: None
) -> None:
    folder = Path(shutil.copytree(EMBEDDED, tmp_path / "weights"))
    damage(folder)
    error = error_here(capsys, *RUN, "--detector", str(folder), code=1)
    assert error.startswith(f"detector {folder}")
    assert re.search(reason, error), error


def test_a_segmenter_that_was_not_copied_whole_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bare_machine: None
) -> None:
    file = tmp_path / "sam2.1_hiera_tiny.pt"
    file.write_bytes((EMBEDDED.parent / "segmenter.pt").read_bytes()[:100_000])
    problem = "is cut off after 100,000 bytes, as by a download that broke off: fetch it again"
    assert error_here(capsys, *RUN, "--segmenter", str(file), code=1) == f"segmenter: {file} {problem}"


@needs_namespaces
def test_the_trainers_weights_too_are_one_line_that_says_what_to_put_where(tmp_path: Path) -> None:
    """Missing ones, and a file that was not copied whole."""
    train = ("train", "--data", str(two_colours(tmp_path / "pictures", 4)), "--out", str(tmp_path / "out"))
    home = {"TORCH_HOME": str(tmp_path / "torch")}
    url = ViT_B_16_Weights.IMAGENET1K_V1.url
    place = tmp_path / "torch" / "hub" / "checkpoints" / Path(url).name
    for problem in ("no pretrained weights for vit_b_16 (URLError)", f"{place} does not load (UnpicklingError)"):
        done = maskcast(*train, "--device", "cpu", before=NO_NETWORK, **home)
        *_, error = done.stderr.splitlines()
        assert done.returncode == 1
        assert error == (
            f"maskcast: error: classifier: {problem}: where there is a network, get "
            f"{url} and put it at {place}; or train with --from-scratch"
        )
        assert not (tmp_path / "out").exists()
        place.write_bytes(b"half a file")
