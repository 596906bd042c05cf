"""Tests of what is said before a plan runs on a machine that it does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.sweep.machine_warnings import machine_warnings, mismatch_of, processor_mismatch
from flows.sweep.plan_checks import load_plan
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
    monkeypatch.setattr("flows.sweep.machine_warnings.cpu_model", lambda: "cpu family 26 model 2 stepping 1")
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
    monkeypatch.setattr("flows.sweep.machine_warnings.cpu_model", lambda: HERE)
    assert warning("here", {"nas": [{}]}, []) is None


@pytest.mark.parametrize(
    ("precision", "flags", "warned"),
    [
        ("bfloat16", {"avx2"}, True),
        ("bfloat16", {"avx2", "avx512_bf16"}, False),
        ("bfloat16", {"asimddp", "bf16"}, False),
        ("bfloat16", set[str](), False),
        ("float32", {"avx2"}, False),
    ],
)
def test_bfloat16_without_instructions_for_it_is_announced(
    precision: str, flags: set[str], warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting, what the processor lacks and what to set; a processor that tells nothing is not judged."""
    monkeypatch.setattr("flows.sweep.machine_warnings.cpu_flags", lambda: frozenset(flags))
    plan = load_plan(write_params(tmp_path, device="cpu", grid__recovery__precision=precision))
    said = [warning for warning in machine_warnings(plan) if "bfloat16" in warning]
    assert len(said) == warned
    assert all("grid.recovery.precision" in warning and "Set float32" in warning for warning in said)
    assert not any("teacher.training" in warning for warning in said)
