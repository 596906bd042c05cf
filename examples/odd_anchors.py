"""An odd detector of a user, in torch alone, and at the end the adapter by which sixfold compresses it.

In a plan: `detector: {family: "examples.odd_anchors:family", spec: {width: 96}}`. Nothing but the adapter is for sixfold.

It has on purpose what tools that compress networks stumble over: channels shuffled by view and transpose, convolutions in groups,
concatenation, a transposed convolution in place of interpolation, biases everywhere, two kinds of normalisation and two kinds of
activation; three anchors per cell at strides of 8 and 16 pixels, and scores that are the product of objectness and class.

B images, A anchors per cell, N predictions, M boxes, C classes. Boxes are xyxy, in pixels of the network's input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from detection.family import Batch

STRIDES_PX = (8, 16)
ANCHORS_PX = (((14, 14), (24, 24), (40, 40)), ((40, 56), (56, 40), (80, 80)))
"""(height, width) of the anchors of both strides unless the spec names others."""
GROUPS = 4
PRIOR_PROBABILITY = 0.01
"""Objectness before training: nearly all predictions are background (RetinaNet, arXiv:1708.02002, section 4.1)."""
LARGEST_RATIO = 4.0
"""A side of a box is at most this many times its anchor's, or as small a part of it."""
MATCHED_RATIO = 2.0
"""An anchor learns a box if neither side differs by more than this factor; the closest anchor always does."""
REACH, MATCHED_REACH = 1.5, 1.0
"""How far from its cell's centre a prediction may lie, and how far boxes lie that it learns, in strides along either axis."""
BOX_WEIGHT, OBJECT_WEIGHT, CLASS_WEIGHT = 3.0, 1.0, 1.0
SMALLEST = 1e-9

Anchors = Sequence[Sequence[Sequence[float]]]
"""Per stride, per anchor: height and width."""
Maps = tuple[Tensor, Tensor]
"""Per stride (B, A * (5 + C), height, width): of each anchor two shifts, two logarithms of ratios, objectness, classes."""


class ShuffledResidual(nn.Module):
    """Convolutions in groups, with channels shuffled in between so that groups meet (ShuffleNet, arXiv:1707.01083)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce, self.reduce_norm = nn.Conv2d(width, width // 2, 1, groups=GROUPS), nn.BatchNorm2d(width // 2)
        self.look, self.look_norm = nn.Conv2d(width // 2, width // 2, 3, 1, 1, groups=GROUPS), nn.BatchNorm2d(width // 2)
        self.expand, self.expand_norm = nn.Conv2d(width // 2, width, 1, groups=GROUPS), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """As large as what came in."""
        seen = shuffled(F.leaky_relu(self.reduce_norm(self.reduce(x)), 0.1))
        seen = F.leaky_relu(self.look_norm(self.look(seen)), 0.1)
        return F.leaky_relu(x + self.expand_norm(self.expand(seen)), 0.1)


class Halving(nn.Module):
    """Half the height and width: what a convolution makes beside the mean of what came in."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inputs, outputs - inputs, 3, 2, 1), nn.BatchNorm2d(outputs - inputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, outputs, height / 2, width / 2)."""
        return torch.cat([F.avg_pool2d(x, 2), F.leaky_relu(self.norm(self.conv(x)), 0.1)], 1)


