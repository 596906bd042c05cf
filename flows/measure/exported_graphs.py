"""The graphs of exported files: what estimates and memory needs of a cell start from."""

from __future__ import annotations

from flows.records.schema import ArtifactRecord, CellRecord, LatencyRow
from flows.records.store import Store
from hardware_profiles.estimate.graph.graph import Graph, GraphError, read_graph
from hardware_profiles.estimate.memory import fits, peak_activation_bytes
from hardware_profiles.schema.profile import HardwareProfile

NEAREST = "onnxruntime"
"""Whose file stands in for a format that sixfold does not make: plain ONNX, int8 with its quantizations written out."""


class ExportedGraphs:
    """Reads each file of a store once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[tuple[str, str | None], Graph | None] = {}

    def of(self, record: CellRecord, profile: HardwareProfile) -> Graph | None:
        """The graph of the cell's file for the profile's runtime, or of the nearest; None where there is none that can be read."""
        found = _artifact(record, profile)
        if found is None:
            return None
        runtime, artifact = found
        key = (artifact.digest, runtime)
        if key not in self._seen:
            try:
                self._seen[key] = read_graph(self._store.file(artifact.url), runtime)
            except GraphError:  # a file of another maker may have open sizes: it can be timed, and has no estimate from its graph
                self._seen[key] = None
        return self._seen[key]


def with_memory(row: LatencyRow, graph: Graph | None, profile: HardwareProfile) -> LatencyRow:
    """The row with what the network needs to hold; where its process was not measured, that decides whether it fits."""
    if graph is None:
        return row
    activation_bytes = peak_activation_bytes(graph)
    sizes = {"parameter_bytes": graph.parameter_bytes, "peak_activation_bytes": activation_bytes}
    if row.is_measured or row.fits is not None:
        return row.model_copy(update=sizes)
    fitting, why = fits(graph.parameter_bytes, activation_bytes, profile)
    return row.model_copy(update=sizes | {"fits": fitting, "why": "; ".join(filter(None, (row.why, why))) or None})


def _artifact(record: CellRecord, profile: HardwareProfile) -> tuple[str, ArtifactRecord] | None:
    """(runtime, file) of the profile's runtime, of NEAREST, or of whichever there is."""
    if record.status != "ok":
        return None
    for runtime in (profile.runtime, NEAREST, *record.artifacts):
        if runtime in record.artifacts:
            return runtime, record.artifacts[runtime]
    return None
