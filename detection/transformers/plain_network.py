"""Other set predictors of the library: a network that is called with pictures, and with labels gives its loss.

DETR (arXiv:2005.12872) and what follows it in the library have this form in common; what is inside differs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from detection.family import Batch
from detection.transformers.library_input import FixedSizes, labels_of, put
from detection.transformers.settings import TransformersSettings

MODEL_TYPES = (
    "detr", "table-transformer", "conditional_detr", "dab-detr", "deformable_detr", "lw_detr", "rf_detr", "yolos",
)  # fmt: skip
"""Architectures of the library that have this form and no other that is known here."""
SOFTMAX_TYPES = ("detr", "table-transformer", "yolos")
"""Architectures whose scores are shares, with one for no object at the end; the others give each class a probability of its own."""
HEADS = ("class_labels_classifier", "bbox_predictor", "class_embed", "bbox_embed")
"""Parts of the names of layers that tell scores and boxes."""


class PlainRaw(NamedTuple):
    """What such a network says. B pictures, Q queries, C classes."""

    logits: Tensor  # (B, Q, C), or C + 1 with the one for no object
    boxes: Tensor  # (B, Q, 4): centre, width and height as shares of the picture
    proposed: tuple[Tensor, Tensor] | None = None  # logits and boxes of the places that became queries, in training
    loss: Tensor | None = None  # where labels were given


class PlainNetwork:
    """The functions of such a network, for pictures of one size."""

    def __init__(self, settings: TransformersSettings, input_size: tuple[int, int]) -> None:
        """(height, width) in pixels."""
        self.settings, self.input_size = settings, input_size

    def predict(self, network: nn.Module, images: Tensor) -> PlainRaw:
        """What is said of images (B, 3, height, width) in [0, 1]."""
        with FixedSizes() if cast(Any, torch.jit).is_tracing() else nullcontext():
            return _raw(network(put(self.settings, images)))

    def predict_labelled(self, network: nn.Module, batch: Batch) -> PlainRaw:
        """The same with the library's loss, which looks at more than is said at last."""
        said = network(put(self.settings, batch.images), labels=labels_of(batch))
        return _raw(said)._replace(loss=said.loss)

    def decode(self, _network: nn.Module, own: PlainRaw) -> tuple[Tensor, Tensor]:
        """Boxes xyxy in pixels (B, Q, 4) and scores (B, Q, C)."""
        centre, sides = own.boxes.chunk(2, -1)
        height_px, width_px = self.input_size
        px = torch.tensor([width_px, height_px] * 2, dtype=centre.dtype, device=centre.device)
        shares = self.settings.model_type in SOFTMAX_TYPES
        scores = own.logits.softmax(-1)[..., :-1] if shares else own.logits.sigmoid()
        return torch.cat([centre - sides / 2, centre + sides / 2], -1) * px, scores

    def loss(self, network: nn.Module, own: PlainRaw, batch: Batch) -> Tensor:
        """The library's, matched by the Hungarian method."""
        if own.loss is not None:
            return own.loss
        library = cast(Any, network)
        of_last = copy.copy(library.config)
        of_last.auxiliary_loss = False  # what layers before the last say is not told where no labels were given
        of_layers = (None, None, *(own.proposed or ()))
        loss, *_ = library.loss_function(own.logits, labels_of(batch), own.logits.device, own.boxes, of_last, *of_layers)
        return cast(Tensor, loss)

    def protected(self, network: nn.Module) -> Iterable[str]:
        """Linear layers by which boxes and scores are told."""
        for name, module in network.named_modules():
            if isinstance(module, nn.Linear) and any(part in name.split(".") for part in HEADS):
                yield name

    def learning_rates(self, network: nn.Module) -> dict[str, float]:
        """The backbone's factor."""
        names = [name for name, _ in network.named_modules() if name.split(".")[-1] == "backbone"]
        return dict.fromkeys(names[:1], self.settings.backbone_learning_rate)


def _raw(said: Any) -> PlainRaw:
    logits, boxes = getattr(said, "enc_outputs_class", None), getattr(said, "enc_outputs_coord_logits", None)
    return PlainRaw(said.logits, said.pred_boxes, None if logits is None or boxes is None else (logits, boxes))