class Smooth(nn.Sequential):
    """Convolution, normalisation over groups of channels, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2), nn.GroupNorm(GROUPS, outputs), nn.SiLU())


class OddAnchors(nn.Module):
    """The network: images (B, 3, height, width) in [0, 1] -> maps."""

    centres_px: Tensor  # (N, 2) x, y of the cells
    strides_px: Tensor  # (N, 1)
    anchors_px: Tensor  # (N, 2) width, height

    def __init__(self, classes: int, input_size: tuple[int, int], width: int = 96, anchors_px: Anchors = ANCHORS_PX) -> None:
        """Width is that of the maps at a stride of 8 pixels."""
        super().__init__()
        self.classes, first = classes, width // 4
        self.stem = nn.Sequential(nn.Conv2d(3, first, 3, 2, 1), nn.BatchNorm2d(first), nn.LeakyReLU(0.1))
        self.early = nn.Sequential(Halving(first, width // 2), *(ShuffledResidual(width // 2) for _ in range(2)))
        self.fine = nn.Sequential(Halving(width // 2, width), *(ShuffledResidual(width) for _ in range(3)))
        self.coarse = nn.Sequential(Halving(width, 2 * width), *(ShuffledResidual(2 * width) for _ in range(3)))
        self.coarse_neck = Smooth(2 * width, width, 3)
        self.enlarge = nn.ConvTranspose2d(width, width // 2, 2, 2)
        self.fine_neck = Smooth(width + width // 2, width, 3)
        each = len(anchors_px[0])
        self.heads = nn.ModuleList(nn.Conv2d(width, each * (5 + classes), 1) for _ in STRIDES_PX)
        for head in self.heads:
            assert isinstance(head, nn.Conv2d)
            assert head.bias is not None
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
            nn.init.constant_(head.bias.data.view(each, -1)[:, 4], -math.log(1 / PRIOR_PROBABILITY - 1))
        for name, buffer in zip(("centres_px", "strides_px", "anchors_px"), _grid(input_size, anchors_px), strict=True):
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, images: Tensor) -> Maps:
        """Predictions of both strides, fine to coarse."""
        fine = self.fine(self.early(self.stem(images)))
        coarse = self.coarse_neck(self.coarse(fine))
        fine = self.fine_neck(torch.cat([fine, self.enlarge(coarse)], 1))
        return self.heads[0](fine), self.heads[1](coarse)

    def flat(self, maps: Maps) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, N, 4), logits of objectness (B, N) and of the classes (B, N, C), in float32."""
        rows = [each.float().flatten(2).transpose(1, 2).reshape(each.shape[0], -1, 5 + self.classes) for each in maps]
        said = torch.cat(rows, 1)  # (B, N, 5 + C)
        centres_px = self.centres_px + said[..., :2].tanh() * REACH * self.strides_px
        half_px = self.anchors_px / 2 * (said[..., 2:4].tanh() * math.log(LARGEST_RATIO)).exp()
        return torch.cat([centres_px - half_px, centres_px + half_px], -1), said[..., 4], said[..., 5:]


