"""A small MM-Grounding-DINO."""

import shutil
from pathlib import Path

import torch
from transformers import GroundingDinoConfig, MMGroundingDinoConfig, MMGroundingDinoForObjectDetection

from stages.detection.grounding_dino import EMBEDDED


def write_mm_grounding_dino(folder: Path) -> Path:
    """The embedded model's shape as an MM-Grounding-DINO, which LLMDet is too, with random weights."""
    shutil.copytree(EMBEDDED, folder, dirs_exist_ok=True)
    config = GroundingDinoConfig.from_pretrained(folder).to_dict() | {"model_type": "mm-grounding-dino"}
    network = MMGroundingDinoForObjectDetection(MMGroundingDinoConfig.from_dict(config))
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.1)
    network.save_pretrained(folder)
    return folder
