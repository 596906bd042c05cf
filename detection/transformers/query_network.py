"""RT-DETR, RT-DETRv2 and D-FINE (arXiv:2304.08069, 2407.17140, 2410.13842): what their common form makes of pictures and labels.

A convolutional backbone and neck, then a decoder that refines the boxes of a fixed number of queries; each object is one query's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from detection.family import Batch
from detection.transformers.library_input import FixedSizes, backbone_rate, labels_of, put
from detection.transformers.settings import TransformersSettings

MODEL_TYPES = ("rt_detr", "rt_detr_v2", "d_fine", "deimv2")
"""Architectures of the library that have this form."""
HEADS = ("class_embed", "bbox_embed")
"""Of the decoder, one for each of its layers."""
READ_BY_MEANING = (
    "class_embed", "bbox_embed", "enc_score_head", "enc_bbox_head", "sampling_offsets", "attention_weights", "query_pos_head",
    "lqe_layers", "gateway",
)  # fmt: skip
"""Parts of the names of layers whose outputs are boxes, scores, places or shares: they keep their width and precision.
D-FINE's first boxes are not among them: no gradient goes through them, so nothing of them is followed or narrowed."""

BLOCK = re.compile(r"model\.backbone\.model\.encoder\.stages\.\d+\.(?:layers|blocks)\.(\d+)")
"""A block of a ResNet's or an HGNetV2's stage; the first of each changes the map's size or channels."""
SCORES_OF_A_LAYER = re.compile(r"decoder\.(?:class_embed|lqe_layers)\.(\d+)")
"""In the name of a layer by which the scores of one decoder layer are told."""


class QueryRaw(NamedTuple):
    """What such a network says. B pictures, L decoder layers, Q queries, C classes; in training those of denoising come first."""

    logits: Tensor  # (B, L, Q, C)
    boxes: Tensor  # (B, L, Q, 4): centre, width and height as shares of the picture
    proposed_logits: Tensor  # (B, queries, C), of the encoder
    proposed_boxes: Tensor  # (B, queries, 4)
    sides: Tensor | None  # (B, L, Q, 4 * bins): D-FINE's distributions
    first_boxes: Tensor | None  # (B, L, Q, 4): what these refine
    denoising: dict[str, Any] | None  # of the library, where labels were given
    labels: list[dict[str, Tensor]] | None = None  # those that were given

    @property
    def denoising_queries(self) -> int:
        """How many queries come first that are noised labels."""
        return 0 if self.denoising is None else int(self.denoising["dn_num_split"][0])


class QueryNetwork:
    """The functions of such a network, for pictures of one size."""

    def __init__(self, settings: TransformersSettings, input_size: tuple[int, int]) -> None:
        """(height, width) in pixels."""
        self.settings, self.input_size = settings, input_size

    def predict(self, network: nn.Module, images: Tensor) -> QueryRaw:
        """What is said of images (B, 3, height, width) in [0, 1]."""
        with FixedSizes() if cast(Any, torch.jit).is_tracing() else nullcontext():
            return _raw(cast(Any, network).model(put(self.settings, images)))

    def predict_labelled(self, network: nn.Module, batch: Batch) -> QueryRaw:
        """The same in training, where noised labels are queries too (DN-DETR, arXiv:2203.01305)."""
        labels = labels_of(batch)
        return _raw(cast(Any, network).model(put(self.settings, batch.images), labels=labels))._replace(labels=labels)

    def decode(self, _network: nn.Module, own: QueryRaw) -> tuple[Tensor, Tensor]:
        """Boxes xyxy in pixels (B, queries, 4) and scores (B, queries, C), of the last layer."""
        queries = slice(own.denoising_queries, None)
        centre, sides = own.boxes[:, -1, queries].chunk(2, -1)
        height_px, width_px = self.input_size
        px = torch.tensor([width_px, height_px] * 2, dtype=centre.dtype, device=centre.device)
        return torch.cat([centre - sides / 2, centre + sides / 2], -1) * px, own.logits[:, -1, queries].sigmoid()

    def loss(self, network: nn.Module, own: QueryRaw, batch: Batch) -> Tensor:
        """The library's: matched by the Hungarian method, in every layer."""
        library = cast(Any, network)
        loss, *_ = library.loss_function(
            own.logits[:, -1],
            labels_of(batch) if own.labels is None else own.labels,
            own.logits.device,
            own.boxes[:, -1],
            library.config,
            own.logits,
            own.boxes,
            enc_topk_logits=own.proposed_logits,
            enc_topk_bboxes=own.proposed_boxes,
            denoising_meta_values=own.denoising,
            predicted_corners=own.sides,
            initial_reference_points=own.first_boxes,
        )
        return cast(Tensor, loss)

    def protected(self, network: nn.Module) -> Iterable[str]:
        """Linear layers by whose outputs boxes, scores and places to look at are told, as far as predictions depend on them."""
        for name, module in network.named_modules():
            told_by = isinstance(module, nn.Linear) and any(part in name.split(".") for part in READ_BY_MEANING)
            if told_by and not _only_trains(network, name):
                yield name

    def features(self, network: nn.Module) -> Iterable[str]:
        """Maps of the neck, fine to coarse, as the decoder reads them."""
        return [f"model.decoder_input_proj.{level}" for level in range(len(cast(Any, network).model.decoder_input_proj))]

    def skippable(self, network: nn.Module) -> Iterable[str]:
        """Blocks of the backbone that add to what goes into them: all but the first of each stage."""
        return [name for name, _ in network.named_modules() if (found := BLOCK.fullmatch(name)) and int(found[1]) > 0]

    def learning_rates(self, network: nn.Module) -> dict[str, float]:
        """The backbone's factor."""
        return backbone_rate(network, self.settings)

    def restored(self, network: nn.Module) -> nn.Module:
        """The network with both names of its heads, as the library saves it."""
        for name in _second_names(network):
            network.add_module(name, getattr(cast(Any, network).model.decoder, name))
        return network


def prepared(network: nn.Module) -> nn.Module:
    """The library's network with one name for each of its heads: some have two, and edits change what one name leads to."""
    for name in _second_names(network):
        delattr(network, name)
    return network


def _second_names(network: nn.Module) -> list[str]:
    """Heads of the decoder that the library's network names itself as well, with RT-DETRv2 and D-FINE but not with RT-DETR."""
    tied = getattr(network, "_tied_weights_keys", None) or {}
    return [name for name in HEADS if name in tied]


def _only_trains(network: nn.Module, layer: str) -> bool:
    """Whether a layer's scores are asked for in training alone: of D-FINE's decoder layers but the last."""
    last, scores = getattr(cast(Any, network).model.decoder, "eval_idx", None), SCORES_OF_A_LAYER.search(layer)
    return last is not None and scores is not None and int(scores[1]) != last


def _raw(said: Any) -> QueryRaw:
    return QueryRaw(
        said.intermediate_logits,
        said.intermediate_reference_points,
        said.enc_topk_logits,
        said.enc_topk_bboxes,
        said.intermediate_predicted_corners,
        said.initial_reference_points,
        said.denoising_meta_values,
    )
