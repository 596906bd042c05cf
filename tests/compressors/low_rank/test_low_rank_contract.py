"""Every variant of low_rank keeps the contract on every kind of detector that the grid may hand to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compressors.contract import Workbench
from compressors.lightweight import Lightweight, rebuild
from compressors.low_rank import LowRank, factor
from compressors.low_rank.method import factorable
from compressors.pruning import Pruning, prune
from detection.checkpoint import Detector
from detection.spec import Factored
from hardware_profiles.schema.library import load_profile
from tests.compressors.test_contract import prove
from tests.covering import pairwise

FORMS = ("tucker", "spatial_svd")
RULES: tuple[dict[str, Any], ...] = ({"energy": 0.4}, {"evbmf": True, "least_saving": 0.05}, {"keep_macs": 0.8})
WHERE: tuple[dict[str, Any], ...] = ({"only_if_faster": False}, {"latency_in": "float"}, {"latency_in": "int8"})
"""Wherever work is saved, or where the design profile says that it is faster, in either type."""
GIVEN = ("dense", "depthwise", "ghost", "pruned", "tucker")
CASES = tuple(
    (LowRank.model_validate({"form": row["form"], "round_to": 2} | row["rule"] | row["where"]), row["given"])
    for row in pairwise({"form": FORMS, "rule": RULES, "where": WHERE, "given": GIVEN})
)
"""Every two of form, rule, place and kind of detector meet."""


@pytest.fixture(scope="module")
def bench(workbench: Workbench) -> Workbench:
    """A workbench for a device on which thin layers are faster in some places."""
    return replace(workbench, design_profile=load_profile("raspberry-pi-5"))


@pytest.fixture(scope="module")
def given(tiny_detector: Detector, bench: Workbench) -> dict[str, Detector]:
    """What low_rank may be handed: blocks of every kind, and what the other reduction or itself left."""
    return {
        "dense": tiny_detector,
        "depthwise": rebuild(tiny_detector, Lightweight(), bench)[0],
        "ghost": rebuild(tiny_detector, Lightweight(block="ghost"), bench)[0],
        "pruned": prune(tiny_detector, Pruning(importance="l2", keep_macs=0.7, round_to=2), bench)[0],
        "tucker": factor(tiny_detector, LowRank(energy=0.7, only_if_faster=False), bench)[0],
    }


def test_every_place_meets_every_form_every_rule_and_every_kind() -> None:
    """Factored anywhere, by fp32 and by int8 with each of two forms, of three rules, and of five kinds of detector."""
    where = {(config.only_if_faster, config.latency_in) for config, _ in CASES}
    for part in (lambda c, _: c.form, lambda c, _: (c.energy, c.evbmf), lambda _, name: name):
        met = {(part(config, name), config.only_if_faster, config.latency_in) for config, name in CASES}
        assert len(met) == len({part(config, name) for config, name in CASES}) * len(where)


@pytest.mark.parametrize(("config", "name"), CASES, ids=[f"{config.label()} of {name}" for config, name in CASES])
def test_every_variant_keeps_the_contract(config: LowRank, name: str, given: dict[str, Detector], bench: Workbench) -> None:
    """What is given stays as it was, the same comes back twice, the change is counted truly, and every layer has its decision."""
    result, change = prove(config, given[name], bench)
    ranks, dense = change.details["ranks"], change.details["dense"]
    assert set(ranks) | set(dense) == set(factorable(given[name]))
    assert not set(ranks) & set(dense)
    assert change.no_effect is not bool(ranks)
    edits = given[name].spec.edits
    assert result.spec.edits[: len(edits)] == edits
    assert [edit.edit for edit in result.spec.edits[len(edits) :]] == (["factored"] if ranks else [])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_form_and_rule_factors_something(
    form: str, rule: dict[str, Any], given: dict[str, Detector], bench: Workbench
) -> None:
    """Of the dense detector, wherever it saves work: or the contract would be about nothing."""
    config = LowRank.model_validate({"form": form, "round_to": 2, "only_if_faster": False} | rule)
    result, change = factor(given["dense"], config, bench)
    edit = result.spec.edits[-1]
    assert isinstance(edit, Factored)
    wide = {name for name, kernel in factorable(given["dense"]).items() if kernel.shape[-1] > 1}
    assert wide & set(edit.layers)
    assert {edit.layers[name].inputs is None for name in wide & set(edit.layers)} == {form == "spatial_svd"}
    assert change.macs_after < change.macs_before


def test_1x1_convolutions_are_split_by_a_plain_svd_in_either_form(given: dict[str, Detector], bench: Workbench) -> None:
    """They have nothing to separate in space: with the same rule both forms choose the same ranks for them, one each."""
    kernels = {name: kernel for name, kernel in factorable(given["depthwise"]).items() if kernel.shape[-1] == 1}
    found = []
    for form in FORMS:
        config = LowRank.model_validate({"form": form, "energy": 0.3, "round_to": 1, "least_saving": 0.0, "only_if_faster": False})
        ranks = factor(given["depthwise"], config, bench)[1].details["ranks"]
        found.append({name: own for name, own in ranks.items() if name in kernels})
    assert found[0] == found[1]
    assert found[0]
    assert {own["inputs"] for own in found[0].values()} == {None}
