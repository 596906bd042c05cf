"""The model that a user names, opened, with all that surrounds it: how it is fed and read, its classes, its thresholds."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detection.boxes import Resize
from detection.brought import OnnxDetector
from detection.export import export_onnx, write_interface
from detection.file_interface.interface import INTERFACE_FILE, read_interface
from detection.frozen import InputError, read_json
from detection.model_file import Reader, reader_of
from flows.compare.two_cells import made_record
from flows.records.schema import CellsFile, read_records
from flows.records.store import open_store
from flows.report.model_export import CARD, ModelCard
from flows.sweep import workspace
from flows.sweep.given import read_given
from flows.sweep.params import Plan, read_plan
from flows.sweep.settings import Report
from hardware_profiles.runtimes.table import OUTPUTS, RUNTIMES, Session, SessionError, open_session

PLAN = Path("params.yaml")
"""Whose sweep the cells of results/cells.json are, where no plan is named."""
PICTURE = (np.dtype(np.uint8), (1, 3))
"""Type of a picture as our files take it, and its first and last side."""


@dataclass(frozen=True)
class Surroundings:
    """What a file does not say itself."""

    classes: tuple[str, ...] | None
    """In the order of the scores; None where nobody has named them."""
    resize: Resize
    score_threshold: float
    iou_threshold: float


@dataclass(frozen=True)
class Model:
    """An opened model."""

    name: str
    """As the user gave it."""
    runtime: str
    session: Session
    reader: Reader
    about: Surroundings
    classes: tuple[str, ...]

    @property
    def suppressed_above(self) -> float | None:
        """The overlap above which a box gives way to a better one of its class; None where the file gives each object once."""
        return self.about.iou_threshold if self.reader.select == "nms" else None


def open_model(name: str, params: Path | None, runtime: str | None, threads: int) -> Model:
    """The model of that name: a folder with a model card, a file, or a cell or reference of results/cells.json.

    InputError says what was found and what is allowed, SessionError why a runtime does not open the file.
    """
    if runtime is not None and runtime not in RUNTIMES:
        raise InputError(f"--runtime {runtime!r}: allowed are {' and '.join(RUNTIMES)}.")
    path = Path(name)
    plan = None if params is None else read_plan(params)
    card = read_card(path if path.is_dir() else path.parent)
    if card is not None and (path.is_dir() or path.name == card.files[0].name):
        file = path / card.files[0].name if path.is_dir() else path
        about = Surroundings(card.classes, card.input.resize, card.score_threshold, card.iou_threshold)
        return opened(name, file, runtime or card.runtime.split()[0], threads, about)
    if not path.is_file():
        return _cell(name, plan or read_plan(_plan_of(name)), runtime, threads)
    asked, interface = None if plan is None else plan.params.onnx, read_interface(path.parent)
    classes = None
    if plan is not None and asked is not None:
        if interface is None or path.suffix == ".onnx":
            return _given(name, plan, asked, runtime, threads)
        classes = asked.names(plan.base) if interface.columns is None else None  # else those of data that nobody names here
    try:
        return opened(name, path, runtime, threads, as_planned(plan, classes))
    except SessionError as error:
        if path.suffix != ".onnx" or interface is not None:
            raise
        raise InputError(f"{error}. {_of_your_own(path)}") from error


def read_card(folder: Path) -> ModelCard | None:
    """What the model card in a folder says; None where there is none."""
    path = folder / CARD
    return read_json(path, ModelCard, "Run `sixfold report` again.") if path.is_file() else None


def _plan_of(name: str) -> Path:
    """The plan of the folder that the command runs in; InputError where the name cannot be one of a cell either."""
    if PLAN.is_file() and workspace.CELLS.is_file():
        return PLAN
    raise InputError(
        f"{name}: no file, no folder with {CARD}, and no cell, as there is no {workspace.CELLS} with a {PLAN} here. Name a folder "
        f"of {workspace.BEST}, a model file, or run this in the folder of a sweep."
    )


def _cell(name: str, plan: Plan, runtime: str | None, threads: int) -> Model:
    """A cell or reference of the sweep, from the plan's store."""
    records = read_records(workspace.CELLS, CellsFile)
    try:
        artifacts = made_record(records, name).artifacts
    except InputError as error:
        raise InputError(f"{name}: no file, and no folder with {CARD}. As a cell: {error}") from error
    chosen = runtime or (next(iter(artifacts)) if len(artifacts) == 1 else None)
    if chosen not in artifacts:
        found = f"no file for {runtime}" if runtime else f"{len(artifacts)} files"
        raise InputError(f"{name}: has {found}. Name one with --runtime: {' or '.join(artifacts)}.")
    file = open_store(plan.params.store.url, plan.base).file(artifacts[chosen].url)
    return opened(name, file, chosen, threads, as_planned(plan, records.dataset.classes))


def _given(name: str, plan: Plan, asked: OnnxDetector, runtime: str | None, threads: int) -> Model:
    """A user's file, made whole, as the plan's `detector` section describes it."""
    file = asked.model_copy(update={"onnx": Path(name).resolve()})
    detector = read_given(file, plan.base, plan.params.data.input_size)
    with tempfile.TemporaryDirectory(prefix="sixfold-predict-") as folder:
        whole = Path(folder) / "model.onnx"
        export_onnx(detector, whole)
        write_interface(detector.spec, whole.parent)
        return opened(name, whole, runtime, threads, as_planned(plan, detector.spec.classes))


def as_planned(plan: Plan | None, classes: tuple[str, ...] | None) -> Surroundings:
    """What the plan says of any file; without one, the defaults."""
    report = Report() if plan is None else plan.params.report
    resize: Resize = "letterbox" if plan is None else plan.params.data.resize
    return Surroundings(classes, resize, report.score_threshold, report.iou_threshold)


def opened(name: str, file: Path, runtime: str | None, threads: int, about: Surroundings) -> Model:
    """The opened file after one black picture, which wakes it up and shows of how many classes it gives scores."""
    chosen = runtime or next((entry.name for entry in RUNTIMES.values() if file.suffix in entry.suffixes), next(iter(RUNTIMES)))
    session, reader = open_session(chosen, file, threads), reader_of(file)
    blank = session.blank()
    is_ours = (session.output_names, blank.dtype, blank.shape[::3]) == (OUTPUTS, *PICTURE)
    if not is_ours and not (file.parent / INTERFACE_FILE).is_file():
        found = f"takes {blank.dtype} {blank.shape} and gives {', '.join(session.output_names)}, unlike files of ours"
        raise InputError(f"{name}: {found}. {_of_your_own(file)}")
    _, scores = reader.boxes_and_scores(session(blank), session.input_size)
    classes = about.classes or tuple(f"class {number}" for number in range(scores.shape[2]))
    if len(classes) != scores.shape[2]:
        raise InputError(f"{name}: gives scores of {scores.shape[2]} classes, but {len(classes)} are named. Correct the names.")
    return Model(name, chosen, session, reader, about, classes)


def _of_your_own(file: Path) -> str:
    return (
        f"A file of your own needs --params PLAN, a plan whose `detector` section describes it; `sixfold inspect {file}` shows how "
        f"to write one."
    )
