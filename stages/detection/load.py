"""Loading a checkpoint of the Grounding DINO family, completely, or saying in one line what it is instead."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from huggingface_hub.utils import logging as hub_log
from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoProcessor
from transformers import __version__ as version
from transformers.utils import logging as transformers_log

from stages.checkpoints.files import why_not_weights
from stages.checkpoints.kinds import advice, kind_of_keys, kind_of_model_type
from stages.checkpoints.read import read_weights, state_dict
from stages.detection.captions import CLS, SEP, STOP
from stages.detection.llmdet import is_own_format, load_own_format
from stages.errors import ModelError
from stages.hub import copy_from_elsewhere, reachable
from stages.plural import plural

FAMILY = ("grounding-dino", "mm-grounding-dino")  # model types of transformers with the same interface
SHOWN = 3  # names of unused weights in the warning

# The heads of boxes have two names. transformers 5.17 to 5.20 fill them with random numbers where a checkpoint has
# only these.
_SECOND_NAMES = {r"^model\.decoder\.bbox_embed\.": "bbox_embed."}

# transformers reads it at each check of a tensor's size; 12 of them in a forward pass wait for the GPU to tell the
# size, with which no part of the model could be captured as a graph
os.environ["TRANSFORMERS_DISABLE_TORCH_CHECK"] = "1"

log = logging.getLogger(__name__)


def load_grounding_dino(name: str) -> tuple[Any, Any]:
    """The complete model of a folder or a hub id, in float32 on the CPU, and its processor.

    Weights of the checkpoint that the model has no place for are left out, with one warning in the log. Raises
    ModelError, one line, for a checkpoint that lacks weights, has some of another shape, or cannot be read.
    """
    _check_path(name)
    local = Path(name).is_dir()
    offline = not local and not reachable()  # then only the cache is used
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(name, local_files_only=offline)
            if config.model_type not in FAMILY:
                raise _another(name, kind_of_model_type(config.model_type))
            processor = AutoProcessor.from_pretrained(name, local_files_only=offline)
            model, report = AutoModelForZeroShotObjectDetection.from_pretrained(
                name,
                local_files_only=offline,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                key_mapping=_SECOND_NAMES,
            )
            if is_own_format(report["unexpected_keys"]):
                del model
                model, report = load_own_format(config, state_dict(read_weights(_weights_file(name), "detector")))
    except ModelError:
        raise
    except Exception as error:  # any error of json, safetensors, the configuration or the hub
        if offline and isinstance(error, OSError):  # not in the cache, or incomplete
            raise ModelError(copy_from_elsewhere("detector", name)) from error
        help_ = (
            "is the folder whole? copy or fetch it again"
            if local
            else "check the name, or give a folder with the model"
        )
        raise ModelError(f"detector {name} cannot be loaded: {_first_sentence(error)}; {help_}") from error
    _check_weights(name, report)
    _check_heads(name, model)
    _check_tokenizer(name, processor.tokenizer, config.text_config.vocab_size)
    return model, processor


def _another(name: str, kind: str) -> ModelError:
    """The error for a model of another kind."""
    return ModelError(f"detector {name} is {kind}; {advice('detector', kind)}")


def _check_path(name: str) -> None:
    """Raise ModelError for a path that is no whole model folder; transformers would take it for a hub id."""
    path = Path(name)
    if path.is_dir():
        _check_folder(path)
    elif path.is_file():
        raise _file_given(path)
    elif path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"detector {name}: no such folder; give a model folder or a hub id such as owner/name")


def _check_folder(folder: Path) -> None:
    weights = [file for pattern in ("*.safetensors", "*.bin", "*.pth", "*.pt") for file in sorted(folder.glob(pattern))]
    if not (folder / "config.json").is_file():
        inside = sorted(file.parent for file in folder.glob("*/config.json"))
        if len(inside) == 1:
            help_ = f"; give the folder inside it, {inside[0]}"
        elif weights:
            raise _file_given(weights[0])
        else:
            help_ = "; is it another folder?"
        raise ModelError(f"detector {folder}: the folder holds no model (no config.json){help_}")
    formats = {file.suffix for file in weights}
    read = ".safetensors" if ".safetensors" in formats else ".bin"  # transformers prefers the first
    for file in weights:
        if file.suffix == read and (problem := why_not_weights(file)):
            raise ModelError(f"detector {folder} is not whole: {file.name} {problem}")


def _file_given(file: Path) -> ModelError:
    """The error for a file in place of a folder: it names what the file holds."""
    if file.suffix in (".json", ".safetensors", ".bin") and (file.parent / "config.json").is_file():
        return ModelError(f"detector {file} is a file of a model; give its folder, {file.parent}")
    try:
        kind = kind_of_keys(state_dict(read_weights(file, "detector")))
    except ModelError as error:
        return error
    return _another(str(file), kind or "a file with the weights of a model that is not known here")


def _weights_file(name: str) -> Path:
    """The weights of a model that has just been loaded, in its folder or in the hub's cache."""
    from huggingface_hub import hf_hub_download

    inside = Path(name) / "model.safetensors"
    return inside if Path(name).is_dir() else Path(hf_hub_download(name, inside.name, local_files_only=True))


