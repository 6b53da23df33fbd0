"""Build SAM 2 and load its weights: hub ids, upstream's .pt files, folders, and the embedded model."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES
from sam2.modeling.sam2_base import SAM2Base

from stages.errors import ModelError
from stages.sam2.segmenter import Sam2Segmenter

EMBEDDED = Path(__file__).parents[1] / "embedded"

# (width of the first stage, number of blocks) of the public Hiera encoders
_SIZES = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}


def load_segmenter(name: str, device: torch.device, dtype: torch.dtype, compiled: bool = False) -> Sam2Segmenter:
    """Load a SAM 2 model.

    ``name`` is "embedded", a hub id such as "facebook/sam2.1-hiera-large", a ``.pt`` file in upstream's format, or a
    folder that holds one. ``compiled`` compiles all that runs on every frame. Raises ModelError, one line.
    """
    if name == "embedded":
        model = build(EMBEDDED / "segmenter.yaml")
        _load_weights(model, _read_checkpoint(EMBEDDED / "segmenter.pt"), EMBEDDED / "segmenter.pt")
    else:
        checkpoint = find_checkpoint(name)
        state = _read_checkpoint(checkpoint)
        model = build(_upstream_config(state, checkpoint))
        _load_weights(model, state, checkpoint)
    return Sam2Segmenter(model, device, dtype, compiled)


def build(config: Path, image_size: int | None = None) -> SAM2Base:
    """Build the architecture that a sam2 configuration file describes, with random weights.

    ``image_size`` (a multiple of 32) replaces the configured side of the square input.
    """
    model_config = OmegaConf.load(config).model
    if image_size is not None:
        model_config.image_size = image_size
        for attention in ("self_attention", "cross_attention"):
            model_config.memory_attention.layer[attention].feat_sizes = [image_size // 16] * 2
    model = instantiate(model_config, _recursive_=True)
    assert isinstance(model, SAM2Base)
    return model


def config_file(version: str, size: str) -> Path:
    """The sam2 package's configuration of ``version`` "2" or "2.1" and ``size`` "t", "s", "b+" or "l"."""
    return Path(str(files("sam2"))) / "configs" / f"sam{version}" / f"sam{version}_hiera_{size}.yaml"


def hub_file(name: str) -> str | None:
    """The checkpoint file in the hub repository ``name``; None for a repository that is not SAM 2."""
    known: tuple[str, str] | None = HF_MODEL_ID_TO_FILENAMES.get(name)
    return known[1] if known else None


def find_checkpoint(name: str) -> Path:
    """The .pt file of a path or a hub id; downloads it when it is not in the cache. Raises ModelError."""
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        found = sorted(path.glob("*.pt"))
        if len(found) != 1:
            problem = "has no .pt file" if not found else f"has {len(found)} .pt files"
            raise ModelError(f"segmenter: the folder {name} {problem}; name the checkpoint file itself")
        return found[0]
    if (file := hub_file(name)) is None:
        known = ", ".join(sorted(HF_MODEL_ID_TO_FILENAMES))
        raise ModelError(f"segmenter: {name} is neither a file, a folder nor a known model; known: embedded, {known}")
    return _download(name, file)


def _download(name: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    from stages.hub import copy_from_elsewhere, reachable

    online = reachable()
    try:
        return Path(hf_hub_download(repo_id=name, filename=file, local_files_only=not online))
    except (OSError, HfHubHTTPError, ValueError) as error:
        if not online:
            raise ModelError(copy_from_elsewhere("segmenter", name)) from error
        raise ModelError(
            f"segmenter: cannot download {name} ({type(error).__name__}): try again, or fetch it elsewhere with "
            f"`maskcast models fetch --segmenter {name} --to weights`"
        ) from error


def _read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of upstream's format, ``{"model": state}``."""
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
        return dict(loaded["model"])
    except FileNotFoundError as error:
        raise ModelError(f"segmenter: {path} does not exist") from error
    except Exception as error:  # torch.load passes on any error of the unpickler
        raise ModelError(
            f"segmenter: {path} is not a whole SAM 2 checkpoint (no readable 'model' in it); copy or fetch it again"
        ) from error


def _upstream_config(state: dict[str, torch.Tensor], checkpoint: Path) -> Path:
    """The sam2 configuration file that fits the weights, chosen by their shapes. Raises ModelError."""
    stem = state.get("image_encoder.trunk.patch_embed.proj.weight")
    blocks = {key.split(".")[3] for key in state if key.startswith("image_encoder.trunk.blocks.")}
    size = _SIZES.get((len(stem), len(blocks))) if stem is not None else None
    if size is None:
        raise ModelError(f"segmenter: {checkpoint} is not a checkpoint of SAM 2 or 2.1 tiny, small, base-plus or large")
    return config_file("2.1" if "no_obj_embed_spatial" in state else "2", size)


def _load_weights(model: SAM2Base, state: dict[str, torch.Tensor], checkpoint: Path) -> None:
    """Load ``state``, whose keys must be exactly the model's and whose values finite. Raises ModelError."""
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ModelError(f"segmenter: the weights in {checkpoint} do not fit their architecture: {first}") from error
    broken = next((name for name, weights in state.items() if not weights.isfinite().all()), None)
    if broken is not None:
        raise ModelError(f"segmenter: {checkpoint} is broken: {broken} has values that are not finite; fetch it again")
