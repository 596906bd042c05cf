"""`sixfold init` with profiles in the folder next to the plan: fitted earlier on this machine, or written for a device."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer

from flows.init import devices
from flows.sweep.plan_checks import load_plan
from hardware_profiles.schema.authoring import text_of
from hardware_profiles.schema.library import load_profile
from hardware_profiles.timing.environment import cpu_model
from tests.flows.cli_runner import Sixfold, refused
from tests.flows.init_factory import write_voc
from tests.flows.rounds_factory import ON_X86
from tests.hardware_profiles.profile_factory import write

FITTED = "host-mine-openvino-1t"
ELSEWHERE = "cpu family 26 model 2 stepping 1"


def write_fitted(folder: Path, cpu: str | None) -> None:
    """What `--calibrate` leaves next to a plan, for OpenVINO."""
    shipped = load_profile("x86-openvino-1t")
    assert shipped.calibration.int8 is not None
    int8 = shipped.calibration.int8.model_copy(update={"cpu": cpu})
    calibration = shipped.calibration.model_copy(update={"fp32": None, "int8": int8})
    own = shipped.model_copy(update={"id": FITTED, "calibration": calibration})
    folder.mkdir()
    (folder / f"{FITTED}.yaml").write_text(text_of(own, "Fitted for this test."))


@pytest.mark.parametrize(
    ("cpu", "told"), [(cpu_model(), "are of such a processor"), (ELSEWHERE, f"{FITTED} were fitted on another")]
)
@ON_X86
def test_a_profile_fitted_earlier_is_named(cpu: str | None, told: str, sixfold: Sixfold, tmp_path: Path) -> None:
    """In place of the shipped one of its runtime; the plan finds it, says that it was fitted earlier, and on which processor."""
    (tmp_path / "plans").mkdir()
    write_fitted(tmp_path / "plans/profiles", cpu)
    data = str(write_voc(tmp_path / "mine"))
    ended = sixfold(tmp_path, "init", data, "--device", FITTED)
    assert ended.code == 0, ended
    plan = load_plan(tmp_path / "plans/mine.yaml")
    assert [load_profile(name, plan.profiles_folder).runtime for name in plan.params.measure.profiles] == [
        "onnxruntime",
        "openvino",
    ]
    assert plan.params.measure.profiles[1] == plan.params.grid.design_profile == plan.design_profile.id == FITTED
    header, _, settings = plan.text.replace("\n# ", " ").partition("sweep:")
    assert f"Measured: {FITTED} was fitted earlier; " in header
    assert told in header
    assert "by estimates; fitted on this machine" in settings.replace("\n  # ", " ")
    assert "nothing was measured" not in plan.text
    assert sixfold(tmp_path, "init", data, "--out", "plans/other.yaml").code == 0
    assert FITTED not in load_plan(tmp_path / "plans/other.yaml").text, "not unless it is named"


def test_profiles_next_to_the_plan_are_listed_before_shipped_ones(
    sixfold: Sixfold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a terminal is asked, and in the message about a name that is none."""
    (tmp_path / "profiles").mkdir()
    write(tmp_path / "profiles", "my-board")
    data = str(write_voc(tmp_path / "mine"))
    refused(sixfold(tmp_path, "init", data, "--device", "toaster"), "no hardware profile 'toaster'; have ", "my-board", out="voc")
    listed = devices.choices(tmp_path / "profiles")
    assert listed == [*devices.choices()[: -len(devices.known_profiles())], "my-board", *devices.known_profiles()]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", lambda *words, **options: listed.index("my-board") + 1)
    monkeypatch.setattr(typer, "confirm", lambda question, **options: False)
    ended = sixfold(tmp_path, "init", data)
    assert ended.code == 0, ended
    assert load_plan(tmp_path / "mine.yaml").params.grid.design_profile == "my-board"


@pytest.mark.parametrize(("dtypes", "methods"), [(["fp32", "int8"], 1), (["fp32"], 0)])
def test_a_device_of_ones_own_is_the_target(dtypes: list[str], methods: int, sixfold: Sixfold, tmp_path: Path) -> None:
    """Shipped profiles of this machine stay beside it; one that does not multiply in int8 gets float16."""
    (tmp_path / "profiles").mkdir()
    write(tmp_path / "profiles", "my-board", dtypes=dtypes)
    ended = sixfold(tmp_path, "init", str(write_voc(tmp_path / "mine")), "--device", "my-board")
    assert ended.code == 0, ended
    plan = load_plan(tmp_path / "mine.yaml")
    assert plan.params.measure.profiles == (*devices.devices("my-board", tmp_path / "profiles").here, "my-board")
    assert plan.params.grid.design_profile == "my-board"
    assert ["float16" in own.precision for own in plan.params.grid.methods.quantization] == [not methods]
    assert "not fitted on this machine" in plan.text.replace("\n  # ", " ") or "what searches aim at, by estimates\n" in plan.text
