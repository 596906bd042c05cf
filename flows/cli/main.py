"""The command line: one command per stage, each saying where its result lies and what to do next, and those that look again."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import profile_commands
from flows.cli.errors import exit_code
from flows.cli.file_commands import inspect, predict, quantize
from flows.cli.init_command import init
from flows.cli.options import DEFAULT, CellsPattern, ExecutorName, ParamsPath, load_sweep, print_table, refuse
from flows.sweep import workspace

if TYPE_CHECKING:
    from flows.records.schema import CellsFile, LatencyFile
    from flows.sweep.params import Plan
    from flows.tracking.mlflow_client import Tracker

STAGES = ("prepare", "teacher", "grid", "measure", "report")

app = typer.Typer(
    help="Compress an object detector six ways and see what each combination costs and buys on each device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(profile_commands.app, name="profiles")
for command in (init, inspect, predict, quantize):
    app.command()(command)


def main() -> None:
    """Run the command line; whatever goes wrong ends in one message and an exit code of its own, not in a traceback."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    sys.exit(exit_code(partial(_run, verb), verb))


def _run(verb: str) -> object:
    """What the command returned: nothing, or its exit code."""
    started_s = time.time()
    returned = app(standalone_mode=False)
    _note_stage(verb, started_s, returned)
    return returned


@app.command()
def plan(params: ParamsPath = DEFAULT, cells: CellsPattern = None) -> None:
    """Print the graph, what is stored, what would run, and a forecast of its time."""
    loaded, store = load_sweep("plan", params)
    from detection.data.dataset import load_prepared
    from flows.grid.forecast import forecast, table_rows
    from flows.records.formatting import not_applicable
    from flows.records.schema import in_numbers
    from flows.sweep.given_teachers import what_labels_alone_teach
    from flows.sweep.machine_warnings import machine_warnings

    found = forecast(loaded, workspace.PREPARED, store, cells)
    print(f"sweep {loaded.params.sweep}: {in_numbers(found.cells, found.references)}")
    counts = (*table_rows(found), ("all", sum(found.nodes.values()), sum(found.stored.values())))
    lines = [(kind, str(nodes), str(stored), str(nodes - stored)) for kind, nodes, stored in counts]
    print_table(("node", "in the graph", "stored", "to make"), lines)
    print(
        f"to train {found.train_images:,} pictures (whole graph {found.train_images_whole:,}), "
        f"to search {found.search_images:,}, teacher forwards {found.teacher_forwards:,}, artifacts to score {found.to_score}"
    )
    guess = "constants of one machine; true times may be twice or half"
    basis = f"times of {found.measured_on} stored nodes" if found.measured_on else guess
    print(f"forecast: {found.cpu_s / 60:.1f} core-minutes, about {found.wall_s / 60:.1f} minutes here (from {basis})")
    classes = load_prepared(workspace.PREPARED).classes
    reasons = {str(method): why for method, why in loaded.not_applicable.items()}
    for line in (*not_applicable(reasons), *machine_warnings(loaded), *what_labels_alone_teach(loaded, classes)):
        print(line)


@app.command()
def inputs(params: ParamsPath = DEFAULT) -> None:
    """Note what each stage depends on: params with defaults, the user's files, versions of code and libraries, profiles."""
    loaded, _ = load_sweep("inputs", params, workspace.INPUTS)
    from flows.sweep.inputs import inputs as stage

    print("\n".join(str(path) for path in stage(loaded, workspace.INPUTS, workspace.PREPARED)))


@app.command()
def prepare(params: ParamsPath = DEFAULT) -> None:
    """Pack the labelled pictures and write their COCO ground truth."""
    loaded, _ = load_sweep("prepare", params, workspace.PREPARED)
    from flows.prepare.stage import prepare as stage

    stage(loaded.params.data, loaded.base, workspace.PREPARED, loaded.params.seed, print)
    print(f"Next: {loaded.command('teacher')}.")


@app.command()
def teacher(params: ParamsPath = DEFAULT) -> None:
    """Train the detector that is to be compressed."""
    loaded, store = load_sweep("teacher", params, workspace.TEACHER)
    from flows.teacher.stage import teacher as stage

    stage(loaded, workspace.PREPARED, store, workspace.TEACHER, print)


@app.command()
def grid(
    params: ParamsPath = DEFAULT,
    cells: CellsPattern = None,
    executor: ExecutorName = "ray",
    tracking: Annotated[bool, typer.Option(help="Show the cells in MLflow as they come.")] = True,
) -> None:
    """Make every cell; what is stored is not made again."""
    loaded, store = load_sweep("grid", params, workspace.CELLS)
    from flows.grid.stage import grid as stage

    code = stage(
        loaded, workspace.PREPARED, store, workspace.CELLS, pattern=cells, executor=executor,
        open_tracking=lambda: _tracker(loaded, tracking, "sixfold grid"), say=print,
    )  # fmt: skip
    raise typer.Exit(code)


