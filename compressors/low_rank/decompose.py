"""Kernels as rows of thinner ones: Tucker-2 (arXiv:1511.06530) and the SVD of the vertical against the horizontal half (scheme 2
of arXiv:1405.3866, in the closed form of arXiv:1511.06067, section 3), which for 1x1 kernels is the plain SVD."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor

from detection.spec import Ranks, refuse_above_full

Form = Literal["tucker", "spatial_svd"]

TUCKER_ITERATIONS = 20
"""Of the alternating fit after its SVD start; on trained kernels the error stops moving before ten."""


def unfoldings(kernel: Tensor, form: Form) -> tuple[Tensor, ...]:
    """The matrices whose ranks a form chooses, in float64: input side and output side for Tucker-2, one for an SVD.

    kernel: (outputs, inputs, height, width), or (outputs, inputs) of a fully connected layer. Those and 1x1 kernels are factored
    by SVD in either form.
    """
    exact = _in_four_axes(kernel.detach().double())
    if form == "spatial_svd" or exact.shape[2:] == (1, 1):
        return (_halves(exact),)
    return exact.transpose(0, 1).flatten(1), exact.flatten(1)


def decompose(kernel: Tensor, ranks: Ranks) -> tuple[Tensor, ...]:
    """Kernels of the thin convolutions, in the order they run: exact where the ranks are full, refused where they are above.

    kernel: (outputs, inputs, height, width), or (outputs, inputs). SVD: (r, inputs, height, 1), (outputs, r, 1, width).
    Tucker-2: (r_in, inputs, 1, 1), (r_out, r_in, height, width), (outputs, r_out, 1, 1).
    """
    refuse_above_full("kernel", ranks, kernel.shape)
    exact = _in_four_axes(kernel.detach().double())  # float32 would leave errors of its own where the ranks are full
    row = _svd(exact, ranks.outputs) if ranks.inputs is None else _tucker(exact, ranks.inputs, ranks.outputs)
    return tuple(part.to(kernel.dtype).reshape(part.shape[: kernel.ndim]).contiguous() for part in row)


def _in_four_axes(kernel: Tensor) -> Tensor:
    """A fully connected layer's weights as a 1x1 kernel."""
    return kernel if kernel.ndim == 4 else kernel[..., None, None]


def _halves(kernel: Tensor) -> Tensor:
    """(inputs * height, outputs * width): what the vertical kernels see against what the horizontal ones make of it."""
    outputs, inputs, height, width = kernel.shape
    return kernel.permute(1, 2, 0, 3).reshape(inputs * height, outputs * width)


def _svd(kernel: Tensor, rank: int) -> tuple[Tensor, ...]:
    outputs, inputs, height, width = kernel.shape
    u, s, vt = torch.linalg.svd(_halves(kernel), full_matrices=False)
    root = s[:rank].sqrt()  # split evenly, so that neither factor trains on another scale
    vertical = (u[:, :rank] * root).T.reshape(rank, inputs, height, 1)
    horizontal = (root[:, None] * vt[:rank]).reshape(rank, outputs, 1, width).transpose(0, 1)
    return vertical, horizontal


def _tucker(kernel: Tensor, inputs: int, outputs: int) -> tuple[Tensor, ...]:
    import tensorly as tl  # scipy with it, a second that whoever only plans need not wait for
    from tensorly.decomposition import partial_tucker

    with tl.backend_context("pytorch", local_threadsafe=True):
        (core, (left, right)), _ = partial_tucker(
            kernel, rank=[outputs, inputs], modes=[0, 1], init="svd", n_iter_max=TUCKER_ITERATIONS
        )
    return cast(Tensor, right).T[:, :, None, None], cast(Tensor, core), cast(Tensor, left)[:, :, None, None]
