"""The verbs that look again at what a sweep made: `sixfold retrain`, over several seeds, and `sixfold compare`, two cells."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.options import DEFAULT, ExecutorName, ParamsPath, executor_named, load_sweep, print_table
from flows.sweep import workspace

app = typer.Typer()


@app.command()
def retrain(
    params: ParamsPath = DEFAULT,
    cell: Annotated[
        str | None, typer.Option("--cell", help="A cell or reference; without it, the cell that the report recommends.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="How many; the first is the sweep's own.")] = 3,
    executor: ExecutorName = "ray",
) -> None:
    """Make one cell and the control from the root with several seeds: what it loses on average, and how sure that is."""
    chosen = executor_named(executor)
    loaded, store = load_sweep("retrain", params, workspace.SEEDS)
    from flows.compare.retrain import retrain as stage
    from flows.compare.retrain_text import HEADS, read_seeds, rows, sentences

    code = stage(
        loaded, workspace.PREPARED, store, workspace.REPORT / "recommendation.json", workspace.SEEDS, cell=cell, seeds=seeds,
        executor=chosen, say=print,
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
    """Say what B costs and buys beside A: accuracy on the same pictures, size, and latency measured in the same rounds."""
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
