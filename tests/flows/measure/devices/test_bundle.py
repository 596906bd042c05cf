"""Export and import: whole folders or none, and only the answer to an export of ours is let in."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from detection.boxes import fitted
from detection.frozen import InputError
from flows.measure.devices.bundle import export, import_results, with_rows_of
from flows.measure.devices.imported import ExportManifest, newest_session
from flows.measure.host import order_seeds
from flows.measure.measured_rows import empty_row
from flows.records.schema import CellsFile, LatencyFile
from flows.records.store import Observations
from hardware_profiles.schema.profile import HardwareProfile
from tests.flows.device_factory import (
    CONFIG,
    NAME,
    PICTURES,
    device_profile,
    exported,
    faked_results,
    session_of,
    signed,
    two_cells,
)
from tests.flows.latency_factory import record, sweep, three_pictures
from tests.hardware_profiles.tiny_model import INPUT_SIZE, write_model


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder; tests only read it."""
    return exported(tmp_path_factory.mktemp("export"))


@pytest.fixture
def cells(tmp_path: Path) -> CellsFile:
    """Three cells with two files."""
    return two_cells(tmp_path)


@pytest.fixture
def profile(tmp_path: Path) -> HardwareProfile:
    """Of a device like this machine."""
    return device_profile(tmp_path)


