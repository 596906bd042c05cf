"""What several commands share: their options, the params and the store behind them, and tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from flows.sweep import workspace

if TYPE_CHECKING:
    from flows.records.store import Store
    from flows.sweep.params import Plan

ParamsPath = Annotated[Path, typer.Option("--params", help="The params file; its relative paths start in its own folder.")]
ExecutorName = Annotated[
    Literal["ray", "inline"], typer.Option("--executor", help="ray, or inline: one task after another in this process.")
]
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


def print_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print lines under their heads: as wide as the terminal, or unfolded in a log. Names, which come first, are never folded."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*heads)
    table.columns[0].no_wrap = True
    for line in lines:
        table.add_row(*line)
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    Console(width=width, markup=False, emoji=False, highlight=False).print(table)
