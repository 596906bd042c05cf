"""Tucker-2 at a share of the channels."""

from __future__ import annotations

import torch

from compressors.low_rank.decompose import decompose
from detection.checkpoint import Detector
from detection.spec import Factored
from studies.peers.chains import Tucker
from studies.peers.tucker import factor, rank


def test_kernels_are_approximated_as_well_as_by_the_method_of_ours(tiny_detector: Detector) -> None:
    """At the same ranks, which are the share of the channels; what would need more weights stays dense."""
    found = factor(tiny_detector, Tucker(rank_share=0.5)).detector
    edit = found.spec.edits[-1]
    assert isinstance(edit, Factored)
    assert edit.layers
    for name, ranks in edit.layers.items():
        kernel = tiny_detector.weights[f"{name}.weight"]
        assert (ranks.outputs, ranks.inputs) == tuple(rank(0.5, channels) for channels in kernel.shape[:2])
        parts = [found.weights[f"{name}.{part}.weight"] for part in range(3)]
        error, best = (distance(kernel, own) for own in (parts, decompose(kernel, ranks)))
        assert error <= 1.02 * best


def test_ranks_are_multiples_of_eight() -> None:
    """The nearest one; never none, and never more than there are channels."""
    assert [rank(0.35, channels) for channels in (4, 16, 32, 64, 128)] == [4, 8, 8, 24, 48]


def distance(kernel, parts):
    """Of a kernel from the product of thin ones."""
    first, core, last = parts
    return float(torch.linalg.norm(kernel - torch.einsum("or,rshw,si->oihw", last[..., 0, 0], core, first[..., 0, 0])))
