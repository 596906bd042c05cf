"""What the command lines of the studies share: options, and how they end where the input or the surroundings are wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from detection.frozen import InputError

INPUT, INFRASTRUCTURE = 2, 3
RunFolder = Annotated[Path, typer.Option("--run", help="Folder of a finished sweep, with its params.yaml.")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="Its store, where the params name another.")]
Command = Annotated[str, typer.Option(help="What the page names as its origin.")]


def run_app(app: Callable[[], Any], study: str) -> None:
    """Run the app; a wrong input or surroundings end it with one message, exit code 2 or 3, and no traceback."""
    try:
        app()
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        print(f"{study} study: {error}", file=sys.stderr)
        sys.exit(code)


def _exit_code(error: Exception) -> int | None:
    """None where the fault is ours."""
    from flows.grid.ray_cluster import ClusterError
    from flows.records.store import StoreError
    from hardware_profiles.estimate.fit.measurements import MeasurementError
    from hardware_profiles.estimate.graph.graph import GraphError
    from hardware_profiles.runtimes.table import SessionError
    from hardware_profiles.schema.profile import ProfileError
    from hardware_profiles.timing.round import RoundError

    if isinstance(error, InputError | MeasurementError | GraphError | ProfileError | SessionError):
        return INPUT
    return INFRASTRUCTURE if isinstance(error, StoreError | ClusterError | RoundError) else None
