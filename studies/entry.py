"""What the command lines of the studies share: options, and how they end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from flows.cli.errors import exit_code

RunFolder = Annotated[Path, typer.Option("--run", help="Folder of a finished sweep, with its params.yaml.")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="Its store, where the params name another.")]
Command = Annotated[str, typer.Option(help="What the page names as its origin.")]


def run_app(app: typer.Typer, study: str) -> NoReturn:
    """Run the app and exit as every command of sixfold does: what is wrong ends in one message and an exit code of its own."""
    sys.exit(exit_code(lambda: app(standalone_mode=False), f"{study} study"))
