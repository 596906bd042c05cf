"""The command line: bad input is one message and exit 2, trouble with the surroundings exit 3, and nothing is half-written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from flows.cli import main
from flows.store import Store
from tests.flows.sweep_factory import Sweep, listing, write_params

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"
)  # MLflow's own use of SQLAlchemy 2.1


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Sixfold = Callable[..., Ended]


@pytest.fixture
def sixfold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sixfold:
    """Runs a command in a folder, in this process; an exception that gets out of main() would be a traceback."""

    def run(folder: Path, *arguments: str) -> Ended:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["sixfold", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A folder with tiny params and nothing else."""
    write_params(tmp_path / "fresh")
    return tmp_path / "fresh"


def refused(ended: Ended, *words: str, code: int = 2, out: str = "") -> None:
    """One message on stderr that starts with the program's name and has these words; on stdout what is told, or nothing."""
    assert ended.code == code, ended
    assert ended.err.startswith("sixfold: ")
    assert ended.err.count("\n") == 1, "one message, one line"
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err
    assert ended.out == "" if not out else ended.out.startswith(out)


STAGES = ("plan", "prepare", "teacher", "grid", "measure", "report", "check")


@pytest.mark.parametrize("stage", STAGES)
def test_a_typo_in_params_stops_every_stage_at_the_door(stage: str, sixfold: Sixfold, fresh: Path) -> None:
    """The field and the nearest right one; the folder stays as it was."""
    write_params(fresh, teachr={})
    before = listing(fresh)
    refused(sixfold(fresh, stage), "params.yaml: teachr: no such setting; did you mean 'teacher'?")
    assert listing(fresh) == before


@pytest.mark.parametrize("stage", STAGES)
def test_missing_params_stop_every_stage_at_the_door(stage: str, sixfold: Sixfold, tmp_path: Path) -> None:
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


def test_a_pattern_without_a_cell_is_one_message(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """For plan and grid alike; the records of the sweep stay."""
    before = listing(swept_copy.folder)
    for command in (("plan",), ("grid", "--no-tracking")):
        refused(sixfold(swept_copy.folder, *command, "--cells", "zzz"), "--cells 'zzz': matches none of the 8 cells")
    assert listing(swept_copy.folder) == before


def test_a_bad_executor_is_one_message(sixfold: Sixfold, fresh: Path) -> None:
    """What was found and what is allowed."""
    before = listing(fresh)
    refused(sixfold(fresh, "grid", "--executor", "spark"), "--executor 'spark': allowed are ray and inline.")
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


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 99}', "[1, 2]"])
def test_records_of_another_kind_are_one_message(text: str, sixfold: Sixfold, swept_copy: Sweep) -> None:
    """A cells.json that is empty, of another schema or of another shape names the command that writes it."""
    swept_copy.cells_path.write_text(text)
    refused(sixfold(swept_copy.folder, "measure"), "results/cells.json: not a file of schema 1", "Run `sixfold grid` again.")


