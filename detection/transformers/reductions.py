"""What of a trained query network may be less while its weights stay as they are: decoder layers and queries.

Each decoder layer refines the boxes of the one before and learns with a loss of its own, so the first layers alone detect (RT-DETR,
arXiv:2304.08069, section 4.3). Queries are the best places of the maps; fewer of them are the best of the best.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import partial
from typing import cast

from detection.family import Reduction
from detection.spec import Spec
from detection.transformers.building import config_of
from detection.transformers.query_network import MODEL_TYPES
from detection.transformers.settings import TransformersSettings

OF_A_LAYER = re.compile(r"model\.decoder\.(?:layers|class_embed|bbox_embed|lqe_layers)\.(\d+)\.")
"""In the name of a weight that belongs to one decoder layer."""


def reducible(spec: Spec, shares: Sequence[float]) -> dict[str, Reduction]:
    """`decoder_layers`, down to one, and `queries`, at these shares of what there are.

    Queries with contents of their own, learned one by one, are not the best places of anything and stay; so do decoder layers where
    the configuration says which of them answers.
    """
    config, found = config_of(spec), dict[str, Reduction]()
    if config.model_type not in MODEL_TYPES:
        return found
    if getattr(config, "eval_idx", -1) == -1:
        layers = tuple(range(1, config.decoder_layers + 1))
        found["decoder_layers"] = Reduction(layers, partial(_having, "decoder_layers"), _has_with_layers)
    if not config.learn_initial_query:
        queries = tuple(sorted({math.ceil(share * config.num_queries) for share in (*shares, 1.0)}))
        found["queries"] = Reduction(queries, partial(_having, "num_queries"), lambda _weight, _queries: True)
    return found


def _having(setting: str, spec: Spec, number: int) -> Spec:
    own = cast(TransformersSettings, spec.settings)
    return spec.having(own.model_copy(update={"config": own.config | {setting: number}}))


def _has_with_layers(weight: str, layers: int) -> bool:
    """Whether a network with these first decoder layers has a weight."""
    found = OF_A_LAYER.search(weight)
    return found is None or int(found[1]) < layers
