"""How a command ended, and what a refusal looks like."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

READING = re.compile(r"\A\w+: reading .*\n")
"""The first line on stderr of a command that reads a params file."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Sixfold = Callable[..., Ended]
"""Takes the folder to run in and the arguments."""


def refused(ended: Ended, *words: str, code: int = 2, out: str = "") -> None:
    """One message on stderr that starts with the program's name and has these words; on stdout what is told, or nothing."""
    assert ended.code == code, ended
    assert ended.err.startswith("sixfold: ")
    assert ended.err.count("\n") == 1, "one message, one line"
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err
    assert ended.out == "" if not out else ended.out.startswith(out)
