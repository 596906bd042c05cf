"""The command line of the study: `python -m studies.methods`. `make methods` makes the sweep, then runs all three verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import ExecutorName
from studies.entry import Command, RunFolder, run_app

PAGE, SUMMARY, FIGURES = Path("docs/methods.md"), Path("docs/methods.json"), Path("docs/methods")

RUN, MAKER = Path("runs/methods"), "make methods"

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def seeds(
    run: RunFolder = RUN,
    count: Annotated[int, typer.Option("--seeds", min=1, help="How many; the first is the sweep's own.")] = 3,
    executor: ExecutorName = "ray",
) -> None:
    """Train one variant of each method with several seeds; what is there is reused."""
    from studies.finished_run import open_run
    from studies.methods.further_training import SEEDS, retrain_variants

    code = retrain_variants(open_run(run, MAKER), count, executor)
    if code:
        raise typer.Exit(code)
    print(f"seeds: {run / SEEDS}\nNext: `python -m studies.methods siblings`.")


@app.command()
def siblings(run: RunFolder = RUN) -> None:
    """Train the control in float for as long as each variant of quantization-aware training."""
    from studies.finished_run import open_run
    from studies.methods.further_training import make_siblings

    made = make_siblings(open_run(run, MAKER))
    print(f"float siblings: {len(made)}\nNext: `python -m studies.methods page`.")


@app.command()
def page(run: RunFolder = RUN, command: Command = MAKER) -> None:
    """Summarize the run in docs/methods.json, draw docs/methods/*.svg, and rewrite the generated parts of docs/methods.md."""
    from flows.records.schema import write_records
    from studies.finished_run import open_run
    from studies.methods.summarize import summarize

    found = summarize(open_run(run, MAKER), command)
    write_records(SUMMARY, found)
    rewrite()
    for own in found.methods:
        if own.seeds is None:
            print(f"{own.method}: no seeds of these networks. Run `python -m studies.methods seeds --run {run}`.")


@app.command()
def rewrite() -> None:
    """Write page and figures from docs/methods.json: after a change of words, without a run."""
    from flows.records.schema import read_schema
    from studies.methods.figure import draw_method
    from studies.methods.findings import sentences
    from studies.methods.page import write_page
    from studies.methods.results import Summary

    found = read_schema(SUMMARY, Summary, MAKER)
    for own in found.methods:
        if own.variants:
            draw_method(found, own, FIGURES / f"{own.method}.svg")
            print("\n".join([own.method, *(f"  {line}" for line in sentences(found, own))]))
    write_page(PAGE, found)
    print(f"{PAGE}, {SUMMARY}, {FIGURES}")


if __name__ == "__main__":
    run_app(app, "methods")
