"""List the configured models and where they are, download them or compile them ahead of time.

For a machine behind a firewall: fetch into a folder elsewhere, copy it over, and put the printed lines into the
configuration there. With models.compile = true, "compile" does before a start what else the first start does: it runs
the models in each size that the configured streams need, and keeps what the compiler makes for the next start.

examples:
  maskcast models list
  maskcast models fetch --to weights
  maskcast models fetch --segmenter facebook/sam2.1-hiera-tiny
  maskcast models compile --config maskcast.toml
"""

import json
import logging
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from daemon.cli import log
from daemon.cli.flags import MODEL_FLAGS, add_settings_flags, load_settings
from stages.errors import MaskcastError, ModelError, OutputError

if TYPE_CHECKING:
    from daemon.settings.schema import Settings

_DETECTOR_FILES = ["*.json", "*.txt", "*.safetensors"]


class Model(NamedTuple):
    """One configured model."""

    role: str  # detector, segmenter, classifier
    name: str  # as configured
    state: str  # off, embedded, local, cached, missing
    place: str = ""  # path; "" if there is none


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``maskcast models``."""
    parser.add_argument(
        "action", choices=("fetch", "list", "compile"), help="download, say what is there, or compile for this machine"
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help="fetch into DIR instead of the hub's cache")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_settings_flags(parser, MODEL_FLAGS)


def run(arguments: Namespace) -> int:
    """List, fetch or compile the models; return 1 if one is missing. Raises ConfigError, ModelError, OutputError."""
    if arguments.action == "compile":
        return _compile(load_settings(arguments), arguments)
    settings = load_settings(arguments).models
    names = {role: getattr(settings, role) for role in ("detector", "segmenter", "classifier")}
    models = [find(role, name) for role, name in names.items()]
    if arguments.action == "fetch":
        models = [_fetch(model, arguments.to) for model in models]
    if arguments.json:
        print(json.dumps({model.role: model._asdict() for model in models}, ensure_ascii=False))
    elif arguments.action == "fetch" and arguments.to:
        _print_settings(models)
    else:
        for model in models:
            print(f"{model.role:<10}  {model.state:<8}  {model.name}  {model.place}".rstrip())
    return 1 if any(model.state == "missing" for model in models) else 0


def _compile(settings: "Settings", arguments: Namespace) -> int:
    """Load and run the models as the daemon does with models.compile = true; say what that took and where it lasts."""
    log.set_up(arguments.debug)
    logging.getLogger("stages.tracking.all_shapes").setLevel(logging.INFO)
    log.print_message("compiling takes minutes, much less when it was done before")
    from daemon.service.build_models import COMPILED, build_models, pick_device

    began = time.perf_counter()
    compiled = settings.models.model_copy(update={"compile": True})
    build_models(settings.model_copy(update={"models": compiled}), warm=True)
    summary = {
        "segmenter": settings.models.segmenter,
        "device": str(pick_device(settings.models.device)),
        "seconds": round(time.perf_counter() - began, 1),
        "cache": os.environ[COMPILED],
    }
    text = "{segmenter} is compiled for {device}, which took {seconds} s; the cache is {cache}"
    print(json.dumps(summary, ensure_ascii=False) if arguments.json else text.format(**summary))
    if settings.models.compile is not True:
        log.print_message("the daemon uses it once the configuration has models.compile = true")
    return 0


def _print_settings(models: Sequence[Model]) -> None:
    """Print the lines for the configuration of the other machine; a JSON string is a valid TOML string."""
    if places := [model.place for model in models if model.state == "local"]:
        print(f"# copy to the same places there, or change the paths: {', '.join(places)}")
    print("[models]")
    for model in models:
        text = model.place if model.state == "local" else model.name
        print(f"{model.role} = {json.dumps(text, ensure_ascii=False)}")


def find(role: str, name: str) -> Model:
    """Locate a model without using the network."""
    if not name:
        return Model(role, name, "off")
    if name == "embedded":
        return _embedded(role)
    if Path(name).exists():
        return Model(role, name, "local", str(Path(name).resolve()))
    cached = _cached(role, name)
    return Model(role, name, "cached", cached) if cached else Model(role, name, "missing")


def _embedded(role: str) -> Model:
    folder = Path(str(files("stages"))) / "embedded"
    present = sorted(str(path) for path in folder.glob(f"{role}*"))
    return Model(role, "embedded", "embedded", present[0]) if present else Model(role, "embedded", "missing")


def _cached(role: str, name: str) -> str:
    """Path in the hub's cache; "" if the model is not there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if role == "classifier":
        return ""
    wanted = ["config.json", "model.safetensors"] if role == "detector" else [_checkpoint(name)]
    try:
        found = [try_to_load_from_cache(name, file) for file in wanted if file]
    except HFValidationError:  # not a valid hub id
        return ""
    if not found or not all(isinstance(path, str) for path in found):
        return ""
    return str(found[0] if role == "segmenter" else Path(str(found[0])).parent)


