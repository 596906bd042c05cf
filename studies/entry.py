"""What the command lines of the studies share: options, and how they end."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from flows.cli.errors import exit_code

RunFolder = Annotated[Path, typer.Option("--run", help="Folder of a finished sweep, with its params.yaml.")]
Command = Annotated[str, typer.Option(help="What the page names as its origin.")]


def run_app(app: typer.Typer, study: str) -> NoReturn:
    """Run the app; whatever goes wrong ends it with one message and an exit code of its own, as in `sixfold`."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    sys.exit(exit_code(partial(app, standalone_mode=False), verb, f"{study} study"))
