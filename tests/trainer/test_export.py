"""`maskcast export`: an ONNX file that computes what its checkpoint does, and that the daemon takes in its place."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from stages.classification.card import Card, Preprocessing
from stages.classification.classifier import Classifier, build_model, checkpoint
from stages.errors import ModelError, OutputError
from tests.cli.in_process import error_here
from tests.cli.test_cli import maskcast
from tests.support.small_disk import full_at
from trainer import export as module
from trainer.export import TOLERANCE, Exported, export

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CARD = Card(
    "compact_vit",
    ("offen, weiß", "zu", "ajar"),
    Preprocessing(32, resize=40, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), interpolation="bicubic"),
    metrics={"val_accuracy": 0.5},
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights, all of them other than a fresh network's zeros and ones."""
    torch.manual_seed(0)
    model = build_model(CARD.model, 3)
    for weights in model.parameters():
        weights.data += 0.02 * torch.randn_like(weights)
    path = tmp_path_factory.mktemp("trained") / "best.pt"
    torch.save(checkpoint(CARD, model), path)
    return path


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """For tests that leave it where it is."""
    return export(str(trained), tmp_path_factory.mktemp("exported") / "gate.onnx")


def pictures() -> list[np.ndarray]:
    """More than fit one batch, of several sizes."""
    chance = np.random.default_rng(0)
    return [chance.integers(0, 256, (20 + i, 60 - i, 3), dtype=np.uint8) for i in range(35)]


def test_the_daemons_stage_takes_the_onnx_file_in_the_checkpoints_place(trained: Path, exported: Exported) -> None:
    """The same card, and the same classes with the same scores for 35 pictures of different sizes."""
    card, files, difference = exported
    assert [file.name for file in files] == ["gate.onnx"]
    assert 0 < difference <= TOLERANCE == 1e-4
    ours, theirs = (Classifier(path, CPU, torch.float32) for path in (trained, files[0]))
    assert ours.card == theirs.card == card == CARD
    for one, other in zip(ours.classify(pictures()), theirs.classify(pictures()), strict=True):
        assert [label.label for label in one] == [label.label for label in other]
        assert [label.score for label in one] == pytest.approx([label.score for label in other], abs=1e-5)


def test_other_programs_find_labels_and_preprocessing_in_the_metadata(exported: Exported) -> None:
    model = onnx.load(exported.files[0])
    onnx.checker.check_model(model)
    [entry] = [entry.value for entry in model.metadata_props if entry.key == "maskcast"]
    card = json.loads(entry)
    assert card["labels"] == ["offen, weiß", "zu", "ajar"]
    assert card["preprocessing"]["std"] == [0.2, 0.3, 0.4]
    [inputs], [outputs] = model.graph.input, model.graph.output
    assert (inputs.name, outputs.name) == ("pictures", "logits")
    assert [axis.dim_value for axis in inputs.type.tensor_type.shape.dim] == [0, 3, 32, 32]


def test_large_weights_go_into_a_second_file_and_both_can_be_moved(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EMBEDDED_BYTES", 0)
    files = export(str(trained), tmp_path / "gate.onnx").files
    assert files == (tmp_path / "gate.onnx", tmp_path / "gate.onnx.data")
    assert files[1].stat().st_size > 10 * files[0].stat().st_size
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    files[0].rename(elsewhere / "gate.onnx")
    with pytest.raises(ModelError, match=r"gate\.onnx"):
        Classifier(elsewhere / "gate.onnx", CPU, torch.float32)
    files[1].rename(elsewhere / "gate.onnx.data")
    assert Classifier(elsewhere / "gate.onnx", CPU, torch.float32).labels == CARD.labels


def test_a_file_that_computes_something_else_is_not_written(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter that changes one weight by a thousandth; the file of an earlier export stays as it was."""
    out = tmp_path / "gate.onnx"
    out.write_text("earlier")
    write = module._write

    def spoiled(card: Card, model: torch.nn.Module, path: Path, external: bool) -> None:
        bias = model.heads.head.bias.data
        bias[0] += 1e-3
        write(card, model, path, external)
        bias[0] -= 1e-3

    monkeypatch.setattr(module, "_write", spoiled)
    with pytest.raises(ModelError, match=r"differ by 1\.0e-03, more than 1e-04"):
        export(str(trained), out)
    assert [path.name for path in tmp_path.iterdir()] == ["gate.onnx"]
    assert out.read_text() == "earlier"


def test_a_full_disk_is_one_line_and_leaves_nothing(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"gate\.onnx.*--out"), full_at(1 << 20):
        export(str(trained), tmp_path / "gate.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_the_command_writes_beside_the_checkpoint_and_says_how_exact_it_is(trained: Path) -> None:
    done = maskcast("export", str(trained))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first == f"compact_vit, 3 classes: {trained.with_suffix('.onnx')}"
    assert float(second.split()[-1]) <= TOLERANCE
    assert trained.with_suffix(".onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("{folder}/none.pt",), 1, "none.pt does not exist"),
        (("{folder}/text.pt",), 1, "text.pt is a text, not the weights"),
        (("{folder}/none.pt", "--out", "gate.pt"), 2, "--out gate.pt: give a name that ends in .onnx"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    (tmp_path / "text.pt").write_text("no checkpoint")
    assert said in error_here(capsys, "export", *(one.format(folder=tmp_path) for one in arguments), code=code)
