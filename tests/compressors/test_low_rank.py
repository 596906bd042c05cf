"""Convolutions factored into thinner ones."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.contract import Workbench
from compressors.lightweight import Lightweight, rebuild
from compressors.low_rank import LowRank, choose_ranks, decompose, factor
from detection.blueprint import Factored, Ranks
from detection.checkpoint import Detector
from detection.dataset import Images
from detection.evaluation import as_input

TRUE_RANK = 4


def conv_with(kernel: Tensor, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that has this kernel."""
    outputs, inputs, height, _ = kernel.shape
    conv = nn.Conv2d(inputs, outputs, height, stride, height // 2, bias=False)
    conv.weight.data = kernel
    return conv


def with_singular_values(values: list[float], outputs: int, inputs: int) -> Tensor:
    """A 1x1 kernel with these singular values, between orthogonal matrices drawn by numpy."""
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(outputs, outputs)))[0][:, : len(values)]
    right = np.linalg.qr(rng.normal(size=(inputs, inputs)))[0][:, : len(values)]
    return torch.tensor(left @ np.diag(values) @ right.T, dtype=torch.float32)[:, :, None, None]


def thin_kernel(outputs: int, inputs: int, rank: int, size: int, rng: np.random.Generator) -> Tensor:
    """A kernel of exactly this rank on both sides."""
    core = rng.normal(size=(rank, rank, size, size))
    left, right = rng.normal(size=(outputs, rank)), rng.normal(size=(inputs, rank))
    return torch.tensor(np.einsum("abhw,oa,ib->oihw", core, left, right) / inputs, dtype=torch.float32)


