"""What one training step learns from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Images and their labelled boxes, padded to the largest count in the batch. B images, M boxes."""

    images: Tensor  # (B, 3, height, width) in [0, 1]
    boxes_xyxy_px: Tensor  # (B, M, 4), pixels of the letterboxed image
    labels: Tensor  # (B, M)
    present: Tensor  # (B, M) bool: false where padded

    def on(self, device: torch.device) -> Batch:
        """The same batch where the network is."""
        if device.type == "cpu":
            return self
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))
