"""A network as it is exported: pictures as they are stored in, decoded boxes and scores out, in the order that costs least.

Each of the four liberties below keeps the numbers and saves time, most of it in small int8 networks, where a third went into what
surrounds the convolutions (0.25 M parameters at 192x256, one thread, with the second and third of them: 0.62 to 0.50 ms in ONNX
Runtime, 0.39 to 0.30 in OpenVINO):

- the division by 255 is in the first convolution's weights, so that a picture's bytes are int8 activations as they are;
- a first convolution over patches of 4x4 pixels takes four pixels of a row as one place of twelve channels, which is how they lie
  in memory: three channels at a time fill a fraction of what kernels read at once;
- the last prediction convolutions, which are 1x1, are one product per level over the points, with channels last as int8 kernels
  leave them;
- the expectation over the bins of a box side is a quotient of sums of exponentials, all of them from one product. Softmax over
  eight bins took a quarter of an int8 network's time.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from detection.compact.network import LARGEST_EXPONENT, Head, Network

GREATEST_PIXEL = 255
PATCH_PX = 4
"""Side of the patches of a first convolution that reads rows; see `reads_rows`."""


class Deployed(nn.Module):
    """The network as it is exported. It decodes as `Network.decode` does."""

    sums: Tensor  # (4 * K, 8): each side's bins, and ones for each side
    points_xyxy_px: Tensor  # (N, 4): x, y, x, y of the points
    reach_px: Tensor  # (N, 4): pixels of one bin, negative to the left and to the top

    def __init__(self, network: Network, *, planes: bool = False) -> None:
        """With planes, it takes what `planes_of` makes of pictures instead of the pictures, (B, height, width, 3) uint8."""
        super().__init__()
        self.planes = planes
        self.network = copy.deepcopy(network)
        first = first_convolution(self.network)
        self.pixels_per_place = PATCH_PX if reads_rows(first) else 1
        with torch.no_grad():
            first.weight /= GREATEST_PIXEL
        if reads_rows(first):
            _read_rows(first)
        self.predictions = nn.ModuleList(product for head in network.heads for product in _products(cast(Head, head)))
        sides, ones = torch.eye(4), torch.ones_like(network.bins)
        sums = torch.cat([torch.kron(sides, network.bins), torch.kron(sides, ones)])
        self.register_buffer("sums", sums.T.contiguous(), persistent=False)
        self.register_buffer("points_xyxy_px", network.points_px.repeat(1, 2), persistent=False)
        self.register_buffer("reach_px", network.strides_px * torch.tensor([-1.0, -1.0, 1.0, 1.0]), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes xyxy in pixels (B, N, 4) and scores (B, N, C)."""
        scores, boxes = self._predicted(self.network.features(images if self.planes else self.planes_of(images)))
        weights = boxes.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT).exp()  # (B, N, 4 * K)
        weighted, total = torch.split(weights @ self.sums, 4, 2)
        boxes_xyxy_px = self.points_xyxy_px + weighted / total * self.reach_px  # the expected distance of each side
        return boxes_xyxy_px, scores.sigmoid()

    def planes_of(self, pictures: Tensor) -> Tensor:
        """Pictures (B, height, width, 3) as floats in [0, 255] with channels first: (B, 3, height, width), or
        (B, 12, height, width / 4) where the first convolution reads rows."""
        count, height_px, width_px, colours = (int(side) for side in pictures.shape)
        per_place = self.pixels_per_place
        if per_place > 1:
            pictures = pictures.reshape(count, height_px, width_px // per_place, colours * per_place)
        return pictures.permute(0, 3, 1, 2).float()

    def _predicted(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Score logits (B, N, C) and box logits (B, N, 4 * K) of all levels."""
        found: list[Tensor] = []
        products = iter(self.predictions)
        for head, feature in zip(self.network.heads, features, strict=True):
            found += [next(products)(_points(maps)) for maps in cast(Head, head).branches(feature)]
        if cast(Head, self.network.heads[0]).box_branch is None:
            widths = [self.network.classes, len(self.sums)]
            scores, boxes = torch.split(torch.cat(found, 1), widths, 2)
            return scores, boxes
        return torch.cat(found[::2], 1), torch.cat(found[1::2], 1)


def first_convolution(network: Network) -> nn.Conv2d:
    """The convolution that reads the picture."""
    return next(module for module in network.stem.modules() if isinstance(module, nn.Conv2d))


def reads_rows(first: nn.Conv2d) -> bool:
    """Whether a first convolution, as the network has it, looks at 4x4 patches side by side."""
    return first.in_channels == 3 and first.kernel_size == first.stride == (PATCH_PX, PATCH_PX)


def _read_rows(conv: nn.Conv2d) -> None:
    """Change a convolution over patches, in place, to one over four places of twelve channels below one another."""
    outputs, colours, height, width = conv.weight.shape
    rows = conv.weight.detach().permute(0, 3, 1, 2).reshape(outputs, width * colours, height, 1)  # pixel by pixel, as in memory
    conv.weight = nn.Parameter(rows.contiguous(), requires_grad=False)
    conv.in_channels, conv.kernel_size, conv.stride = colours * width, (height, 1), (height, 1)


def _products(head: Head) -> list[nn.Linear]:
    """The last prediction convolutions of a level as products over channels: one where both read the same maps."""
    if head.box_branch is None:
        return [_product(head.score, head.box)]
    return [_product(head.score), _product(head.box)]


def _product(*convolutions: nn.Conv2d) -> nn.Linear:
    product = nn.Linear(convolutions[0].in_channels, sum(conv.out_channels for conv in convolutions))
    with torch.no_grad():
        product.weight.copy_(torch.cat([conv.weight.flatten(1) for conv in convolutions]))
        product.bias.copy_(torch.cat([cast(Tensor, conv.bias) for conv in convolutions]))
    return product


def _points(maps: Tensor) -> Tensor:
    """(B, channels, height, width) -> (B, points, channels)."""
    count, channels, height, width = (int(side) for side in maps.shape)  # fixed in the file, where nothing then computes them
    return maps.permute(0, 2, 3, 1).reshape(count, height * width, channels)
