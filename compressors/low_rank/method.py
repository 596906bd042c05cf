"""low_rank: convolutions factored into thinner ones, where the design profile says that the thinner ones are faster.

The forms are in `decompose`, the choice of layers and ranks in `ranks`, EVBMF in `evbmf`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeGuard

from pydantic import Field, model_validator
from torch import Tensor, nn

from compressors.contract import Change, Phase, Settings, Workbench, describe
from compressors.latency import LatencyIn, latency_dtype
from compressors.low_rank.decompose import Form, decompose
from compressors.low_rank.ranks import Choice, Decision
from compressors.target import Target
from detection.checkpoint import Detector
from detection.costs import operator_costs
from detection.frozen import InputError, Share
from detection.spec import Factored
from hardware_profiles.schema.profile import HardwareProfile

DEFAULT_ENERGY = 0.75


class LowRank(Settings):
    """Into what, and how much of each kernel to keep. One rule for the ranks: `energy`, `evbmf` or `keep_macs`."""

    phase: ClassVar[Phase] = "reduction"
    libraries: ClassVar[tuple[str, ...]] = ("tensorly",)
    method: Literal["low_rank"] = "low_rank"
    form: Form = "tucker"
    """Of kernels wider than 1x1. `tucker`: 1x1, kxk, 1x1 (Tucker-2, arXiv:1511.06530); `spatial_svd`: kx1, 1xk
    (arXiv:1405.3866). 1x1 convolutions become two by SVD."""
    energy: Share | None = DEFAULT_ENERGY
    """Share of the squared singular values that every layer's ranks keep, on either side. Where another rule is named: null."""
    evbmf: bool = False
    """Ranks by empirical variational Bayes (Nakajima et al., JMLR 14, 2013): what stands out of the noise of the weights."""
    keep_macs: Share | None = None
    """Share of the network's multiply-adds that stays; one energy for all layers is looked for that reaches it."""
    round_to: Annotated[int, Field(ge=1)] = 8
    """Ranks are rounded up to multiples of this, as channels are."""
    least_saving: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """A layer is factored only where its multiply-adds fall by at least this share: thin layers cost overhead."""
    only_if_faster: bool = True
    """A layer is factored only where its estimate on the design profile falls. Several thin operators may well take longer than
    one that is large."""
    latency_in: LatencyIn = "float"
    """The numbers in which that is estimated: `int8` where the network will be quantized."""

    @model_validator(mode="before")
    @classmethod
    def _another_rule_replaces_the_default(cls, given: Any) -> Any:
        named = isinstance(given, dict) and (given.get("evbmf") or given.get("keep_macs") is not None)
        return {"energy": None, **given} if named else given

    @model_validator(mode="after")
    def _one_rule(self) -> LowRank:
        rules = {"energy": self.energy, "evbmf": self.evbmf or None, "keep_macs": self.keep_macs}
        found = [f"{name} {value}" for name, value in rules.items() if value is not None]
        if len(found) != 1:
            raise ValueError(
                f"energy, evbmf, keep_macs: one of them chooses the ranks, found {' and '.join(found) or 'none'}; "
                f"set one and leave the others out"
            )
        return self

    def _without_effect(self) -> dict[str, str]:
        return {} if self.only_if_faster else {"latency_in": "with only_if_faster"}

    @property
    def asks_estimate(self) -> bool:
        """Whether the estimate decides which layers are factored."""
        return self.only_if_faster

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params."""
        rule = "evbmf" if self.evbmf else f"macs-{self.keep_macs:g}" if self.keep_macs else f"{self.energy:g}"
        where = "" if self.only_if_faster else "-everywhere"
        return f"{self.form}-{rule}{where}{'-int8' if self.only_if_faster and self.latency_in == 'int8' else ''}"


def factor(detector: Detector, config: LowRank, workbench: Workbench) -> tuple[Detector, Change]:
    """The detector with its convolutions factored where that pays, weights approximated, and what was chosen."""
    choice = _choice(detector, config, workbench.design_profile)
    decision, energy = _decide(choice, config)
    reached = decision.macs / choice.macs
    details = {
        "ranks": {name: ranks.model_dump() for name, ranks in decision.ranks.items()},
        "dense": dict(decision.dense),
        "energy": energy,
        "keep_macs": reached,
        "design_profile": workbench.design_profile.id if config.only_if_faster else None,
    }
    asked = config.keep_macs
    target = None if asked is None else Target(method="low_rank", setting="keep_macs", asked=asked, reached=reached)
    summary = _summary(decision, reached, config)
    if not decision.ranks:
        return detector, describe("low_rank", summary, detector.spec, detector.spec, details, target=target)
    after = detector.spec.edited(Factored(layers=dict(decision.ranks)))
    weights = dict(detector.weights)
    for name, ranks in decision.ranks.items():
        parts = decompose(weights.pop(f"{name}.weight"), ranks)
        weights |= {f"{name}.{part}.weight": value for part, value in enumerate(parts)}
        if f"{name}.bias" in weights:  # the last of the row adds it
            weights[f"{name}.{len(parts) - 1}.bias"] = weights.pop(f"{name}.bias")
    ordered = {name: weights[name] for name in detector.family.build(after).state_dict()}
    change = describe("low_rank", summary, detector.spec, after, details, target=target)
    return Detector(after, MappingProxyType(ordered)), change


def refuse_out_of_reach(config: LowRank, detector: Detector, profile: HardwareProfile) -> None:
    """InputError where more multiply-adds stay than are asked for even at the least ranks, whatever the weights are."""
    if config.keep_macs is None:
        return
    choice = _choice(detector, config, profile)
    least = choice.by_energy(0.0).macs / choice.macs
    if least > config.keep_macs:
        only = f", only_if_faster on {profile.id}" if config.only_if_faster else ""
        raise InputError(
            f"low_rank.keep_macs: {config.keep_macs:g} is out of reach: {least:.3f} of the multiply-adds stay at the least ranks, "
            f"with round_to {config.round_to}, least_saving {config.least_saving:g}{only}. Ask for that or more, or loosen one of "
            f"these."
        )


def factorable(detector: Detector) -> dict[str, Tensor]:
    """Name -> kernel of every plain convolution and fully connected layer but the last predictions, as far as predictions use it.

    Depthwise convolutions have nothing to factor; those in groups, dilated or padded with anything but zeros stay as they are.
    """
    network = detector.network()
    protected = set(detector.family.protected(network))
    # A layer that runs in training alone, such as an auxiliary head, saves nothing and has no cost to compare.
    used = {part for cost in operator_costs(detector.spec) for part in (cost.name, cost.name.rpartition(".")[0])}
    return {
        name: module.weight.detach()
        for name, module in network.named_modules()
        if name in used - protected and (isinstance(module, nn.Linear) or _is_plain(module))
    }


def _is_plain(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a convolution that a row of thinner ones can stand in for."""
    return (
        isinstance(module, nn.Conv2d)
        and module.groups == 1
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _choice(detector: Detector, config: LowRank, profile: HardwareProfile) -> Choice:
    asked = profile if config.only_if_faster else None
    dtype = latency_dtype(config.latency_in, asked, "low_rank") if asked else "fp32"
    return Choice(detector.spec, factorable(detector), config.form, config.round_to, config.least_saving, asked, dtype)


def _decide(choice: Choice, config: LowRank) -> tuple[Decision, float | None]:
    """The decision by the configured rule, and the energy behind it."""
    if config.evbmf:
        return choice.by_evbmf(), None
    if config.keep_macs is not None:
        return choice.by_macs(config.keep_macs)
    assert config.energy is not None, "validated: one rule is set"
    return choice.by_energy(config.energy), config.energy


def _summary(decision: Decision, reached: float, config: LowRank) -> str:
    every = len(decision.ranks) + len(decision.dense)
    slow = sum(reason == "not faster" for reason in decision.dense.values())
    text = f"{config.label()}: {len(decision.ranks)} of {every} convolutions factored"
    text += f", {slow} more would save work but no time" if slow else ""
    if config.keep_macs is None:
        return text
    short = "" if reached <= config.keep_macs else "; out of reach"
    return f"{text}; {reached:.1%} of the multiply-adds stay ({config.keep_macs:.1%} wanted{short})"
