"""`sixfold measure` over the workspace: a device's rows are measured, imported or estimated, and each says which."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detection.boxes import fitted
from detection.file_interface.declaration import Boxes, Decoding, Scores
from detection.file_interface.interface import FileInterface, PictureForm
from detection.frozen import InputError
from detection.spec import Spec
from flows.grid.nodes import NODES
from flows.measure.devices.bundle import export_bundles, import_rows
from flows.measure.host import pictures_as_taken
from flows.measure.session import MeasureSession
from flows.measure.stage import measure
from flows.records.schema import LatencyFile, read_records, write_records
from flows.sweep import workspace
from hardware_profiles.timing.environment import digest_of
from tests.conftest import TINY
from tests.flows.cli_runner import Sixfold
from tests.flows.device_factory import NAME, device_profile, faked_results, session_of, signed, two_cells
from tests.flows.latency_factory import record, sweep
from tests.hardware_profiles.tiny_model import INPUT_SIZE, write_model

ESTIMATED = "raspberry-pi-5" if platform.machine() == "x86_64" else "x86-openvino-1t"


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MeasureSession:
    """Three cells with two files, one device of this machine's kind, and a store that knows what the cells consist of."""
    monkeypatch.chdir(tmp_path)
    device_profile(tmp_path)
    own = session_of(tmp_path, two_cells(tmp_path))
    with own.store.writing(NODES, "0" * 64) as folder:
        spec = Spec(classes=("a", "b"), input_size=(64, 96), settings=TINY)
        (folder / "spec.json").write_text(spec.model_dump_json(by_alias=True))
    return own


def exported(session: MeasureSession, names: tuple[str, ...] = ()) -> Path:
    """What would be carried to the device."""
    export_bundles(session, names, Path("carried"), lambda _: None)
    return Path("carried") / NAME


def measured(session: MeasureSession) -> LatencyFile:
    """What the stage finds on the profiles of the params."""
    return measure(session, session.profiles(), lambda _: None)


def imported(session: MeasureSession, results: Path) -> LatencyFile:
    """The workspace's rows after an import."""
    write_records(workspace.LATENCY, measured(session))
    latency = import_rows(session, results, lambda _: None)
    assert latency is not None
    return latency


def answer(session: MeasureSession) -> Path:
    """A results.json with invented times: medians of 3 ms, of 6 ms for one of the two files."""
    path = Path("results.json")
    path.write_text(json.dumps(faked_results(exported(session))))
    return path


def sources(latency: LatencyFile) -> list[tuple[str, str]]:
    """Profile and source of each row."""
    return [(row.profile, row.source) for row in latency.rows]


def test_without_an_import_the_estimate_stands_in_and_says_why(session: MeasureSession) -> None:
    """Under its own label, with numbers, and with the commands that measure it."""
    for row in measured(session).rows:
        assert row.source in ("estimated", "calibrated")
        assert row.p50_s is not None
        assert row.rounds_s == ()
        assert f"not measured on the device yet: `sixfold measure --export FOLDER --profile {NAME}`" in (row.why or "")


def test_a_profile_without_files_is_told_nothing(session: MeasureSession, tmp_path: Path) -> None:
    """A runtime that no cell has a file for needs no device: its rows are estimates and name no command."""
    other = device_profile(tmp_path, id="other-device", runtime="openvino")
    assert {row.why for row in measure(session, [other], lambda _: None).rows} == {None}


def test_an_import_of_another_control_is_not_used(session: MeasureSession, tmp_path: Path) -> None:
    """The sweep was made anew since: times of files that are gone compare with nothing."""
    imported(session, answer(session))
    (tmp_path / "anew").mkdir()
    anew = replace(session, cells=two_cells(tmp_path / "anew", control_seed=99))
    for row in measured(anew).rows:
        assert row.source != "measured"
        assert "is of another control, measure again: `sixfold measure --export" in (row.why or "")


def test_imported_rounds_become_measured_rows(session: MeasureSession) -> None:
    """Times, speedup, environment and runtime are those of the device; what was not measured there is empty."""
    results = answer(session)
    latency = imported(session, results)
    assert sources(latency) == [(NAME, "measured")] * 3
    control, pruned, shared = latency.rows
    assert sorted([control.p50_s, pruned.p50_s]) == [pytest.approx(3e-3), pytest.approx(6e-3)]
    assert pruned.speedup == pytest.approx(control.p50_s / pruned.p50_s)
    assert shared.speedup == 1.0
    environment = json.loads(results.read_text())["environment"]
    assert {row.environment for row in latency.rows} == {digest_of(environment)}
    assert {row.runtime for row in latency.rows} == {"onnxruntime 1.20.0"}
    assert {row.end_to_end_p50_s for row in latency.rows} == {None}


def test_the_next_measurement_uses_what_was_imported(session: MeasureSession) -> None:
    """The same rows, without importing again."""
    results = answer(session)
    latency = imported(session, results)
    assert measured(session).rows == latency.rows


