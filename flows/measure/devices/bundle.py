"""Measuring on a device: a folder to copy there, and what comes back from it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

import hardware_profiles
from detection.boxes import fitted
from detection.frozen import Digest, InputError
from detection.model_file import reader_of
from flows.measure.devices import script
from flows.measure.devices.imported import DeviceSession, ExportManifest, Model, mismatch, parse_results, session_file
from flows.measure.host import order_seeds, pictures_as_taken
from flows.measure.session import MeasureSession
from flows.measure.stage import measure
from flows.progress import Say
from flows.records.files import file_digest, write_text
from flows.records.schema import CONTROL, LatencyFile, read_records, write_records
from flows.records.store import Observations
from flows.sweep import workspace
from hardware_profiles.runtimes.table import RUNTIMES, file_parts, open_session
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.calls import Picture
from hardware_profiles.timing.round import File

SCRIPT = "measure.py"
CODE = Path(hardware_profiles.__file__).parent
CARRIED = ("runtimes", "timing")
"""Folders of `hardware_profiles` that the script runs: sessions and timing on a device are those of this machine."""


def export_bundles(session: MeasureSession, names: Sequence[str], folder: Path, say: Say = print) -> None:
    """Write a folder per device profile, the named ones or all of the params, and say what to do with it."""
    chosen = session.profiles(names)
    if not names:
        chosen = [profile for profile in chosen if profile.kind == "device" and profile.producible]
    if not chosen:
        raise InputError(
            f"measure.profiles has no device that sixfold makes files for, only {', '.join(session.config.profiles)}. "
            f"Name one with --profile; `sixfold profiles list` shows which there are."
        )
    for target in export(session, chosen, folder):
        say(f"{target}: copy it to the device and run `python {SCRIPT}` in it; that needs numpy and the runtime only")
    say("Next: `sixfold measure --import results.json`, with the file that it wrote.")


def export(session: MeasureSession, profiles: Sequence[HardwareProfile], folder: Path) -> tuple[Path, ...]:
    """One new folder per profile, whole or not at all: models, pictures as they take them, a manifest, the script and what it runs.

    The manifests are also kept in the store, for the import to compare with.
    """
    pictures = pictures_as_taken(session.images, session.config.pictures)
    if not pictures:
        raise InputError("the val split holds no pictures; measuring needs real ones. Run `sixfold prepare` with some.")
    for profile in profiles:
        _refuse(profile, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sixfold-export-", dir=folder) as name:
        manifests = [_fill(Path(name) / profile.id, profile, session, pictures) for profile in profiles]
        for manifest in manifests:
            write_records(session.observations.exports / f"{manifest.digest}.json", manifest)
        return tuple((Path(name) / profile.id).rename(folder / profile.id) for profile in profiles)


def import_rows(session: MeasureSession, results: Path, say: Say = print) -> LatencyFile | None:
    """The workspace's rows with the device's in place of its estimates; None where only the next measurement can use them.

    The results are in the store either way, and every later measurement takes them.
    """
    name = import_results(results, session.observations).manifest.profile
    if name not in session.config.profiles:
        say(f"imported for {name}\nNext: add {name} to measure.profiles and run `sixfold measure`.")
        return None
    if not workspace.LATENCY.is_file():
        say(f"imported for {name}\nNext: `sixfold measure`.")
        return None
    return with_rows_of(read_records(workspace.LATENCY, LatencyFile), measure(session, session.profiles((name,)), say))


def import_results(path: Path, observations: Observations) -> DeviceSession:
    """What a device's results.json holds, now kept in the store; InputError where it is not the answer to an export of ours."""
    results = parse_results(path)
    known = observations.exports / f"{results.manifest}.json"
    if not known.is_file():
        raise InputError(
            f"{path}: answers the export {results.manifest[:12]}, which this store does not know. Import it with the params file "
            f"that it was exported with, or export again."
        )
    try:
        manifest = ExportManifest.model_validate_json(known.read_text())
    except ValidationError as error:
        raise InputError(f"{known}: not a manifest of this version. Export again and measure that.") from error
    if why := mismatch(manifest, results):
        raise InputError(f"{path}: {why}. Nothing was imported; measure the exported folder again, as it was exported.")
    session = DeviceSession(imported_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), manifest=manifest, results=results)
    kept = session_file(session, observations.devices)
    if not kept.is_file():
        observations.append(manifest.profile, session.rounds(), results.environment, manifest.protocol.model_dump())
        write_text(kept, session.model_dump_json(by_alias=True) + "\n")  # last: what is there is whole
    return session


