"""The command line of the study: `python -m studies.profiles`. `make profiles-accuracy` runs `accuracy`."""

from __future__ import annotations

from pathlib import Path

import typer

from studies.entry import Command, RunFolder, run_app

PAGE, SUMMARY, FIGURE = Path("docs/profiles.md"), Path("docs/profiles.json"), Path("docs/profiles.svg")

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def accuracy(run: RunFolder = Path("runs/bccd"), command: Command = "make profiles-accuracy") -> None:
    """Fit the profiles to a part of the measured cells, test them on the rest, and rewrite docs/profiles.md."""
    from flows.records.schema import write_records
    from studies.profiles.host_accuracy import Summary, judge
    from studies.profiles.host_cells import read_host_runs

    write_records(SUMMARY, Summary(command=command, host=tuple(judge(*own) for own in read_host_runs(run))))
    rewrite()


@app.command()
def rewrite() -> None:
    """Write page and figure from docs/profiles.json: after a change of words, without a run."""
    from flows.records.schema import read_schema
    from studies.profiles.host_accuracy import Summary
    from studies.profiles.page import draw_accuracy, sentences, write_page

    found = read_schema(SUMMARY, Summary, "make profiles-accuracy")
    draw_accuracy(found.host, FIGURE)
    write_page(PAGE, found)
    print("\n".join([*(line for own in found.host for line in sentences(own)), f"{PAGE}, {SUMMARY}, {FIGURE}"]))


if __name__ == "__main__":
    run_app(app, "profiles")
