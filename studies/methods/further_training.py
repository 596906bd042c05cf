"""Networks that are trained besides the sweep: one variant of each method with several seeds, and float siblings of QAT.

A float sibling of quantization-aware training (QAT) is the control, trained on in float as long and by the same schedule. What QAT
gains over quantizing the control is partly the gain of some more epochs, and the sibling has had them too.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from pydantic import Field

from compressors.planning.versions import VERSIONS
from compressors.quantization import Quantization
from detection.data.dataset import Split, load_split
from detection.evaluation import Accuracy, accuracy, detect
from detection.frozen import Digest, Frozen, InputError
from detection.model_file import reader_of
from flows.compare.retrain import retrain
from flows.compare.retrain_text import read_seeds
from flows.grid.nodes import NODES
from flows.grid.ray_executor import Executor
from flows.grid.scoring import PROTOCOL, SCORED, artifact_digest
from flows.records.schema import CONTROL, ArtifactRecord, CellRecord, Metrics, read_schema, write_records
from flows.records.store import Store
from flows.sweep import workspace
from hardware_profiles.runtimes.table import open_session, runtime_version
from studies.finished_run import FinishedRun
from studies.methods.subjects import SUBJECTS, cell_of

SEEDS = Path("results/seeds")
"""In the folder of the run: a file per method."""
SECTION = "siblings"
"""Of the store."""
SIBLINGS = Path("results/siblings.json")
"""In the folder of the run."""
NETWORK_FILE = "model.onnx"


class Sibling(Frozen):
    """The control after further epochs in float."""

    of: str
    """The cell of quantization-aware training."""
    control: Digest
    """Node of the network that both started from."""
    epochs: int
    updates: int
    artifacts: dict[str, ArtifactRecord]
    """Runtime -> the same file, scored in it."""


class SiblingsFile(Frozen):
    """`results/siblings.json` in the folder of the run."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    siblings: tuple[Sibling, ...]


def seeds_file(run: FinishedRun, method: str) -> Path:
    """Where the three seeds of a method's variant lie, or will."""
    return run.folder / SEEDS / f"{method}.json"


def retrain_variants(run: FinishedRun, seeds: int, executor: Executor) -> int:
    """0 once every file is there and of this sweep's networks, 3 where a node failed; what is there is reused."""
    worst = 0
    for subject in SUBJECTS:
        name, output = cell_of(subject.method, subject.three_seeds), seeds_file(run, subject.method)
        if run.cells.cell(name) is None:
            print(f"{subject.method}: `{name}` is not in sweep {run.cells.sweep!r}; no seeds of it")
        elif _is_current(run, subject.method, name, seeds):
            print(f"{subject.method}: {output} is there")
        else:
            code = retrain(
                run.plan, run.prepared, run.store, run.folder / workspace.REPORT / "recommendation.json", output,
                cell=name, seeds=seeds, executor=executor, say=print,
            )  # fmt: skip
            worst = max(worst, code)
    return worst


def _is_current(run: FinishedRun, method: str, name: str, seeds: int) -> bool:
    """Whether the method's file is of this many seeds of this cell of these records."""
    settings = run.plan.params.report
    try:
        found = read_seeds(seeds_file(run, method))
    except InputError:
        return False
    made = (found.cell, len(found.seeds), found.bootstrap_draws, found.bootstrap_seed)
    return made == (name, seeds, settings.bootstrap_draws, settings.seed) and found.is_of(run.cells)


def make_siblings(run: FinishedRun) -> SiblingsFile:
    """A sibling for every variant of quantization-aware training, also written to the run's folder; stored ones are reused."""
    control = run.cells.cell(CONTROL)
    if control is None or control.status != "ok":
        raise InputError(f"{run.folder}: the control was not made, so it has no sibling. Run `make methods` again.")
    aware = [config for config in run.plan.params.grid.methods.quantization if config.qat_epochs]
    found = SiblingsFile(siblings=tuple(_sibling(run, control, config) for config in aware))
    write_records(run.folder / SIBLINGS, found)
    return found


