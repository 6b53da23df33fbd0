"""Public models are recognised by the names of their weights, by their pickled classes and by their configuration."""

import pytest
import torch
import torchvision.models as zoo
import transformers as hf

from stages.checkpoints.kinds import advice, kind_of_classes, kind_of_keys, kind_of_model_type

IN_TRANSFORMERS = [
    ("SAM 2", hf.Sam2VideoModel, hf.Sam2VideoConfig),
    ("SAM 2 without its memory (an image model)", hf.Sam2Model, hf.Sam2Config),
    ("SAM 1 (Segment Anything)", hf.SamModel, hf.SamConfig),
    ("EdgeTAM", hf.EdgeTamVideoModel, hf.EdgeTamVideoConfig),
    ("SAM 3", hf.Sam3VideoModel, hf.Sam3VideoConfig),
    ("SAM 3", hf.Sam3Model, hf.Sam3Config),
    ("SAM 3", hf.Sam3TrackerVideoModel, hf.Sam3TrackerVideoConfig),
    ("Grounding DINO", hf.GroundingDinoForObjectDetection, hf.GroundingDinoConfig),
    ("Grounding DINO", hf.MMGroundingDinoForObjectDetection, hf.MMGroundingDinoConfig),
    ("OWL-ViT", hf.OwlViTForObjectDetection, hf.OwlViTConfig),
    ("OWLv2", hf.Owlv2ForObjectDetection, hf.Owlv2Config),
    ("CLIP", hf.CLIPModel, hf.CLIPConfig),
    ("a ViT of transformers", hf.ViTForImageClassification, hf.ViTConfig),
]
BY_NAMES = [
    (
        "SAM 1 (Segment Anything)",
        ["image_encoder.pos_embed", "image_encoder.patch_embed.proj.weight", "mask_decoder.x"],
    ),
    ("MobileSAM", ["image_encoder.patch_embed.seq.0.c.weight", "image_encoder.layers.0.x", "mask_decoder.x"]),
    ("EdgeTAM", ["image_encoder.trunk.body.stem.x", "memory_attention.x", "spatial_perceiver.latents"]),
    ("SAM 3", ["detector.backbone.vision_backbone.trunk.pos_embed", "tracker.maskmem_tpos_enc"]),
    (
        "Grounding DINO in the format of its own repository",
        ["transformer.level_embed", "bert.embeddings.word_embeddings.weight", "feat_map.weight", "backbone.0.x"],
    ),
    (
        "Grounding DINO in the format of MMDetection",
        ["language_model.language_backbone.x", "bbox_head.x", "level_embed"],
    ),
    ("YOLO", ["model.0.conv.weight", "model.2.cv1.conv.weight"]),
    ("a ViT of timm", ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"]),
    (None, ["fc.weight", "fc.bias"]),
]


@pytest.mark.parametrize(
    ("kind", "network", "config"), IN_TRANSFORMERS, ids=lambda value: getattr(value, "__name__", "")
)
def test_models_of_transformers_are_recognised_by_their_weights(kind, network, config):
    with torch.device("meta"):
        assert kind_of_keys(network(config()).state_dict()) == kind


@pytest.mark.parametrize(
    ("kind", "name"),
    [("a ViT of torchvision", "vit_b_16"), ("a Swin of torchvision", "swin_t"), ("a ResNet", "resnet18")],
)
def test_models_of_torchvision_are_recognised_by_their_weights(kind, name):
    with torch.device("meta"):
        weights = zoo.get_model(name, weights=None).state_dict()
    assert kind_of_keys(weights) == kind


@pytest.mark.parametrize(("kind", "names"), BY_NAMES)
def test_other_repositories_are_recognised_by_some_of_their_names(kind, names):
    assert kind_of_keys(names) == kind


def test_a_pickle_is_recognised_by_the_package_of_its_classes():
    assert (
        kind_of_classes(["getattr", "ultralytics.nn.tasks.SegmentationModel"]) == "YOLO or another model of ultralytics"
    )
    assert kind_of_classes(["models.yolo.Model"]) == "YOLO (v5 or v7)"
    assert kind_of_classes(["getattr"]) is None


def test_a_type_of_model_without_a_name_here_is_quoted():
    assert [kind_of_model_type(name) for name in ("owlv2", "zebra")] == ["OWLv2", "a model of type 'zebra'"]


@pytest.mark.parametrize(
    ("role", "kind", "says"),
    [
        ("segmenter", "SAM 3", "give a SAM 2 or 2.1 with its memory"),
        ("segmenter", "Grounding DINO", "it belongs under models.detector; for models.segmenter give a SAM 2"),
        ("detector", "SAM 2", "it belongs under models.segmenter; for models.detector give the folder"),
        ("detector", "Grounding DINO in the format of its own repository", "in the format of transformers"),
        ("classifier", "YOLO", "give a checkpoint that `maskcast train` wrote"),
    ],
)
def test_the_advice_names_what_belongs_there(role, kind, says):
    assert says in advice(role, kind)
