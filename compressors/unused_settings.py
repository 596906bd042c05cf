"""Settings that another one makes idle: accepted, they would promise something and rename a node whose result is the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detection.frozen import Frozen


def refuse_unused(config: Frozen, idle: Mapping[str, str]) -> None:
    """ValueError where one of these fields is not what it is unless set; `idle`: field -> what would have to be for it to count.

    At its default a field may be written out, as it is in every record.
    """
    for field, condition in idle.items():
        usual: Any = type(config).model_fields[field].default
        if (found := getattr(config, field)) != usual:
            raise ValueError(f"{field} {found}: counts only {condition}. Leave it out, or change the other")