def with_rows_of(old: LatencyFile, new: LatencyFile) -> LatencyFile:
    """`old` with the rows of the profiles that `new` has, in their old places or at the end."""
    rows = {profile: [row for row in file.rows if row.profile == profile] for file in (old, new) for profile in file.profiles()}
    return old.model_copy(update={"rows": tuple(row for own in rows.values() for row in own)})


def _refuse(profile: HardwareProfile, folder: Path) -> None:
    """InputError where the profile cannot be measured elsewhere, or its folder is there already."""
    if profile.kind == "host":
        raise InputError(
            f"{profile.id}: a profile of the machine that runs the stage; `sixfold measure` times it without --export."
        )
    if not profile.producible:
        raise InputError(
            f"{profile.id}: runs {profile.runtime} ({profile.file_format}), which sixfold does not make; it can only be estimated. "
            f"Allowed are device profiles that run {' or '.join(RUNTIMES)}."
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, and a folder is needed. Name another one.")
    if (folder / profile.id).exists():
        raise InputError(f"{folder / profile.id}: exists already. Remove it or export into another folder.")


def _fill(folder: Path, profile: HardwareProfile, session: MeasureSession, pictures: Sequence[Picture]) -> ExportManifest:
    """Write everything of one profile and say what it is."""
    files = session.files(profile)
    if not files:
        raise InputError(f"{profile.id}: no cell has a file for {profile.runtime}. Add it to grid.runtimes and run `sixfold grid`.")
    models: dict[Digest, Model] = {}
    inputs: dict[tuple[int, int], NDArray[Any]] = {}
    for file in files:
        path = _copy_model(file, folder)
        size = open_session(profile.runtime, Path(file.path), 1).input_size
        if size not in inputs:  # files of one size are fed alike: they are of one sweep
            tensor, resize = reader_of(Path(file.path)).tensor, session.images.resize
            inputs[size] = np.concatenate([tensor(fitted(picture, size, resize)) for picture in pictures])
        sharing = [own.cell for own in session.records if any(one.digest == file.digest for one in own.artifacts.values())]
        models[file.digest] = Model(path=path, inputs=_inputs_name(size), cells=tuple(sharing))
    named: dict[str, Any] = {_inputs_name(size): inputs[size] for size in sorted(inputs)}
    np.savez_compressed(folder / script.PIXELS_NAME, **named)
    _copy_code(folder)
    control = session.cells.cell(CONTROL)
    manifest = ExportManifest(
        sweep=session.cells.sweep,
        profile=profile.id,
        machine=profile.machine,
        runtime=profile.runtime,
        threads=profile.threads,
        protocol=session.config.protocol(),
        order_seeds=order_seeds(session.config),
        control=control.artifacts[profile.runtime].digest if control and profile.runtime in control.artifacts else None,
        models=models,
        files={path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()},
    )
    write_records(folder / script.MANIFEST_NAME, manifest)
    return manifest


def _copy_model(file: File, folder: Path) -> str:
    """Where the copy of a model lies, relative to the folder; InputError where its bytes are not those that were scored."""
    parts = file_parts(Path(file.path))
    place = Path("models") / file.digest
    (folder / place).mkdir(parents=True)
    for part in parts:
        shutil.copyfile(part, folder / place / part.name)
    if file_digest(*parts) != file.digest:
        raise InputError(f"{file.path}: differs from its record in cells.json. Run `sixfold grid` again, which makes it again.")
    return (place / parts[0].name).as_posix()


def _copy_code(folder: Path) -> None:
    """The script, and the modules that it runs under their own names; they import numpy and the runtime and nothing else."""
    shutil.copyfile(script.__file__, folder / SCRIPT)
    for path in (CODE / "__init__.py", *(path for name in CARRIED for path in sorted((CODE / name).rglob("*.py")))):
        target = folder / CODE.name / path.relative_to(CODE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _inputs_name(size: tuple[int, int]) -> str:
    """Of (height, width)."""
    return f"{size[0]}x{size[1]}"
