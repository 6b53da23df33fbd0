"""What a file of weights is, when it is not one: each is named, and nothing in it is run."""

import os
import sys
import types
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from stages.checkpoints.read import read_weights, state_dict
from stages.errors import ModelError

WEIGHTS = {"layer.weight": torch.arange(6000.0).reshape(60, 100)}


def cut(path, length):
    path.write_bytes(path.read_bytes()[:length])


def half_a_checkpoint(path):
    torch.save(WEIGHTS, path)
    cut(path, 20_000)


def half_of_safetensors(path):
    save_file(WEIGHTS, path)
    cut(path, 20_000)


def head_of_safetensors(path):
    save_file(WEIGHTS, path)
    cut(path, 40)


def an_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights.pt", b"x" * 100)


def torchscript(path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)


def onnx(path):
    path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x062.14.1" + bytes(100))


WRITERS = {
    "empty": (lambda path: path.touch(), "is empty"),
    "lfs": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0d\n"),
        "`git lfs pull`",
    ),
    "html": (lambda path: path.write_text("\n<!DOCTYPE html>\n<html><head>"), "is a web page, not the weights"),
    "xml": (lambda path: path.write_text('<?xml version="1.0"?><Error><Code>AccessDenied</Code>'), "is a web page"),
    "half": (half_a_checkpoint, "is cut off after 20,000 bytes"),
    "half safe": (half_of_safetensors, "is cut off: it has 20,000 of 24,"),
    "head safe": (head_of_safetensors, "is cut off: it has 40 of"),
    "zip": (an_archive, "is a zip archive: unpack it"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(99)), "is a packed archive: unpack it"),
    "gguf": (lambda path: path.write_bytes(b"GGUF\x03" + bytes(99)), "is a GGUF file"),
    "onnx": (onnx, "is an ONNX model"),
    "tensorrt": (lambda path: path.write_bytes(b"ftrt" + bytes(99)), "is a TensorRT engine"),
    "torchscript": (torchscript, "is a TorchScript export"),
    "text": (lambda path: path.write_text("image_size: 1024\n# größer\n"), "is a text, not the weights"),
    "noise": (lambda path: path.write_bytes(bytes(range(256))), "is damaged, or no checkpoint of PyTorch"),
    "list": (lambda path: torch.save([1, 2], path), "holds a list, not weights by name"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.jit
@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_holds_no_weights_is_named(kind, tmp_path):
    write, says = WRITERS[kind]
    path = tmp_path / "model.pt"
    write(path)
    with pytest.raises(ModelError) as refused:
        read_weights(path, "segmenter")
    assert str(refused.value).startswith(f"segmenter: {path} ")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_of_ultralytics_is_recognised_and_not_run(zipped, tmp_path, monkeypatch):
    ran = tmp_path / "ran"

    class DetectionModel:
        def __reduce__(self):
            return (DetectionModel, (), {"path": str(ran)})

        def __setstate__(self, state):
            ran.touch()

    DetectionModel.__module__, DetectionModel.__qualname__ = "ultralytics.nn.tasks", "DetectionModel"
    for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.tasks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["ultralytics.nn.tasks"].DetectionModel = DetectionModel
    path = tmp_path / "yolo11n.pt"
    torch.save({"epoch": -1, "model": DetectionModel()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"yolo11n.pt is YOLO or another model of ultralytics; give a SAM 2"):
        read_weights(path, "segmenter")
    assert not ran.exists()


def test_a_pickle_that_would_call_a_function_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ModelError, match=r"holds Python objects \(\w+.mkdir\), which could run code"):
        read_weights(tmp_path / "evil.pt", "segmenter")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["model", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_the_weights_are_found_where_training_programs_put_them(key, prefix, tmp_path):
    weights = {f"{prefix}{name}": value for name, value in WEIGHTS.items()}
    torch.save({key: weights, "epoch": 7} if key else weights, tmp_path / "model.pt")
    found = state_dict(read_weights(tmp_path / "model.pt", "segmenter"))
    assert list(found) == list(WEIGHTS)
    assert torch.equal(found["layer.weight"], WEIGHTS["layer.weight"])


def test_safetensors_are_read_whatever_their_name(tmp_path):
    save_file(WEIGHTS, tmp_path / "model.pt")
    found = state_dict(read_weights(tmp_path / "model.pt", "segmenter"))
    assert torch.equal(found["layer.weight"], WEIGHTS["layer.weight"])
