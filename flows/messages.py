"""What work says to people while it runs."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Takes one line: `print`, a progress bar's, or a test's `list.append`."""
