"""A source that decides a result gets a new version when it changes, or the store would hand out what the old one made.

The table `source_digests.json` is rewritten by `python tests/compressors/planning/test_versions.py`.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from compressors.planning.names import METHODS
from compressors.planning.versions import SOURCES, UNVERSIONED, VERSIONS
from detection.data.sources import READING_VERSION

ROOT = Path(__file__).parents[3]
TABLE = Path(__file__).with_name("source_digests.json")
READING = (
    *(f"detection/data/{own}.py" for own in ("sources", "labelled", "archives", "pixels", "coco", "voc", "yolo*", "generated")),
    "detection/boxes.py",
    "flows/prepare/stage.py",
)
"""What `READING_VERSION` stands for: it is part of the prepared data's digest, not of node keys."""
PLACES = {"reading": "READING_VERSION in detection/data/sources.py"}
CURRENT = VERSIONS | {"reading": READING_VERSION}
ALWAYS = ("training", "export", "estimate", "evaluation")
"""Versions that the keys of a method's nodes hold besides its own, as far as its settings ask for them."""


def files_of(name: str) -> list[str]:
    """The files that a version stands for, relative to the checkout."""
    patterns = SOURCES.get(name, READING)
    return sorted({path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)})


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


def digest_of(name: str) -> str:
    """One digest over all sources of a version, each under its path."""
    parts = [f"{path} {source_digest((ROOT / path).read_text())}" for path in files_of(name)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def current() -> dict[str, dict[str, int | str]]:
    """The table as it should be now."""
    return {name: {"version": CURRENT[name], "source": digest_of(name)} for name in CURRENT}


def imported(path: Path) -> set[str]:
    """Files of ours that a file imports anywhere, relative to the checkout."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            for file in (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py"):
                if (ROOT / file).is_file():
                    found.add(file)
    return found


def reached_from(files: list[str]) -> set[str]:
    """Every file of ours that these import, at whatever distance, but packages that only have a docstring."""
    reached, waiting = set(files), list(files)
    while waiting:
        new = {file for file in imported(ROOT / waiting.pop()) - reached if len(ast.parse((ROOT / file).read_text()).body) > 1}
        reached |= new
        waiting += new
    return reached


def test_every_version_stands_for_sources() -> None:
    """The methods and what they work with have a version and sources each; every pattern finds a file."""
    assert set(SOURCES) == set(VERSIONS)
    assert set(METHODS) < set(VERSIONS)
    every = {**SOURCES, "unversioned": tuple(UNVERSIONED), "reading": READING}
    assert not [pattern for patterns in every.values() for pattern in patterns if not list(ROOT.glob(pattern))]


@pytest.mark.parametrize("name", [*METHODS, "references"])
def test_all_that_a_method_runs_has_a_version(name: str) -> None:
    """Every file that the method's imports reach belongs to a version in its nodes' keys, or is excepted for a reason."""
    versioned = {file for version in (name, *ALWAYS) for file in files_of(version)}
    loose = {
        file for file in reached_from(files_of(name)) - versioned if not any(fnmatch(file, pattern) for pattern in UNVERSIONED)
    }
    assert not loose, (
        f"{name} runs {sorted(loose)}, which no version in its nodes' keys stands for: add them to SOURCES of "
        f"compressors/planning/versions.py, or to UNVERSIONED with the reason"
    )


@pytest.mark.parametrize("name", CURRENT)
def test_a_changed_source_has_a_new_version(name: str) -> None:
    """The committed table knows this source under this version."""
    known, now = json.loads(TABLE.read_text()).get(name, {"version": None}), current()[name]
    if known == now:
        return
    place = PLACES.get(name, f"VERSIONS[{name!r}] in compressors/planning/versions.py")
    rewrite = f"python {Path(__file__).relative_to(ROOT)}"
    if known["version"] == now["version"]:
        pytest.fail(
            f"{', '.join(files_of(name))}: changed, but {place} is still {now['version']}. "
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
    for name, entry in current().items():
        print(f"{name}: version {entry['version']}, {'as it was' if known.get(name) == entry else 'rewritten'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
