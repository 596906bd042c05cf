"""The command line of the study: `python -m studies.measurement`. `make measurement-study` runs `observe`, then `page`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from detection.frozen import InputError
from studies.entry import run_app

PARTS = ("identical", "planted", "loadgen")
WORK = Path(".sixfold/studies/measurement")
PAGE, SUMMARY = Path("docs/measurement.md"), Path("docs/measurement.json")
RESULTS = Path("docs/results")

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
RunFolder = Annotated[Path, typer.Option("--run", help="Folder of a finished sweep, with its params.yaml.")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="Its store, where the params name another.")]
WorkFolder = Annotated[Path, typer.Option("--work", help="Where observations lie; those that are there are not made again.")]


@app.command()
def observe(
    run: RunFolder = Path("runs/bccd"),
    store: StoreFolder = None,
    work: WorkFolder = WORK,
    only: Annotated[list[str] | None, typer.Option(help=f"Parts to observe; all of {', '.join(PARTS)} unless named.")] = None,
    sessions: Annotated[int, typer.Option(min=1, help="Real A/A sessions per runtime.")] = 20,
    trials: Annotated[int, typer.Option(min=1, help="Real trials per planted slowdown.")] = 100,
    alternations: Annotated[int, typer.Option(min=2, help="Of ours and LoadGen, per model.")] = 30,
) -> None:
    """Time what is missing. Nothing else may run on this machine meanwhile."""
    from studies.measurement.identical import IdenticalSettings, observe_identical
    from studies.measurement.loadgen import LoadGenSettings, observe_loadgen
    from studies.measurement.planted import PlantedSettings, observe_planted
    from studies.measurement.subject import open_run

    parts = _known(only or PARTS)
    subject = open_run(run, store)
    if "identical" in parts:
        observe_identical(subject, subject.cells.runtimes, sessions, IdenticalSettings(), work)
    if "planted" in parts:
        observe_planted(subject, trials, PlantedSettings(), work)
    if "loadgen" in parts:
        observe_loadgen(subject, alternations, LoadGenSettings(), work)
    print(f"observations: {work}\nNext: `python -m studies.measurement page`.")


@app.command()
def page(
    run: RunFolder = Path("runs/bccd"),
    store: StoreFolder = None,
    work: WorkFolder = WORK,
    sweeps: Annotated[int, typer.Option(min=100, help="Simulated, per noise and model of it.")] = 10_000,
    command: Annotated[str, typer.Option(help="What the page names as its origin.")] = "make measurement-study",
) -> None:
    """Simulate coverage, sum up what was observed in docs/measurement.json, and write docs/measurement.md."""
    from studies.measurement.page import write_page
    from studies.measurement.subject import open_run
    from studies.measurement.summary import read_summary, write_summary
    from studies.measurement.summing_up import sum_up
    from studies.measurement.targets import sentences

    found = sum_up(open_run(run, store), work, sorted(RESULTS.glob("*/latency.json")), sweeps, command, read_summary(SUMMARY))
    write_summary(SUMMARY, found)
    write_page(PAGE, found)
    print("\n".join(sentences(found)), f"\n{PAGE}, {SUMMARY}")


def _known(names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if name not in PARTS:
            raise InputError(f"--only {name}: no such part; have {', '.join(PARTS)}")
    return tuple(names)


def main() -> None:
    """Run the command line; what is wrong with the input or the surroundings ends in one message."""
    from flows.records.store import StoreError
    from hardware_profiles.runtimes.table import SessionError
    from hardware_profiles.timing.round import RoundError

    run_app(app, "measurement", (InputError, SessionError), (StoreError, RoundError))


if __name__ == "__main__":
    main()
