"""LLMDet (Fu et al., CVPR 2025, arXiv 2501.18954) in the format that its authors published first.

They called it a Grounding DINO, but scale its text scores and add a bias to them, as MM-Grounding-DINO does. In
transformers' own format (iSEE-Laboratory/llmdet_*) it is an MM-Grounding-DINO from the start.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import GroundingDinoConfig

_BIAS = re.compile(r"(model\.decoder\.)?class_embed\.\d+\.bias|model\.encoder_output_class_embed\.bias")


def is_own_format(unexpected: Iterable[str]) -> bool:
    """Whether these keys, which a Grounding DINO does not have, hold the biases of the authors' own format."""
    return any(_BIAS.fullmatch(name) for name in unexpected)


def load_own_format(config: "GroundingDinoConfig", weights: Mapping[str, torch.Tensor]) -> tuple[Any, dict[str, Any]]:
    """The MM-Grounding-DINO with these weights, in float32 on the CPU, and transformers' report of loading it."""
    # only models in this format need it
    from transformers import MMGroundingDinoConfig, MMGroundingDinoForObjectDetection

    state = {name.removeprefix("model.decoder.") if "_embed." in name else name: w for name, w in weights.items()}
    state = {name: w.reshape(()) if _BIAS.fullmatch(name) else w for name, w in state.items()}
    shared = not any(name.startswith("class_embed.1.") for name in state)
    plain = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
    converted = MMGroundingDinoConfig.from_dict(plain | {"decoder_cls_embed_share": shared})
    loaded: tuple[Any, dict[str, Any]] = MMGroundingDinoForObjectDetection.from_pretrained(
        None, config=converted, state_dict=state, dtype=torch.float32, output_loading_info=True
    )
    return loaded
