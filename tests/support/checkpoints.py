"""Checkpoints of the full-size architectures with random weights, in the formats of their publishers."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from sam2.build_sam import build_sam2
from transformers import (
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    Sam2HieraDetConfig,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VisionConfig,
)

SAM2_SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
_HIERA: dict[str, dict[str, Any]] = {  # what differs from tiny in transformers' configuration
    "tiny": {},
    "small": {"blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]},
    "base_plus": {
        "hidden_size": 112,
        "embed_dim_per_stage": [112, 224, 448, 896],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "blocks_per_stage": [2, 3, 16, 3],
        "global_attention_blocks": [12, 16, 20],
        "window_positional_embedding_background_size": [14, 14],
    },
    "large": {
        "hidden_size": 144,
        "embed_dim_per_stage": [144, 288, 576, 1152],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "blocks_per_stage": [2, 6, 36, 4],
        "global_attention_blocks": [23, 33, 43],
        "window_positional_embedding_background_size": [7, 7],
        "window_size_per_stage": [8, 4, 16, 8],
    },
}


# What transformers 4.40, in which Grounding DINO was published on the hub, called things that have other names today.
_PUBLISHED_NAMES = {
    r"conv_encoder\.model\.swin\.": "conv_encoder.model.",
    r"attention\.q_proj": "attention.self.query",
    r"attention\.k_proj": "attention.self.key",
    r"attention\.v_proj": "attention.self.value",
    r"attention\.relative_position_bias\.": "attention.self.",
    r"attention\.o_proj": "attention.output.dense",
    r"mlp\.fc1": "intermediate.dense",
    r"mlp\.fc2": "output.dense",
}
_NOT_PUBLISHED = r"model\.decoder\.bbox_embed|bbox_embed\.[1-9]|.*\.swin\.layernorm"  # copies, and a norm without use
_PUBLISHED_CONFIG = {
    "architectures": ["GroundingDinoForObjectDetection"],
    "backbone_config": {"model_type": "swin", "out_features": ["stage2", "stage3", "stage4"], "out_indices": [2, 3, 4]},
    "model_type": "grounding-dino",
    "text_config": {"model_type": "bert"},
    "torch_dtype": "float32",
    "transformers_version": "4.40.0",
}


def write_grounding_dino(folder: Path, **config: Any) -> GroundingDinoForObjectDetection:
    """A Grounding DINO as the hub has it: IDEA-Research/grounding-dino-tiny (Swin-T, BERT base) but for ``config``.

    Its weights are random, and its processor resizes images to 192 pixels. The names in its files are those of 2024.
    """
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_PUBLISHED_CONFIG | config))
    network = GroundingDinoForObjectDetection(GroundingDinoConfig.from_pretrained(folder))
    save_file(published(network.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    words = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    words |= {2417: "red", 4418: "circle", 2630: "blue", 2675: "square"}
    (folder / "vocab.txt").write_text("".join(words.get(i, f"[unused{i}]") + "\n" for i in range(30522)))
    names = {"processor_class": "GroundingDinoProcessor"}
    tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(names | tokenizer))
    pictures = {
        "image_processor_type": "GroundingDinoImageProcessor",
        "size": {"shortest_edge": 192, "longest_edge": 342},  # the real one is 800, 1333
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "do_pad": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(names | pictures))
    return network


def published(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a Grounding DINO with Swin under the names of 2024, with the index tables that were saved then."""
    named = {}
    for name, tensor in weights.items():
        if re.match(_NOT_PUBLISHED, name):
            continue
        for today, then in _PUBLISHED_NAMES.items():
            name = re.sub(today, then, name) if "conv_encoder" in name else name
        named[name] = tensor.contiguous()
        if name.endswith("relative_position_bias_table"):
            cells = (math.isqrt(len(tensor)) + 1) // 2  # of a window, along a side
            index = torch.zeros(cells**2, cells**2, dtype=torch.int64)
            named[name.replace("bias_table", "index")] = index
    return named


def write_sam2(folder: Path, size: str, version: str = "2.1") -> tuple[Path, dict[str, torch.Tensor]]:
    """Write a SAM 2 model in upstream's ``.pt`` format; returns the path and the weights.

    The weights are random, except biases of the mask decoder and the object score, which make masks non-empty.
    """
    model = build_sam2(f"configs/sam{version}/sam{version}_hiera_{SAM2_SIZES[size]}.yaml", device="cpu")
    with torch.no_grad():
        model.sam_mask_decoder.output_upscaling[3].bias.fill_(1.0)
        for network in model.sam_mask_decoder.output_hypernetworks_mlps:
            network.layers[-1].bias.fill_(0.5)
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5.0)
    path = folder / f"sam{version}_hiera_{size}.pt"
    torch.save({"model": model.state_dict()}, path)
    return path, model.state_dict()


def sam2_of_transformers(size: str, version: str = "2.1") -> Sam2VideoModel:
    """The architecture of facebook/sam2-hiera-* in transformers, with random weights (or none, on torch's meta)."""
    trunk = Sam2HieraDetConfig(**_HIERA[size])
    widths = list(reversed(trunk.embed_dim_per_stage))
    newer = version == "2.1"
    return Sam2VideoModel(
        Sam2VideoConfig(
            vision_config=Sam2VisionConfig(backbone_config=trunk, backbone_channel_list=widths),
            enable_temporal_pos_encoding_for_object_pointers=newer,
            enable_occlusion_spatial_embedding=newer,
        )
    ).eval()