def listing(folder: Path) -> list[str]:
    """All files below, or nothing where there is no such folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def results_file(carried: Path, folder: Path, **changes: object) -> Path:
    """A results.json of invented times, changed after it was signed."""
    path = folder / "results.json"
    path.write_text(json.dumps(faked_results(carried) | changes))
    return path


def test_an_exported_folder_has_all_it_takes(carried: Path) -> None:
    """Each distinct file once under its digest, pictures, the script and what it runs, and a manifest that says what each is."""
    manifest = ExportManifest.model_validate_json((carried / "manifest.json").read_text())
    assert listing(carried) == sorted([*manifest.files, "manifest.json"])
    code = [name for name in manifest.files if name.startswith("hardware_profiles/")]
    assert {name.split("/")[1] for name in code} == {"__init__.py", "runtimes", "timing"}
    assert sorted(manifest.files) == sorted(
        [*(model.path for model in manifest.models.values()), "inputs.npz", "measure.py", *code]
    )
    assert sorted(model.cells for model in manifest.models.values()) == [("none", "low_rank"), ("pruning",)]
    assert "none" in manifest.models[manifest.control].cells
    assert (manifest.profile, manifest.runtime, manifest.threads) == (NAME, "onnxruntime", 1)
    assert (manifest.protocol, manifest.order_seeds) == (CONFIG.protocol(), order_seeds(CONFIG))


def test_pictures_are_as_the_network_sees_them(carried: Path) -> None:
    """Letterboxed here, for the device has no OpenCV."""
    with np.load(carried / "inputs.npz") as packed:
        assert packed.files == ["8x12"]
        np.testing.assert_array_equal(packed["8x12"], [fitted(picture, INPUT_SIZE) for picture in PICTURES])


def test_files_of_another_resolution_get_their_own_pictures(profile: HardwareProfile, tmp_path: Path) -> None:
    """The manifest names the array that fits each file."""
    small = {"onnxruntime": write_model(tmp_path / "small.onnx", 3, (4, 6))}
    whole = {"onnxruntime": write_model(tmp_path / "whole.onnx")}
    cells = sweep(record("none", whole), references=[record("resolution", small)])
    (target,) = export(session_of(tmp_path, cells), [profile], tmp_path / "carried")
    manifest = ExportManifest.model_validate_json((target / "manifest.json").read_text())
    assert {model.cells: model.inputs for model in manifest.models.values()} == {("none",): "8x12", ("resolution",): "4x6"}
    with np.load(target / "inputs.npz") as packed:
        assert packed["4x6"].shape == (2, 4, 6, 3)


def test_openvino_files_travel_in_pairs(tmp_path: Path) -> None:
    """The .bin lies beside the .xml, and the digest is of both."""
    import hashlib

    from hardware_profiles.runtimes.openvino.runtime import import_openvino

    openvino = import_openvino()
    openvino.save_model(openvino.convert_model(str(write_model(tmp_path / "none.onnx"))), str(tmp_path / "model.xml"))
    own = record("none", {"openvino": tmp_path / "model.xml"})
    both = (tmp_path / "model.xml").read_bytes() + (tmp_path / "model.bin").read_bytes()
    artifact = own.artifacts["openvino"].model_copy(update={"digest": hashlib.sha256(both).hexdigest()})
    cells = sweep(own.model_copy(update={"artifacts": {"openvino": artifact}}))
    profile = device_profile(tmp_path, runtime="openvino")
    (target,) = export(session_of(tmp_path, cells), [profile], tmp_path / "carried")
    assert [name.rpartition("/")[2] for name in listing(target / "models")] == ["model.bin", "model.xml"]


def test_several_profiles_get_a_folder_each(cells: CellsFile, profile: HardwareProfile, tmp_path: Path) -> None:
    """One command, in the order asked for."""
    other = device_profile(tmp_path, id="other-device")
    targets = export(session_of(tmp_path, cells), [profile, other], tmp_path / "carried")
    assert [target.name for target in targets] == [NAME, "other-device"]
    assert len(listing(tmp_path / "observations" / "exports")) == 2


def test_a_changed_store_is_not_exported(cells: CellsFile, profile: HardwareProfile, tmp_path: Path) -> None:
    """A file that is not the one that was scored stops the export, and no folder of it is left."""
    (tmp_path / "pruning.onnx").write_bytes((tmp_path / "none.onnx").read_bytes())
    with pytest.raises(InputError, match=r"pruning\.onnx: differs from its record in cells\.json"):
        export(session_of(tmp_path, cells), [profile], tmp_path / "carried")
    assert listing(tmp_path / "carried") == listing(tmp_path / "observations" / "exports") == []


def test_nothing_is_overwritten(cells: CellsFile, profile: HardwareProfile, tmp_path: Path) -> None:
    """A folder that may hold an hour's results stays; with two profiles, neither is written."""
    other = device_profile(tmp_path, id="other-device")
    (tmp_path / "carried" / "other-device").mkdir(parents=True)
    with pytest.raises(InputError, match=r"other-device: exists already\. Remove it or export into another folder"):
        export(session_of(tmp_path, cells), [profile, other], tmp_path / "carried")
    assert [path.name for path in (tmp_path / "carried").iterdir()] == ["other-device"]


def test_a_file_in_the_way_is_named(cells: CellsFile, profile: HardwareProfile, tmp_path: Path) -> None:
    """Before anything is written."""
    (tmp_path / "carried").write_text("")
    with pytest.raises(InputError, match="carried: is a file, and a folder is needed"):
        export(session_of(tmp_path, cells), [profile], tmp_path / "carried")


def test_a_host_profile_is_measured_here(cells: CellsFile, tmp_path: Path) -> None:
    """Exporting it would measure another machine under this one's name."""
    profile = device_profile(tmp_path, kind="host")
    with pytest.raises(InputError, match="toy-device: a profile of the machine that runs the stage"):
        export(session_of(tmp_path, cells), [profile], tmp_path / "carried")


def test_a_runtime_we_make_no_files_for_is_refused(cells: CellsFile, tmp_path: Path) -> None:
    """With what it would take and what is allowed."""
    profile = device_profile(tmp_path, runtime="ncnn")
    with pytest.raises(InputError, match=r"toy-device: runs ncnn .*Allowed are device profiles that run onnxruntime or openvino"):
        export(session_of(tmp_path, cells), [profile], tmp_path / "carried")


