"""Rows of `results/latency.json` for devices that are not here: times and memory needs from the graphs of exported files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flows.measure.measured_rows import empty_row, why_not_made
from flows.records.schema import ArtifactRecord, CellRecord, LatencyRow
from flows.records.store import Store
from hardware_profiles.estimate.graph.graph import Graph, GraphError
from hardware_profiles.estimate.graph.reading import read_graph
from hardware_profiles.estimate.memory import fits, peak_activation_bytes
from hardware_profiles.estimate.model import Estimate, Operator, cannot_run, estimate, main_dtype
from hardware_profiles.schema.profile import HardwareProfile

OperatorsOf = Callable[[CellRecord, HardwareProfile], Sequence[Operator]]
"""What a cell's network consists of in the file that a profile's device would run."""
UNKNOWN = "the graph of its file cannot be read, so nothing is known of what it computes"
NEAREST = "onnxruntime"
"""Whose file stands in for a format that sixfold does not make: plain ONNX, int8 with its quantizations written out."""


def estimated_row(
    record: CellRecord,
    control: CellRecord | None,
    profile: HardwareProfile,
    operators_of: OperatorsOf,
    host_cpu: HardwareProfile | None = None,
) -> LatencyRow:
    """The row of one cell on a profile that only describes a device; where it cannot run, no number and `why`.

    `host_cpu` is the profile that `profile.host_cpu` names, or None.
    """
    if record.status != "ok":
        return empty_row(record, profile, "estimated", why=why_not_made(record))
    own = _estimate(record, profile, operators_of, host_cpu)
    if isinstance(own, str):
        return empty_row(record, profile, "estimated", fits=None if own == UNKNOWN else False, why=own)
    calibration = profile.calibration.of(main_dtype(operators_of(record, profile), profile))
    reference = _estimate(control, profile, operators_of, host_cpu) if control is not None and control.status == "ok" else None
    return empty_row(
        record,
        profile,
        own.origin,
        p50_s=own.point_s,
        interval_s=(own.low_s, own.high_s),
        speedup=reference.point_s / own.point_s if isinstance(reference, Estimate) else None,
        why=own.note,
        validated_on=None if calibration is None else calibration.validated_on,
    )


def _estimate(
    record: CellRecord, profile: HardwareProfile, operators_of: OperatorsOf, host_cpu: HardwareProfile | None
) -> Estimate | str:
    """The modelled time, or why there can be none."""
    operators = operators_of(record, profile)
    if not operators:
        return UNKNOWN
    if host_cpu is None and (reason := cannot_run(operators, profile)):
        return reason
    return estimate(operators, profile, host_cpu)


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