def _checkpoint(name: str) -> str | None:
    """The file that holds a SAM 2 model on the hub."""
    from stages.sam2.load import hub_file

    return hub_file(name)


def _fetch(model: Model, to: Path | None) -> Model:
    """Download the model if it comes from the hub and is not there yet."""
    from stages import hub

    from_hub = model.state in ("cached", "missing") and model.name != "embedded" and model.role != "classifier"
    if not from_hub or (model.state == "cached" and to is None):
        return model
    try:
        _check_name(model)
        if not hub.reachable():
            raise ModelError(f"{model.role} {model.name}: the hub cannot be reached; run this where there is a network")
        place = _download_detector(model.name, to) if model.role == "detector" else _download_segmenter(model.name, to)
    except MaskcastError:
        raise
    except Exception as error:  # the hub's client raises its own errors, httpx' and OSError
        raise _explain(model, to, error) from error
    return Model(model.role, model.name, "local" if to else "cached", str(place))


def _check_name(model: Model) -> None:
    """Check the name before using the network. Raises ModelError, HFValidationError."""
    from huggingface_hub import hf_hub_url

    if model.role == "segmenter" and _checkpoint(model.name) is None:
        raise ModelError(f"segmenter {model.name}: no known SAM 2 model; give one such as facebook/sam2.1-hiera-large")
    hf_hub_url(model.name, "config.json")  # validates the name


def _download_detector(name: str, to: Path | None) -> Path:
    from huggingface_hub import snapshot_download

    target = to / name.rpartition("/")[2] if to else None
    place = Path(snapshot_download(name, local_dir=target, allow_patterns=_DETECTOR_FILES)).resolve()
    for wanted in ("config.json", "*.safetensors"):
        if not any(place.glob(wanted)):
            raise ModelError(f"detector {name}: the hub has no {wanted} of it; is it a Grounding DINO?")
    return place


def _download_segmenter(name: str, to: Path | None) -> Path:
    from huggingface_hub import hf_hub_download

    checkpoint = _checkpoint(name)
    assert checkpoint is not None
    return Path(hf_hub_download(name, checkpoint, local_dir=to)).resolve()


def _explain(model: Model, to: Path | None, error: Exception) -> MaskcastError:
    """The error of a failed download, in one line."""
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    subject = f"{model.role} {model.name}"
    if isinstance(error, HFValidationError):
        return ModelError(f"{subject}: no such file or folder, and not a hub id such as owner/name")
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(f"{subject}: the hub has no such model, or it is private; check the name")
    if isinstance(error, LocalEntryNotFoundError):
        return ModelError(
            f"{subject}: the hub cannot be reached any more; the same command again fetches what is missing"
        )
    if isinstance(error, OSError) and error.strerror and to is not None:
        return OutputError(f"cannot write to {to}: {error.strerror}; choose another folder with --to")
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return ModelError(f"{subject}: cannot be downloaded: {reason}; the same command again fetches what is missing")