def run_in_a_row(parts: tuple[Tensor, ...], x: Tensor, stride: int) -> Tensor:
    """The thin convolutions one after another; the spatial one has the stride."""
    for part in parts:
        spatial = part.shape[-1] > 1
        x = F.conv2d(x, part, stride=stride if spatial else 1, padding=part.shape[-1] // 2)
    return x


def relative_error(kernel: Tensor, ranks: Ranks) -> float:
    """Distance of the recomposed kernel from the given one, as a share of its length."""
    first, *middle, last = decompose(kernel, ranks)
    core = middle[0] if middle else torch.eye(first.shape[0])[:, :, None, None]
    again = torch.einsum("oa,abhw,bi->oihw", last[:, :, 0, 0], core, first[:, :, 0, 0])
    return float((again - kernel).norm() / kernel.norm())


@pytest.mark.parametrize(
    ("size", "stride", "ranks"),
    [(3, 1, Ranks(inputs=12, outputs=20)), (3, 2, Ranks(inputs=12, outputs=20)), (1, 1, Ranks(inputs=None, outputs=12))],
    ids=["3x3", "3x3 stride 2", "1x1"],
)
def test_full_ranks_are_exact(size: int, stride: int, ranks: Ranks) -> None:
    """With full ranks the row of thin convolutions computes what the dense one did, 3x3 by Tucker-2 and 1x1 by SVD."""
    generator = torch.Generator().manual_seed(0)
    kernel, x = torch.randn(20, 12, size, size, generator=generator), torch.randn(2, 12, 9, 7, generator=generator)
    dense = F.conv2d(x, kernel, stride=stride, padding=size // 2)
    row = run_in_a_row(decompose(kernel, ranks), x, stride)
    torch.testing.assert_close(row, dense, rtol=0, atol=1e-5 * float(dense.abs().max()))


def test_kernels_come_back_in_the_order_they_run() -> None:
    """Tucker-2 of 20 x 12 with ranks 5 and 7: 12 -> 5 by 1x1, 5 -> 7 by 3x3, 7 -> 20 by 1x1."""
    shapes = [tuple(part.shape) for part in decompose(torch.randn(20, 12, 3, 3), Ranks(inputs=5, outputs=7))]
    assert shapes == [(5, 12, 1, 1), (7, 5, 3, 3), (20, 7, 1, 1)]


def test_ranks_of_a_1x1_kernel_by_hand() -> None:
    """Singular values 3, 2, 1, 0.5: energy 9 + 4 + 1 + 0.25 = 14.25; 0.63 takes one, 0.75 takes two, 0.95 three, 1.0 four."""
    conv = conv_with(with_singular_values([3, 2, 1, 0.5], 32, 24))
    found = [choose_ranks(conv, LowRank(energy=energy, round_to=1)) for energy in (0.63, 0.75, 0.95, 1.0)]
    assert found == [Ranks(inputs=None, outputs=rank) for rank in (1, 2, 3, 4)]


def test_ranks_of_a_3x3_kernel_against_numpy() -> None:
    """Both ranks are the least that keep the energy of numpy's singular values of the two unfoldings."""
    kernel = thin_kernel(32, 24, 6, 3, np.random.default_rng(0)) + 0.01 * thin_kernel(32, 24, 24, 3, np.random.default_rng(1))
    wanted = []
    for unfolded in (kernel.numpy().transpose(1, 0, 2, 3).reshape(24, -1), kernel.numpy().reshape(32, -1)):
        energy = np.linalg.svd(unfolded, compute_uv=False).astype(float) ** 2
        wanted.append(1 + int(np.argmax(np.cumsum(energy) / energy.sum() >= 0.9)))
    assert choose_ranks(conv_with(kernel), LowRank(energy=0.9, round_to=1)) == Ranks(inputs=wanted[0], outputs=wanted[1])
    assert max(wanted) <= 6


def test_ranks_are_rounded_up_and_at_most_full() -> None:
    """A needed rank of 2 becomes 8; a needed rank of 10 becomes 12, which is full, and not 16."""
    assert choose_ranks(conv_with(with_singular_values([3, 2], 32, 24)), LowRank(energy=0.99)) == Ranks(inputs=None, outputs=8)
    ten = conv_with(with_singular_values([1.0] * 10, 12, 200))
    assert choose_ranks(ten, LowRank(energy=1.0, least_saving=0.0)) is None  # 12 * (12 + 200) > 12 * 200
    nine = conv_with(thin_kernel(12, 12, 9, 3, np.random.default_rng(0)))
    full = choose_ranks(nine, LowRank(energy=1.0, round_to=8, least_saving=0.0))
    assert full is None  # 12 * 12 + 12 * 12 * 9 + 12 * 12 > 12 * 12 * 9


def test_a_stride_makes_the_first_1x1_four_times_as_dear() -> None:
    """32 x 32, ranks 16 and 16: 512 + 2304 + 512 = 3328 of 9216 saves 64 %; with stride 2 2048 + 2304 + 512 = 4864 saves 47 %."""
    kernel = thin_kernel(32, 32, 16, 3, np.random.default_rng(0))
    config = LowRank(energy=1.0, least_saving=0.5)
    assert choose_ranks(conv_with(kernel), config) == Ranks(inputs=16, outputs=16)
    assert choose_ranks(conv_with(kernel, stride=2), config) is None
    assert choose_ranks(conv_with(kernel, stride=2), LowRank(energy=1.0, least_saving=0.4)) == Ranks(inputs=16, outputs=16)


def test_the_error_falls_with_the_ranks() -> None:
    """Every further rank brings the kernel closer, down to nothing."""
    kernel = torch.randn(16, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    dense = [relative_error(kernel, Ranks(inputs=rank, outputs=rank)) for rank in (2, 6, 10, 14, 16)]
    assert dense == sorted(dense, reverse=True)
    assert dense[0] > 0.5
    assert dense[-1] < 1e-5
    flat = [relative_error(kernel[:, :, :1, :1], Ranks(inputs=None, outputs=rank)) for rank in (2, 6, 10, 14, 16)]
    assert flat == sorted(flat, reverse=True)
    assert flat[-1] < 1e-5


def test_the_svd_is_the_best_of_its_rank() -> None:
    """Eckart and Young: the squared error of the 1x1 factors is the energy of the singular values left out."""
    kernel = with_singular_values([3, 2, 1, 0.5], 32, 24)
    assert relative_error(kernel, Ranks(inputs=None, outputs=2)) == pytest.approx(np.sqrt(1.25 / 14.25), rel=1e-4)


def test_depthwise_convolutions_are_never_factored(tiny_detector: Detector, workbench: Workbench) -> None:
    """A depthwise kernel has nothing to factor; neither have layers with a bias, the last prediction convolutions."""
    light, _ = rebuild(tiny_detector, Lightweight(), workbench)
    _, change = factor(light, LowRank(energy=0.3, round_to=1, least_saving=0.0), workbench)
    grouped = {name for name, module in light.network().named_modules() if isinstance(module, nn.Conv2d) and module.groups > 1}
    assert len(grouped) > 5
    assert change.details["ranks"]
    assert not grouped & set(change.details["ranks"])
    assert not set(light.network().protected_layers()) & set(change.details["ranks"])


def test_the_whole_network_is_exact_where_its_kernels_are_thin(
    tiny_detector: Detector, tiny_train: Images, workbench: Workbench
) -> None:
    """Kernels of rank 4 lose nothing when all their energy is kept: the ranks are found and the outputs stay."""
    rng = np.random.default_rng(0)
    weights = dict(tiny_detector.weights)
    dense = [name for name, tensor in weights.items() if tensor.ndim == 4 and tensor.shape[-1] == 3 and tensor.shape[1] > 8]
    for name in dense:
        outputs, inputs, size, _ = weights[name].shape
        weights[name] = thin_kernel(outputs, inputs, TRUE_RANK, size, rng)
    thin = Detector(tiny_detector.blueprint, MappingProxyType(weights))
    factored, change = factor(thin, LowRank(energy=1.0, round_to=1), workbench)
    found = {f"{name}.weight": (ranks["inputs"], ranks["outputs"]) for name, ranks in change.details["ranks"].items()}
    # Worth it for the thinnest of them, 16 to 16 channels: 16 * 4 + 4 * 4 * 9 + 4 * 16 = 272 of 2304.
    assert {name: found.get(name) for name in dense} == dict.fromkeys(dense, (TRUE_RANK, TRUE_RANK))
    assert change.macs_after < 0.8 * change.macs_before
    pixels = torch.from_numpy(np.concatenate([as_input(tiny_train.pixels[row]) for row in range(2)]))
    with torch.no_grad():
        before, after = thin.network()(pixels), factored.network()(pixels)
    for own, dense_own in zip(after[:2], before[:2], strict=True):
        torch.testing.assert_close(own, dense_own, rtol=0, atol=1e-4 * float(dense_own.abs().max()))


def test_more_energy_keeps_more(tiny_detector: Detector, workbench: Workbench) -> None:
    """With a higher share of energy the network stays larger and each factored layer is at least as wide."""
    changes = [factor(tiny_detector, LowRank(energy=energy, round_to=1), workbench)[1] for energy in (0.2, 0.4, 0.6)]
    macs = [change.macs_after for change in changes]
    assert macs == sorted(macs)
    assert macs[0] < macs[-1] < changes[0].macs_before
    low, high = (change.details["ranks"] for change in (changes[0], changes[-1]))
    assert all(low[name]["outputs"] <= high[name]["outputs"] for name in set(low) & set(high))


def test_the_edit_records_the_ranks_that_were_chosen(tiny_detector: Detector, workbench: Workbench) -> None:
    """The blueprint's last edit and the change tell the same ranks, and the rest of the weights is untouched."""
    factored, change = factor(tiny_detector, LowRank(energy=0.4, round_to=4), workbench)
    edit = factored.blueprint.edits[-1]
    assert isinstance(edit, Factored)
    assert {name: ranks.model_dump() for name, ranks in edit.layers.items()} == change.details["ranks"]
    kept = [name for name in tiny_detector.weights if name.removesuffix(".weight") not in edit.layers]
    assert all(torch.equal(factored.weights[name], tiny_detector.weights[name]) for name in kept)


def test_nothing_worth_factoring_leaves_the_detector(tiny_detector: Detector, workbench: Workbench) -> None:
    """Where no layer would save enough the same detector comes back, and the change says that it had no effect."""
    same, change = factor(tiny_detector, LowRank(energy=1.0), workbench)
    assert same.digest == tiny_detector.digest
    assert change.no_effect
    assert change.details == {"ranks": {}}
