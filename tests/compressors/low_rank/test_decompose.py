"""Kernels as rows of thinner ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressors.low_rank.decompose import Form, decompose, unfoldings
from detection.edits import factored
from detection.frozen import InputError
from detection.spec import Ranks, full_ranks

OUTPUTS, INPUTS = 20, 12


def row_of(conv: nn.Conv2d, ranks: Ranks) -> nn.Sequential:
    """The thin convolutions that take the place of a dense one, with its kernel decomposed into them."""
    row = factored(conv, ranks)
    for thin, kernel in zip(row, decompose(conv.weight, ranks), strict=True):
        assert isinstance(thin, nn.Conv2d)
        assert thin.weight.shape == kernel.shape
        thin.weight.data = kernel
    return row


def recomposed(kernel: Tensor, ranks: Ranks) -> Tensor:
    """The dense kernel that a row of thin ones stands for."""
    first, *middle, last = decompose(kernel, ranks)
    if middle:
        return torch.einsum("oa,abhw,bi->oihw", last[:, :, 0, 0], middle[0], first[:, :, 0, 0])
    return torch.einsum("orw,rih->oihw", last[:, :, 0, :], first[:, :, :, 0])


def error(kernel: Tensor, ranks: Ranks) -> float:
    """Distance of the recomposed kernel from the given one, as a share of its length."""
    return float((recomposed(kernel, ranks) - kernel).norm() / kernel.norm())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "two"), [(3, True), (7, True), (3, False), (7, False), (1, False)])
def test_full_ranks_are_exact(size: int, two: bool, stride: int) -> None:
    """With full ranks the row computes what the dense convolution did within 1e-5: Tucker-2, spatial SVD and SVD of 1x1."""
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(INPUTS, OUTPUTS, size, stride, size // 2, bias=False)
    conv.weight.data = torch.randn(conv.weight.shape, generator=generator)
    x = torch.randn(2, INPUTS, 9, 8, generator=generator)
    with torch.no_grad():
        dense, row = conv(x), row_of(conv, full_ranks(conv.weight.shape, two))(x)
    torch.testing.assert_close(row, dense, rtol=0, atol=1e-5 * float(dense.abs().max()))


def test_kernels_come_back_in_the_order_they_run() -> None:
    """Tucker-2 with ranks 5 and 7: 12 -> 5 -> 7 -> 20, 3x3 in the middle; SVD with rank 6: 12 -> 6 by 3x1, 6 -> 20 by 1x3."""
    kernel = torch.randn(OUTPUTS, INPUTS, 3, 3, generator=torch.Generator().manual_seed(0))
    tucker = [tuple(part.shape) for part in decompose(kernel, Ranks(inputs=5, outputs=7))]
    assert tucker == [(5, 12, 1, 1), (7, 5, 3, 3), (20, 7, 1, 1)]
    halves = [tuple(part.shape) for part in decompose(kernel, Ranks(inputs=None, outputs=6))]
    assert halves == [(6, 12, 3, 1), (20, 6, 1, 3)]


def test_a_separable_filter_has_spatial_rank_one() -> None:
    """Sobel's 3x3 filter is (1, 2, 1) down times (-1, 0, 1) across: one map between the halves is enough, for one channel."""
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])[None, None]
    down, across = decompose(sobel, Ranks(inputs=None, outputs=1))
    column, line = down[0, 0, :, 0], across[0, 0, 0, :]
    torch.testing.assert_close(column / column[0], torch.tensor([1.0, 2.0, 1.0]))
    torch.testing.assert_close(line / line[2], torch.tensor([-1.0, 0.0, 1.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(recomposed(sobel, Ranks(inputs=None, outputs=1)), sobel)


@pytest.mark.parametrize("size", [1, 3])
def test_the_svd_is_the_best_of_its_rank(size: int) -> None:
    """Eckart and Young, by numpy: the squared error is the energy of the singular values left out."""
    kernel = torch.randn(OUTPUTS, INPUTS, size, size, generator=torch.Generator().manual_seed(0))
    matrix = kernel.numpy().transpose(1, 2, 0, 3).reshape(INPUTS * size, OUTPUTS * size)
    squares = np.linalg.svd(matrix.astype(np.float64), compute_uv=False) ** 2
    assert error(kernel, Ranks(inputs=None, outputs=5)) == pytest.approx(np.sqrt(squares[5:].sum() / squares.sum()), rel=1e-5)


@pytest.mark.parametrize(("form", "size"), [("tucker", 3), ("spatial_svd", 3), ("tucker", 1), ("spatial_svd", 1)])
def test_the_error_falls_with_the_ranks(form: Form, size: int) -> None:
    """Every further rank brings the kernel closer, down to nothing."""
    kernel = torch.randn(16, 16, size, size, generator=torch.Generator().manual_seed(0))
    two = form == "tucker" and size > 1
    full = full_ranks(kernel.shape, two).outputs
    errors = [
        error(kernel, Ranks(inputs=rank if two else None, outputs=rank)) for rank in (2, full // 3, full // 2, full - 2, full)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.5
    assert errors[-1] < 1e-5


def test_both_factors_have_the_same_scale() -> None:
    """The singular values are split evenly: rows of the first and columns of the second kernel are equally long."""
    kernel = torch.randn(OUTPUTS, INPUTS, 3, 3, generator=torch.Generator().manual_seed(0))
    down, across = decompose(kernel, Ranks(inputs=None, outputs=8))
    torch.testing.assert_close(down.flatten(1).norm(dim=1), across.transpose(0, 1).flatten(1).norm(dim=1))


@pytest.mark.parametrize(
    ("form", "size", "shapes"),
    [
        ("tucker", 3, [(INPUTS, OUTPUTS * 9), (OUTPUTS, INPUTS * 9)]),
        ("spatial_svd", 3, [(INPUTS * 3, OUTPUTS * 3)]),
        ("tucker", 1, [(INPUTS, OUTPUTS)]),
        ("spatial_svd", 1, [(INPUTS, OUTPUTS)]),
    ],
)
def test_the_ranks_of_the_unfoldings_are_the_full_ranks(form: Form, size: int, shapes: list[tuple[int, int]]) -> None:
    """Input side before output side for Tucker-2, one matrix for an SVD; their smaller sides are the full ranks."""
    kernel = torch.randn(OUTPUTS, INPUTS, size, size, generator=torch.Generator().manual_seed(0))
    assert [tuple(matrix.shape) for matrix in unfoldings(kernel, form)] == shapes
    full = full_ranks(kernel.shape, len(shapes) == 2)
    assert [min(shape) for shape in shapes] == [rank for _, rank in full if rank is not None]


@pytest.mark.parametrize(
    ("ranks", "size", "message"),
    [
        (Ranks(inputs=13, outputs=7), 3, "inputs: rank 13 is above full, which is 12"),
        (Ranks(inputs=5, outputs=21), 3, "outputs: rank 21 is above full, which is 20"),
        (Ranks(inputs=None, outputs=37), 3, "outputs: rank 37 is above full, which is 36"),
        (Ranks(inputs=None, outputs=13), 1, "outputs: rank 13 is above full, which is 12"),
    ],
    ids=["inputs", "outputs", "spatial", "1x1"],
)
def test_ranks_above_full_are_refused(ranks: Ranks, size: int, message: str) -> None:
    """The message names the side, the rank that was asked for, and the most that the kernel has; by hand, 12 * 3 and 12 inputs."""
    with pytest.raises(InputError, match=message):
        decompose(torch.zeros(OUTPUTS, INPUTS, size, size), ranks)
