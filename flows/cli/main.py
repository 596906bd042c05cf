"""The command line: one verb per stage, each saying where its result lies and what to do next."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import TypeAdapter

from detection.frozen import InputError
from flows.cli import compare_commands, profile_commands
from flows.cli.options import DEFAULT, ExecutorName, ParamsPath, executor_named, open_sweep
from flows.sweep import workspace

if TYPE_CHECKING:
    from flows.records.schema import CellRecord, CellsFile, LatencyFile
    from flows.sweep.params import Plan
    from flows.tracking.mlflow_client import Tracking

STAGES = ("prepare", "teacher", "grid", "measure", "report")
INPUT, INFRASTRUCTURE = 2, 3
"""Exit codes besides 0 ok, 1 regression, 4 no baseline."""

app = typer.Typer(
    help="Compress an object detector six ways and see what each combination costs and buys on each device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(compare_commands.app)  # without a name: its verbs stand beside the others
app.add_typer(profile_commands.app, name="profiles")
CellsPattern = Annotated[
    str | None, typer.Option("--cells", help="Only cells and references whose name matches, as in a shell: '*pruning*'.")
]


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
        print(f"sixfold: {_message(error)}", file=sys.stderr)
        sys.exit(code)


@app.command()
def plan(params: ParamsPath = DEFAULT, cells: CellsPattern = None) -> None:
    """Print the graph, what is stored, what would run, and a forecast of its time."""
    from rich.console import Console
    from rich.table import Table

    from flows.grid.forecast import forecast, table_rows
    from flows.records.schema import in_numbers
    from flows.sweep.design_profile import aims_elsewhere

    loaded, store = open_sweep(params)
    found = forecast(loaded, workspace.PREPARED, store, cells)
    there = in_numbers(found.cells, found.references)
    table = Table("node", "in the graph", "stored", "to make", title=f"sweep {loaded.params.sweep}: {there}")
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
    if warning := aims_elsewhere(loaded):
        print(warning)


@app.command()
def inputs(params: ParamsPath = DEFAULT) -> None:
    """Note what results depend on besides the params: the data set's files, versions of code and libraries, profiles."""
    from flows.sweep.inputs import inputs as stage

    loaded, _ = open_sweep(params, workspace.INPUTS)
    print("\n".join(str(path) for path in stage(loaded, workspace.INPUTS, workspace.PREPARED)))


@app.command()
def prepare(params: ParamsPath = DEFAULT) -> None:
    """Pack the labelled pictures and write their COCO ground truth."""
    from flows.prepare.stage import prepare as stage

    loaded, _ = open_sweep(params, workspace.PREPARED)
    stage(loaded.params.data, loaded.base, workspace.PREPARED, loaded.params.seed, print)
    print("Next: `sixfold teacher`.")


@app.command()
def teacher(params: ParamsPath = DEFAULT) -> None:
    """Train the detector that is to be compressed."""
    from flows.teacher.stage import teacher as stage

    loaded, store = open_sweep(params, workspace.TEACHER)
    stage(loaded, workspace.PREPARED, store, workspace.TEACHER, print)


@app.command()
def grid(
    params: ParamsPath = DEFAULT,
    cells: CellsPattern = None,
    executor: ExecutorName = "ray",
    tracking: Annotated[bool, typer.Option(help="Show the cells in MLflow as they come.")] = True,
) -> None:
    """Make every cell: what is stored is not made again."""
    from flows.grid.stage import grid as stage
    from flows.sweep.context import chosen_cells, chosen_references, lay_foundation, make_graph

    chosen = executor_named(executor)
    loaded, store = open_sweep(params, workspace.CELLS)
    base = lay_foundation(loaded, workspace.PREPARED)  # bad input ends here and in the next line, before MLflow
    make_graph(loaded, base, (*chosen_cells(loaded, cells), *chosen_references(loaded, cells)))
    tracker = _tracker(loaded, tracking)
    code = stage(
        loaded, workspace.PREPARED, store, workspace.CELLS, pattern=cells, executor=chosen,
        tracking=tracker, say=print,
    )  # fmt: skip
    tracker.close()
    raise typer.Exit(code)


