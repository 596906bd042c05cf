"""The command line of the study: `python -m studies.measurement`. `make measurement-study` runs `observe`, then `page`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studies.entry import Command, RunFolder, run_app

if TYPE_CHECKING:
    from studies.measurement.records import Summary

WORK = Path(".sixfold/studies/measurement")
PAGE, SUMMARY, FIGURE = Path("docs/measurement.md"), Path("docs/measurement.json"), Path("docs/measurement-detection.svg")
MAKER = "make measurement-study"

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
WorkFolder = Annotated[Path, typer.Option("--work", help="Where observations lie; those that are there are reused.")]


@app.command()
def observe(run: RunFolder = Path("runs/bccd"), work: WorkFolder = WORK) -> None:
    """Time what is missing. Nothing else may run on this machine meanwhile."""
    from studies.finished_run import open_run
    from studies.measurement.experiments import IdenticalSettings, PlantedSettings, observe_identical, observe_planted
    from studies.measurement.page import SESSIONS_TARGET, TRIALS_TARGET

    subject = open_run(run)
    observe_identical(subject, subject.cells.runtimes, SESSIONS_TARGET, IdenticalSettings(), work)
    observe_planted(subject, TRIALS_TARGET, PlantedSettings(), work)
    print(f"observations: {work}\nNext: `python -m studies.measurement page`.")


@app.command()
def page(work: WorkFolder = WORK, command: Command = MAKER) -> None:
    """Summarize the observations in docs/measurement.json, and write docs/measurement.md."""
    from flows.records.schema import write_records
    from studies.measurement.analysis import summarize
    from studies.measurement.records import Summary

    write_records(SUMMARY, summarize(work, command, _read() if SUMMARY.is_file() else Summary()))
    rewrite()


@app.command()
def rewrite() -> None:
    """Write page and figure from docs/measurement.json: after a change of words, without a run."""
    from studies.measurement.page import draw_detection, judge, write_page

    found = _read()
    if found.planted is not None:
        draw_detection(found.planted, FIGURE)
    write_page(PAGE, found)
    print("\n".join([*(own.sentence for own in judge(found)), f"{PAGE}, {SUMMARY}, {FIGURE}"]))


def _read() -> Summary:
    from flows.records.schema import read_schema
    from studies.measurement.records import Summary

    return read_schema(SUMMARY, Summary, MAKER)


if __name__ == "__main__":
    run_app(app, "measurement")