def test_a_damaged_prepared_folder_is_one_message(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """prepared.json cut in half is the user's disk, not our bug."""
    (swept_copy.prepared / "prepared.json").write_text("{")
    refused(sixfold(swept_copy.folder, "plan"), "prepared.json", "sixfold prepare")


def test_a_lost_store_names_the_command_that_fills_it(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """cells.json is here, but the store it speaks of is not: `sixfold grid` makes it again."""
    swept_copy.store.root.rename(swept_copy.folder / "away")
    assert "sixfold grid" in sixfold(swept_copy.folder, "measure", "--no-tracking").err


def test_no_baseline_is_a_code_of_its_own(sixfold: Sixfold, swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 4, the verdict on stdout and in a file, and the command that accepts one; once accepted, exit 0 against itself."""
    from flows.records import LatencyFile, write_records

    folder = swept_copy.folder
    write_records(folder / "results/latency.json", LatencyFile(environment={}, rows=()))
    ended = sixfold(folder, "check")
    assert (ended.code, ended.err) == (4, "")
    assert "There is no baseline 'main' in baselines" in ended.out
    assert "`sixfold check --accept main`" in ended.out
    assert '"exit_code": 4' in (folder / "results/check/verdict.json").read_text()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["sixfold", "check", "--accept", "main"])
    with pytest.raises(SystemExit) as accepted:
        main()
    assert accepted.value.code == 0
    assert sixfold(folder, "check").code == 0


def test_a_bad_name_of_a_baseline_is_one_message(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """A name that would leave the folder is refused."""
    from flows.records import LatencyFile, write_records

    write_records(swept_copy.folder / "results/latency.json", LatencyFile(environment={}, rows=()))
    refused(sixfold(swept_copy.folder, "check", "--accept", "../main"), "baseline name '../main'")


@pytest.mark.parametrize(("number", "words"), [(errno.EROFS, "the store cannot be written"), (errno.ENOSPC, "the store is full")])
@pytest.mark.parametrize("command", [("teacher",), ("grid", "--executor", "inline", "--no-tracking")], ids=lambda c: c[0])
def test_a_store_that_cannot_be_written_is_one_message(
    command: tuple[str, ...], number: int, words: str, sixfold: Sixfold, fresh: Path, sweep_prepared: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Read-only or full is exit 3 with what to do; no part of a result is left."""
    # Root may write everywhere, so mkdir below the store answers as a read-only or full file system does.
    (fresh / "data").mkdir()
    (fresh / "data" / "prepared").symlink_to(sweep_prepared)
    mkdir, root = Path.mkdir, Store(fresh / ".sixfold/store").root

    def refuse(self: Path, *args: Any, **kwargs: Any) -> None:
        if root in (self, *self.parents):
            raise OSError(number, os.strerror(number), str(self))
        mkdir(self, *args, **kwargs)

    before = listing(fresh)
    monkeypatch.setattr(Path, "mkdir", refuse)
    refused(sixfold(fresh, *command), str(root), words, code=3, out="node teacher" if command == ("teacher",) else "")
    assert listing(fresh) == before


@pytest.mark.parametrize("command", [("teacher",), ("grid", "--executor", "inline", "--no-tracking")], ids=lambda c: c[0])
def test_a_file_where_the_store_should_be_is_one_message(command: tuple[str, ...], sixfold: Sixfold, swept_copy: Sweep) -> None:
    """store.url names a file: this works for root too, unlike permissions."""
    swept_copy.store.root.rename(swept_copy.folder / "away")
    swept_copy.store.root.write_text("a file")
    assert sixfold(swept_copy.folder, *command).err.startswith("sixfold: ")


def test_a_second_grid_is_one_message(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """Another driver on the same sweep and store is infrastructure: exit 3."""
    with FileLock(swept_copy.store.lock_path("tiny")):
        ended = sixfold(swept_copy.folder, "grid", "--executor", "inline", "--no-tracking")
    refused(ended, "another grid of sweep 'tiny' is running on this store", code=3)


def test_plan_prints_what_is_stored_and_what_is_not(sixfold: Sixfold, swept: Sweep) -> None:
    """A table of kinds, the pictures, and on what the forecast rests."""
    ended = sixfold(swept.folder, "plan")
    assert (ended.code, ended.err) == (0, "")
    assert "sweep tiny: 8 cells" in ended.out
    assert "to train 0 pictures (whole graph 144), to search 0, teacher forwards 0, artifacts to score 0" in ended.out
    assert "(from times of 9 stored nodes)" in ended.out


def test_a_finished_grid_ends_with_what_comes_next(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """Exit 0, where the result lies, and the next command."""
    ended = sixfold(swept_copy.folder, "grid", "--executor", "inline", "--no-tracking")
    assert ended.code == 0
    assert "8 of 8 cells ok: results/cells.json\n" in ended.out
    assert ended.out.endswith("Next: `sixfold measure`.\n")


def test_prepare_then_teacher_then_grid_from_nothing(sixfold: Sixfold, fresh: Path) -> None:
    """The commands in their order, in a folder that holds params only; each says where its result lies."""
    write_params(fresh, grid__methods={name: [] for name in ("lightweight", "nas", "pruning", "low_rank", "quantization")})
    said = [sixfold(fresh, *words.split()) for words in ("prepare", "teacher", "grid --executor inline --no-tracking")]
    assert [ended.code for ended in said] == [0, 0, 0]
    assert "in data/prepared\nNext: `sixfold teacher`." in said[0].out
    assert ": models/teacher\nNext: `sixfold grid`" in said[1].out
    assert "2 cells, 3 nodes: 1 stored, 2 to make, 2 to score\n" in said[2].out
    assert "2 of 2 cells ok: results/cells.json" in said[2].out


def test_profiles_are_listed(sixfold: Sixfold, tmp_path: Path) -> None:
    """Every profile of the package, with whether its numbers are measured; no params file is needed."""
    ended = sixfold(tmp_path, "profiles")
    assert ended.code == 0
    for path in (Path(__file__).resolve().parents[2] / "hardware_profiles").glob("*.yaml"):
        assert path.stem in ended.out


def test_doctor_writes_what_it_prints(sixfold: Sixfold, tmp_path: Path) -> None:
    """The same JSON on stdout and in the file, whose folder is made."""
    ended = sixfold(tmp_path, "doctor", "--write", "results/environment.json")
    assert ended.code == 0
    assert (tmp_path / "results/environment.json").read_text() == ended.out


def test_the_installed_program_ends_without_a_traceback(tmp_path: Path) -> None:
    """In a process of its own, as a user runs it."""
    command = [sys.executable, "-c", "from flows.cli import main; main()", "grid"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    refused(Ended(ended.returncode, ended.stdout, ended.stderr), "params.yaml: no such params file.")
    assert list(tmp_path.iterdir()) == []
