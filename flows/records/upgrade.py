"""The schema of the files that stages write, and the one place that reads an older one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from detection.frozen import Frozen

RENAMED: dict[str, str] = {
    "beside": "reference_comparison",
    "disturbed_blocks": "contended_blocks",
    "is_blind": "control_below_threshold",
    "minimal_effect": "minimum_detectable_effect",
    "not_told_apart": "indistinguishable",
    "null_proxies": "random_baseline",
    "patience_s": "contention_wait_s",
}
"""Field of schema 1 -> its name in schema 2; no two kinds of file use one of them for different things."""
VALUES: dict[str, dict[str, str]] = {
    "verdict": {"no difference": "not significant", "ship": "recommended", "keep_control": "keep_uncompressed"},
}
"""Field -> value of schema 1 -> value of schema 2."""
SPACE_OPTIONS = ("levels", "stem_stride", "head_branches", "head_depth", "block", "least_depth")
"""Settings of `nas` in schema 1 that are options of its `space` in schema 2."""


class RecordFile(Frozen):
    """A file that a stage writes and others read. Files of schema 1 are read as if they were of schema 2."""

    schema_version: Literal[2] = Field(default=2, alias="schema", serialization_alias="schema")

    @model_validator(mode="before")
    @classmethod
    def _of_this_schema(cls, given: Any) -> Any:
        return upgraded(given) if isinstance(given, dict) and given.get("schema") == 1 else given


def upgraded(tree: dict[str, Any]) -> dict[str, Any]:
    """The content of a file of schema 1 in the words of schema 2; the one given stays as it was."""
    found = _renamed(tree)
    assert isinstance(found, dict)
    for cell in (*found.get("cells", ()), *found.get("references", ())):
        if isinstance(cell, dict) and isinstance(search := cell.get("variant", {}).get("nas"), dict):
            cell["variant"]["nas"] = _with_space(search)
    return found | {"schema": 2}


def _renamed(node: Any) -> Any:
    """The same with other names of fields and values, all the way down."""
    if isinstance(node, list | tuple):
        return [_renamed(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {RENAMED.get(key, key): VALUES.get(key, {}).get(value, value) if isinstance(value, str) else _renamed(value)
            for key, value in node.items()}  # fmt: skip


def _with_space(search: dict[str, Any]) -> dict[str, Any]:
    """Settings of a search with the options of its space in a mapping of their own; what was left open stays out."""
    options = {name: search[name] for name in SPACE_OPTIONS if search.get(name) is not None}
    if options.get("least_depth") == 1:  # the default, which was written out
        del options["least_depth"]
    return {name: value for name, value in search.items() if name not in SPACE_OPTIONS} | {"space": dict(sorted(options.items()))}