def test_an_import_leaves_other_profiles_alone(session: MeasureSession) -> None:
    """Nothing else is measured or estimated anew."""
    results = answer(session)
    two = replace(session, config=session.config.model_copy(update={"profiles": (ESTIMATED, NAME)}))
    latency = imported(two, results)
    before = read_records(workspace.LATENCY, LatencyFile)
    assert [row.profile for row in latency.rows] == [ESTIMATED] * 3 + [NAME] * 3
    assert latency.rows[:3] == before.rows[:3]


def test_a_cell_that_was_made_since_has_no_number(session: MeasureSession, tmp_path: Path) -> None:
    """It is not estimated beside measured ones; its row says what to do."""
    results = answer(session)
    import_rows(session, results, lambda _: None)
    (tmp_path / "anew").mkdir()
    anew = two_cells(tmp_path / "anew", pruned_seed=8)
    latency = measured(replace(session, cells=anew))
    assert sources(latency) == [(NAME, "measured")] * 3
    pruned = latency.row("pruning", NAME)
    assert pruned is not None
    assert pruned.p50_s is None
    assert pruned.why == f"no times of this file: it was not there when {NAME} was measured; measure or export again"


def test_without_rows_yet_an_import_waits_for_the_next_measurement(session: MeasureSession) -> None:
    """A latency.json of one profile alone would be half of a result."""
    said: list[str] = []
    assert import_rows(session, answer(session), said.append) is None
    assert said == [f"imported for {NAME}\nNext: `sixfold measure`."]
    assert not workspace.LATENCY.exists()


def test_a_refused_import_changes_nothing(session: MeasureSession) -> None:
    """Neither the rows nor the store."""
    results = answer(session)
    content = json.loads(results.read_text())
    results.write_text(json.dumps(signed(content | {"manifest": "0" * 64})))
    with pytest.raises(InputError, match="answers the export 000000000000, which this store does not know"):
        import_rows(session, results)
    assert not session.observations.devices.exists()


def test_export_takes_the_devices_of_the_params(session: MeasureSession) -> None:
    """Where none is named; with the next two commands."""
    said: list[str] = []
    export_bundles(session, (), Path("carried"), said.append)
    assert [line.split(":")[0] for line in said] == [f"carried/{NAME}", "Next"]
    assert (Path("carried") / NAME / "measure.py").is_file()


def test_export_without_a_device_says_how_to_name_one(session: MeasureSession) -> None:
    """A plan with hosts and foreign runtimes only."""
    none = replace(session, config=session.config.model_copy(update={"profiles": ("jetson-nano",)}))
    with pytest.raises(InputError, match=r"no device that sixfold makes files for, only jetson-nano\. Name one with --profile"):
        export_bundles(none, (), Path("carried"))


def test_export_run_import_from_end_to_end(session: MeasureSession) -> None:
    """Export, the real script in its own process, import: measured rows of this machine as if it were the device."""
    folder = exported(session, (NAME,))
    command = [sys.executable, "measure.py"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    latency = imported(session, folder / "results.json")
    assert sources(latency) == [(NAME, "measured")] * 3
    assert all(len(row.rounds_s) == 3 for row in latency.rows)


def test_a_users_file_is_fed_on_the_device_as_at_home(session: MeasureSession, tmp_path: Path) -> None:
    """Stretched, as planes of 32-bit numbers in the file's order of colours; the real script times it and its rows come back."""
    interface = FileInterface(
        layout="nchw", dtype="float32", picture=PictureForm(colour="bgr", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)),
        outputs=("boxes", "scores"), classes=2,
        decoding=Decoding(boxes=Boxes(outputs=("boxes",), form="xyxy"), scores=Scores(outputs=("scores",))),
    )  # fmt: skip
    interface.write(tmp_path)
    paths = {
        name: {"onnxruntime": write_model(tmp_path / f"{name}.onnx", i, planes=True)} for i, name in enumerate(("none", "low_rank"))
    }
    cells = sweep(*(record(name, files) for name, files in paths.items()))
    images = replace(session.images, resize="stretch")
    session = replace(session, cells=cells, images=images)
    folder = exported(session, (NAME,))
    with np.load(folder / "inputs.npz") as packed:
        stretched = [fitted(picture, INPUT_SIZE, "stretch") for picture in pictures_as_taken(images, 2)]
        np.testing.assert_array_equal(packed["8x12"], np.concatenate([interface.tensor(picture) for picture in stretched]))
        assert packed["8x12"].dtype == np.float32
    done = subprocess.run(
        [sys.executable, "measure.py"], cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    latency = imported(session, folder / "results.json")
    assert [(row.cell, row.source, row.why) for row in latency.rows] == [(name, "measured", None) for name in paths]


@pytest.mark.parametrize(
    "arguments",
    [("--profile", NAME), ("--export", "carried", "--import", "results.json")],
    ids=["profile alone", "export and import"],
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...], sixfold: Sixfold, tmp_path: Path) -> None:
    """Before anything is read: exit 2 and what goes with what."""
    ended = sixfold(tmp_path, "measure", *arguments)
    assert ended.code == 2
    assert ended.err == "sixfold: --profile goes with --export FOLDER, and --export does not go with --import.\n"
