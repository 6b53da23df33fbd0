"""The embedded Grounding DINO: a very small configuration, its tokenizer and its initialisation."""

import math

import torch
from transformers import (
    BertConfig,
    BertTokenizer,
    ConvNextConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
)

from stages.testsrc.bodies import COLOURS, SHAPES

MAX_CAPTION = 48  # tokens
CLS, SEP, UNK, DOT = 101, 102, 100, 1012  # BERT's ids; transformers' Grounding DINO hard-codes them except UNK


def vocabulary() -> dict[str, int]:
    """Token ids by word: special tokens, the test source's words, and unused ids up to 1029."""
    words = {"[PAD]": 0, "[UNK]": UNK, "[CLS]": CLS, "[SEP]": SEP, "[MASK]": 103, ".": DOT, "?": 1029}
    known = [*COLOURS, *SHAPES, "a", "the", "##s", ","]
    words |= {word: 200 + i for i, word in enumerate(known)}
    taken = set(words.values())
    return words | {f"[unused{i}]": i for i in range(1, 1030) if i not in taken}


def build_processor(size: int) -> GroundingDinoProcessor:
    words = dict(sorted(vocabulary().items(), key=lambda item: item[1]))
    tokenizer = BertTokenizer(vocab=words, do_lower_case=True, model_max_length=MAX_CAPTION)
    images = GroundingDinoImageProcessor(size={"height": size, "width": size}, do_pad=False)
    return GroundingDinoProcessor(images, tokenizer)


def build_model() -> GroundingDinoForObjectDetection:
    backbone = ConvNextConfig(
        num_stages=3,
        hidden_sizes=[32, 64, 128],
        depths=[1, 2, 2],
        layer_scale_init_value=1.0,
        out_features=["stage2", "stage3"],
    )
    text = BertConfig(
        vocab_size=1030,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=MAX_CAPTION,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=64,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=30,
        num_feature_levels=2,
        max_text_len=MAX_CAPTION,
        dropout=0.0,
        fusion_droppath=0.0,
        two_stage=True,
        embedding_init_target=True,
        auxiliary_loss=True,
        disable_custom_kernels=True,
    )
    model = GroundingDinoForObjectDetection(config)
    init_for_scratch(model)
    return model


@torch.no_grad()
def init_for_scratch(model: GroundingDinoForObjectDetection) -> None:
    """Set initial values for training from scratch: strong fusion, and class logits with a bias of -4."""
    inner = model.model
    for layer in inner.encoder.layers:
        layer.fusion_layer.vision_param.fill_(0.5)
        layer.fusion_layer.text_param.fill_(0.1)
    enhancer = inner.encoder.layers[-1].text_enhancer_layer
    text_norm = enhancer.final_layer_norm if hasattr(enhancer, "final_layer_norm") else enhancer.layer_norm_after
    for norm, weight, bias in (
        (text_norm, 1.0, 2.0),
        (inner.decoder.layer_norm, 0.35, -2.0),
        (inner.enc_output_norm, 0.35, -2.0),
    ):
        norm.weight.fill_(weight)
        norm.weight[0] = 0  # channel 0 is a constant: its product, -4, is the logits' bias
        norm.bias[0] = bias
    inner.encoder_output_bbox_embed.layers[-1].bias[2:] = 1.3
    inner.query_position_embeddings.weight.normal_(0, 0.5)


@torch.no_grad()
def calibrate(model: GroundingDinoForObjectDetection, best: float, target: float = 0.3) -> None:
    """Shift all logits by a constant, so that the ``best`` threshold becomes ``target``."""
    shift = math.log(target / (1 - target)) - math.log(best / (1 - best))
    enhancer = model.model.encoder.layers[-1].text_enhancer_layer
    text_norm = enhancer.final_layer_norm if hasattr(enhancer, "final_layer_norm") else enhancer.layer_norm_after
    text_norm.weight[0] = 0  # training left it near its initial 0; makes channel 0 exactly constant
    model.model.decoder.layer_norm.bias[0] += shift / float(text_norm.bias[0])
