"""Hand-made records of several seeds."""

from __future__ import annotations

from collections.abc import Sequence

from flows.compare.retrain_text import RuntimeSeeds, SeedRun, SeedsFile, Trained
from flows.records.schema import CellsFile
from flows.stats.map_bootstrap import Difference
from tests.flows.records_factory import digest


def trained(name: str, seed: int, test_map: float, size_bytes: int) -> Trained:
    """One network; val mAP is 1 point above test. Seed 0 is the sweep's own, whose node is named as `records_factory` does."""
    return Trained(
        node=digest(name if seed == 0 else f"{name} {seed}"),
        artifact_digest=digest(f"file {name} {seed}"),
        params=500_000,
        macs=100_000_000,
        size_bytes=size_bytes,
        val_map_50_95=test_map + 0.01,
        test_map_50_95=test_map,
    )


def seeds_of(
    cells: CellsFile,
    cell: str,
    test_maps: Sequence[tuple[float, float]],
    difference: Difference,
    recommended_on: str | None = "x86-onnxruntime-1t",
    sd: float | None = 0.005,
) -> SeedsFile:
    """Seeds 0, 1 .. in the first runtime: (control, cell) test mAPs; the cell's file is a tenth of the control's 8 MB."""
    runs = tuple(
        SeedRun(
            seed=seed, control=trained("none", seed, control, 8_000_000), cell=trained(cell, seed, made, 800_000)
        )
        for seed, (control, made) in enumerate(test_maps)
    )  # fmt: skip
    mean = sum(run.test_drop for run in runs) / len(runs)
    own = RuntimeSeeds(runtime=cells.runtimes[0], seeds=runs, val_drop=mean, val_drop_sd=sd, test_drop=difference, test_drop_sd=sd)
    record = cells.cell(cell)
    assert record is not None
    return SeedsFile(
        sweep=cells.sweep, dataset=cells.dataset, cell=cell, methods=record.methods,
        recommended_on=recommended_on, bootstrap_draws=100, bootstrap_seed=0, runtimes=(own,),
    )  # fmt: skip
