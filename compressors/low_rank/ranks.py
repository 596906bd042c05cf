"""Which layers are factored, to which ranks: by a rule on their singular values, and only where that pays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from compressors.latency import operators
from compressors.low_rank.decompose import Form, unfoldings
from compressors.low_rank.evbmf import Values, evbmf_rank
from detection.costs import count_macs, operator_costs
from detection.frozen import InputError
from detection.spec import Factored, Ranks, Spec
from hardware_profiles.estimate.model import Operator, estimate
from hardware_profiles.schema.profile import DType, HardwareProfile, ProfileError

BISECTIONS = 16
"""Halvings of the interval in which the common energy is looked for: finer than any rank of ours steps."""

Reason = Literal["saves too little", "not faster"]


@dataclass(frozen=True)
class Spectrum:
    """Singular values of one unfolding of a kernel, descending, and its sides."""

    values: Values
    rows: int
    columns: int


@dataclass(frozen=True)
class Decision:
    """What becomes of every layer that could be factored."""

    ranks: Mapping[str, Ranks]
    """Of the layers that are factored."""
    dense: Mapping[str, Reason]
    """Why the others are not."""
    macs: int
    """Multiply-adds of the whole network afterwards."""


@dataclass(frozen=True)
class _Cost:
    macs: int
    latency_s: float


RankOf = Callable[[Spectrum], int]


class Choice:
    """Ranks of the named kernels of one network, decided together.

    A layer is factored where it saves at least this share of its multiply-adds and, where there is a profile, its estimate in this
    type falls.
    """

    def __init__(
        self, spec: Spec, kernels: Mapping[str, Tensor], form: Form, round_to: int, least_saving: float,
        profile: HardwareProfile | None, dtype: DType,
    ) -> None:  # fmt: skip
        self.spec, self.round_to, self.least_saving, self.profile, self.dtype = spec, round_to, least_saving, profile, dtype
        self.spectra = {name: spectra_of(kernel, form) for name, kernel in kernels.items()}
        self.macs = count_macs(spec)
        self.dense = self._costs(spec)
        self.thin: dict[tuple[str, Ranks], _Cost] = {}
        """Layers' costs at the ranks that were tried so far."""

    def by_energy(self, energy: float) -> Decision:
        """Each layer keeps this share of its squared singular values."""
        return self._decide(lambda spectrum: energy_rank(spectrum, energy))

    def by_evbmf(self) -> Decision:
        """Each layer keeps what stands out of the noise of its own weights."""
        return self._decide(lambda spectrum: evbmf_rank(spectrum.values, spectrum.rows, spectrum.columns))

    def by_macs(self, keep: float) -> tuple[Decision, float]:
        """The highest energy, the same for all layers, with which at most this share of the multiply-adds stays; and that energy.

        Should the share be out of reach, all that may be factored has the least ranks.
        """
        wanted = keep * self.macs
        best, low, high = self.by_energy(0.0), 0.0, 1.0
        if (whole := self.by_energy(1.0)).macs <= wanted:
            return whole, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            tried = self.by_energy(middle)
            if tried.macs <= wanted:
                best, low = tried, middle
            else:
                high = middle
        return best, low

    def _decide(self, rank_of: RankOf) -> Decision:
        wanted = {name: ranks_of(spectra, rank_of, self.round_to) for name, spectra in self.spectra.items()}
        thin = self._thin_costs(wanted)
        dense = {name: reason for name in wanted if (reason := self._against(self.dense[name], thin[name])) is not None}
        saved = sum(self.dense[name].macs - thin[name].macs for name in wanted if name not in dense)
        return Decision({name: ranks for name, ranks in wanted.items() if name not in dense}, dense, self.macs - saved)

    def _against(self, dense: _Cost, thin: _Cost) -> Reason | None:
        if thin.macs > dense.macs * (1 - self.least_saving):
            return "saves too little"
        return "not faster" if self.profile is not None and thin.latency_s >= dense.latency_s else None

    def _thin_costs(self, wanted: dict[str, Ranks]) -> dict[str, _Cost]:
        if new := {name: ranks for name, ranks in wanted.items() if (name, ranks) not in self.thin}:
            costs = self._costs(self.spec.edited(Factored(layers=new)))
            self.thin |= {(name, ranks): costs[name] for name, ranks in new.items()}
        return {name: self.thin[name, ranks] for name, ranks in wanted.items()}

    def _costs(self, spec: Spec) -> dict[str, _Cost]:
        """Layer by layer, whether it is one convolution here or a row of them; what stands around it is the same in both."""
        macs, parts = dict.fromkeys(self.spectra, 0), dict[str, list[Operator]]()
        for cost, operator in zip(operator_costs(spec), operators(spec, self.dtype), strict=True):
            name = cost.name if cost.name in macs else cost.name.rpartition(".")[0]
            if name in macs:
                macs[name] += cost.macs
                parts.setdefault(name, []).append(operator)
        return {name: _Cost(macs[name], self._latency_s(parts[name])) for name in macs}

    def _latency_s(self, row: list[Operator]) -> float:
        try:
            return 0.0 if self.profile is None else estimate(row, self.profile).point_s
        except ProfileError as error:
            raise InputError(
                f"low_rank.only_if_faster: no estimate in {self.dtype}: {error}. Set low_rank.latency_in to int8 where "
                f"the device takes nothing else, or low_rank.only_if_faster to false."
            ) from error


def spectra_of(kernel: Tensor, form: Form) -> tuple[Spectrum, ...]:
    """Of every unfolding whose rank the form chooses: input side and output side for Tucker-2, one for an SVD."""
    return tuple(
        Spectrum(torch.linalg.svdvals(matrix).numpy().astype(np.float64), *matrix.shape) for matrix in unfoldings(kernel, form)
    )


def ranks_of(spectra: tuple[Spectrum, ...], rank_of: RankOf, round_to: int) -> Ranks:
    """The ranks that a rule wants, at least 1, rounded up to multiples of round_to, and at most full."""
    ranks = [min(len(own.values), -(-max(1, rank_of(own)) // round_to) * round_to) for own in spectra]
    return Ranks(inputs=ranks[0] if len(ranks) > 1 else None, outputs=ranks[-1])


def energy_rank(spectrum: Spectrum, energy: float) -> int:
    """The smallest rank that keeps this share of the squared singular values."""
    squares = spectrum.values**2
    kept = squares.cumsum() / max(squares.sum(), np.finfo(np.float64).tiny)
    return min(len(kept), int((kept < energy - 1e-6).sum()) + 1)