def _first_sentence(error: Exception) -> str:
    """The first sentence of an error's text, of at most 200 characters."""
    text = str(error).strip() or type(error).__name__
    return shorten(re.split(r"\.\s+(?=[A-Z])|(?<!:)\n", text)[0], 200).rstrip(".")


def _check_weights(name: str, report: dict[str, Any]) -> None:
    """Raise ModelError for weights that are missing or do not fit: transformers would fill them with random numbers.

    A fine-tuned checkpoint may have more weights than the model, such as those of another head: a warning names them.
    """
    for kind in ("missing", "mismatched"):
        if keys := _names(report, kind):
            weights = f"{len(keys)} {kind} {plural(len(keys), 'weight')}"
            raise ModelError(f"detector {name} does not fit its config.json: {weights}, such as {keys[0]}")
    if unused := _names(report, "unexpected"):
        of_them = "1 of its weights is" if len(unused) == 1 else f"{len(unused)} of its weights are"
        shown = ", ".join(unused[:SHOWN]) + (", ..." if len(unused) > SHOWN else "")
        log.warning("detector %s: %s not used, since its config.json has no part for them: %s", name, of_them, shown)


def _names(report: dict[str, Any], kind: str) -> list[str]:
    """The sorted names of one kind of weights in transformers' report of loading."""
    return sorted(key if isinstance(key, str) else key[0] for key in report[f"{kind}_keys"])


def _check_heads(name: str, model: Any) -> None:
    """Raise ModelError where the decoder's layers share heads that the checkpoint has separately.

    transformers 5.17 to 5.20 tie those of an MM-Grounding-DINO whatever its configuration says.
    """
    config, separate = model.config, []
    if not config.decoder_bbox_embed_share:
        separate.append([head.layers[0].weight for head in model.bbox_embed])
    if not getattr(config, "decoder_cls_embed_share", True):
        separate.append([head.bias for head in model.class_embed])
    if any(first is other for first, *others in separate for other in others):
        raise ModelError(
            f"detector {name} is an MM-Grounding-DINO, which transformers {version} loads only in part; "
            "install transformers 5.21 or newer"
        )


def _check_tokenizer(name: str, tokenizer: Any, vocabulary: int) -> None:
    """Raise ModelError for a tokenizer without BERT's special ids, which the model's code uses to separate phrases."""
    words = tokenizer.encode("car", add_special_tokens=False)
    if tokenizer.encode("car. car.") != [CLS, *words, STOP, *words, STOP, SEP] or len(tokenizer) > vocabulary:
        raise ModelError(f"detector {name}: its tokenizer files are missing or another model's (not BERT's ids)")


@contextmanager
def _quiet() -> Iterator[None]:
    """Switch off the logs and progress bars of transformers and huggingface_hub for the time of the block."""
    bars = transformers_log.is_progress_bar_enabled()
    levels = transformers_log.get_verbosity(), hub_log.get_verbosity()
    transformers_log.disable_progress_bar()
    transformers_log.set_verbosity(CRITICAL)
    hub_log.set_verbosity(CRITICAL)
    try:
        yield
    finally:
        transformers_log.set_verbosity(levels[0])
        hub_log.set_verbosity(levels[1])
        if bars:
            transformers_log.enable_progress_bar()
