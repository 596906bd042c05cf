"""The command `quantize`: everything is checked first, then each file is made and compared with the float file."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2

from compressors.quantization.calibrators import RangeCalibrator
from compressors.quantization.method import LEAST_PICTURES, Quantization, pack, rows_shown
from detection.boxes import Detections, fitted
from detection.brought import OnnxDetector
from detection.checkpoint import Detector
from detection.export import export_onnx, write_interface
from detection.file_interface.declaration import Boxes, Decoding, Scores
from detection.frozen import InputError, printable
from flows.predict.detect import look
from flows.predict.model import Surroundings, as_planned, opened
from flows.predict.pictures import Picture, find_pictures, readable
from flows.progress import PrintTable, Say, steps
from flows.quantize.record import RECORD, QuantizedFile, QuantizedRecord, compare, tell
from flows.records.files import file_digest
from flows.records.own_folder import checked_place, own_folder
from flows.records.schema import write_records
from flows.sweep.given import read_given
from flows.sweep.params import Plan, read_plan
from hardware_profiles.runtimes.table import RUNTIMES, file_parts, runtime_version

CALIBRATOR: RangeCalibrator = "minmax"
"""All that occurred in the pictures: the default of ONNX Runtime's quantizer, nearly that of NNCF, and the first that the grid
tries. The grid chooses among four by val mAP; without labels nothing could choose."""
CONFIGS = (Quantization(calibrator=CALIBRATOR), Quantization(precision="float16"))
UNREAD = Decoding(boxes=Boxes(outputs=(0,), form="xyxy"), scores=Scores(outputs=(0,)))
"""In place of a decoding that nobody declared. What int8 files hold does not depend on it, and it is written nowhere."""


class _Asked(NamedTuple):
    """What the user wants, checked."""

    name: str
    detector: Detector
    about: Surroundings
    shown: Sequence[Picture]
    """To the calibrator."""
    compared: Sequence[Picture]
    """Empty where the plan does not say how outputs become boxes."""


def quantize(
    name: str, images: Sequence[str], out: Path, *, params: Path | None, runtimes: Sequence[str], float16: bool,
    calibrate: int | None, score: float | None, say: Say, table: PrintTable,
) -> None:  # fmt: skip
    """Write int8 files of a user's detector for each runtime, the plan's by default, and say how many detections they change.

    Ranges come from `calibrate` of the images, drawn by the plan's seed; files are compared on the others. InputError or
    SessionError, and nothing written, where something asked for is not possible.
    """
    folder, files = checked_place(out, "quantize"), find_pictures(images)
    plan, declared = _declared(name, params)
    chosen = {own: runtime_version(own) for own in runtimes or plan.params.grid.runtimes}
    asked = _asked(name, plan, declared, files, calibrate, score)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="sixfold-quantize-") as scratch, own_folder(folder, "quantize") as partial:
        exact = Path(scratch) / "model.onnx"
        export_onnx(asked.detector, exact)
        write_interface(asked.detector.spec, exact.parent)
        looked = steps(chosen if asked.compared else (), len(chosen), "float file", "runtimes")
        found = {own: _found(asked, exact, own) for own in looked}
        jobs = [(config, own) for config in CONFIGS[: 1 + float16] for own in chosen]
        made = [_made(asked, *job, partial, found) for job in steps(jobs, len(jobs), "quantize", "files")]
        record = QuantizedRecord(
            onnx=printable(name),
            sha256=file_digest(Path(name)),
            size_bytes=exact.stat().st_size,
            picture=declared.input,
            resize=asked.about.resize,
            calibrator=CALIBRATOR,
            seed=plan.params.seed,
            calibrated_on=tuple(printable(str(own.file)) for own in asked.shown),
            compared_on=tuple(printable(str(own.file)) for own in asked.compared),
            score_threshold=asked.about.score_threshold,
            files=tuple(made),
        )
        write_records(partial / RECORD, record)
    tell(record, params, out, say, table)


def _declared(name: str, params: Path | None) -> tuple[Plan, OnnxDetector]:
    """The plan, and what it says of the file; InputError where nothing says how it is fed."""
    plan = None if params is None else read_plan(params)
    if not Path(name).is_file():
        raise InputError(f"{name}: no such file. Name an ONNX file.")
    if plan is None or plan.params.onnx is None:
        found = "no --params says" if plan is None else f"{params} has no `detector` section that says"
        raise InputError(
            f"{name}: {found} how it is fed. Name a plan with `data: input_size, resize` and `detector: onnx, classes, input`, and "
            f"with `decode` to have detections compared; docs/your-detector.md shows one."
        )
    return plan, plan.params.onnx.model_copy(update={"onnx": Path(name).resolve()})


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
    about = as_planned(plan, detector.spec.classes)
    about = about if score is None else replace(about, score_threshold=score)
    pictures = readable(files, {}, "apply")
    rows = rows_shown(Quantization(pictures=most), len(files), plan.params.seed)
    others = [own for row, own in enumerate(pictures) if row not in rows]
    compared = () if not is_read else others if len(others) >= LEAST_PICTURES else pictures
    return _Asked(name, detector, about, [pictures[row] for row in rows], compared)


def _made(
    asked: _Asked, config: Quantization, runtime: str, folder: Path, found: dict[str, list[Detections]]
) -> QuantizedFile:  # fmt: skip
    """One file in a folder of its own, with how it is fed and read next to it, compared with what the float file has found."""
    own, spec = folder / f"{runtime}-{config.precision}", asked.detector.spec
    own.mkdir()
    shown = [fitted(picture.pixels(), spec.input_size, asked.about.resize) for picture in asked.shown]
    with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws bars of its own
        packed = pack(asked.detector, config, runtime, shown, own)
    if found:
        write_interface(spec, own)
    parts = file_parts(packed.file)
    return QuantizedFile(
        runtime=runtime_version(runtime),
        precision=config.precision,
        file=packed.file.relative_to(folder).as_posix(),
        sha256=file_digest(*parts),
        size_bytes=sum(part.stat().st_size for part in parts),
        float_layers=packed.float_layers,
        changed=compare(found[runtime], _found(asked, packed.file, runtime)) if found else None,
    )


def _found(asked: _Asked, file: Path, runtime: str) -> list[Detections]:
    """What a file finds in the pictures that are compared."""
    make = None if file.suffix in RUNTIMES[runtime].suffixes else RUNTIMES[runtime].pack
    model = opened(asked.name, make(file, file.parent) if make else file, runtime, 1, asked.about)
    return [look(model, own.pixels())[0].final for own in asked.compared]
