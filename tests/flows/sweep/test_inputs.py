"""What DVC is shown of what it cannot see: a file changes with what it stands for, and with nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import flows.sweep.inputs as inputs_module
from detection.data.generated import GeneratedSource, PictureCounts
from detection.data.sources import Data
from flows.prepare.stage import prepare
from flows.sweep.inputs import inputs
from flows.sweep.params import Plan
from flows.sweep.plan_checks import load_plan
from tests.flows.sweep_factory import write_params
from tests.hardware_profiles.profile_factory import write

FILES = ("prepare", "teacher", "grid", "measure", "report")
MAKING = {"teacher", "grid"}
"""Stages that make networks."""
BOARD = "board"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Of a VOC data set with one picture, measured and designed for on a profile of the user's own."""
    for name in ("Annotations/a.xml", "JPEGImages/a.jpg"):
        (tmp_path / "voc" / name).parent.mkdir(parents=True)
        (tmp_path / "voc" / name).write_text("1")
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine", BOARD)
    return planned(tmp_path)


def planned(folder: Path, **changes: Any) -> Plan:
    """The plan of that folder with other settings."""
    own = {"data__source": {"kind": "voc", "root": "voc"}, "measure__profiles_folder": "mine", "measure__profiles": [BOARD]}
    return load_plan(write_params(folder, **(own | {"grid__design_profile": BOARD} | changes)))


def seen(plan: Plan) -> dict[str, str]:
    """Name -> content of what is written now."""
    return {path.stem: path.read_text() for path in inputs(plan, plan.base / "inputs", plan.base / "prepared")}


def changed(plan: Plan, before: dict[str, str]) -> set[str]:
    """The files that are not what they were."""
    return {name for name, text in seen(plan).items() if before[name] != text}


def test_equal_inputs_give_equal_files(plan: Plan) -> None:
    """Else everything would be made again each time."""
    assert tuple(seen(plan)) == FILES
    assert changed(plan, seen(plan)) == set()


def test_a_corrected_label_concerns_the_data_alone(plan: Plan) -> None:
    """Though its file has the same size as before."""
    before = seen(plan)
    (plan.base / "voc/Annotations/a.xml").write_text("2")
    assert changed(plan, before) == {"prepare"}


def test_another_version_concerns_what_is_made(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of our own code, or of a library."""
    before = seen(plan)
    for name, files in (("nas", MAKING), ("estimate", MAKING | {"measure"})):
        with monkeypatch.context() as patch:
            patch.setitem(inputs_module.VERSIONS, name, 99)
            assert changed(plan, before) == files
    monkeypatch.setattr(inputs_module, "library_versions", lambda: {"torch": "99"})
    assert changed(plan, before) == MAKING


def test_a_profile_of_ones_own_concerns_those_who_use_it(plan: Plan) -> None:
    """Its numbers decide what a search keeps and what an estimate says; its sources are shown beside them.

    A plan reads its design profile once, so the changed one is seen by the next command.
    """
    before = seen(plan)
    path = write(plan.base / "mine", BOARD)
    path.write_text(path.read_text().replace("chosen: for this test", "chosen: for that test"))
    assert changed(plan, before) == {"measure"}
    write(plan.base / "mine", BOARD, op_overhead_us={"fp32": 7, "int8": 8})
    assert changed(load_plan(plan.base / "params.yaml"), before) == MAKING | {"measure"}


SECTIONS: dict[str, tuple[Any, set[str]]] = {
    "data__pixel_cache_bytes": (7, {"prepare"}),
    "teacher__training__epochs": (7, {"teacher"}),
    "grid__recovery__epochs": (7, {"grid"}),
    "measure__rounds": (7, {"measure"}),
    "report__max_drop": (0.5, {"report"}),
    "seed": (7, {"prepare", *MAKING}),
    "check__alpha": (0.01, set()),
}


@pytest.mark.parametrize("field", SECTIONS)
def test_a_section_concerns_its_stage(plan: Plan, field: str) -> None:
    """Whether it is written out in the params file or not: DVC's own `params` would refuse a file that lacks one."""
    value, stages = SECTIONS[field]
    before = seen(plan)
    assert changed(planned(plan.base, **{field: value}), before) == stages


@pytest.mark.parametrize("here", [False, True], ids=["no folder", "an empty one"])
def test_prepared_data_whose_source_is_elsewhere_stays_what_it_is(tmp_path: Path, here: bool) -> None:
    """A machine with the prepared folder but without the pictures has nothing to make again."""
    source = {"kind": "voc", "root": "voc"}
    if here:
        (tmp_path / "voc").mkdir()
    plan = load_plan(write_params(tmp_path, data__source=source))
    pictures = GeneratedSource(pictures=PictureCounts(train=2, val=2, test=2), picture_size=(64, 96), object_size_px=(16.0, 32.0))
    prepared = prepare(Data(name="tiny", source=pictures, input_size=(64, 96)), tmp_path, tmp_path / "prepared", 0, lambda _: None)
    wanted = inputs_module.provenance(plan.params.data, plan.base, plan.params.seed)
    made_from = wanted.model_copy(update={"files": "f" * 64})
    told = prepared.model_copy(update={"made_from": made_from})
    (tmp_path / "prepared/prepared.json").write_text(told.model_dump_json(by_alias=True))
    assert "f" * 64 in seen(plan)["prepare"]
    shutil.rmtree(tmp_path / "prepared")
    assert "f" * 64 not in seen(plan)["prepare"]
