"""What a record says of its own cell."""

from __future__ import annotations

import pytest

from tests.flows.records_factory import ok_cell


@pytest.mark.parametrize(
    ("methods", "precision", "dtype"),
    [
        ((), None, "fp32"),
        (("pruning",), None, "fp32"),
        (("quantization",), None, "int8"),
        (("pruning", "quantization"), "int8", "int8"),
        (("pruning", "quantization"), "float16", "fp32"),
    ],
)
def test_a_file_computes_in_int8_only_where_its_precision_is_int8(
    methods: tuple[str, ...], precision: str | None, dtype: str
) -> None:
    """float16 weights are widened when they are loaded; records older than that setting are int8."""
    record = ok_cell(methods, 0.5)
    variant = record.variant if precision is None else record.variant | {"quantization": {"precision": precision}}
    assert record.model_copy(update={"variant": variant}).computes_in == dtype
