"""A source that decides a result gets a new version when it changes, or the store would hand out what the old one made.

The table `source_digests.json` is rewritten by `python tests/compressors/test_versions.py`.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from pathlib import Path

import pytest

from compressors.planning.graph import METHODS, VERSIONS
from detection.data.provenance import READING_VERSION

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("source_digests.json")
SOURCES: dict[str, tuple[str, ...]] = {
    method: tuple(sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "compressors" / method).glob("*.py")))
    for method in METHODS
}
SOURCES["pruning"] += ("detection/compact/complexity.py",)
SOURCES |= {
    "training": tuple(
        f"detection/{module}.py"
        for module in (
            "training",
            "compact/losses",
            "data/augmentation",
            "compact/blueprint",
            "compact/network",
            "boxes",
            "checkpoint",
            "data/dataset",
        )
    ),
    "export": ("detection/export.py", "detection/compact/deployed.py", "detection/compact/network.py"),
    "references": ("compressors/planning/references.py", "compressors/nas/space.py"),
    "estimate": ("hardware_profiles/estimate/model.py", "compressors/latency.py", "detection/compact/complexity.py"),
    "reading": (
        *(f"detection/data/{module}.py" for module in ("sources", "labelled", "coco", "voc", "generated")),
        "detection/boxes.py",
        "flows/prepare/stage.py",
    ),
}
"""What each version stands for."""
CURRENT = VERSIONS | {"reading": READING_VERSION}
"""The methods' and what nodes work with, and that of the prepared data."""


def source_digest(source: str) -> str:
    """sha256 of what the source does: comments, docstrings and formatting do not count."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [statement for statement in body if not is_docstring(statement)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def is_docstring(statement: ast.stmt) -> bool:
    """True for a string that stands alone: the documentation of a module, a function or a field."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)


def digest_of(method: str) -> str:
    """One digest over all sources of a method, each under its path."""
    parts = [f"{path} {source_digest((ROOT / path).read_text())}" for path in SOURCES[method]]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def current() -> dict[str, dict[str, int | str]]:
    """The table as it should be now."""
    return {method: {"version": CURRENT[method], "source": digest_of(method)} for method in SOURCES}


def test_every_version_stands_for_sources() -> None:
    """The six methods and what they work with have a version and a list of sources each; every source exists."""
    assert set(SOURCES) == set(CURRENT) == {*METHODS, "training", "export", "estimate", "references", "reading"}
    assert not [path for paths in SOURCES.values() for path in paths if not (ROOT / path).is_file()]


@pytest.mark.parametrize("method", SOURCES)
def test_a_changed_source_has_a_new_version(method: str) -> None:
    """The committed table knows this source under this version."""
    known, now = json.loads(TABLE.read_text()).get(method, {"version": None}), current()[method]
    if known == now:
        return
    numbers = {"reading": "READING_VERSION in detection/data/provenance.py"}
    place = numbers.get(method, f"VERSIONS[{method!r}] in compressors/planning/graph.py")
    rewrite = f"python {Path(__file__).relative_to(ROOT)}"
    if known["version"] == now["version"]:
        pytest.fail(
            f"{', '.join(SOURCES[method])}: changed, but {place} is still {now['version']}. "
            f"If it makes anything else than before, raise that number: what people have was made by the old source. "
            f"If it makes the same, leave the number. Then run `{rewrite}` and commit the table."
        )
    pytest.fail(f"{place} is {now['version']}, in the table {known['version']}. Run `{rewrite}` and commit the table.")


def test_the_digest_sees_code_and_nothing_else() -> None:
    """Comments, docstrings, quotes and line breaks leave it as it is; a constant, a name or an order does not."""
    plain = source_digest("def f(x, y):\n    return x + 1\n")
    assert plain == source_digest('"""Module."""\n\ndef f(x,\n      y):  # why\n    """What comes back."""\n    return (x + 1)\n')
    assert source_digest("class A:\n    a: int = 1\n") == source_digest('class A:\n    a: int = 1\n    """Documented."""\n')
    others = ("def f(x, y):\n    return x + 2\n", "def f(x, z):\n    return x + 1\n", "def f(y, x):\n    return x + 1\n")
    assert plain not in {source_digest(other) for other in others}
    assert source_digest("x = 'a'\n") == source_digest('x = "a"\n') != source_digest("x = 'b'\n")


def main() -> int:
    """Rewrite the table and say what became of each entry; the exit code is 0."""
    known = json.loads(TABLE.read_text()) if TABLE.is_file() else {}
    TABLE.write_text(json.dumps(current(), indent=1) + "\n")
    for method, entry in current().items():
        print(f"{method}: version {entry['version']}, {'as it was' if known.get(method) == entry else 'rewritten'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
