"""What measuring works with: a sweep's records and files, pictures, settings and hardware profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from compressors.latency import operators
from detection.checkpoint import load_spec
from detection.data.dataset import Images, load_split
from detection.family import family_of
from flows.grid.nodes import NODES
from flows.measure.estimated_rows import ExportedGraphs
from flows.records.schema import CellRecord, CellsFile, read_records
from flows.records.store import Observations, Store
from flows.sweep import workspace
from flows.sweep.settings import Measure, quick
from hardware_profiles.estimate.model import Operator
from hardware_profiles.schema.library import load_host_cpu, load_profile
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.round import File

if TYPE_CHECKING:
    from flows.sweep.params import Plan


@dataclass(frozen=True)
class MeasureSession:
    """All that measuring needs."""

    store: Store
    cells: CellsFile
    images: Images
    config: Measure
    profiles_folder: Path | None = None
    """Of the user's own hardware profiles."""

    @property
    def records(self) -> tuple[CellRecord, ...]:
        """Cells, then references."""
        return (*self.cells.cells, *self.cells.references)

    @property
    def observations(self) -> Observations:
        """Where in the store measurements lie."""
        return Observations(self.store.root / "observations")

    @cached_property
    def graphs(self) -> ExportedGraphs:
        """The cells' exported files."""
        return ExportedGraphs(self.store)

    def profiles(self, names: Sequence[str] = ()) -> list[HardwareProfile]:
        """The named profiles, or those of the params."""
        return [load_profile(name, self.profiles_folder) for name in names or self.config.profiles]

    def host_cpu(self, profile: HardwareProfile) -> HardwareProfile | None:
        """The profile of the processor that runs what this one cannot."""
        return load_host_cpu(profile, self.profiles_folder)

    def files(self, profile: HardwareProfile, records: Sequence[CellRecord] | None = None) -> tuple[File, ...]:
        """Every distinct file of the profile's runtime, once: cells with equal digests share a file and its timing."""
        urls = {
            artifact.digest: artifact.url
            for record in (self.records if records is None else records)
            for runtime, artifact in record.artifacts.items()
            if runtime == profile.runtime and record.status == "ok"
        }
        return tuple(File(digest=digest, path=str(self.store.file(url))) for digest, url in sorted(urls.items()))

    def operators_of(self, record: CellRecord, profile: HardwareProfile) -> Sequence[Operator]:
        """What a cell's network consists of: in its file as the runtime executes it, or by its spec where there is no file.

        Nothing where a user's file cannot be read: its spec knows no more than the file.
        """
        if (graph := self.graphs.of(record, profile)) is not None:
            return graph.operators
        is_file = family_of(load_spec(self.store.open(NODES, record.node))).from_file is not None
        return () if is_file else self.designed(record, profile)

    def designed(self, record: CellRecord, _profile: HardwareProfile) -> Sequence[Operator]:
        """What a cell's network consists of by its spec, as methods see it that design by estimates."""
        return operators(load_spec(self.store.open(NODES, record.node)), record.computes_in)


def open_measuring(loaded: Plan, store: Store, fewer: bool = False) -> MeasureSession:
    """The sweep of the workspace and the pictures to measure with; InputError where a stage before this one has not run."""
    config = quick(loaded.params.measure) if fewer else loaded.params.measure
    cells, images = read_records(workspace.CELLS, CellsFile), load_split(workspace.PREPARED, "val")
    return MeasureSession(store, cells, images, config, loaded.profiles_folder)