def shuffled(x: Tensor) -> Tensor:
    """The channels of all groups in turn: the first of each, the second of each, and so on."""
    images, channels, height, width = x.shape
    return x.view(images, GROUPS, channels // GROUPS, height, width).transpose(1, 2).reshape(images, channels, height, width)


def anchor_loss(network: OddAnchors, maps: Maps, batch: Batch) -> Tensor:
    """CIoU of the boxes that have an anchor, BCE of their classes, and BCE of all objectness against the overlap, per match."""
    boxes, objectness, classes = network.flat(maps)
    with torch.no_grad():
        owner, matched = match(network, batch)  # (B, N) each
        sure = torch.ones_like(objectness) if batch.confidence is None else batch.confidence.gather(1, owner)
        sure = sure[matched]  # (P,): P predictions have a box
        goal_boxes = batch.boxes_xyxy_px.gather(1, owner[..., None].expand(-1, -1, 4))[matched]
        goal_classes = F.one_hot(batch.labels.gather(1, owner)[matched], network.classes) * sure[:, None]
        matches = matched.sum().clamp(min=1)
    overlap, quality = overlap_and_ciou(boxes[matched], goal_boxes)
    goal_objectness = torch.zeros_like(objectness).masked_scatter(matched, overlap.detach() * sure)
    box_term = ((1 - quality) * sure).sum()
    class_term = F.binary_cross_entropy_with_logits(classes[matched], goal_classes, reduction="sum")
    object_term = F.binary_cross_entropy_with_logits(objectness, goal_objectness, reduction="sum")
    return (BOX_WEIGHT * box_term + CLASS_WEIGHT * class_term + OBJECT_WEIGHT * object_term) / matches


def match(network: OddAnchors, batch: Batch) -> tuple[Tensor, Tensor]:
    """For each prediction the number of its box, and whether it has one, (B, N) each.

    A box is learned in the cells around its centre, by the anchors of a size like its own. Of several boxes a prediction learns
    the one that is closest to its anchor in size and place together.
    """
    corners = batch.boxes_xyxy_px[:, :, None]  # (B, M, 1, 4)
    sizes_px = (corners[..., 2:] - corners[..., :2]).clamp(min=1.0)
    gap_px = ((corners[..., :2] + corners[..., 2:]) / 2 - network.centres_px).abs()  # (B, M, N, 2)
    apart = (gap_px / network.strides_px).amax(-1)  # (B, M, N): strides
    unlike = (sizes_px / network.anchors_px).log().abs().amax(-1)  # (B, M, N): logarithm of the larger ratio
    alike = unlike <= unlike.amin(-1, keepdim=True).clamp(min=math.log(MATCHED_RATIO))
    candidates = alike & (apart < MATCHED_REACH) & batch.present[..., None]
    nearest = (unlike + apart).masked_fill(~candidates, torch.inf).min(1)
    return nearest.indices, nearest.values.isfinite()


def overlap_and_ciou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU, and IoU less the distance of the centres and the difference in shape, of boxes (P, 4), (P, 4) -> (P,) each
    (CIoU, arXiv:1911.08287)."""
    (width_a, height_a), (width_b, height_b) = ((box[:, 2:] - box[:, :2]).unbind(-1) for box in (a, b))
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1)
    overlap = shared / (width_a * height_a + width_b * height_b - shared).clamp(min=SMALLEST)
    diagonal = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).square().sum(-1)
    distance = ((a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) / 2).square().sum(-1) / diagonal.clamp(min=SMALLEST)
    shape = 4 / math.pi**2 * (torch.atan2(width_a, height_a) - torch.atan2(width_b, height_b)).square()
    share = (shape / (1 - overlap + shape).clamp(min=SMALLEST)).detach()
    return overlap, overlap - distance - share * shape


def _grid(input_size: tuple[int, int], anchors_px: Anchors) -> tuple[Tensor, Tensor, Tensor]:
    """Of all predictions centres (N, 2) as x, y, strides (N, 1) and anchors (N, 2) as width, height, in pixels: by stride, by
    row, by column, by anchor."""
    centres, strides, anchors = [], [], []
    for stride, own in zip(STRIDES_PX, anchors_px, strict=True):
        rows, columns = input_size[0] // stride, input_size[1] // stride
        y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
        centres.append(torch.stack([x, y], -1).reshape(-1, 2).repeat_interleave(len(own), 0) * stride)
        strides.append(torch.full((rows * columns * len(own), 1), float(stride)))
        anchors.append(torch.tensor(own, dtype=torch.float32).flip(1).repeat(rows * columns, 1))
    return torch.cat(centres), torch.cat(strides), torch.cat(anchors)


class Odd:
    """The adapter: what sixfold asks of a detector."""

    suppress = "nms"

    def build(self, spec: dict[str, Any], classes: tuple[str, ...], input_size: tuple[int, int]) -> OddAnchors:
        """The network of a spec, which may hold `width` and `anchors_px`, for inputs (height, width) in multiples of 16 pixels."""
        return OddAnchors(len(classes), input_size, **spec)

    def decode(self, network: OddAnchors, raw: Maps) -> tuple[Tensor, Tensor]:
        """Boxes xyxy in pixels (B, N, 4) and scores in [0, 1] (B, N, C)."""
        boxes, objectness, classes = network.flat(raw)
        return boxes, objectness.sigmoid()[..., None] * classes.sigmoid()

    def loss(self, network: OddAnchors, raw: Maps, batch: Batch) -> Tensor:
        """What training lowers."""
        return anchor_loss(network, raw, batch)

    def protected(self, network: OddAnchors) -> tuple[str, ...]:
        """The last convolutions: their channels are shifts, ratios, objectness and classes of anchors."""
        return tuple(f"heads.{level}" for level in range(len(network.heads)))

    def features(self, network: OddAnchors) -> tuple[str, ...]:
        """The maps that the heads see, fine to coarse."""
        return ("fine_neck", "coarse_neck")

    def skippable(self, network: OddAnchors) -> tuple[str, ...]:
        """The residual blocks."""
        return tuple(name for name, module in network.named_modules() if isinstance(module, ShuffledResidual))


family = Odd()
