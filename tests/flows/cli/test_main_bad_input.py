"""Bad input is stopped before any work: one message, exit 2, and nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.flows.cli_runner import Sixfold, refused
from tests.flows.sweep_factory import Sweep, listing, write_params

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"
)  # MLflow's own use of SQLAlchemy 2.1

STAGES = ("plan", "prepare", "teacher", "grid", "measure", "report", "check")


@pytest.mark.parametrize("stage", STAGES)
def test_a_typo_in_params_stops_every_stage_at_once(stage: str, sixfold: Sixfold, fresh: Path) -> None:
    """The field and the nearest right one; the folder stays as it was."""
    write_params(fresh, teachr={})
    before = listing(fresh)
    refused(sixfold(fresh, stage), "params.yaml: teachr: no such setting; did you mean 'teacher'?")
    assert listing(fresh) == before


@pytest.mark.parametrize("stage", STAGES)
def test_missing_params_stop_every_stage_at_once(stage: str, sixfold: Sixfold, tmp_path: Path) -> None:
    """The file that was looked for and how to name another."""
    refused(sixfold(tmp_path, stage, "--params", "absent.yaml"), "absent.yaml: no such params file. Name one with --params")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"measure__profiles": ["toaster"]}, ["no hardware profile 'toaster'", "raspberry-pi-5"]),
        ({"grid__design_profile": "toaster"}, ["no hardware profile 'toaster'", "raspberry-pi-5"]),
        ({"measure__profiles": ["x86-openvino-1t"]}, ["grid.runtimes has only onnxruntime"]),
        ({"data__source": {"kind": "tarot"}}, ["data.source: ", "'tarot'", "'generated', 'coco', 'voc'"]),
        ({"seed": "lucky"}, ["seed: ", "'lucky'", "integer"]),
        ({"store__url": "s3://bucket"}, ["store.url: 's3://bucket' is not supported"]),
    ],
)
def test_impossible_params_are_one_message(changes: dict[str, Any], words: list[str], sixfold: Sixfold, fresh: Path) -> None:
    """What was found and what is allowed, before anything is written."""
    write_params(fresh, **changes)
    before = listing(fresh)
    refused(sixfold(fresh, "grid"), *words)
    assert listing(fresh) == before


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_a_missing_data_folder_is_one_message(kind: str, sixfold: Sixfold, fresh: Path) -> None:
    """Each reader names the folder that is not there; not even an empty data/ is left."""
    source: dict[str, Any] = {"kind": kind, "root": "nowhere"}
    if kind == "coco":
        source["annotations"] = {split: f"{split}.json" for split in ("train", "val", "test")}
    write_params(fresh, data__source=source)
    before = listing(fresh)
    refused(sixfold(fresh, "prepare"), str(fresh / "nowhere"), out="reading ")
    assert listing(fresh) == before


@pytest.mark.parametrize("root", ["x" * 300, "x/" * 3000], ids=["name", "path"])
@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_a_data_folder_that_no_system_can_have_is_one_message(kind: str, root: str, sixfold: Sixfold, fresh: Path) -> None:
    """A name too long for the file system is a typing error in the params, not a full disk."""
    source: dict[str, Any] = {"kind": kind, "root": root}
    if kind == "coco":
        source["annotations"] = {split: f"{split}.json" for split in ("train", "val", "test")}
    write_params(fresh, data__source=source)
    refused(sixfold(fresh, "prepare"), "no file or folder can have so long a name. Choose a shorter one.", out="reading ")


@pytest.mark.parametrize("stage", ["plan", "teacher"])
def test_nothing_prepared_is_one_message(stage: str, sixfold: Sixfold, fresh: Path) -> None:
    """The command that prepares is named; nothing is written."""
    before = listing(fresh)
    refused(sixfold(fresh, stage), "no prepared data here. Run `sixfold prepare` first.")
    assert listing(fresh) == before


@pytest.mark.parametrize("arguments", [(), ("--no-tracking",), ("--cells", "zzz")], ids=str)
def test_a_grid_with_nothing_prepared_is_one_message(arguments: tuple[str, ...], sixfold: Sixfold, fresh: Path) -> None:
    """As for the other stages, with and without tracking."""
    refused(sixfold(fresh, "grid", "--executor", "inline", *arguments), "Run `sixfold prepare` first.")


@pytest.mark.parametrize("arguments", [(), ("--no-tracking",)], ids=str)
def test_a_refused_grid_writes_nothing(arguments: tuple[str, ...], sixfold: Sixfold, fresh: Path) -> None:
    """Neither a store nor a database with a run in it."""
    before = listing(fresh)
    assert sixfold(fresh, "grid", "--executor", "inline", *arguments).code == 2
    assert listing(fresh).keys() == before.keys()


@pytest.mark.parametrize("stage", ["plan", "teacher", "grid"])
def test_data_of_other_params_is_one_message(stage: str, sixfold: Sixfold, fresh: Path, sweep_prepared: Path) -> None:
    """`seed` was changed and `prepare` not run again: the command that has to be run is named, and nothing is written."""
    write_params(fresh, seed=1)
    (fresh / "data").mkdir()
    (fresh / "data" / "prepared").symlink_to(sweep_prepared)
    before = listing(fresh)
    refused(sixfold(fresh, stage), "the way sixfold reads them, have changed since. Run `sixfold prepare` again.")
    assert listing(fresh) == before


def test_a_pattern_without_a_cell_is_one_message(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """For plan and grid alike; the records of the sweep stay."""
    before = listing(swept_copy.folder)
    for command in (("plan",), ("grid", "--no-tracking")):
        refused(sixfold(swept_copy.folder, *command, "--cells", "zzz"), "--cells 'zzz': matches none of the 8 cells")
    assert listing(swept_copy.folder) == before


def test_a_bad_executor_is_told_by_the_parser(sixfold: Sixfold, fresh: Path) -> None:
    """What was found and what is allowed."""
    before, ended = listing(fresh), sixfold(fresh, "grid", "--executor", "spark")
    assert (ended.code, ended.out) == (2, "")
    assert "Invalid value for '--executor'" in ended.err
    assert "'spark' is not one of 'ray', 'inline'" in ended.err
    assert listing(fresh) == before


def test_a_stage_before_its_time_names_the_one_before(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """measure wants cells.json of `grid`; report and check want latency.json of `measure`; nothing is written."""
    folder = swept_copy.folder
    for stage in ("report", "check"):
        before = listing(folder)
        refused(sixfold(folder, stage), "results/latency.json: no such file. Run `sixfold measure` first.")
        assert listing(folder) == before
    swept_copy.cells_path.unlink()
    for stage in ("measure", "report", "check"):
        before = listing(folder)
        refused(sixfold(folder, stage), "results/cells.json: no such file. Run `sixfold grid` first.")
        assert listing(folder) == before