def read_siblings(run: FinishedRun) -> SiblingsFile:
    """Those that were made of this control; none where there is no file."""
    path, control = run.folder / SIBLINGS, run.cells.cell(CONTROL)
    if not path.is_file():
        return SiblingsFile(siblings=())
    found = read_schema(path, SiblingsFile, "python -m studies.methods siblings").siblings
    return SiblingsFile(siblings=tuple(own for own in found if control is not None and own.control == control.node))


def _sibling(run: FinishedRun, control: CellRecord, config: Quantization) -> Sibling:
    key = _key(run, control, config)
    if not run.store.has(SECTION, key):
        with run.store.writing(SECTION, key) as folder:
            steps = _train(run, control, config, folder)
            for runtime in run.cells.runtimes:
                _score(run, runtime, folder)
            (folder / "training.json").write_text(json.dumps({"steps": steps}) + "\n")
    folder = run.store.open(SECTION, key)
    return Sibling(
        of=cell_of("quantization", config.label()),
        control=control.node,
        epochs=config.qat_epochs,
        updates=json.loads((folder / "training.json").read_text())["steps"],
        artifacts={runtime: _artifact(run.store, folder, runtime) for runtime in run.cells.runtimes},
    )


def _key(run: FinishedRun, control: CellRecord, config: Quantization) -> Digest:
    """Named by all that decides it, as nodes are."""
    from flows.sweep.context import choose_device

    params = run.plan.params
    identity = {
        "kind": "float sibling",
        "control": control.node,
        "recipe": config.qat_recipe(params.grid.recovery).model_dump(mode="json"),
        "seed": params.seed,
        "data": run.cells.dataset.digest,
        "versions": {name: VERSIONS[name] for name in ("training", "export")},
        "torch": version("torch"),
        "runtimes": {runtime: runtime_version(runtime) for runtime in run.cells.runtimes},
        "scored": PROTOCOL,
        "compute": {"device": choose_device(params.device).type, "threads": params.threads},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _train(run: FinishedRun, control: CellRecord, config: Quantization, folder: Path) -> int:
    """How many updates it took; the network lies in the folder as one file for all runtimes."""
    import torch

    from detection import checkpoint
    from detection.export import export_onnx
    from detection.training import fit
    from flows.sweep.context import choose_device

    params, recipe = run.plan.params, config.qat_recipe(run.plan.params.grid.recovery)
    torch.set_num_threads(params.threads)
    print(f"{config.label()}: its float sibling, {recipe.epochs} more epochs of the control", flush=True)
    detector = checkpoint.load(run.store.open(NODES, control.node))
    train = load_split(run.prepared, "train").at(detector.spec.input_size)
    trained, record = fit(detector, train, recipe, seed=params.seed, device=choose_device(params.device))
    export_onnx(trained, folder / NETWORK_FILE)
    return record.steps


def _score(run: FinishedRun, runtime: str, folder: Path) -> None:
    session = open_session(runtime, folder / NETWORK_FILE, 1)
    infer = reader_of(folder / NETWORK_FILE).infer(session)
    for split in SCORED:
        images = load_split(run.prepared, split).at(session.input_size)
        results = detect(infer, images)
        (folder / f"{runtime}-{split}.json").write_text(json.dumps(results, separators=(",", ":")))
        reached = accuracy(images.ground_truth, results)
        (folder / f"{runtime}-{split}-score.json").write_text(reached.model_dump_json() + "\n")


def _artifact(store: Store, folder: Path, runtime: str) -> ArtifactRecord:
    def metrics(split: Split) -> Metrics:
        reached = Accuracy.model_validate_json((folder / f"{runtime}-{split}-score.json").read_text())
        return Metrics(**reached.model_dump(), detections=(folder / f"{runtime}-{split}.json").relative_to(store.root).as_posix())

    digest, size_bytes = artifact_digest(folder)
    url = (folder / NETWORK_FILE).relative_to(store.root).as_posix()
    return ArtifactRecord(url=url, digest=digest, size_bytes=size_bytes, val=metrics("val"), test=metrics("test"))