@app.command()
def measure(
    params: ParamsPath = DEFAULT,
    tracking: Annotated[bool, typer.Option(help="Show latencies in MLflow.")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds and calls: a look, without intervals.")] = False,
    export: Annotated[Path | None, typer.Option("--export", help="Export a benchmark bundle instead of measuring.")] = None,
    profile: Annotated[list[str] | None, typer.Option("--profile", help="With --export: which device; may be repeated.")] = None,
    results: Annotated[Path | None, typer.Option("--import", help="Instead: read the results.json of a device.")] = None,
) -> None:
    """Time every cell on every hardware profile, or estimate it where the device is not here."""
    if (profile and export is None) or (export is not None and results is not None):
        refuse("--profile goes with --export FOLDER, and --export does not go with --import.")
    loaded, store = load_sweep("measure", params, workspace.LATENCY)
    from flows.measure.devices.bundle import export_bundles, import_rows
    from flows.measure.estimate_accuracy import design_advice
    from flows.measure.session import open_measuring
    from flows.measure.stage import measure as stage
    from flows.records.schema import write_records
    from flows.report.table import verdict_lines
    from flows.stats.verdicts import flag_sentences, flags_of

    session = open_measuring(loaded, store, quick)
    if export is not None:
        export_bundles(session, profile or (), export)
        return
    latency = stage(session, session.profiles()) if results is None else import_rows(session, results)
    if latency is None:
        return
    write_records(workspace.LATENCY, latency)
    tracker = _tracker(loaded, tracking, "sixfold report")
    _show(tracker, session.cells, latency)
    tracker.close()
    warnings = flag_sentences(flags_of(session.cells, latency.rows))
    for line in (*verdict_lines(latency.rows), *warnings, *design_advice(session, latency, loaded.params.grid.design_profile)):
        print(line)
    print(f"{len(latency.rows)} rows: {workspace.LATENCY}\nNext: {loaded.command('report')}.")


@app.command()
def report(
    params: ParamsPath = DEFAULT,
    tracking: Annotated[bool, typer.Option(help="Attach the recommended models' files in MLflow.")] = True,
) -> None:
    """Say which cell is recommended for each device, and what it costs."""
    loaded, store = load_sweep("report", params, workspace.REPORT, workspace.BEST)
    from detection.data.dataset import load_split
    from flows.prepare.card import read_card
    from flows.records.schema import CellsFile, LatencyFile, read_records
    from flows.report.stage import report as stage

    records, latency = read_records(workspace.CELLS, CellsFile), read_records(workspace.LATENCY, LatencyFile)
    recommended = stage(
        records, latency, load_split(workspace.PREPARED, "test"), loaded.params.report,
        folder=workspace.REPORT, best_folder=workspace.BEST,
        store=store, say=print, card=read_card(workspace.PREPARED),
    )  # fmt: skip
    tracker = _tracker(loaded, tracking, "sixfold report")
    _show(tracker, records, latency)
    for own in recommended.profiles:
        folder = workspace.BEST / own.profile
        if own.chosen is not None and not own.control_below_threshold and folder.is_dir():
            tracker.log_recommended(own.profile, own.chosen.cell, folder)
    tracker.close()


@app.command()
def check(
    params: ParamsPath = DEFAULT,
    accept: Annotated[str | None, typer.Option(help="Keep the current results as the baseline of this name.")] = None,
    baseline: Annotated[str, typer.Option(help="The baseline to compare with.")] = "main",
    confirm: Annotated[bool, typer.Option(help="Measure again what looks slower or faster, before it is called so.")] = True,
) -> None:
    """Compare with a baseline: 0 ok, 1 regression, 2 not comparable, 3 incomplete, 4 no baseline."""
    loaded, store = load_sweep("check", params, workspace.VERDICT if accept is None else workspace.BASELINES)
    from flows.check.baseline import accept as keep
    from flows.check.confirm import measure_again
    from flows.check.stage import check as stage
    from flows.check.stage import write_verdict
    from flows.compare.two_cells import truths_of
    from flows.measure.session import open_measuring
    from flows.records.schema import CellsFile, LatencyFile, read_records

    if accept is None:
        for name in ("verdict.json", "verdict.md"):  # whoever reads them after a check that fails must not find an old answer
            (workspace.VERDICT / name).unlink(missing_ok=True)
    records, latency = read_records(workspace.CELLS, CellsFile), read_records(workspace.LATENCY, LatencyFile)
    if accept is not None:
        print(f"accepted: {keep(accept, records, latency, store, workspace.BASELINES)}")
        return
    settings, truths = loaded.params.check, truths_of(records, workspace.PREPARED)
    again = partial(measure_again, session=open_measuring(loaded, store), latency=latency) if confirm else None
    verdict = stage(workspace.BASELINES / baseline, records, latency, truths[settings.split], store, settings, again)
    write_verdict(verdict, workspace.VERDICT)
    print(f"{(workspace.VERDICT / 'verdict.md').read_text()}\nverdict: {workspace.VERDICT / 'verdict.json'}")
    raise typer.Exit(verdict.exit_code)


@app.command()
def doctor(write: Annotated[Path | None, typer.Option(help="Also write it as JSON.")] = None) -> None:
    """Print what this machine is and which versions run on it."""
    from flows.records.files import write_text
    from hardware_profiles.timing.environment import environment

    workspace.require_place(*([write] if write else []))
    text = json.dumps(environment(), indent=1, sort_keys=True)
    print(text)
    if write is not None:
        write_text(write, text + "\n")


@app.command()
def retrain(
    params: ParamsPath = DEFAULT,
    cell: Annotated[
        str | None, typer.Option("--cell", help="A cell or reference; without it, the cell that the report recommends.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="3 show how far they differ; the first is the sweep's own.")] = 3,
    executor: ExecutorName = "ray",
) -> None:
    """Make one cell and the control from the root with several seeds: what it loses on average, and how sure that is."""
    loaded, store = load_sweep("retrain", params, workspace.SEEDS)
    from flows.compare.retrain import retrain as stage
    from flows.compare.retrain_text import HEADS, read_seeds, rows, sentences

    code = stage(
        loaded, workspace.PREPARED, store, workspace.REPORT / "recommendation.json", workspace.SEEDS, cell=cell, seeds=seeds,
        executor=executor, say=print,
    )  # fmt: skip
    if code == 0:
        made = read_seeds(workspace.SEEDS)
        print("\n".join(sentences(made)))
        print_table(HEADS, rows(made))
        print(f"seeds: {workspace.SEEDS}; docs/comparing.md says what the interval holds.")
        print("Next: `make publish PLAN=...` in the checkout puts them on docs/results.md.")
    raise typer.Exit(code)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A cell or reference of results/cells.json.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The cell or reference to compare with A.")],
    params: ParamsPath = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON and nothing else.")] = False,
) -> None:
    """Say what B costs and gains compared with A: accuracy on the same pictures, size, and latency measured in the same rounds."""
    loaded, store = load_sweep("compare", params)
    from flows.compare.two_cells import HEADS, rows, sentences, truths_of
    from flows.compare.two_cells import compare as stage
    from flows.records.schema import CellsFile, LatencyFile, read_records

    cells = read_records(workspace.CELLS, CellsFile)
    latency = read_records(workspace.LATENCY, LatencyFile) if workspace.LATENCY.exists() else None
    settings = loaded.params.report
    found = stage(
        cells, latency, (a, b), truths_of(cells, workspace.PREPARED), store, seed=settings.seed, draws=settings.bootstrap_draws
    )
    if as_json:
        print(found.model_dump_json(by_alias=True, indent=1))
        return
    print("\n".join(sentences(found)))
    print(f"A: {found.a}\nB: {found.b}")
    print_table(HEADS, rows(found))


def _note_stage(verb: str, started_s: float, code: object) -> None:
    """One line about a finished stage, for the table of where the time of a run went; a stage does not fail for want of it."""
    if verb not in STAGES or "--help" in sys.argv:
        return
    with contextlib.suppress(OSError):
        workspace.STAGE_TIMES.parent.mkdir(exist_ok=True)
        line = {"stage": verb, "started": round(started_s), "wall_s": round(time.time() - started_s, 1), "exit": code or 0}
        with workspace.STAGE_TIMES.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _tracker(loaded: Plan, wanted: bool, again: str) -> Tracker:
    """`again` is the command that shows everything where MLflow fails now."""
    from flows.tracking.mlflow_client import Tracker, tracking_uri

    if not wanted:
        return Tracker()
    return Tracker.open(tracking_uri(Path.cwd()), loaded.params.sweep, loaded.digest, loaded.text, again)


def _show(tracker: Tracker, records: CellsFile, latency: LatencyFile) -> None:
    """All that the records say; what is there already is not written again."""
    for record in (*records.cells, *records.references):
        tracker.log_cell(record)
    tracker.log_latency(*latency.rows)
