"""Hand-made records of other tools' files, and a small finished run of a user's own module."""

from __future__ import annotations

from pathlib import Path

from flows.grid.stage import grid
from flows.prepare.stage import prepare
from flows.records.store import Store
from flows.stats.map_bootstrap import Difference
from flows.sweep.plan_checks import load_plan
from flows.sweep.workspace import CELLS, PREPARED
from studies.finished_run import FinishedRun, open_run
from studies.peers.chains import OrtPtq, Pruned, Untouched
from studies.peers.records import Failure, Line, Peer, ProfilePage, Spent, Summary, Tried, Versus
from tests.flows.records_factory import artifact, cells_file, digest, ok_cell
from tests.flows.sweep_factory import menu_of, tiny_tree, write_params
from tests.places import ROOT

CODE = ROOT / "tests/module_detector/own_points.py"
PROFILE, RUNTIME = "x86-onnxruntime-1t", "onnxruntime"


def module_run(folder: Path) -> FinishedRun:
    """The control of a tiny module, made by the inline executor."""
    folder.mkdir(parents=True)
    (folder / CODE.name).write_text(CODE.read_text())
    detector = {"family": "own_points:family", "spec": {"width": 16}}
    training = tiny_tree()["teacher"]["training"]
    path = write_params(folder, detector=detector, teacher={"training": training}, grid__methods=menu_of())
    plan, store = load_plan(path), Store(folder / ".sixfold/store")
    prepare(plan.params.data, plan.base, folder / PREPARED, plan.params.seed, lambda _: None)
    code = grid(plan, folder / PREPARED, store, folder / CELLS, pattern=None, executor="inline", say=lambda _: None)
    assert code == 0
    return open_run(folder)


def peer(network: Untouched | Pruned, packing: OrtPtq, val: float) -> Peer:
    """A file of this val mAP, half as large as the control's."""
    name = f"{network.label()}+{packing.label()}"
    made = artifact(name, RUNTIME, val, val - 0.01, 1 << 19)
    return Peer(network=network, packing=packing, key=digest(name), params=1, macs=1 << 29, artifact=made)


def control_cells():
    """The control alone, with a val mAP of 0.55."""
    return cells_file([ok_cell((), 0.55)])


def difference(mean: float) -> Difference:
    """In shares of 1, with an interval of half a point to either side."""
    return Difference(mean=mean, low=mean - 0.005, high=mean + 0.005, p=0.5, error=0.0025)


def line(name: str, group: str, change: float, speedup: float | None) -> Line:
    """A row of the page."""
    return Line(
        name=name,
        group=group,
        macs_share=0.5,
        size_bytes=500_000,
        val_map=0.55 + change,
        val_difference=difference(change),
        test_map=0.54 + change,
        test_difference=difference(change),
        p50_s=None if speedup is None else 0.004 / speedup,
        speedup=speedup,
        speedup_ci95=None if speedup is None else (0.9 * speedup, 1.1 * speedup),
        verdict="faster",
        spent=Spent(train_images=1000, search_images=20, calibration_images=3, wall_s=90.0),
    )


def summary() -> Summary:
    """One profile: ours, a group with a choice, a group without, and a failure."""
    control = line("none", "control", 0.0, 1.0)
    page = ProfilePage(
        profile=PROFILE,
        runtime="onnxruntime 1.31.1",
        rounds=8,
        baseline="none",
        control=control,
        ours="quantization",
        versus=(
            Versus(
                group="ONNX Runtime alone",
                peer="checkpoint+ort-minmax",
                test_difference=difference(0.01),
                speed_ratio=1.2,
                speed_ratio_ci95=(1.1, 1.3),
            ),
            Versus(group="Tucker-2, then ONNX Runtime", peer=None),
        ),
        lines=(
            control,
            line("quantization", "sixfold", 0.0, 2.4),
            line("checkpoint+ort-minmax", "ONNX Runtime alone", -0.01, 2.0),
            line("checkpoint+ort-entropy", "ONNX Runtime alone", -0.1, None),
        ),
    )
    return Summary(
        command="make peers",
        sweep="toy",
        dataset=control_cells().dataset,
        machine="a processor",
        max_drop=0.02,
        bootstrap_draws=100,
        bootstrap_seed=0,
        tools=(),
        profiles=(page,),
        failures=(Failure(name="pruned-lamp", runtime=RUNTIME, error="ValueError: no such | layer"),),
        tried=(
            Tried(packing="float", runtime=RUNTIME, tried=56, of=56),
            Tried(packing="ort-mixed", runtime=RUNTIME, tried=3, of=56),
        ),
    )
