"""What `sixfold measure` does, from params file, store and workspace: measure, export for a device, import what came back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from compressors.latency import operators
from detection.compact.blueprint import Blueprint
from detection.data.dataset import Images, load_split
from detection.frozen import InputError
from flows.grid.nodes import SECTION
from flows.measure.devices import bundle
from flows.measure.devices.remote import Joined, Observations, device_rounds, nobody, round_plan
from flows.measure.estimate_accuracy import advice, dtype_of, foretold
from flows.measure.exported_graphs import ExportedGraphs
from flows.measure.stage import measure
from flows.records.schema import CONTROL, CellRecord, CellsFile, LatencyFile, read_records
from flows.sweep import workspace
from flows.sweep.measure_settings import Measure, quick
from hardware_profiles.estimate.model import Operator
from hardware_profiles.schema.library import load_fallback, load_profile
from hardware_profiles.schema.profile import HardwareProfile

if TYPE_CHECKING:
    from flows.records.store import Store
    from flows.sweep.params import Plan


@dataclass(frozen=True)
class Bench:
    """All that measuring needs."""

    loaded: Plan
    store: Store
    records: CellsFile
    images: Images
    config: Measure

    @property
    def observations(self) -> Observations:
        """Where in the store measurements lie."""
        return Observations(self.store.root / "observations")

    @cached_property
    def graphs(self) -> ExportedGraphs:
        """The cells' exported files."""
        return ExportedGraphs(self.store.file)

    def operators_of(self, record: CellRecord, profile: HardwareProfile) -> Sequence[Operator]:
        """What a cell's network consists of: in its file as the runtime executes it, or in its blueprint where there is no file."""
        if (graph := self.graphs.of(record, profile)) is not None:
            return graph.operators
        return self.designed(record, profile)

    def designed(self, record: CellRecord, _profile: HardwareProfile) -> Sequence[Operator]:
        """What a cell's network consists of by its blueprint, as methods see it that design by estimates."""
        blueprint = (self.store.open(SECTION, record.node) / "blueprint.json").read_text()
        return operators(Blueprint.model_validate_json(blueprint), "int8" if dtype_of(record) == "int8" else "fp32")


def open_bench(loaded: Plan, store: Store, fewer: bool) -> Bench:
    """The sweep of the workspace and the pictures to measure with; InputError where a stage before this one has not run."""
    config = quick(loaded.params.measure) if fewer else loaded.params.measure
    return Bench(loaded, store, read_records(workspace.CELLS, CellsFile), load_split(workspace.PREPARED, "val"), config)


def measure_profiles(
    bench: Bench, names: Sequence[str] | None = None, joined: Joined | None = None, report: Callable[[str], None] = print
) -> LatencyFile:
    """A row per cell and profile: those of the params, or the named ones."""
    profiles = [load_profile(name, bench.loaded.profiles_folder) for name in names or bench.config.profiles]
    beside = [load_fallback(profile, bench.loaded.profiles_folder) for profile in profiles]
    return measure(
        bench.records,
        profiles,
        bench.images,
        bench.config,
        bench.observations.latency,
        bench.store.file,
        bench.operators_of,
        report,
        partial(
            device_rounds,
            control=bench.records.cell(CONTROL),
            plan=round_plan(bench.config, bench.images),
            observations=bench.observations,
            report=report,
            joined=joined,
        ),
        {fallback.id: fallback for fallback in beside if fallback is not None},
    )


def judge_design(bench: Bench, latency: LatencyFile) -> tuple[str, ...]:
    """How well the design profile foretells what was measured on its device, and what to do where it does not; often nothing.

    What a host profile describes is measured by every host profile of its machine, runtime and threads.
    """
    folder = bench.loaded.profiles_folder
    design = load_profile(bench.loaded.params.grid.design_profile, folder)
    same = {name for name in bench.config.profiles if _measures(load_profile(name, folder), design)}
    rows = [row.model_copy(update={"profile": design.id}) for row in latency.rows if row.profile in same]
    return advice(foretold(bench.records, rows, [design], bench.designed), bench.store.file, workspace.ANCHORS)


def _measures(profile: HardwareProfile, design: HardwareProfile) -> bool:
    if "device" in (profile.kind, design.kind):
        return profile.id == design.id
    return (profile.machine, profile.runtime, profile.threads) == (design.machine, design.runtime, design.threads)


def export_profiles(bench: Bench, names: Sequence[str], folder: Path, say: Callable[[str], None] = print) -> None:
    """Write a folder per device profile, the named ones or all of the params, and say how to go on."""
    chosen = [load_profile(name, bench.loaded.profiles_folder) for name in names or bench.config.profiles]
    if not names:
        chosen = [profile for profile in chosen if profile.kind == "device" and profile.producible]
    if not chosen:
        raise InputError(
            f"measure.profiles has no device that sixfold makes files for, only {', '.join(bench.config.profiles)}. Name one with "
            f"--profile; `sixfold profiles list` shows which there are."
        )
    plan = round_plan(bench.config, bench.images)
    for target in bundle.export(chosen, bench.records, plan, bench.store.file, bench.observations.exports, folder):
        say(f"{target}: copy it to the device and run `python {bundle.SCRIPT}` in it; that needs numpy and the runtime only")
    say("Next: `sixfold measure --import results.json`, with the file that it wrote.")


def import_profile(bench: Bench, results: Path, say: Callable[[str], None] = print) -> LatencyFile | None:
    """The workspace's rows with the device's in place of its estimates; None where only the next measurement can use them.

    The results are in the store either way, and every later measurement takes them while the device itself has not joined.
    """
    name = bundle.import_results(results, bench.observations).manifest.profile
    if name not in bench.config.profiles:
        say(f"imported for {name}\nNext: add {name} to measure.profiles and run `sixfold measure`.")
        return None
    if not workspace.LATENCY.is_file():
        say(f"imported for {name}\nNext: `sixfold measure`.")
        return None
    old = read_records(workspace.LATENCY, LatencyFile)
    return bundle.with_rows_of(old, measure_profiles(bench, (name,), nobody, say))
