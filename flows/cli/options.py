"""What several commands share: their options, the params and the store behind them, and tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from flows.sweep import workspace

if TYPE_CHECKING:
    from rich.table import Table

    from flows.grid.ray_executor import Executor
    from flows.records.store import Store
    from flows.sweep.params import Plan

ParamsPath = Annotated[Path, typer.Option("--params", help="The params file; its relative paths start in its own folder.")]
ExecutorName = Annotated[str, typer.Option("--executor", help="ray, or inline: one task after another in this process.")]
CellsPattern = Annotated[
    str | None, typer.Option("--cells", help="Only cells and references whose name matches, as in a shell: '*pruning*'.")
]
DEFAULT = workspace.PARAMS
PLAIN_WIDTH = 200
"""Characters a line where the output is no terminal: tables in logs and pipes are not folded."""


def load_sweep(verb: str, params: Path, *outputs: Path) -> tuple[Plan, Store]:
    """The checked params and their store, once it is known that the outputs can be written.

    Says so first: from here on libraries are loaded, which takes seconds.
    """
    print(f"{verb}: reading {params}", file=sys.stderr, flush=True)
    from flows.records.store import open_store
    from flows.sweep.plan_checks import load_plan

    loaded = load_plan(params)
    workspace.require_place(*outputs)
    return loaded, open_store(loaded.params.store.url, loaded.base)


def refuse(message: str) -> NoReturn:
    """Raise InputError."""
    from detection.frozen import InputError  # pydantic with it, which `--help` need not wait for

    raise InputError(message)


def executor_named(name: str) -> Executor:
    """The executor of that name; InputError where there is none."""
    if name not in ("ray", "inline"):
        refuse(f"--executor {name!r}: allowed are ray and inline.")
    return "ray" if name == "ray" else "inline"


def print_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print lines under their heads: as wide as the terminal, or unfolded in a log."""
    from rich.table import Table

    table = Table(*heads)
    for line in lines:
        table.add_row(*line)
    show_table(table)


def show_table(table: Table) -> None:
    """Print a table of rich as wide as the terminal, or unfolded in a log."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    Console(width=width, markup=False, emoji=False, highlight=False).print(table)
