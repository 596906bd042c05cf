"""The command `quantize`: everything is checked first, then one file after the other, then what they find in the same pictures."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2

from compressors.quantization.calibrators import RangeCalibrator
from compressors.quantization.method import LEAST_PICTURES, Packed, Quantization, pack, rows_shown
from detection.boxes import Detections, fitted
from detection.checkpoint import Detector
from detection.export import export_onnx, write_interface
from detection.file_interface.declaration import Boxes, Decoding, Scores
from detection.frozen import InputError, printable
from flows.predict.detect import look
from flows.predict.model import Model, Surroundings, as_planned, opened
from flows.predict.pictures import Picture, find_pictures, readable
from flows.progress import Say, steps
from flows.quantize import text
from flows.quantize.changed import Changed, compare
from flows.quantize.record import Precision, QuantizedFile, QuantizedRecord
from flows.records.files import file_digest
from flows.records.own_folder import checked_place, own_folder
from flows.sweep.given import read_given
from flows.sweep.params import Plan, read_plan
from flows.sweep.settings import OnnxDetector
from hardware_profiles.runtimes.table import RUNTIMES, file_parts, runtime_version

CALIBRATOR: RangeCalibrator = "minmax"
"""All that occurred in the pictures: the default of ONNX Runtime's quantizer, nearly that of NNCF, and the first that the grid
tries. The grid chooses among four by val mAP; without labels nothing could choose."""
CONFIGS: dict[Precision, Quantization] = {
    "int8": Quantization(calibrator=CALIBRATOR),
    "float16": Quantization(precision="float16"),
}
UNREAD = Decoding(boxes=Boxes(outputs=(0,), form="xyxy"), scores=Scores(outputs=(0,)))
"""In place of a decoding that nobody declared. What int8 files hold does not depend on it, and it is written nowhere."""


class _Job(NamedTuple):
    """One file to write."""

    runtime: str
    precision: Precision

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.runtime}-{self.precision}"


class _Asked(NamedTuple):
    """What the user wants, checked."""

    name: str
    detector: Detector
    declared: OnnxDetector
    is_read: bool
    """Whether the plan says how outputs become boxes."""
    about: Surroundings
    shown: Sequence[Picture]
    """To the calibrator."""
    compared: Sequence[Picture]
    """With the float file; none where the plan does not say how outputs become boxes."""


def quantize(
    name: str,
    images: Sequence[str],
    out: Path,
    *,
    params: Path | None,
    runtimes: Sequence[str],
    float16: bool,
    calibrate: int | None,
    score: float | None,
    say: Say,
    table: text.PrintTable,
) -> None:
    """Write int8 files of a user's detector for each runtime and say how many detections they change.

    Ranges come from `calibrate` of the images, drawn by the plan's seed; files are compared on the others. InputError, and nothing
    written, where something asked for is not possible.
    """
    folder, files = checked_place(out, "quantize"), find_pictures(images)
    plan, declared = _declared(name, params)
    jobs = [_Job(own, "int8") for own in _runtimes(runtimes, plan)]
    jobs += [job._replace(precision="float16") for job in jobs] if float16 else []
    asked = _asked(name, plan, declared, files, calibrate, score)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="sixfold-quantize-") as scratch, own_folder(folder, "quantize") as partial:
        exact = Path(scratch) / "model.onnx"
        export_onnx(asked.detector, exact)
        write_interface(asked.detector.spec, exact.parent)
        floats = {job.runtime: _float_model(asked, exact, job.runtime) for job in jobs} if asked.is_read else {}
        packed = _written(asked, jobs, partial)
        changed = _compared(asked, floats, packed) if floats else {}
        made = tuple(_file(partial, job, own, changed.get(job)) for job, own in packed.items())
        record = _record(asked, exact, plan.params.seed, made)
        (partial / text.RECORD).write_text(record.model_dump_json(by_alias=True, indent=1) + "\n")
    for line in text.before(record, params):
        say(line)
    table(text.HEADS, [text.row(own, record) for own in record.files])
    for line in text.after(record, params, out):
        say(line)


def _declared(name: str, params: Path | None) -> tuple[Plan, OnnxDetector]:
    """The plan, and what it says of the file; InputError where nothing says how it is fed."""
    plan = None if params is None else read_plan(params)
    if not Path(name).is_file():
        raise InputError(f"{name}: no such file. Name an ONNX file.")
    if plan is None or plan.params.detector is None:
        found = "no --params says" if plan is None else f"{params} has no `detector` section that says"
        raise InputError(
            f"{name}: {found} how it is fed. Name a plan with `data: input_size, resize` and `detector: onnx, classes, input`, and "
            f"with `decode` to have detections compared; docs/your-detector.md shows one."
        )
    return plan, plan.params.detector.model_copy(update={"onnx": Path(name).resolve()})


def _runtimes(named: Sequence[str], plan: Plan) -> tuple[str, ...]:
    """Each once, those of the plan where none is named; InputError for one that is unknown, SessionError for one not installed."""
    chosen = tuple(dict.fromkeys(named or plan.params.grid.runtimes))
    for own in chosen:
        if own not in RUNTIMES:
            raise InputError(f"--runtime {own!r}: allowed are {' and '.join(RUNTIMES)}.")
        runtime_version(own)
    return chosen


def _asked(
    name: str, plan: Plan, declared: OnnxDetector, files: Sequence[Path], calibrate: int | None, score: float | None
) -> _Asked:
    """All that is wanted, with the pictures parted; InputError where the file or a picture cannot be used."""
    planned = (own.pictures for own in plan.params.grid.methods.quantization if own.precision == "int8")
    most = calibrate or next(planned, Quantization().pictures)
    if min(most, len(files)) < LEAST_PICTURES:
        raise InputError(
            f"quantize: ranges need {LEAST_PICTURES} pictures at least, not {min(most, len(files))}. Name more pictures (now "
            f"{len(files)}), or a larger --calibrate (now {most})."
        )
    is_read = declared.decode != "auto"
    read_as = declared if is_read else declared.model_copy(update={"decode": UNREAD})
    detector = read_given(read_as, plan.base, plan.params.data.input_size)
    found = readable(files, {}, "apply")
    rows = rows_shown(Quantization(pictures=most), len(found), plan.params.seed)
    others = [own for row, own in enumerate(found) if row not in rows]
    about = as_planned(plan, detector.spec.classes)
    about = about if score is None else replace(about, score_threshold=score)
    compared = () if not is_read else others if len(others) >= LEAST_PICTURES else found
    return _Asked(name, detector, declared, is_read, about, [found[row] for row in rows], compared)


def _float_model(asked: _Asked, exact: Path, runtime: str) -> Model:
    """The float file, opened in the runtime."""
    make = RUNTIMES[runtime].pack  # for one that opens no ONNX
    return opened(asked.name, exact if make is None else make(exact, exact.parent), runtime, 1, asked.about)


def _written(asked: _Asked, jobs: Sequence[_Job], folder: Path) -> dict[_Job, Packed]:
    """Every file in a folder of its own, with how it is fed and read next to it where that is known."""
    spec, packed = asked.detector.spec, dict[_Job, Packed]()
    shown = [fitted(own.pixels(), spec.input_size, asked.about.resize) for own in asked.shown]
    for job in steps(jobs, len(jobs), "quantize", "files"):
        own = folder / job.name
        own.mkdir()
        with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws bars of its own
            packed[job] = pack(asked.detector, CONFIGS[job.precision], job.runtime, shown, own)
        if asked.is_read:
            write_interface(spec, own)
    return packed


def _compared(asked: _Asked, floats: Mapping[str, Model], packed: Mapping[_Job, Packed]) -> dict[_Job, Changed]:
    """Each file against the float file in the same runtime."""
    models = {job.name: opened(asked.name, own.file, job.runtime, 1, asked.about) for job, own in packed.items()}
    found: dict[str, list[Detections]] = {name: [] for name in (*floats, *models)}
    for own in steps(asked.compared, len(asked.compared), "compare", "pictures"):
        pixels = own.pixels()
        for name, model in (*floats.items(), *models.items()):
            found[name].append(look(model, pixels)[0].final)
    return {job: compare(found[job.runtime], found[job.name]) for job in packed}


def _file(folder: Path, job: _Job, packed: Packed, changed: Changed | None) -> QuantizedFile:
    parts = file_parts(packed.file)
    return QuantizedFile(
        runtime=runtime_version(job.runtime),
        precision=job.precision,
        file=packed.file.relative_to(folder).as_posix(),
        sha256=file_digest(*parts),
        size_bytes=sum(part.stat().st_size for part in parts),
        float_layers=packed.float_layers,
        changed=changed,
    )


def _record(asked: _Asked, exact: Path, seed: int, files: tuple[QuantizedFile, ...]) -> QuantizedRecord:
    return QuantizedRecord(
        onnx=printable(asked.name),
        sha256=file_digest(Path(asked.name)),
        size_bytes=exact.stat().st_size,
        picture=asked.declared.input,
        resize=asked.about.resize,
        calibrator=CALIBRATOR,
        seed=seed,
        calibrated_on=tuple(printable(str(own.file)) for own in asked.shown),
        compared_on=tuple(printable(str(own.file)) for own in asked.compared),
        score_threshold=asked.about.score_threshold,
        files=files,
    )
