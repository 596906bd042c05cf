"""Measuring by hand on a device that Ray does not reach: a folder to copy there, and what comes back from it."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from detection.boxes import letterbox
from detection.frozen import Digest, InputError
from flows.measure.devices.imported import DeviceSession, ExportManifest, Model, keep_session, kept, mismatch, parse_results
from flows.measure.devices.remote import Observations, RoundPlan, parts, place
from flows.measure.devices.script import MANIFEST_NAME, PIXELS_NAME
from flows.measure.stage import files_of
from flows.records.observations import append_observations
from flows.records.schema import CONTROL, CellRecord, CellsFile, LatencyFile
from hardware_profiles.runtimes.table import RUNTIMES, open_session
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.calls import Picture
from hardware_profiles.timing.round import File

SCRIPT = "measure.py"
SOURCES = (
    "hardware_profiles/runtimes/table.py",
    "hardware_profiles/timing/process_stats.py",
    "hardware_profiles/timing/mlperf_percentile.py",
    "hardware_profiles/runtimes/empty_model.py",
    "hardware_profiles/timing/environment.py",
    "hardware_profiles/timing/calls.py",
    "flows/measure/devices/script.py",
)
"""What the script is made of, each after what it imports: sessions and timing on a device are those of this machine."""
OURS = ("detection", "hardware_profiles", "compressors", "flows")
ROOT = Path(__file__).resolve().parents[3]


def export(
    profiles: Sequence[HardwareProfile],
    cells: CellsFile,
    plan: RoundPlan,
    fetch: Callable[[str], Path],
    exports: Path,
    folder: Path,
) -> tuple[Path, ...]:
    """One new folder per profile, whole or not at all: its models, fitting pictures, a manifest and the script.

    `fetch` gives the local file of a store URL; the manifests are also kept under `exports`, for the import to compare with.
    """
    if not plan.pictures:
        raise InputError("the val split holds no pictures; measuring needs real ones. Run `sixfold prepare` with some.")
    for profile in profiles:
        _refuse(profile, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sixfold-export-", dir=folder) as name:
        manifests = [_fill(Path(name) / profile.id, profile, cells, plan, fetch) for profile in profiles]
        exports.mkdir(parents=True, exist_ok=True)
        for manifest in manifests:
            _write_whole(exports / f"{manifest.digest}.json", manifest.model_dump_json(by_alias=True, indent=1) + "\n")
        return tuple((Path(name) / profile.id).rename(folder / profile.id) for profile in profiles)


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
    if not kept(session, observations.sessions):
        append_observations(
            observations.latency, manifest.profile, session.rounds(), results.environment, manifest.protocol.model_dump()
        )
        keep_session(session, observations.sessions)  # last: what is there is whole
    return session


def with_rows_of(old: LatencyFile, new: LatencyFile) -> LatencyFile:
    """`old` with the rows of the profiles that `new` has, in their old places or at the end."""
    replaced = {profile: [row for row in new.rows if row.profile == profile] for profile in new.profiles()}
    kept = {profile: [row for row in old.rows if row.profile == profile] for profile in old.profiles()}
    return old.model_copy(update={"rows": tuple(row for rows in (kept | replaced).values() for row in rows)})


def script() -> str:
    """The text of measure.py: one file that needs Python, numpy and a runtime, made of the very modules that measure here."""
    trees = {name: ast.parse((ROOT / name).read_text()) for name in SOURCES}
    about = ast.get_docstring(trees[SOURCES[-1]], clean=False)
    sections = [f'"""{about}"""', "from __future__ import annotations"]
    for name, tree in trees.items():
        sections.append(f"# {'=' * 20} {name}")
        sections.append(_without_own_imports((ROOT / name).read_text(), tree))
    return "\n\n".join(sections) + "\n"


def _without_own_imports(text: str, tree: ast.Module) -> str:
    """The source without its docstring, and without what the joined script has already: our modules, and the future."""
    gone = {line for node in tree.body[:1] for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in (*OURS, "__future__"):
            gone |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return "\n".join(line for number, line in enumerate(text.splitlines(), start=1) if number not in gone).strip()


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


def _fill(
    folder: Path, profile: HardwareProfile, cells: CellsFile, plan: RoundPlan, fetch: Callable[[str], Path]
) -> ExportManifest:
    """Write everything of one profile and say what it is."""
    records = (*cells.cells, *cells.references)
    files = files_of(profile, records, fetch)
    if not files:
        raise InputError(f"{profile.id}: no cell has a file for {profile.runtime}. Add it to grid.runtimes and run `sixfold grid`.")
    models: dict[Digest, Model] = {}
    sizes: set[tuple[int, int]] = set()
    for file in files:
        _copy(file, folder)
        size = open_session(profile.runtime, Path(file.path), 1).input_size
        sizes.add(size)
        models[file.digest] = Model(path=place(file), inputs=_inputs_name(size), cells=_sharing(file, records))
    inputs: dict[str, Any] = _letterboxed(plan.pictures, sizes)
    np.savez_compressed(folder / PIXELS_NAME, **inputs)
    (folder / SCRIPT).write_text(script())
    control = cells.cell(CONTROL)
    manifest = ExportManifest(
        sweep=cells.sweep,
        profile=profile.id,
        machine=profile.machine,
        runtime=profile.runtime,
        threads=profile.threads,
        protocol=plan.protocol,
        order_seeds=plan.order_seeds,
        control=control.artifacts[profile.runtime].digest if control and profile.runtime in control.artifacts else None,
        models=models,
        files={path.relative_to(folder).as_posix(): _sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()},
    )
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=1) + "\n")
    return manifest


def _sharing(file: File, records: Sequence[CellRecord]) -> tuple[str, ...]:
    """Names of the cells and references whose file this is."""
    return tuple(record.cell for record in records if any(own.digest == file.digest for own in record.artifacts.values()))


def _copy(file: File, folder: Path) -> None:
    """Copy a model; InputError where its bytes are not those that were scored."""
    content = hashlib.sha256()
    target = (folder / place(file)).parent
    target.mkdir(parents=True)
    for part in parts(Path(file.path)):
        content.update(part.read_bytes())
        shutil.copyfile(part, target / part.name)
    if content.hexdigest() != file.digest:
        raise InputError(f"{file.path}: differs from its record in cells.json. Run `sixfold grid` again: it makes it anew.")


def _letterboxed(pictures: Sequence[Picture], sizes: set[tuple[int, int]]) -> dict[str, Picture]:
    """Input size -> all pictures as networks of this size see them, (N, height, width, 3)."""
    return {_inputs_name(size): np.stack([letterbox(picture, size) for picture in pictures]) for size in sorted(sizes)}


def _inputs_name(size: tuple[int, int]) -> str:
    """Of (height, width)."""
    return f"{size[0]}x{size[1]}"


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def _sha256(path: Path) -> Digest:
    return hashlib.sha256(path.read_bytes()).hexdigest()
