"""Build SAM 2 and load its weights: hub ids, files and folders of upstream and of transformers, the embedded model."""

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES
from sam2.modeling.sam2_base import SAM2Base
from torch.overrides import TorchFunctionMode

from stages.checkpoints.kinds import advice, kind_of_keys, kind_of_model_type
from stages.checkpoints.read import read_weights, state_dict
from stages.errors import ModelError
from stages.graphs import cuda_graphs
from stages.sam2.attention import LeanOptions
from stages.sam2.segmenter import Sam2Segmenter
from stages.sam2.transformers_names import is_of_transformers, of_sam2_package

EMBEDDED = Path(__file__).parents[1] / "embedded"

# (width of the first stage, number of blocks) of the public Hiera encoders
_SIZES = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}


def load_segmenter(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    compiled: bool = False,
    graphs: bool = False,
    lean: LeanOptions | None = None,
) -> Sam2Segmenter:
    """Load a SAM 2 model.

    ``name`` is "embedded", a hub id such as "facebook/sam2.1-hiera-large", a file (``.pt`` or ``.safetensors``) in the
    format of upstream or of transformers, or a folder that holds one. ``compiled`` compiles all that runs on every
    frame; ``graphs`` captures it as CUDA graphs, on a CUDA device. ``lean``: how memory attention runs; None chooses by
    the device. Raises ModelError, one line.
    """
    checkpoint = EMBEDDED / "segmenter.pt" if name == "embedded" else find_checkpoint(name)
    state = _read_checkpoint(checkpoint)
    config = EMBEDDED / "segmenter.yaml" if name == "embedded" else _upstream_config(state, checkpoint)
    with _NoInitialisation():
        model = build(config)
    _load_weights(model, state, checkpoint)
    captured = cuda_graphs("segmenter", device) if graphs else None
    return Sam2Segmenter(model, device, dtype, compiled, captured, lean)


class _NoInitialisation(TorchFunctionMode):
    """Skips the functions of torch.nn.init: a second, with the large model, for numbers that are replaced at once."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


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
    """The file of weights of a path or a hub id; downloads it when it is not in the cache. Raises ModelError."""
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        return _in_folder(path)
    if (file := hub_file(name)) is None:
        known = ", ".join(sorted(HF_MODEL_ID_TO_FILENAMES))
        raise ModelError(f"segmenter: {name} is neither a file, a folder nor a known model; known: embedded, {known}")
    return _download(name, file)


def _in_folder(folder: Path) -> Path:
    """The file of weights in a folder: a .pt file, else safetensors or .bin, as transformers writes them."""
    config = folder / "config.json"
    for pattern in ("*.pt", "*.pth", "model.safetensors", "*.safetensors", "*.bin"):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise ModelError(f"segmenter: the folder {folder} has {len(found)} {pattern[1:]} files; name one of them")
    kind = f"a folder of {kind_of_model_type(_model_type(config))} without weights" if config.is_file() else ""
    raise ModelError(
        f"segmenter: {folder} {f'is {kind}' if kind else 'has no .pt or .safetensors file'}; {advice('segmenter')}"
    )


def _model_type(config: Path) -> str:
    try:
        return str(json.loads(config.read_text())["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"


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
    """The weights under the names of the sam2 package. Raises ModelError."""
    content = read_weights(path, "segmenter")
    state = state_dict(content)
    if is_of_transformers(state):
        state = of_sam2_package(state)
    if not state:
        raise ModelError(f"segmenter: {path} holds no weights, only {_some(content)}; {advice('segmenter')}")
    return {re.sub(r"(fuser\.layers\.\d)\.weight$", r"\1.gamma", name): weights for name, weights in state.items()}


def _upstream_config(state: dict[str, torch.Tensor], checkpoint: Path) -> Path:
    """The sam2 configuration file that fits the weights, chosen by their shapes. Raises ModelError."""
    kind = kind_of_keys(state)
    if kind != "SAM 2":
        what = kind or f"a model that is not known here, with weights such as {_some(state)}"
        raise ModelError(f"segmenter: {checkpoint} is {what}; {advice('segmenter', what)}")
    stem = state.get("image_encoder.trunk.patch_embed.proj.weight")
    blocks = {key.split(".")[3] for key in state if key.startswith("image_encoder.trunk.blocks.")}
    size = _SIZES.get((len(stem), len(blocks))) if stem is not None else None
    if size is None:
        what = "is like SAM 2 with another image encoder than tiny, small, base-plus and large (EfficientTAM?)"
        raise ModelError(f"segmenter: {checkpoint} {what}; {advice('segmenter')}")
    return config_file("2.1" if "no_obj_embed_spatial" in state else "2", size)


def _some(content: Mapping[str, object]) -> str:
    return ", ".join(list(map(str, content))[:3]) or "nothing"


def _load_weights(model: SAM2Base, state: dict[str, torch.Tensor], checkpoint: Path) -> None:
    """Load ``state``, whose keys must be exactly the model's and whose values finite. Raises ModelError."""
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ModelError(f"segmenter: the weights in {checkpoint} do not fit their architecture: {first}") from error
    # the extremes, which are not finite if any value is not: one pass without a copy
    broken = next((name for name, w in state.items() if not torch.stack(w.aminmax()).isfinite().all()), None)
    if broken is not None:
        raise ModelError(f"segmenter: {checkpoint} is broken: {broken} has values that are not finite; fetch it again")
