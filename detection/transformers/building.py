"""A network of the library, built from its configuration: never from code that a folder or a hub brings."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from detection.adapted.network import Adapted
from detection.frozen import InputError
from detection.spec import Spec
from detection.transformers import plain_network, query_network
from detection.transformers.library import library
from detection.transformers.plain_network import PlainNetwork
from detection.transformers.query_network import QueryNetwork, prepared
from detection.transformers.settings import TransformersSettings

FIXED: dict[str, Any] = {
    "anchor_image_size": None,  # places and positions follow the pictures' size
    "eval_size": None,
    "freeze_backbone_batch_norms": False,  # a frozen normalisation is not trained after pruning; its numbers are the same
    "use_pretrained_backbone": False,  # weights come from the folder or nowhere
    "disable_custom_kernels": True,
}
"""Settings of the library's configurations that are the same whatever a folder says -> why."""


MODEL_TYPES = (*query_network.MODEL_TYPES, *plain_network.MODEL_TYPES)
"""Architectures of the library that can be compressed."""
OTHER_TYPES = {
    **dict.fromkeys(("pp_doclayout_v2", "pp_doclayout_v3", "pp_doclayout_v4"), "tells a reading order as well as boxes"),
    **dict.fromkeys(
        ("pp_ocrv5_mobile_det", "pp_ocrv5_server_det", "pp_ocrv6_medium_det", "pp_ocrv6_small_det"),
        "finds text in maps, without classes",
    ),
}
"""Those of the library that cannot -> what they do."""


def build(spec: Spec) -> Adapted:
    """The network of a spec, edits applied, with random weights."""
    settings = cast(TransformersSettings, spec.settings)
    functions = QueryNetwork if settings.model_type in query_network.MODEL_TYPES else PlainNetwork
    return Adapted(spec, functions(settings, spec.input_size), named_once(library_network(spec), settings.model_type))


def named_once(network: nn.Module, model_type: str) -> nn.Module:
    """The library's network, heads that it names twice named once."""
    return prepared(network) if model_type in query_network.MODEL_TYPES else network


def refuse_unknown(model_type: str, where: str) -> None:
    """InputError where no such architecture can be compressed."""
    if model_type not in MODEL_TYPES:
        reason, known = OTHER_TYPES.get(model_type, "is not known here"), ", ".join(MODEL_TYPES)
        raise InputError(
            f"detector.transformers: {where}: model_type {model_type!r} {reason}; known are {known}. Export it as an ONNX file for "
            f"int8, or write its functions yourself (docs/your-detector.md, A torch module)."
        )


def library_network(spec: Spec) -> nn.Module:
    """The library's own network of a spec, with random weights, without edits."""
    config = config_of(spec)
    if config.model_type in query_network.MODEL_TYPES:
        config.tie_word_embeddings = False  # heads, which `prepared` names once; with one decoder layer the library's tying fails
    made = library().AutoModelForObjectDetection.from_config(config, attn_implementation="eager")
    return cast(nn.Module, made.float())


def config_of(spec: Spec) -> Any:
    """The library's configuration of a spec."""
    settings = cast(TransformersSettings, spec.settings)
    given = {name: own for name, own in settings.config.items() if name != "model_type"}
    made = library().CONFIG_MAPPING[settings.model_type].from_dict(given)
    for name, own in FIXED.items():
        if hasattr(made, name):
            setattr(made, name, own)
    made.id2label = dict(enumerate(spec.classes))
    made.label2id = {name: number for number, name in enumerate(spec.classes)}
    if hasattr(made, "feat_strides"):
        made.num_queries = min(made.num_queries, places_of(made, spec.input_size))
    return made


def places_of(config: Any, input_size: tuple[int, int]) -> int:
    """Of how many places of its maps such a network proposes boxes: it has no more queries."""
    return sum((input_size[0] // stride) * (input_size[1] // stride) for stride in config.feat_strides)
