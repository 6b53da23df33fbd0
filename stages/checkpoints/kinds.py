"""Names of public models, recognised by their weights, their pickled classes or their configuration."""

import re
from collections.abc import Iterable

GROUNDING_DINO = "Grounding DINO"

# What each setting takes.
_WANTED = {
    "detector": "give the folder or the hub id of a Grounding DINO, such as IDEA-Research/grounding-dino-tiny",
    "segmenter": "give a SAM 2 or 2.1 with its memory, such as facebook/sam2.1-hiera-large",
    "classifier": "give a checkpoint that `maskcast train` wrote",
}
_ORIGINAL = "in the format of its own repository"

# (name, patterns). All patterns must be found, each at the start of a key of the state dict; the first match counts.
_BY_KEYS = (
    ("EdgeTAM", (r"spatial_perceiver\.",)),
    ("SAM 3", (r"(detector|detector_model)\.",)),
    ("SAM 3", (r"detr_encoder\.", r"geometry_encoder\.")),
    ("SAM 3", (r"vision_encoder\.backbone\.embeddings\.", r"memory_attention\.")),
    ("SAM 2", (r"(image_encoder\.trunk|vision_encoder\.backbone)\.", r"memory_attention\.")),
    ("SAM 2 without its memory (an image model)", (r"(image_encoder\.trunk|vision_encoder\.backbone)\.",)),
    ("MobileSAM", (r"image_encoder\.patch_embed\.seq\.",)),
    ("SAM 1 (Segment Anything)", (r"(image|vision)_encoder\.patch_embed\.proj", r"mask_decoder\.")),
    (f"{GROUNDING_DINO} {_ORIGINAL}", (r"bert\.", r"transformer\.", r"feat_map\.")),
    (f"{GROUNDING_DINO} in the format of MMDetection", (r"language_model\.", r"bbox_head\.")),
    (GROUNDING_DINO, (r"model\.text_backbone\.", r"model\.backbone\.")),
    ("OWL-ViT", (r"owlvit\.",)),
    ("OWLv2", (r"owlv2\.",)),
    ("a DETR", (r"(model|transformer)\.", r"class_(labels_classifier|embed)\.", r"bbox_(predictor|embed)\.")),
    ("YOLO", (r"(model\.)*\d+\.(conv|cv1|m)\.",)),
    ("CLIP", (r"(visual|vision_model)\.", r"(transformer|text_model)\.")),
    ("a ViT of torchvision", (r"conv_proj\.", r"encoder\.layers\.encoder_layer_0\.")),
    ("a Swin of torchvision", (r"features\.1\.0\.attn\.relative_position_bias_table",)),
    ("a ViT of transformers", (r"(\w+\.)?embeddings\.cls_token", r"(\w+\.)?(encoder|layers?)\.")),
    ("a ViT of timm", (r"cls_token|pos_embed", r"patch_embed\.proj\.", r"blocks\.0\.attn\.qkv\.")),
    ("a Swin of timm or Microsoft", (r"patch_embed\.proj\.", r"layers\.0\.blocks\.0\.attn\.")),
    ("a ResNet", (r"conv1\.", r"layer1\.0\.conv1\.")),
)

# (name, start of the name of a pickled class)
_BY_CLASSES = (
    ("YOLO or another model of ultralytics", "ultralytics."),
    ("YOLO (v5 or v7)", "models.yolo."),
    ("YOLO (v5 or v7)", "models.common."),
    ("YOLO-NAS", "super_gradients."),
    ("a model of MMDetection", "mmengine."),
    ("a model of MMDetection", "mmdet."),
    ("a whole pickled model of torchvision", "torchvision."),
    ("a whole pickled model of timm", "timm."),
    ("a whole pickled model of transformers", "transformers."),
)

# transformers' model types, in its spelling
_BY_MODEL_TYPE = {
    "grounding-dino": GROUNDING_DINO,
    "mm-grounding-dino": "MM-Grounding-DINO",
    "owlvit": "OWL-ViT",
    "owlv2": "OWLv2",
    "omdet-turbo": "OmDet-Turbo",
    "detr": "DETR",
    "conditional_detr": "Conditional DETR",
    "deformable_detr": "Deformable DETR",
    "rt_detr": "RT-DETR",
    "rt_detr_v2": "RT-DETRv2",
    "rf_detr": "RF-DETR",
    "d_fine": "D-FINE",
    "yolos": "YOLOS",
    "florence2": "Florence-2",
    "sam": "SAM 1 (Segment Anything)",
    "sam_hq": "HQ-SAM",
    "sam2": "SAM 2 without its memory (an image model)",
    "sam2_video": "SAM 2",
    "sam3": "SAM 3",
    "sam3_video": "SAM 3",
    "sam3_tracker": "SAM 3",
    "sam3_tracker_video": "SAM 3",
    "edgetam": "EdgeTAM",
    "edgetam_video": "EdgeTAM",
    "clip": "CLIP",
    "siglip": "SigLIP",
    "vit": "a ViT of transformers",
    "swin": "a Swin of transformers",
    "dinov2": "DINOv2",
    "bert": "BERT",
}


def kind_of_keys(keys: Iterable[str]) -> str | None:
    """The model that a state dict with these keys belongs to; None for an unknown one."""
    names = tuple(keys)
    for kind, patterns in _BY_KEYS:
        if all(any(re.match(pattern, name) for name in names) for pattern in patterns):
            return kind
    return None


def kind_of_classes(classes: Iterable[str]) -> str | None:
    """The model whose pickle holds these classes (``module.name``); None for an unknown one."""
    names = tuple(classes)
    return next((kind for kind, start in _BY_CLASSES if any(name.startswith(start) for name in names)), None)


def kind_of_model_type(model_type: str) -> str:
    """The name of a model type of transformers; an unknown one in quotation marks."""
    return _BY_MODEL_TYPE.get(model_type, f"a model of type {model_type!r}")


def advice(role: str, kind: str = "") -> str:
    """What to give for ``role`` (detector, segmenter, classifier) in place of a model of ``kind``."""
    if "Grounding" in kind and role != "detector":
        return f"it belongs under models.detector; for models.{role} {_WANTED[role]}"
    if kind.startswith("SAM 2") and role == "detector":
        return f"it belongs under models.segmenter; for models.detector {_WANTED[role]}"
    if kind.startswith(GROUNDING_DINO) and role == "detector":
        return (
            "give it in the format of transformers: the folder or the hub id IDEA-Research/grounding-dino-tiny "
            "(swint_ogc) or -base (swinb_cogcoor)"
        )
    return _WANTED[role]
