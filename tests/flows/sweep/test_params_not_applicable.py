"""What a detector family cannot do is said once, makes no cells, and is refused where a plan names it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from compressors.planning.names import METHODS
from detection.compact.family import FAMILY
from detection.frozen import InputError
from flows.sweep.params import Plan
from flows.sweep.plan_checks import load_plan
from tests.flows.sweep_factory import write_params

REASONS = {
    "lightweight": "Only the family can rebuild itself from light blocks.",
    "nas": "There is no search space: the architecture is the user's code.",
    "qat": "Its forward branches on data, which torch.fx cannot trace.",
    "narrow": "Its trained weights have no narrower version.",
}


@pytest.fixture(autouse=True)
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our family with less to offer."""
    monkeypatch.setattr("detection.compact.family.FAMILY", dataclasses.replace(FAMILY, cannot=lambda _spec: REASONS))


def plan(tmp_path: Path, methods: dict[str, Any], **changes: Any) -> Plan:
    return load_plan(write_params(tmp_path, grid__methods=methods, **changes))


def test_such_methods_make_no_cells(tmp_path: Path) -> None:
    """The default menu without the two: 16 cells of the other four, and no reference that would need them."""
    found = plan(tmp_path, {}, grid__references=None)
    assert found.not_applicable == {"lightweight": REASONS["lightweight"], "nas": REASONS["nas"]}
    assert len(found.cells) == 2**4
    assert {config.method for cell in found.cells for config in cell.configs} == set(METHODS) - {"lightweight", "nas"}
    assert not [reference.name for reference in found.references if "narrow" in reference.name]


@pytest.mark.parametrize(
    ("methods", "references", "place", "capability"),
    [
        ({"nas": [{}]}, None, "grid.methods.nas", "nas"),
        ({"quantization": [{"qat_epochs": 1}]}, None, "grid.methods.quantization.0.qat_epochs", "qat"),
        ({}, [{"kind": "narrow", "width_share": 0.5}], "grid.references.0", "narrow"),
    ],
)
def test_naming_one_is_refused_with_its_reason(
    methods: dict[str, Any], references: Any, place: str, capability: str, tmp_path: Path
) -> None:
    """The message has the setting and the sentence that the records have."""
    with pytest.raises(InputError) as caught:
        plan(tmp_path, methods, grid__references=references)
    assert f"{place}: not applicable to this detector: {REASONS[capability]} Leave it out." in str(caught.value)


def test_an_empty_list_names_nothing(tmp_path: Path) -> None:
    """Who leaves a method out explicitly is not refused."""
    assert plan(tmp_path, {"nas": [], "lightweight": []}).not_applicable