@app.command()
def measure(
    params: ParamsPath = DEFAULT,
    tracking: Annotated[bool, typer.Option(help="Show latencies in MLflow.")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds and calls: a look, without intervals.")] = False,
    export: Annotated[Path | None, typer.Option("--export", help="Instead: write what a device needs to measure itself.")] = None,
    profile: Annotated[list[str] | None, typer.Option("--profile", help="With --export: which device; may be repeated.")] = None,
    results: Annotated[Path | None, typer.Option("--import", help="Instead: read the results.json of a device.")] = None,
) -> None:
    """Time every cell on every hardware profile, or estimate it where the device is not here."""
    from flows.measure.session import export_profiles, import_profile, judge_design, measure_profiles, open_bench
    from flows.records.schema import write_records

    if (profile and export is None) or (export is not None and results is not None):
        raise InputError("--profile goes with --export FOLDER, and --export does not go with --import.")
    loaded, store = open_sweep(params, workspace.LATENCY)
    bench = open_bench(loaded, store, quick)
    if export is not None:
        export_profiles(bench, profile or (), export)
        return
    latency = measure_profiles(bench) if results is None else import_profile(bench, results)
    if latency is None:
        return
    write_records(workspace.LATENCY, latency)
    tracker = _tracker(loaded, tracking)
    for record in (*bench.records.cells, *bench.records.references):
        tracker.log_cell(record, _labels(record))
    tracker.log_latency(*latency.rows)
    tracker.close()
    _print_verdicts(bench.records, latency)
    for line in judge_design(bench, latency):
        print(line)
    print(f"{len(latency.rows)} rows: {workspace.LATENCY}\nNext: `sixfold report`.")


@app.command()
def report(
    params: ParamsPath = DEFAULT, tracking: Annotated[bool, typer.Option(help="Attach the winners' files in MLflow.")] = True
) -> None:
    """Say which combination to ship on each device, and what it costs."""
    from detection.data.dataset import load_split
    from flows.records.schema import CellsFile, LatencyFile, read_records
    from flows.report.recommendation import RecommendationFile
    from flows.report.stage import report as stage

    loaded, store = open_sweep(params, workspace.REPORT, workspace.BEST)
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
        if own.chosen is not None and not own.is_blind and folder.is_dir():
            tracker.log_winner(own.profile, own.chosen.cell, folder)
    tracker.close()


@app.command()
def check(
    params: ParamsPath = DEFAULT,
    accept: Annotated[str | None, typer.Option(help="Keep the current results as the baseline of this name.")] = None,
    baseline: Annotated[str, typer.Option(help="The baseline to compare with.")] = "main",
    confirm: Annotated[bool, typer.Option(help="Measure again what looks slower or faster, before it is called so.")] = True,
) -> None:
    """Compare with a baseline: 0 ok, 1 regression, 2 not comparable, 3 incomplete, 4 no baseline."""
    from detection.data.dataset import load_split
    from flows.check.baseline import accept as keep
    from flows.check.confirm import confirmer
    from flows.check.stage import check as stage
    from flows.records.schema import CellsFile, LatencyFile, read_records

    loaded, store = open_sweep(params, workspace.VERDICT if accept is None else workspace.BASELINES)
    records, latency = read_records(workspace.CELLS, CellsFile), read_records(workspace.LATENCY, LatencyFile)
    if accept is not None:
        print(f"accepted: {keep(accept, records, latency, store.file, workspace.BASELINES)}")
        return
    truth = load_split(workspace.PREPARED, loaded.params.check.split).ground_truth
    settings = loaded.params.check
    again = confirmer(loaded, store, records, latency) if confirm else None
    code = stage(workspace.BASELINES / baseline, records, latency, truth, store.file, settings, workspace.VERDICT, again)
    print(f"{(workspace.VERDICT / 'verdict.md').read_text()}\nverdict: {workspace.VERDICT / 'verdict.json'}")
    raise typer.Exit(code)


@app.command()
def doctor(write: Annotated[Path | None, typer.Option(help="Also write it as JSON.")] = None) -> None:
    """Print what this machine is and which versions run on it."""
    from hardware_profiles.timing.environment import environment

    workspace.require_place(*([write] if write else []))
    text = json.dumps(environment(), indent=1, sort_keys=True)
    print(text)
    if write is not None:
        write.parent.mkdir(parents=True, exist_ok=True)
        write.write_text(text + "\n")


def _note_stage(started_s: float, code: object) -> None:
    """One line about a finished stage, for the table of where the time of a run went; a stage does not fail for want of it."""
    stage = sys.argv[1] if len(sys.argv) > 1 else ""
    if stage not in STAGES or "--help" in sys.argv:
        return
    with contextlib.suppress(OSError):
        workspace.STAGE_TIMES.parent.mkdir(exist_ok=True)
        line = {"stage": stage, "started": round(started_s), "wall_s": round(time.time() - started_s, 1), "exit": code or 0}
        with workspace.STAGE_TIMES.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _print_verdicts(records: CellsFile, latency: LatencyFile) -> None:
    """How the cells compare with the control on each profile, and what to warn of."""
    from flows.report.table import verdict_lines
    from flows.stats.verdicts import in_sentences, raised

    for line in (*verdict_lines(latency.rows), *in_sentences(raised(records, latency.rows))):
        print(line)


def _tracker(loaded: Plan, wanted: bool) -> Tracking:
    from flows.tracking.mlflow_client import NoTracking, Tracker, tracking_uri

    if not wanted:
        return NoTracking()
    return Tracker.open(tracking_uri(Path.cwd()), loaded.params.sweep, loaded.digest, loaded.text)


def _labels(record: CellRecord) -> dict[str, str]:
    """Method -> its variant in a word."""
    from compressors.planning.graph import MethodConfig

    adapter: TypeAdapter[Any] = TypeAdapter(MethodConfig)
    return {method: adapter.validate_python(record.variant[method]).label() for method in record.methods}


def _exit_code(error: Exception) -> int | None:
    """The exit code of an error that is not ours to debug, or None."""
    from flows.grid.ray_executor import ClusterError
    from flows.records.store import StoreError
    from hardware_profiles.schema.profile import ProfileError
    from hardware_profiles.timing.round import RoundError

    if isinstance(error, InputError | ProfileError):
        return INPUT
    if isinstance(error, StoreError | ClusterError | RoundError | OSError):
        return INFRASTRUCTURE
    return None


def _message(error: Exception) -> str:
    """The error in one line; the operating system's refusals with the place and what to do."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        return f"{place}{error.strerror}. See to space and permissions, then run the same command again: what is stored is kept."
    return str(error)
