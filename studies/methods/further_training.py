"""Networks that are trained besides the sweep: one variant of each method with several seeds, and float siblings of QAT.

A float sibling of quantization-aware training (QAT) is the control, trained on in float as long and by the same schedule. What QAT
gains over quantizing the control is partly the gain of some more epochs, and the sibling has had them too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from compressors.planning.graph import Foundation, Node, Planned
from compressors.planning.versions import VERSIONS
from compressors.quantization import Quantization
from detection.data.dataset import load_prepared
from detection.frozen import Digest, InputError
from detection.training import Recipe
from flows.compare.retrain import retrain
from flows.compare.retrain_text import read_seeds
from flows.grid.nodes import NODES, Context, make_node
from flows.grid.ray_executor import Executor
from flows.grid.scoring import SCORES, read_artifact, score, score_key
from flows.grid.tasks import usable
from flows.records.schema import CONTROL, ArtifactRecord
from flows.sweep import workspace
from flows.sweep.context import lay_foundation
from studies.finished_run import FinishedRun
from studies.methods.subjects import SUBJECTS, cell_of

SEEDS = Path("results/seeds")
"""In the folder of the run: a file per method."""


class Sibling(NamedTuple):
    """The control after further epochs in float."""

    of: str
    """The cell of quantization-aware training."""
    node: Digest
    epochs: int
    artifacts: dict[str, ArtifactRecord]
    """Runtime -> the same file, scored in it."""


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


def make_siblings(run: FinishedRun) -> tuple[Sibling, ...]:
    """A sibling for every variant of quantization-aware training; stored ones are reused."""
    data = load_prepared(run.prepared)
    for _, node, context in _nodes(run):
        if not usable(run.store, NODES, node.key, repair=True):
            make_node(node, context)
        for runtime in run.cells.runtimes:
            if not usable(run.store, SCORES, score_key(node.key, runtime, data), repair=True):
                score(node.key, runtime, run.prepared, run.store)
    return read_siblings(run)


def read_siblings(run: FinishedRun) -> tuple[Sibling, ...]:
    """Those of this control that were made."""
    data = load_prepared(run.prepared)
    return tuple(
        Sibling(
            of=cell_of("quantization", config.label()),
            node=node.key,
            epochs=node.planned.train_epochs,
            artifacts={runtime: read_artifact(node.key, runtime, data, run.store) for runtime in run.cells.runtimes},
        )
        for config, node, _ in _nodes(run)
        if all(run.store.has(SCORES, score_key(node.key, runtime, data)) for runtime in run.cells.runtimes)
    )


def _nodes(run: FinishedRun) -> Iterator[tuple[Quantization, Node, Context]]:
    """For each variant of quantization-aware training a node that no cell has: the control, trained on by that schedule."""
    control, base = run.cells.cell(CONTROL), lay_foundation(run.plan, run.prepared)
    if control is None or control.status != "ok":
        raise InputError(f"{run.folder}: the control was not made, so it has no sibling. Run `make methods` again.")
    for config in run.plan.params.grid.methods.quantization:
        if config.qat_epochs:
            recipe = config.qat_recipe(base.recovery)
            node = Node(
                key=_key(base, control.node, recipe),
                name=f"float sibling of {config.label()}",
                kind="recovered",
                parent=control.node,
                threads=base.threads,
                planned=Planned(train_epochs=recipe.epochs, train_images=recipe.epochs * base.train_pictures),
            )
            context = Context(
                prepared=run.prepared.resolve(),
                store=run.store.root,
                design_profile=run.plan.design_profile,
                foundation=base.model_copy(update={"recovery": recipe}),
            )
            yield config, node, context


def _key(base: Foundation, control: Digest, recipe: Recipe) -> Digest:
    """Named by all that decides it, as other nodes are."""
    identity = {
        "kind": "float sibling",
        "parent": control,
        "recipe": recipe.model_dump(mode="json"),
        "seed": base.seed,
        "train": base.train_digest,
        "versions": {name: VERSIONS[name] for name in ("training", "export")},
        "libraries": {"torch": base.libraries["torch"]},
        "compute": {"device": base.device, "threads": base.threads},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
