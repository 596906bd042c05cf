"""A plain one-stage detector of a user, in torch alone, and at the end the adapter by which sixfold compresses it.

In a plan: `detector: {family: "examples.plain_yolo:family", spec: {width: 32, depth: 1}}`. Nothing but the adapter is for sixfold.

The network is anchor-free with strides of 8, 16 and 32 pixels: a backbone of cross-stage blocks, pooling at several sizes, a neck
that goes down and up again by concatenation, and heads with separate branches for scores and boxes. Two habits make it easy to
compress. Where others split a map into halves, two convolutions make the two parts, so that every channel has one convolution that
it comes from. The activations are ReLU: runtimes fuse it into an int8 convolution, while SiLU leaves float operators in between.

B images, N points, M boxes, C classes. Boxes are xyxy, in pixels of the network's input.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from detection.family import Batch

STRIDES_PX = (8, 16, 32)
PRIOR_PROBABILITY = 0.01
"""Score that every class starts with: nearly all points are background (RetinaNet, arXiv:1708.02002, section 4.1)."""
FIRST_SIDE = 1.5
"""Distance from a point to each side of its box before training, in strides."""
TOP_POINTS = 10
"""Points that learn each box, at most."""
SCORE_POWER, OVERLAP_POWER = 0.5, 6.0
"""Exponents of the alignment by which they are chosen (TOOD, arXiv:2108.07755, section 3.2, as set by PP-YOLOE)."""
BOX_WEIGHT = 5.0
"""Of the box term of the loss, relative to the score term."""
SMALLEST = 1e-9

Maps = tuple[tuple[Tensor, Tensor], ...]
"""Per stride, fine to coarse: score logits (B, C, height, width) and sides of boxes (B, 4, height, width), before softplus."""


class Unit(nn.Sequential):
    """Convolution, normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two units and the way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = Unit(width, width, 3), Unit(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """As large as what came in."""
        out: Tensor = x + self.second(self.first(x))
        return out


class CrossStage(nn.Module):
    """Half of the channels pass by the residual blocks; all that is seen on the way is concatenated (CSPNet, arXiv:1911.11929)."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        half = outputs // 2
        self.by, self.through = Unit(inputs, half, 1), Unit(inputs, half, 1)
        self.blocks = nn.ModuleList(Residual(half) for _ in range(depth))
        self.merge = Unit((2 + depth) * half, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, outputs, height, width)."""
        seen = [self.by(x), self.through(x)]
        for block in self.blocks:
            seen.append(block(seen[-1]))
        out: Tensor = self.merge(torch.cat(seen, 1))
        return out


class PoolingPyramid(nn.Module):
    """Maxima over 5, 9 and 13 pixels, by pooling three times over 5 (spatial pyramid pooling, arXiv:1406.4729)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce, self.merge = Unit(width, width // 2, 1), Unit(2 * width, width, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """As large as what came in."""
        seen = [self.reduce(x)]
        for _ in range(3):
            seen.append(self.pool(seen[-1]))
        out: Tensor = self.merge(torch.cat(seen, 1))
        return out


class Head(nn.Module):
    """Scores and boxes at one stride."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.score_branch = nn.Sequential(Unit(inputs, width, 3), Unit(width, width, 3))
        self.box_branch = nn.Sequential(Unit(inputs, width, 3), Unit(width, width, 3))
        self.score, self.box = nn.Conv2d(width, classes, 1), nn.Conv2d(width, 4, 1)
        for last, bias in ((self.score, -math.log(1 / PRIOR_PROBABILITY - 1)), (self.box, math.log(math.expm1(FIRST_SIDE)))):
            assert last.bias is not None
            nn.init.normal_(last.weight, std=0.01)
            nn.init.constant_(last.bias, bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Score logits (B, C, height, width) and sides (B, 4, height, width)."""
        return self.score(self.score_branch(x)), self.box(self.box_branch(x))


class PlainYolo(nn.Module):
    """The network: images (B, 3, height, width) in [0, 1] -> maps."""

    points_px: Tensor  # (N, 2) x, y: the centres of the cells of all maps
    strides_px: Tensor  # (N, 1)

    def __init__(self, classes: int, input_size: tuple[int, int], width: int = 32, depth: int = 1) -> None:
        """Width is that of the first stage; each of the three others is twice as wide as the one before."""
        super().__init__()
        widths = [width * 2**stage for stage in range(4)]
        _, fine, middle, coarse = widths
        self.stem = Unit(3, width // 2, 3, 2)
        stages = zip([width // 2, *widths], widths, (1, 2, 2, 1), strict=False)
        self.stages = nn.ModuleList(nn.Sequential(Unit(a, b, 3, 2), CrossStage(b, b, blocks * depth)) for a, b, blocks in stages)
        self.pyramid = PoolingPyramid(coarse)
        self.down = nn.ModuleList([CrossStage(coarse + middle, middle, depth), CrossStage(middle + fine, fine, depth)])
        self.steps = nn.ModuleList([Unit(fine, fine, 3, 2), Unit(middle, middle, 3, 2)])
        self.up = nn.ModuleList([CrossStage(fine + middle, middle, depth), CrossStage(middle + coarse, coarse, depth)])
        self.heads = nn.ModuleList(Head(own, fine, classes) for own in (fine, middle, coarse))
        points_px, strides_px = _points(input_size)
        self.register_buffer("points_px", points_px, persistent=False)
        self.register_buffer("strides_px", strides_px, persistent=False)

    def forward(self, images: Tensor) -> Maps:
        """Per stride: score logits and sides."""
        x = self.stages[0](self.stem(images))
        fine = self.stages[1](x)
        middle = self.stages[2](fine)
        coarse = self.pyramid(self.stages[3](middle))
        middle = self.down[0](torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], 1))
        fine = self.down[1](torch.cat([F.interpolate(middle, scale_factor=2.0), fine], 1))
        middle = self.up[0](torch.cat([self.steps[0](fine), middle], 1))
        coarse = self.up[1](torch.cat([self.steps[1](middle), coarse], 1))
        return self.heads[0](fine), self.heads[1](middle), self.heads[2](coarse)

    def flat(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """Score logits (B, N, C) and boxes (B, N, 4), in float32."""
        logits = torch.cat([scores.flatten(2) for scores, _ in maps], 2).transpose(1, 2).float()
        sides = torch.cat([sides.flatten(2) for _, sides in maps], 2).transpose(1, 2).float()
        sides_px = F.softplus(sides) * self.strides_px  # left, top, right, bottom
        return logits, torch.cat([self.points_px - sides_px[..., :2], self.points_px + sides_px[..., 2:]], -1)


def detection_loss(network: PlainYolo, maps: Maps, batch: Batch) -> Tensor:
    """BCE of the scores against how well each point's box fits, and CIoU of the boxes, per unit of what there is to find."""
    logits, boxes = network.flat(maps)
    with torch.no_grad():
        fit, owner = assign(logits.sigmoid(), boxes, network.points_px, batch)
        total = fit.sum().clamp(min=1.0)
        if batch.confidence is not None:  # a soft label: a lower goal, and less weight
            fit = fit * batch.confidence.gather(1, owner)
        labels = batch.labels.gather(1, owner)  # (B, N)
        goals = F.one_hot(labels, logits.shape[-1]) * fit[..., None]  # (B, N, C)
        taken = fit > 0
        goal_boxes = batch.boxes_xyxy_px.gather(1, owner[..., None].expand(-1, -1, 4))[taken]  # (P, 4): P points have a box
    score_term = F.binary_cross_entropy_with_logits(logits, goals, reduction="sum")
    box_term = ((1 - complete_iou(boxes[taken], goal_boxes)) * fit[taken]).sum()
    return (score_term + BOX_WEIGHT * box_term) / total


def assign(scores: Tensor, boxes: Tensor, points_px: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """For each point how well it fits its box, 0 where it has none, and the box's number; (B, N) each.

    Task-aligned (TOOD): a box is learned by the points within it whose scores and boxes fit it best already. The fit of the best
    is the overlap of the best, and the others' is in proportion. A point that two boxes claim belongs to the one it overlaps more.
    """
    targets = batch.boxes_xyxy_px
    overlap = iou(targets[:, :, None], boxes[:, None])  # (B, M, N)
    own_scores = scores.transpose(1, 2).gather(1, batch.labels[..., None].expand(-1, -1, scores.shape[1]))  # (B, M, N)
    gaps_px = torch.cat([points_px - targets[:, :, None, :2], targets[:, :, None, 2:] - points_px], -1)  # (B, M, N, 4)
    inside = (gaps_px.amin(-1) > 0) & batch.present[..., None]
    alignment = own_scores**SCORE_POWER * overlap**OVERLAP_POWER * inside
    best = alignment.topk(min(TOP_POINTS, alignment.shape[-1]), -1).indices
    claims = torch.zeros_like(inside).scatter(-1, best, True) & inside
    owner = (overlap * claims).argmax(1)  # (B, N)
    claims = claims & (torch.arange(targets.shape[1], device=owner.device)[:, None] == owner[:, None])
    alignment, overlap = alignment * claims, overlap * claims
    fit = alignment / alignment.amax(-1, keepdim=True).clamp(min=SMALLEST**2) * overlap.amax(-1, keepdim=True)
    return fit.sum(1), owner


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlap of boxes (..., 4) and (..., 4), which broadcast -> (...), in [0, 1]."""
    shared_px2 = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    areas_px2 = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return shared_px2 / (areas_px2 - shared_px2).clamp(min=SMALLEST)


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU less the distance of the centres and the difference in shape, (P, 4), (P, 4) -> (P,) (CIoU, arXiv:1911.08287)."""
    overlap = iou(a, b)
    around_px = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    apart_px = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    distance = apart_px.square().sum(-1) / around_px.square().sum(-1).clamp(min=SMALLEST)
    angle_a, angle_b = (torch.atan2(box[..., 2] - box[..., 0], box[..., 3] - box[..., 1]) for box in (a, b))
    shape = 4 / math.pi**2 * (angle_a - angle_b).square()
    share = (shape / (1 - overlap + shape).clamp(min=SMALLEST)).detach()
    return overlap - distance - share * shape


def _points(input_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Centres of all cells (N, 2) as x, y and their strides (N, 1), in pixels; stride by stride, row by row."""
    points, strides = [], []
    for stride in STRIDES_PX:
        rows, columns = input_size[0] // stride, input_size[1] // stride
        y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
        points.append(torch.stack([x, y], -1).reshape(-1, 2) * stride)
        strides.append(torch.full((rows * columns, 1), float(stride)))
    return torch.cat(points), torch.cat(strides)


class Plain:
    """The adapter: what sixfold asks of a detector."""

    suppress = "nms"

    def build(self, spec: dict[str, Any], classes: tuple[str, ...], input_size: tuple[int, int]) -> PlainYolo:
        """The network of a spec, which may hold `width` and `depth`, for inputs (height, width) in multiples of 32 pixels."""
        return PlainYolo(len(classes), input_size, **spec)

    def decode(self, network: PlainYolo, raw: Maps) -> tuple[Tensor, Tensor]:
        """Boxes xyxy in pixels (B, N, 4) and scores in [0, 1] (B, N, C)."""
        logits, boxes = network.flat(raw)
        return boxes, logits.sigmoid()

    def loss(self, network: PlainYolo, raw: Maps, batch: Batch) -> Tensor:
        """What training lowers."""
        return detection_loss(network, raw, batch)

    def protected(self, network: PlainYolo) -> tuple[str, ...]:
        """The last convolutions: their channels are classes and sides."""
        return tuple(f"heads.{level}.{branch}" for level in range(len(network.heads)) for branch in ("score", "box"))

    def features(self, network: PlainYolo) -> tuple[str, ...]:
        """The maps that the heads see, fine to coarse."""
        return ("down.1", "up.0", "up.1")

    def skippable(self, network: PlainYolo) -> tuple[str, ...]:
        """The residual blocks."""
        return tuple(name for name, module in network.named_modules() if isinstance(module, Residual))


family = Plain()
