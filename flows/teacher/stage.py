"""Stage `teacher`: the detector to be compressed, trained once and copied where people look for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from detection.checkpoint import SPEC_FILE, WEIGHTS_FILE
from detection.data.dataset import load_prepared
from flows.grid.nodes import NODES, Context, make_node, read_done
from flows.grid.scoring import SCORES, read_artifact, score, score_key
from flows.grid.tasks import usable
from flows.progress import Say
from flows.records.files import whole_folder
from flows.records.store import Store
from flows.sweep.context import chosen_cells, lay_foundation, make_graph, store_brought
from flows.sweep.given import changes_of
from flows.sweep.machine_warnings import machine_warnings
from flows.sweep.params import Plan, given_detector

COPIED = (SPEC_FILE, WEIGHTS_FILE, "model.onnx")
RUNTIME = "onnxruntime"
"""The runtime that scores the teacher; the grid's control is scored in every one."""


def teacher(plan: Plan, prepared: Path, store: Store, folder: Path, say: Say) -> None:
    """Train the teacher unless the store has it, or take in the user's own, and score it.

    Spec, weights, ONNX file and metrics then lie in folder.
    """
    base = lay_foundation(plan, prepared)
    graph = make_graph(plan, base, chosen_cells(plan, None))
    node = next(node for node in graph.nodes.values() if node.kind == "teacher" and node.spec is None)
    data = load_prepared(prepared)
    if usable(store, NODES, node.key, repair=True):
        say(f"teacher is stored: {store.folder(NODES, node.key)}")
    else:
        for warning in machine_warnings(plan):
            say(warning)
        for change in changes_of(given_detector(plan.params, plan.base, data.input_size, data.classes)):
            say(f"changed so that every runtime opens it: {change}")
        store_brought(plan, data, store)
        make_node(node, Context(prepared=prepared.resolve(), store=store.root, design_profile=plan.design_profile, foundation=base))
    if not usable(store, SCORES, score_key(node.key, RUNTIME, data), repair=True):
        score(node.key, RUNTIME, prepared, store)
    done, artifact = read_done(store, node.key), read_artifact(node.key, RUNTIME, data, store)
    metrics = {
        "node": node.key,
        "params": done.params,
        "macs": done.macs,
        "gflops": 2 * done.macs / 1e9,
        "train_s": done.training.train_s if done.training else None,
        **{split: getattr(artifact, split).model_dump(exclude={"detections"}) for split in ("val", "test")},
    }
    source = store.open(NODES, node.key)
    with whole_folder(folder) as partial:
        for name in COPIED:
            shutil.copy2(source / name, partial / name)
        (partial / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    say(
        f"teacher: {done.params / 1e6:.2f} M parameters, {2 * done.macs / 1e9:.2f} GFLOP, val mAP {artifact.val.map_50_95:.3f}, "
        f"test mAP {artifact.test.map_50_95:.3f}: {folder}"
    )
    say(f"Next: {plan.command('grid')} ({plan.command('plan')} shows what it will do).")
