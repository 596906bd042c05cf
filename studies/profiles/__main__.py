"""The command line of the study: `python -m studies.profiles`. `make profiles-accuracy` runs `accuracy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detection.frozen import InputError
from studies.entry import run_app
from studies.profiles.summary import Summary, read_summary, write_summary

PAGE, SUMMARY, FIGURE = Path("docs/profiles.md"), Path("docs/profiles.json"), Path("docs/profiles.svg")
PUBLISHED = Path("../shared/hardware")

RunFolder = Annotated[Path, typer.Option("--run", help="Folder of a finished sweep that was measured on this machine.")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="Its store, where the params name another.")]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def accuracy(
    run: RunFolder = Path("runs/bccd"),
    store: StoreFolder = None,
    yolobench: Annotated[Path, typer.Option(help="YOLOBench's merged results, CSV.")] = PUBLISHED / "yolobench_merged.csv",
    anchors: Annotated[Path, typer.Option(help="Published latencies, CSV.")] = PUBLISHED / "latency_anchors.csv",
    command: Annotated[str, typer.Option(help="What the page names as its origin.")] = "make profiles-accuracy",
) -> None:
    """Fit and test the estimates anew, and rewrite docs/profiles.md; parts whose input is absent keep their last results."""
    found = read_summary(SUMMARY) or Summary(command=command)
    found = _with_published(found.model_copy(update={"command": command}), yolobench, anchors)
    found = _with_host(found, run, store)
    write_summary(SUMMARY, found)
    write(found)


@app.command()
def measurements(
    folder: Annotated[Path, typer.Argument(help="Where the tables go, PROFILE.csv each.")],
    run: RunFolder = Path("runs/bccd"),
    store: StoreFolder = None,
) -> None:
    """Write what a sweep measured here as tables for `sixfold profiles calibrate`."""
    from hardware_profiles.estimate.fit.measurements import write_measurements
    from studies.profiles.host_cells import measurements_of, read_host_runs

    folder.mkdir(parents=True, exist_ok=True)
    for own in read_host_runs(run, store):
        path = folder / f"{own.profile}.csv"
        write_measurements(measurements_of(own), path)
        print(f"{path}: {len(own.cells)} files. Next: `sixfold profiles calibrate {own.profile} {path}`.")


def write(found: Summary) -> None:
    """The page and its figure from what is known."""
    from studies.profiles.figure import draw_accuracy
    from studies.profiles.page import sentences, write_page

    if found.host:
        draw_accuracy(found.host, FIGURE)
    write_page(PAGE, found, FIGURE.name)
    print("\n".join(sentences(found)), f"\n{PAGE}, {SUMMARY}")


def _with_published(found: Summary, yolobench: Path, anchors: Path) -> Summary:
    from studies.profiles import published
    from studies.profiles.published_fits import fit_all

    missing = [str(path) for path in (yolobench, anchors) if not path.is_file()]
    if missing:
        print(f"published latencies: {' and '.join(missing)} not there; the page keeps its last results")
        return found
    series = [*published.anchors(anchors), *published.yolobench(yolobench)]
    return found.model_copy(update={"published": fit_all(series)})


def _with_host(found: Summary, run: Path, store: Path | None) -> Summary:
    from flows.sweep.workspace import CELLS
    from studies.profiles.host_accuracy import judge
    from studies.profiles.host_cells import read_host_runs

    if not (run / CELLS).is_file():
        print(f"{run}: no finished sweep there; the page keeps its last results. Make one with `make repro PLAN=plans/bccd.yaml`.")
        return found
    return found.model_copy(update={"host": tuple(judge(own) for own in read_host_runs(run, store))})


def main() -> None:
    """Run the command line; what is wrong with the input ends in one message."""
    from flows.records.store import StoreError
    from hardware_profiles.estimate.fit.measurements import AnchorError
    from hardware_profiles.estimate.graph.graph import GraphError
    from hardware_profiles.schema.profile import ProfileError
    from hardware_profiles.timing.round import RoundError

    run_app(app, "profiles", (InputError, AnchorError, GraphError, ProfileError, StoreError), (RoundError,))


if __name__ == "__main__":
    main()
