"""The smallest of every architecture of the transformers library that can be compressed, as its configuration."""

from __future__ import annotations

import json
from typing import Any

from tests.places import ROOT

RESNET: dict[str, Any] = {
    "model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "layer_type": "basic",
}  # fmt: skip
ATTENDING: dict[str, Any] = {
    "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "num_queries": 20, "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None,
}  # fmt: skip
COARSEST, THREE = {"backbone_config": RESNET | {"out_features": ["stage4"]}}, ["stage2", "stage3", "stage4"]
GROUPED: dict[str, Any] = {
    "d_model": 32, "decoder_ffn_dim": 64, "decoder_layers": 2, "decoder_self_attention_heads": 4,
    "decoder_cross_attention_heads": 4, "num_queries": 20, "group_detr": 2,
}  # fmt: skip
VIT: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 64, "patch_size": 16, "out_indices": [1, 2],
}  # fmt: skip


def _example(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "examples" / name / "config.json").read_text())
    return found


RT_DETR, D_FINE = _example("rt_detr_v2_small"), _example("d_fine_small")
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "rt_detr": RT_DETR,
    "rt_detr_v2": RT_DETR,
    "d_fine": D_FINE,
    "deimv2": D_FINE,
    "detr": ATTENDING | COARSEST | {"d_model": 32},
    "table-transformer": ATTENDING | COARSEST | {"d_model": 32},
    "conditional_detr": ATTENDING | COARSEST | {"d_model": 32},
    "dab-detr": ATTENDING | COARSEST | {"hidden_size": 32},
    "deformable_detr": ATTENDING
    | {"d_model": 32, "num_feature_levels": 3, "backbone_config": RESNET | {"out_features": THREE}, "two_stage": False},
    "lw_detr": GROUPED
    | {
        "projector_scale_factors": [1.0],
        "backbone_config": VIT
        | {"model_type": "lw_detr_vit", "pretrain_image_size": 64, "num_windows": 4, "window_block_indices": [0]},
    },
    "rf_detr": GROUPED | {"backbone_config": VIT | {"model_type": "rf_detr_dinov2", "num_windows": 2}},
    "yolos": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": [64, 96],
        "patch_size": 16, "num_detection_tokens": 20,
    },
}  # fmt: skip
"""model_type -> a configuration for pictures of 64x96."""
