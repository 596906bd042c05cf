"""How the command line of every study ends: in one message where the input or the surroundings are wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

INPUT, INFRASTRUCTURE = 2, 3


def run_app(
    app: Callable[[], Any], study: str, of_input: tuple[type[Exception], ...], of_surroundings: tuple[type[Exception], ...] = ()
) -> None:
    """Run the app; exit code 2 where one of the first errors ends it, 3 for the second, both without a traceback."""
    try:
        app()
    except (*of_input, *of_surroundings) as error:
        print(f"{study} study: {error}", file=sys.stderr)
        sys.exit(INFRASTRUCTURE if isinstance(error, of_surroundings) else INPUT)
