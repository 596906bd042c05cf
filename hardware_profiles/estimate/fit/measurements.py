"""Measured networks that a profile's numbers are fitted on: read from a CSV file of the user's, or made by a study."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

from hardware_profiles.estimate.graph.graph import GraphError
from hardware_profiles.estimate.graph.reading import read_operators
from hardware_profiles.estimate.model import Operator
from hardware_profiles.schema.profile import DType

NEEDED = ("model", "dtype", "latency_ms")
OPTIONAL = ("family", "threads", "runtime_version", "cpu")


class MeasurementError(ValueError):
    """A file of measurements is missing or wrong, or too little to fit on; the message says which line and what is allowed."""


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network of known operators and how long it took on the device."""

    name: str
    operators: tuple[Operator, ...]
    dtype: DType
    latency_s: float
    family: str | None = None
    """Networks of one family are left out together; None: each stands for itself."""
    threads: int | None = None
    runtime_version: str | None = None
    cpu: str | None = None
    """The processor that was timed, as `hardware_profiles.timing.environment.cpu_model` calls it."""
    origin: str = ""
    """Where the time comes from."""


def read_measurements(path: Path, runtime: str | None = None) -> tuple[MeasuredNetwork, ...]:
    """The measurements in a CSV file, one exported network a line; MeasurementError says which line is wrong.

    Columns: `model` (path of the exported file, relative to the CSV file), `dtype` (fp32, fp16 or int8: what the device computed
    in), `latency_ms` (median of one picture), and the OPTIONAL ones. `runtime` is the profile's.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MeasurementError(f"{path}: cannot be read: {error}. Give a CSV file with the columns {', '.join(NEEDED)}.") from error
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    columns = [name.strip() for name in reader.fieldnames or []]
    if missing := [name for name in NEEDED if name not in columns]:
        raise MeasurementError(
            f"{path}, line 1: no column {', '.join(missing)}; needed: {', '.join(NEEDED)}; optional: {', '.join(OPTIONAL)}"
        )
    if unknown := [name for name in columns if name not in (*NEEDED, *OPTIONAL)]:
        raise MeasurementError(f"{path}, line 1: unknown column {', '.join(unknown)}; allowed: {', '.join((*NEEDED, *OPTIONAL))}")
    rows = ((reader.line_num, dict(zip(columns, row.values(), strict=False))) for row in reader)
    measured = tuple(_network(path, line, row, runtime) for line, row in rows)
    if not measured:
        raise MeasurementError(f"{path}: no measurements below the heading; give one line for each measured network")
    if len(versions := sorted({network.runtime_version for network in measured if network.runtime_version})) > 1:
        raise MeasurementError(
            f"{path}: times of {', '.join(versions)}; one fit takes those of one version, for times move with versions"
        )
    if len(cpus := sorted({network.cpu for network in measured if network.cpu})) > 1:
        raise MeasurementError(f"{path}: times of different processors ({', '.join(cpus)}); one fit takes those of one")
    return measured


class Measurement(NamedTuple):
    """A line of such a file."""

    model: Path
    """The exported file; absolute, or relative to the CSV file."""
    dtype: str
    latency_s: float
    family: str
    threads: int | None = None
    runtime_version: str | None = None
    cpu: str | None = None


def write_measurements(measurements: Iterable[Measurement], path: Path) -> None:
    """Write the CSV file that `read_measurements` reads, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow((*NEEDED, *OPTIONAL))
        for own in measurements:
            table.writerow(
                (own.model, own.dtype, f"{1e3 * own.latency_s:.6g}", own.family, own.threads, own.runtime_version, own.cpu)
            )
    partial.replace(path)


def _network(path: Path, line: int, row: Mapping[str, str | None], runtime: str | None) -> MeasuredNetwork:
    values = {name: (value or "").strip() for name, value in row.items() if name in (*NEEDED, *OPTIONAL)}
    where = f"{path}, line {line}"
    if empty := [name for name in NEEDED if not values.get(name)]:
        raise MeasurementError(f"{where}: {', '.join(empty)} is empty")
    if values["dtype"] not in get_args(DType):
        raise MeasurementError(f"{where}: dtype is {values['dtype']!r}; allowed: {', '.join(get_args(DType))}")
    latency_ms = _number(where, "latency_ms", values["latency_ms"])
    threads = _number(where, "threads", values["threads"]) if values.get("threads") else None
    try:
        operators = read_operators(path.parent / values["model"], runtime)
    except GraphError as error:
        raise MeasurementError(f"{where}: {error}") from error
    quantized = any(operator.quantized for operator in operators)
    if quantized != (values["dtype"] == "int8"):
        raise MeasurementError(
            f"{where}: dtype is {values['dtype']}, but {values['model']} is {'an int8' if quantized else 'a float'} file"
        )
    return MeasuredNetwork(
        name=values["model"],
        operators=operators,
        dtype=next(dtype for dtype in get_args(DType) if dtype == values["dtype"]),
        latency_s=latency_ms / 1e3,
        family=values.get("family") or None,
        threads=round(threads) if threads is not None else None,
        runtime_version=values.get("runtime_version") or None,
        cpu=values.get("cpu") or None,
        origin=path.name,
    )


def _number(where: str, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise MeasurementError(f"{where}: {column} is {text!r}; a number above 0 is needed")
    return value
