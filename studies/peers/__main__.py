"""The command line of the study: `python -m studies.peers`. `make peers` runs `make`, `measure` and `page` in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from studies.entry import Command, run_app

PAGE, SUMMARY = Path("docs/peers.md"), Path("docs/peers.json")
MAKER = "make peers"
Run = Annotated[Path, typer.Argument(help="Folder of a finished sweep, with its params.yaml.")]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def make(
    run: Run,
    only: Annotated[str, typer.Option(help="Chains to make: 'pruned-lamp-*', '*+float@openvino'.")] = "*",
    jobs: Annotated[int, typer.Option(min=1, help="Processes, each of one network at a time.")] = 1,
    names: Annotated[bool, typer.Option("--list", help="Print the names of the chains, and make nothing.")] = False,
) -> None:
    """Train, quantize and score every chain with other people's tools; what is there is kept."""
    from studies.finished_run import open_run
    from studies.peers.work import chain_name, chains_of, make_all

    found = open_run(run, "sixfold grid")
    if names:
        print("\n".join(chain_name(network, own) for network, ways in chains_of(found, only) for own in ways))
        return
    failures = make_all(found, only, jobs)
    for name, error in failures.items():
        print(f"failed: {name}: {error}")
    print(f"Next, on an idle machine: `python -m studies.peers measure {run}`.")


@app.command()
def measure(
    run: Run,
    within: Annotated[float, typer.Option(help="Files that lose more val mAP than this, a share of 1, are not timed.")] = 0.05,
    cells: Annotated[list[str] | None, typer.Option("--cell", help="Of ours, besides those that the report recommends.")] = None,
    quick: Annotated[bool, typer.Option(help="Few rounds of few calls, for a look.")] = False,
) -> None:
    """Time the files of all chains and ours in the same rounds; results/peers.json of the run."""
    from studies.finished_run import open_run
    from studies.peers.timing import PEERS, measure_peers

    measure_peers(open_run(run, "sixfold grid"), within, cells or [], fewer=quick)
    print(f"peers: {run / PEERS}\nNext: `python -m studies.peers page {run}`.")


@app.command()
def page(run: Run, command: Command = MAKER) -> None:
    """Summarize the run in docs/peers.json and rewrite the generated part of docs/peers.md."""
    from flows.records.schema import write_records
    from studies.finished_run import open_run
    from studies.peers.summarize import summarize

    write_records(SUMMARY, summarize(open_run(run, "sixfold grid"), command))
    rewrite()


@app.command()
def rewrite() -> None:
    """Write the page from docs/peers.json: after a change of words, without a run."""
    from flows.records.schema import read_schema
    from studies.peers.page import write_page
    from studies.peers.records import Summary

    write_page(PAGE, read_schema(SUMMARY, Summary, MAKER))
    print(f"{PAGE}, {SUMMARY}")


if __name__ == "__main__":
    run_app(app, "peers")
