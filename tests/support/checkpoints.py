"""Checkpoints of the full-size architectures with random weights, in the formats of their publishers."""

import json
from pathlib import Path
from typing import Any

import torch
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


def write_grounding_dino(folder: Path) -> GroundingDinoForObjectDetection:
    """grounding-dino-tiny (Swin-T, BERT base) in the hub's file layout; its processor resizes images to 192 pixels."""
    network = GroundingDinoForObjectDetection(GroundingDinoConfig())
    network.save_pretrained(folder)
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
