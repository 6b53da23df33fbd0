"""``maskcast models``: where the configured models are, what is said when they cannot be fetched, compilation."""

import json
import re
from pathlib import Path

import pytest

from daemon.__main__ import main
from daemon.service.build_models import COMPILED
from tests.cli.in_process import error_here
from tests.cli.test_cli import NO_HUB, error_of, maskcast


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but the test's own."""
    monkeypatch.delenv("MASKCAST_CONFIG", raising=False)


def test_embedded_local_and_absent_models_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "weights.pt"
    weights.touch()
    assert main(["models", "list", "--json", "--detector", "embedded", "--segmenter", str(weights)]) == 0
    models = json.loads(capsys.readouterr().out)
    assert {role: model["state"] for role, model in models.items()} == {
        "detector": "embedded",
        "segmenter": "local",
        "classifier": "off",
    }
    assert (Path(models["detector"]["place"]) / "config.json").is_file()
    assert models["segmenter"]["place"] == str(weights)


@pytest.mark.process
def test_model_in_the_hubs_cache_is_found_without_network(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    arguments = ("models", "list", "--json", "--detector", "owner/name", "--segmenter", "embedded")
    cache = {"HF_HOME": str(tmp_path), **NO_HUB}
    assert json.loads(maskcast(*arguments, **cache).stdout)["detector"]["state"] == "missing"
    (snapshot / "model.safetensors").touch()
    done = maskcast(*arguments, **cache)
    detector = json.loads(done.stdout)["detector"]
    assert (done.returncode, detector["state"], detector["place"]) == (0, "cached", str(snapshot))


def test_missing_model_makes_list_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--detector", "nobody/no-such-model", "--segmenter", "embedded"]) == 1
    assert capsys.readouterr().out.splitlines()[0] == "detector    missing   nobody/no-such-model"


def test_fetch_has_nothing_to_do_for_what_is_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "weights.pt"
    weights.touch()
    arguments = ["--to", str(tmp_path / "to"), "--detector", "embedded", "--segmenter", str(weights)]
    assert main(["models", "fetch", *arguments]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines() == [
        f"# copy to the same places there, or change the paths: {weights}",
        "[models]",
        'detector = "embedded"',
        f'segmenter = "{weights}"',
        'classifier = ""',
    ]


@pytest.mark.process
def test_fetch_without_network_is_one_line(tmp_path: Path) -> None:
    home = {"HF_HOME": str(tmp_path), **NO_HUB}
    error = error_of("models", "fetch", "--to", str(tmp_path / "to"), code=1, **home)
    assert error.startswith("detector IDEA-Research/grounding-dino-tiny: the hub cannot be reached")


@pytest.mark.parametrize(
    ("flag", "name", "reason"),
    [
        ("--detector", "./no/such/folder", "not a hub id such as owner/name"),
        ("--segmenter", "nobody/no-such-model", "no known SAM 2 model"),
    ],
)
def test_name_that_means_nothing_cannot_be_fetched(
    capsys: pytest.CaptureFixture[str], flag: str, name: str, reason: str
) -> None:
    flags = {"--detector": "embedded", "--segmenter": "embedded", flag: name}
    error = error_here(capsys, "models", "fetch", *(word for pair in flags.items() for word in pair), code=1)
    assert name in error
    assert reason in error


@pytest.mark.slow
def test_compile_compiles_what_a_configuration_needs_and_says_where_it_lasts(
    graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each number of objects that can come; the graphs are not compiled any further here, which would take minutes."""
    monkeypatch.setenv(COMPILED, str(tmp_path / "inductor"))
    file = tmp_path / "maskcast.toml"
    file.write_text(
        "[models]\ndetector = 'embedded'\nsegmenter = 'embedded'\n[tracking]\nmax_objects = 2\nwindow = 1\n"
    )
    arguments = ["models", "compile", "--config", str(file), "--device", "cpu"]
    assert main([*arguments, "--json"]) == 0
    assert len(graphs) > 3
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert {key: summary[key] for key in ("segmenter", "device", "cache")} == {
        "segmenter": "embedded",
        "device": "cpu",
        "cache": str(tmp_path / "inductor"),
    }
    assert [re.sub(r"\d+\.\d s", "T", line) for line in printed.err.splitlines()] == [
        "maskcast: compiling takes minutes, much less when it was done before",
        *(f"maskcast: info: warm-up with {objects}: T" for objects in ("4 objects", "2 objects", "1 object")),
        "maskcast: the daemon uses it once the configuration has models.compile = true",
    ]


def test_what_cannot_be_compiled_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--detector", "embedded", "--device", "cpu")
    error = error_here(capsys, "models", "compile", "--config", "missing.toml", code=2)
    assert error == "missing.toml: no such file; name the configuration with --config or MASKCAST_CONFIG"
    error = error_here(capsys, "models", "compile", *flags, "--segmenter", "nobody/no-such-model", code=1)
    assert error.startswith("segmenter: nobody/no-such-model is neither a file, a folder nor a known model")