def test_a_runtime_the_grid_left_out_is_refused(cells: CellsFile, tmp_path: Path) -> None:
    """The message names the setting."""
    profile = device_profile(tmp_path, runtime="openvino")
    with pytest.raises(InputError, match=r"no cell has a file for openvino\. Add it to grid\.runtimes and run `sixfold grid`"):
        export(session_of(tmp_path, cells), [profile], tmp_path / "carried")


@pytest.fixture
def store(carried: Path, tmp_path: Path) -> Observations:
    """A store that knows the export and nothing else."""
    own = Observations(tmp_path / "observations")
    shutil.copytree(carried.parents[1] / "observations" / "exports", own.exports)
    return own


def test_results_come_home(carried: Path, store: Observations, tmp_path: Path) -> None:
    """They are kept whole, with the manifest they answer, and appended as observations under the device's own environment."""
    session = import_results(results_file(carried, tmp_path), store)
    assert newest_session(NAME, store.devices) == session
    assert len(session.rounds()) == 3
    written = [json.loads(path.read_text()) for path in store.latency.rglob("*.json")]
    assert sorted(own["artifact_digest"] for own in written) == sorted(session.manifest.models)
    assert all(own["environment"]["cpu"] == "Toy A1" and len(own["rounds"]) == 3 for own in written)


def test_what_comes_home_twice_is_one_observation(carried: Path, store: Observations, tmp_path: Path) -> None:
    """Importing again changes nothing."""
    import_results(results_file(carried, tmp_path), store)
    before = listing(store.root)
    import_results(results_file(carried, tmp_path), store)
    assert listing(store.root) == before


def test_results_of_an_unknown_export_are_refused(carried: Path, tmp_path: Path) -> None:
    """Another store's, or of an export that was not of ours: nothing is kept."""
    with pytest.raises(InputError, match=r"which this store does not know\. Import it with the params file that it was exported"):
        import_results(results_file(carried, tmp_path), Observations(tmp_path / "empty"))
    assert listing(tmp_path / "empty") == []


def test_damaged_and_foreign_results_leave_nothing(carried: Path, store: Observations, tmp_path: Path) -> None:
    """Refused before anything is written."""
    before = listing(store.root)
    with pytest.raises(InputError, match="its digest does not agree"):
        import_results(results_file(carried, tmp_path, profile="raspberry-pi-5"), store)
    foreign = tmp_path / "results.json"
    foreign.write_text(json.dumps(signed(faked_results(carried) | {"profile": "raspberry-pi-5"})))
    with pytest.raises(InputError, match=r"measures profile raspberry-pi-5, the export was for toy-device\. Nothing was imported"):
        import_results(foreign, store)
    assert listing(store.root) == before


def test_without_pictures_there_is_no_export(cells: CellsFile, profile: HardwareProfile, tmp_path: Path) -> None:
    """Noise would be timed as well, but nobody's detector sees noise."""
    none = dataclasses.replace(three_pictures(), picture_ids=(), pixels=np.zeros((0, *INPUT_SIZE, 3), np.uint8))
    session = dataclasses.replace(session_of(tmp_path, cells), images=none)
    with pytest.raises(InputError, match="the val split holds no pictures"):
        export(session, [profile], tmp_path / "carried")


def test_rows_of_one_profile_are_exchanged(tmp_path: Path) -> None:
    """The other profiles keep their rows and their order; a profile that was not there comes last."""

    def rows(*names: tuple[str, str]) -> LatencyFile:
        cells = two_cells(tmp_path)
        own = {name: device_profile(tmp_path, id=name) for name, _ in names}
        return LatencyFile(
            environment={}, rows=tuple(empty_row(cells.cells[0], own[name], "measured", why=why) for name, why in names)
        )

    old = rows(("a", "old"), ("b", "old"), ("c", "old"))
    new = rows(("b", "new"), ("d", "new"))
    found = [(row.profile, row.why) for row in with_rows_of(old, new).rows]
    assert found == [("a", "old"), ("b", "new"), ("c", "old"), ("d", "new")]
