"""The names of the methods. Imports nothing, so that whoever only names them need not load what they are made of."""

from __future__ import annotations

from typing import Literal, get_args

MethodName = Literal["lightweight", "nas", "pruning", "low_rank", "distillation", "quantization"]
METHODS: tuple[MethodName, ...] = get_args(MethodName)
"""The order in which the methods of a cell are named."""
CONTROL = "none"
"""The cell without any."""
