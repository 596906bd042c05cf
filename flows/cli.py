"""The command line: one verb per stage, each saying where its result lies and what to do next."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import TypeAdapter

from detection.frozen import InputError
from flows import workspace

if TYPE_CHECKING:
    from flows.params import Plan
    from flows.records import CellRecord
    from flows.store import Store
    from flows.tracking import Tracking

STAGES = ("prepare", "teacher", "grid", "measure", "report")
INPUT, INFRASTRUCTURE = 2, 3
"""Exit codes besides 0 ok, 1 regression, 4 no baseline."""

app = typer.Typer(
    help="Compress an object detector six ways and see what each combination costs and buys on each device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ParamsPath = Annotated[Path, typer.Option("--params", help="The params file; its relative paths start in its own folder.")]
CellsPattern = Annotated[str | None, typer.Option("--cells", help="Only cells whose name matches, as in a shell: '*pruning*'.")]
DEFAULT = Path("params.yaml")


def main() -> None:
    """Run the command line; whatever is wrong with the input or the surroundings ends in one message, not in a traceback."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    started_s = time.time()
    try:
        app()
    except SystemExit as end:
        _note_stage(started_s, end.code)
        raise
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        print(f"sixfold: {error}", file=sys.stderr)
        sys.exit(code)


@app.command()
def plan(params: ParamsPath = DEFAULT, cells: CellsPattern = None) -> None:
    """Print the graph, what is stored, what would run, and a forecast of its time."""
    from rich.console import Console
    from rich.table import Table

    from flows.plan import forecast, table_rows

    loaded, store = _open(params)
    found = forecast(loaded, workspace.PREPARED, store, cells)
    table = Table("node", "in the graph", "stored", "to make", title=f"sweep {loaded.params.sweep}: {found.cells} cells")
    for kind, nodes, stored in table_rows(found):
        table.add_row(kind, str(nodes), str(stored), str(nodes - stored))
    total, stored = sum(found.nodes.values()), sum(found.stored.values())
    table.add_row("all", str(total), str(stored), str(total - stored), style="bold")
    Console().print(table)
    print(
        f"to train {found.train_images:,} pictures (whole graph {found.train_images_whole:,}), "
        f"to search {found.search_images:,}, teacher forwards {found.teacher_forwards:,}, artifacts to score {found.to_score}"
    )
    guess = "constants of one machine; true times may be twice or half"
    basis = f"times of {found.measured_on} stored nodes" if found.measured_on else guess
    print(f"forecast: {found.cpu_s / 60:.1f} core-minutes, about {found.wall_s / 60:.1f} minutes here (from {basis})")


@app.command()
def prepare(params: ParamsPath = DEFAULT) -> None:
    """Pack the labelled pictures and write their COCO ground truth."""
    from flows.prepare import prepare as stage

    loaded, _ = _open(params)
    stage(loaded.params.data, loaded.base, workspace.PREPARED, loaded.params.seed, print)
    print("Next: `sixfold teacher`.")


@app.command()
def teacher(params: ParamsPath = DEFAULT) -> None:
    """Train the detector that is to be compressed."""
    from flows.teacher import teacher as stage

    loaded, store = _open(params)
    stage(loaded, workspace.PREPARED, store, workspace.TEACHER, print)


@app.command()
def grid(
    params: ParamsPath = DEFAULT,
    cells: CellsPattern = None,
    executor: Annotated[str, typer.Option(help="ray, or inline: one task after another in this process.")] = "ray",
    tracking: Annotated[bool, typer.Option(help="Show the cells in MLflow as they come.")] = True,
) -> None:
    """Make every cell: what is stored is not made again."""
    from flows.foundation import chosen_cells, lay_foundation, make_graph
    from flows.grid import grid as stage

    if executor not in ("ray", "inline"):
        raise InputError(f"--executor {executor!r}: allowed are ray and inline.")
    loaded, store = _open(params)
    make_graph(
        loaded, lay_foundation(loaded, workspace.PREPARED), chosen_cells(loaded, cells)
    )  # bad input ends here, before MLflow
    tracker = _tracker(loaded, tracking)
    code = stage(
        loaded, workspace.PREPARED, store, workspace.CELLS, pattern=cells, executor="ray" if executor == "ray" else "inline",
        tracking=tracker, say=print,
    )  # fmt: skip
    tracker.close()
    raise typer.Exit(code)


@app.command()
def measure(params: ParamsPath = DEFAULT, tracking: Annotated[bool, typer.Option(help="Show latencies in MLflow.")] = True) -> None:
    """Time every cell on every hardware profile, or estimate it where the device is not here."""
    from compressors.latency import operators
    from detection.blueprint import Blueprint
    from detection.dataset import load_split
    from flows.measure import measure as stage
    from flows.nodes import SECTION
    from flows.records import CellsFile, read_records, write_records
    from hardware_profiles.profile import load_profile

    loaded, store = _open(params)
    records = read_records(workspace.CELLS, CellsFile)
    latency = stage(
        records,
        [load_profile(name) for name in loaded.params.measure.profiles],
        load_split(workspace.PREPARED, "val"),
        loaded.params.measure,
        store.root / "observations" / "latency",
        store.file,
        lambda cell: operators(Blueprint.model_validate_json((store.open(SECTION, cell.node) / "blueprint.json").read_text())),
        print,
    )
    write_records(workspace.LATENCY, latency)
    tracker = _tracker(loaded, tracking)
    for record in records.cells:
        tracker.log_cell(record, _labels(record))
    tracker.log_latency(*latency.rows)
    tracker.close()
    print(f"{len(latency.rows)} rows: {workspace.LATENCY}\nNext: `sixfold report`.")


