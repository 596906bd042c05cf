"""Hand-made results of the methods study, and hand-made records of a sweep in which every variant stands alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compressors.planning.names import MethodName
from flows.compare.retrain_text import SeedsFile
from flows.records.schema import CellRecord, DatasetRecord, LatencyRow, SpeedVerdict
from flows.stats.map_bootstrap import NO_DIFFERENCE, Difference
from studies.methods.results import Comparison, InRuntime, MethodResult, Role, Search, Shown, Summary, Timing
from studies.methods.subjects import Rivalry
from tests.flows.records_factory import artifact, digest, measured_row, ok_cell

RUNTIME, PROFILE = "onnxruntime", "x86-onnxruntime-1t"
CONTROL_MAP, CONTROL_MACS = 0.550, 100_000_000


def difference(mean: float, half: float = 0.005) -> Difference:
    """In shares of 1, with an interval of half a point to either side."""
    return Difference(mean=mean, low=mean - half, high=mean + half, p=0.5, error=half / 2)


def timing(speedup: float, verdict: SpeedVerdict | None = None, *, rounds: int = 8, idle: bool = False) -> Timing:
    """Of a file compared with a control that takes 2 ms; the interval is 1 % to either side."""
    said: SpeedVerdict = "faster" if speedup > 1.01 else "slower" if speedup < 0.99 else "not significant"
    p50_s = 0.002 / speedup
    return Timing(
        profile=PROFILE,
        runtime="onnxruntime 1.31.1",
        p50_s=p50_s,
        range_s=(0.9 * p50_s, 1.1 * p50_s),
        rounds=rounds,
        speedup=speedup,
        speedup_ci95=(0.99 * speedup, 1.01 * speedup),
        verdict=verdict or said,
        smaller_not_faster=idle,
    )


def shown(
    label: str,
    change: Difference | None = None,
    *,
    role: Role = "variant",
    macs: int = CONTROL_MACS,
    timed: Timing | None = None,
    runtimes: Sequence[str] = (RUNTIME,),
    input_size: tuple[int, int] = (96, 128),
    no_effect: bool = False,
    inherited_images: int = 0,
) -> Shown:
    """A row; its parameters and bytes follow its multiply-adds."""
    change = change or NO_DIFFERENCE
    return Shown(
        name=label,
        label=label,
        role=role,
        params=macs // 100,
        macs=macs,
        input_size=input_size,
        no_effect=no_effect,
        inherited_images=inherited_images,
        runtimes=tuple(
            InRuntime(
                runtime=runtime,
                size_bytes=macs // 25,
                val_map=CONTROL_MAP + change.mean + 0.01,
                test_map=CONTROL_MAP + change.mean,
                difference=change,
                timings=() if timed is None else (timed,),
            )
            for runtime in runtimes
        ),
    )


def compared(variant: str, rival: str, change: Difference, speed_ratio: float | None = None) -> Comparison:
    """In the one runtime."""
    return Comparison(variant=variant, rival=rival, runtime=RUNTIME, difference=change, speed_ratio=speed_ratio)


def result(
    method: MethodName,
    rows: Sequence[Shown],
    rivalry: Rivalry = "equal_macs",
    *,
    comparisons: Sequence[Comparison] = (),
    searches: Sequence[Search] = (),
    seeds: SeedsFile | None = None,
    missing: Sequence[str] = (),
) -> MethodResult:
    """One method."""
    return MethodResult(
        method=method,
        rivalry=rivalry,
        shown=tuple(rows),
        comparisons=tuple(comparisons),
        searches=tuple(searches),
        seeds=seeds,
        missing=tuple(missing),
    )


def summary(*methods: MethodResult, runtimes: Sequence[str] = (RUNTIME,)) -> Summary:
    """A sweep on 2,000 test pictures; the control takes 2 ms."""
    pictures = {"train": 1000, "val": 300, "test": 2000}
    return Summary(
        command="make methods",
        sweep="methods",
        dataset=DatasetRecord(name="digits", digest=digest("digits"), classes=("0",), input_size=(96, 128), pictures=pictures),
        seed=0,
        machine="a CPU",
        bootstrap_draws=1000,
        bootstrap_seed=0,
        control=shown("control", role="control", timed=timing(1.0, "same file"), runtimes=runtimes),
        methods=methods,
    )


def alone(method: str, label: str, val: float, **config: Any) -> CellRecord:
    """The cell of one variant alone; `config` is what its record says of it."""
    return _named(ok_cell((method,), val), f"{method}:{label}", val, {method: {"method": method, **config}})


def reference(name: str, kind: str, val: float, **methods: dict[str, Any]) -> CellRecord:
    """A reference of `grid.references` with the methods that are in it."""
    made = ok_cell(tuple(methods), val)
    return _named(made, f"reference:{name}", val, {kind: {"kind": kind}, **methods})


def _named(record: CellRecord, name: str, val: float, variant: dict[str, dict[str, Any]]) -> CellRecord:
    artifacts = {runtime: artifact(name, runtime, val, val, own.size_bytes) for runtime, own in record.artifacts.items()}
    return record.model_copy(update={"cell": name, "node": digest(name), "variant": variant, "artifacts": artifacts})


def row(record: CellRecord, p50_s: float) -> LatencyRow:
    """Measured in the same rounds as a control of 10 ms."""
    return measured_row(record.cell, PROFILE, p50_s, 0.010)
