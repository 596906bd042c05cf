"""The command line of the study: `python -m studies.methods`. `make methods` makes the sweep, then runs all three verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detection.frozen import InputError
from flows.cli.options import ExecutorName, executor_named
from studies.entry import run_app

WORK = Path(".sixfold/studies/methods")
PAGE, SUMMARY, FIGURES = Path("docs/methods.md"), Path("docs/methods.json"), Path("docs/methods")

RunFolder = Annotated[Path, typer.Option("--run", help="Folder of a finished sweep whose cells have one method each.")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="Its store, where the params name another.")]
RUN = Path("runs/methods")

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def seeds(
    run: RunFolder = RUN,
    store: StoreFolder = None,
    count: Annotated[int, typer.Option("--seeds", min=1, help="How many; the first is the sweep's own.")] = 3,
    executor: ExecutorName = "ray",
) -> None:
    """Make one variant of each method again with several seeds; what is there is not made again."""
    from studies.methods.run import SEEDS, open_methods_run
    from studies.methods.seeds import retrain_variants

    code = retrain_variants(open_methods_run(run, store), count, executor_named(executor), print)
    if code:
        raise typer.Exit(code)
    print(f"seeds: {run / SEEDS}\nNext: `python -m studies.methods siblings`.")


@app.command()
def siblings(run: RunFolder = RUN, store: StoreFolder = None) -> None:
    """Train the control in float for as long as each variant that was trained with rounding."""
    from studies.methods.run import SIBLINGS, open_methods_run
    from studies.methods.siblings import make_siblings

    made = make_siblings(open_methods_run(run, store), print)
    print(f"float siblings: {len(made.siblings)} in {run / SIBLINGS}\nNext: `python -m studies.methods page`.")


@app.command()
def page(
    run: RunFolder = RUN,
    store: StoreFolder = None,
    work: Annotated[Path, typer.Option(help="Where draws of the bootstrap are kept, not to be drawn again.")] = WORK,
    command: Annotated[str, typer.Option(help="What the page names as its origin.")] = "make methods",
) -> None:
    """Sum the run up in docs/methods.json, draw docs/methods/*.svg, and rewrite the generated parts of docs/methods.md."""
    from flows.records.schema import write_records
    from studies.methods.figure import draw_method
    from studies.methods.page import write_page
    from studies.methods.run import open_methods_run
    from studies.methods.sentences import sentences
    from studies.methods.summing_up import sum_up

    found = sum_up(open_methods_run(run, store), work, command)
    for own in found.methods:
        if own.variants:
            draw_method(found, own, FIGURES / f"{own.method}.svg")
            print("\n".join([own.method, *(f"  {line}" for line in sentences(found, own))]))
    write_page(PAGE, found, FIGURES.name)
    write_records(SUMMARY, found)
    for own in found.methods:
        if own.seeds is None:
            print(f"{own.method}: no seeds of these networks. Run `python -m studies.methods seeds --run {run}`.")
    print(f"{PAGE}, {SUMMARY}, {FIGURES}")


def main() -> None:
    """Run the command line; what is wrong with the input or the surroundings ends in one message."""
    from flows.grid.ray_executor import ClusterError
    from flows.records.store import StoreError
    from hardware_profiles.runtimes.table import SessionError

    run_app(app, "methods", (InputError, SessionError), (StoreError, ClusterError))


if __name__ == "__main__":
    main()
