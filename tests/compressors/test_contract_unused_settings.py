"""Settings without an effect are refused, by their field and by what would make them count."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from compressors.distillation import Distillation
from compressors.lightweight import Lightweight
from compressors.low_rank import LowRank
from compressors.planning.graph import MethodConfig
from compressors.pruning import Pruning
from compressors.quantization import Quantization
from detection.frozen import Frozen

TEACHER = {"stage_widths": [32, 64, 128, 192]}


@pytest.mark.parametrize(
    ("method", "given", "field", "condition"),
    [
        (Pruning, {"importance": "l2", "gradient_pictures": 8}, "gradient_pictures 8", "with importance taylor"),
        (Lightweight, {"inheritance_pictures": 8}, "inheritance_pictures 8", "with weights inherited"),
        (LowRank, {"only_if_faster": False, "latency_in": "int8"}, "latency_in int8", "with only_if_faster"),
        (Distillation, {"boxes": 0, "temperature": 4}, "temperature 4.0", "with boxes above 0"),
        (Distillation, {"scores": 0, "boxes": 0, "features": 0, "cache": True}, "cache True", "with scores, boxes or features"),
        (Distillation, {"scores": 0, "boxes": 0, "features_by": "none", "teacher": TEACHER}, "teacher ", "with scores, boxes or"),
        (Quantization, {"qat_learning_rate": 0.01}, "qat_learning_rate 0.01", "with qat_epochs above 0"),
        (Quantization, {"most_float_layers": 2}, "most_float_layers 2", "with a max_drop"),
        (Quantization, {"calibrator": "mse", "calibrators": ["mse"]}, "calibrators ('mse',)", "with calibrator val"),
        (Quantization, {"calibrator": "mse", "percentile": 99.0}, "percentile 99.0", "for the percentile calibrator"),
        (Quantization, {"calibrators": ["mse"], "percentile": 99.0}, "percentile 99.0", "for the percentile calibrator"),
        (Quantization, {"precision": "float16", "pictures": 8}, "pictures 8", "with precision int8"),
        (Quantization, {"precision": "float16", "calibrators": ["mse"]}, "calibrators ('mse',)", "with precision int8"),
        (Quantization, {"precision": "float16", "percentile": 99.0}, "percentile 99.0", "with precision int8"),
    ],
)
def test_what_would_not_count_is_refused(method: type[Frozen], given: dict[str, Any], field: str, condition: str) -> None:
    """The message says what was found and when it would count."""
    with pytest.raises(ValidationError) as refused:
        method.model_validate(given)
    words = str(refused.value)
    assert f"{field}" in words
    assert f"counts only {condition}" in words


@pytest.mark.parametrize(
    "config",
    [
        Pruning(gradient_pictures=8),
        Lightweight(weights="inherited", inheritance_pictures=8),
        LowRank(latency_in="int8"),
        Distillation(temperature=4, scores=0, features_by="none"),
        Distillation(scores=0, boxes=0, cache=True),
        Quantization(qat_epochs=1, qat_learning_rate=0.01),
        Quantization(max_drop=0.01, most_float_layers=2),
        Quantization(percentile=99.0),
        Quantization(calibrator="percentile", percentile=99.0),
        Quantization(calibrators=("mse",)),
    ],
    ids=lambda config: f"{config.method}-{config.label()}",
)
def test_what_counts_is_allowed(config: MethodConfig) -> None:
    """The same settings where they decide something."""
    assert type(config).model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    "config",
    [
        Pruning(importance="l2"),
        Lightweight(),
        LowRank(only_if_faster=False),
        Distillation(scores=0, boxes=0, features_by="none"),
        Quantization(calibrator="mse"),
        Quantization(precision="float16"),
    ],
    ids=lambda config: f"{config.method}-{config.label()}",
)
def test_defaults_may_be_written_out(config: MethodConfig) -> None:
    """Records hold every field; they read back as they were."""
    assert type(config).model_validate(config.model_dump()) == config
    assert type(config).model_validate_json(config.model_dump_json()) == config
