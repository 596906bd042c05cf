"""Tests of the warning about a design profile of another processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.sweep.context import mismatch_of, processor_mismatch
from flows.sweep.params import load_plan
from hardware_profiles.schema.library import load_profile
from tests.flows.sweep_factory import write_params

HERE = "cpu family 25 model 17 stepping 1"


@pytest.mark.parametrize("here", [HERE, "cpu family 25 model 17 stepping 2", None])
def test_nothing_is_said_on_the_processor_that_a_profile_was_fitted_on(here: str | None) -> None:
    """A stepping more or less is the same processor; and where the system does not tell, nobody is warned of what is not known."""
    assert mismatch_of(load_profile("zen4-openvino-1t"), here) is None


@pytest.mark.parametrize("name", ["zen4-openvino-1t", "x86-openvino-1t"])
def test_a_search_that_aims_at_another_processor_is_announced(name: str) -> None:
    """Both processors and the command that helps are in the message; a device's profile is not about this machine at all."""
    warning = mismatch_of(load_profile(name), "cpu family 26 model 2 stepping 1")
    assert warning is not None
    assert all(word in warning for word in ("grid.design_profile", name, "family 26 model 2", f"sixfold profiles benchmark {name}"))
    assert mismatch_of(load_profile("raspberry-pi-5"), HERE) is None


def test_only_plans_that_ask_the_design_profile_are_warned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search does, a narrow network as fast as a cell does, pruning in steps of its own does not."""
    monkeypatch.setattr("flows.sweep.context.cpu_model", lambda: "cpu family 26 model 2 stepping 1")
    menu: dict[str, list[dict[str, object]]] = {"lightweight": [], "nas": [], "pruning": [], "low_rank": [], "distillation": []}
    pruning: dict[str, list[dict[str, object]]] = {"pruning": [{"round_to": 4}]}
    like: list[dict[str, object]] = [{"kind": "narrow", "like": "pruning"}]

    def warning(name: str, methods: dict[str, list[dict[str, object]]], references: list[dict[str, object]]) -> str | None:
        params = write_params(
            tmp_path / name,
            grid__design_profile="zen4-openvino-1t",
            grid__methods={**menu, "quantization": [{}], **methods},
            grid__references=references,
        )
        return processor_mismatch(load_plan(params))

    assert warning("pruning", pruning, []) is None
    assert "family 26" in (warning("search", {"nas": [{}]}, []) or "")
    assert "family 26" in (warning("like", pruning, like) or "")
    monkeypatch.setattr("flows.sweep.context.cpu_model", lambda: HERE)
    assert warning("here", {"nas": [{}]}, []) is None
