"""YAML without the silent rule that the last of two equal keys wins."""

from __future__ import annotations

from typing import Any

import yaml

MERGE = "tag:yaml.org,2002:merge"


def load_yaml(text: str) -> Any:
    """What the text holds; ValueError in one line, with the place, where it is no YAML or a mapping has a key twice."""
    try:
        return _UniqueKeys(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2026-02-30
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from error


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == MERGE:
                continue
            name, line = str(self.construct_object(key, deep=True)), key.start_mark.line + 1
            if name in lines:
                raise yaml.YAMLError(f"{name} stands there twice, in lines {lines[name]} and {line}; leave one of them out")
            lines[name] = line
        return super().construct_mapping(node, deep)