@app.command()
def report(
    params: ParamsPath = DEFAULT, tracking: Annotated[bool, typer.Option(help="Attach the winners' files in MLflow.")] = True
) -> None:
    """Say which combination to ship on each device, and what it costs."""
    from detection.dataset import load_split
    from flows.answers import RecommendationFile
    from flows.records import CellsFile, LatencyFile, read_records
    from flows.report import report as stage

    loaded, store = _open(params)
    records, latency = read_records(workspace.CELLS, CellsFile), read_records(workspace.LATENCY, LatencyFile)
    stage(
        records, latency, load_split(workspace.PREPARED, "test"), loaded.params.report,
        folder=workspace.REPORT, best_folder=workspace.BEST,
        resolve=store.file, report=print,
    )  # fmt: skip
    tracker = _tracker(loaded, tracking)
    text = (workspace.REPORT / "recommendation.json").read_text()
    for own in RecommendationFile.model_validate_json(text).profiles:
        folder = workspace.BEST / own.profile
        if own.chosen is not None and folder.is_dir():
            tracker.log_winner(own.profile, own.chosen.cell, folder)
    tracker.close()


@app.command()
def check(
    params: ParamsPath = DEFAULT,
    accept: Annotated[str | None, typer.Option(help="Keep the current results as the baseline of this name.")] = None,
    baseline: Annotated[str, typer.Option(help="The baseline to compare with.")] = "main",
) -> None:
    """Compare with a baseline: 0 ok, 1 regression, 2 not comparable, 3 incomplete, 4 no baseline."""
    from detection.dataset import load_split
    from flows.baseline import accept as keep
    from flows.check import check as stage
    from flows.records import CellsFile, LatencyFile, read_records

    loaded, store = _open(params)
    records, latency = read_records(workspace.CELLS, CellsFile), read_records(workspace.LATENCY, LatencyFile)
    if accept is not None:
        print(f"accepted: {keep(accept, records, latency, store.file, workspace.BASELINES)}")
        return
    truth = load_split(workspace.PREPARED, loaded.params.check.split).ground_truth
    settings = loaded.params.check
    code = stage(workspace.BASELINES / baseline, records, latency, truth, store.file, settings, workspace.VERDICT)
    print(f"{(workspace.VERDICT / 'verdict.md').read_text()}\nverdict: {workspace.VERDICT / 'verdict.json'}")
    raise typer.Exit(code)


@app.command()
def profiles() -> None:
    """List the hardware profiles."""
    from rich.console import Console
    from rich.table import Table

    from hardware_profiles.profile import known_profiles, load_profile

    table = Table("profile", "device", "runtime", "threads", "numbers are")
    for name in known_profiles():
        profile = load_profile(name)
        kind = "measured" if profile.kind == "host" else "estimated"
        table.add_row(name, profile.name, profile.runtime, str(profile.threads), kind)
    Console().print(table)
    print("Name them in measure.profiles of the params file. docs/profiles.md shows how to add one.")


@app.command()
def doctor(write: Annotated[Path | None, typer.Option(help="Also write it as JSON.")] = None) -> None:
    """Print what this machine is and which versions run on it."""
    from hardware_profiles.environment import environment

    text = json.dumps(environment(), indent=1, sort_keys=True)
    print(text)
    if write is not None:
        write.parent.mkdir(parents=True, exist_ok=True)
        write.write_text(text + "\n")


def _note_stage(started_s: float, code: object) -> None:
    """One line about a finished stage, for the table of where the time of a run went."""
    stage = sys.argv[1] if len(sys.argv) > 1 else ""
    if stage in STAGES and "--help" not in sys.argv:
        workspace.STAGE_TIMES.parent.mkdir(exist_ok=True)
        line = {"stage": stage, "started": round(started_s), "wall_s": round(time.time() - started_s, 1), "exit": code or 0}
        with workspace.STAGE_TIMES.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _open(params: Path) -> tuple[Plan, Store]:
    from flows.params import load_plan
    from flows.store import open_store

    loaded = load_plan(params)
    return loaded, open_store(loaded.params.store.url, loaded.base)


def _tracker(loaded: Plan, wanted: bool) -> Tracking:
    from flows.tracking import NoTracking, Tracker, tracking_uri

    if not wanted:
        return NoTracking()
    return Tracker.open(tracking_uri(Path.cwd()), loaded.params.sweep, loaded.digest, loaded.text)


def _labels(record: CellRecord) -> dict[str, str]:
    """Method -> its variant in a word."""
    from compressors.cells import MethodConfig

    adapter: TypeAdapter[Any] = TypeAdapter(MethodConfig)
    return {method: adapter.validate_python(config).label() for method, config in record.variant.items()}


def _exit_code(error: Exception) -> int | None:
    """The exit code of an error that is not ours to debug, or None."""
    from flows.cluster import ClusterError
    from flows.store import StoreError
    from hardware_profiles.measure import RoundError
    from hardware_profiles.profile import ProfileError

    if isinstance(error, InputError | ProfileError):
        return INPUT
    if isinstance(error, StoreError | ClusterError | RoundError):
        return INFRASTRUCTURE
    return None
