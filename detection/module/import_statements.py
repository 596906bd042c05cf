"""What a user's Python file is and imports, told by its syntax; and where a module lies below a folder. Nothing is executed."""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from detection.frozen import InputError

LARGEST_SOURCE_BYTES = 1_000_000
"""Ten thousand lines have half of it; what is larger holds tables."""
NEAREST = 3
CATCHES_MISSING = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


class Import(NamedTuple):
    """One import of a file: `import module`, or `from module import names`."""

    module: str
    """Its absolute name; empty where a relative import leads above the packages."""
    names: tuple[str, ...]
    """Modules in it, or whatever else it has."""
    place: str
    """File and line of the statement, for messages."""
    optional: bool = False
    """Whether the file does without it: the statement stands in a `try` that catches ImportError."""


class Source(NamedTuple):
    """A file as it travels, and what it imports."""

    text: str
    """Without comments and layout."""
    imports: tuple[Import, ...]


def locate(root: Path, module: str) -> Path | None:
    """The file of a module below a folder, or the folder of a package without `__init__.py`; None where there is neither."""
    place = root.joinpath(*module.split("."))
    for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if file.is_file():
            return file
    return place if place.is_dir() else None


def with_parents(module: str) -> list[str]:
    """Every package on the way to a module, and the module: a, a.b, a.b.c."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def nearest(root: Path, module: str) -> str:
    """What there is in place of a module that is missing below a folder, as the end of a sentence: "; have a, b", or nothing."""
    missing = next(own for own in with_parents(module) if locate(root, own) is None)
    package, _, name = missing.rpartition(".")
    folder = root.joinpath(*package.split("."))
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [path.stem for path in paths if path.stem.isidentifier() and (path.suffix == ".py" or path.is_dir())]
    return close_names(name, names, f"{package}." if package else "")


def close_names(name: str, names: Sequence[str], prefix: str = "") -> str:
    """The names most like one, else the first, as the end of a sentence; empty where there are none."""
    public = [own for own in names if not own.startswith("__")]
    near = difflib.get_close_matches(name, public, n=NEAREST) or public[:NEAREST]
    return f"; have {', '.join(prefix + own for own in near)}" if near else ""


def read_source(path: Path, module: str) -> Source:
    """The file of a module; InputError where it is no Python, or too large to travel."""
    if (size_bytes := path.stat().st_size) > LARGEST_SOURCE_BYTES:
        raise InputError(
            f"{path}: {size_bytes / 1e6:.1f} MB of Python; 1 MB is allowed, for the file travels in every record. "
            'Put tables into a file of their own and name it in detector.spec as {"file": PATH}.'
        )
    return _parsed(path.read_bytes(), path, module)


@lru_cache(maxsize=1000)
def _parsed(content: bytes, path: Path, module: str) -> Source:
    """The same, kept: plans are read several times in a process, and parsing takes nearly all of the time."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from error
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    try:
        tree = ast.parse(text, str(path))
        compile(tree, str(path), "exec", dont_inherit=True)  # finds what no grammar does, as a `return` outside of functions
        return Source(ast.unparse(tree), tuple(_imports(tree, package, path)))
    except SyntaxError as error:
        version = ".".join(map(str, sys.version_info[:2]))
        raise InputError(f"{path}:{error.lineno}: no Python {version}: {error.msg}. Correct this line.") from error
    except (ValueError, RecursionError) as error:  # a byte 0; an expression nested a thousand times
        raise InputError(f"{path}: cannot be read as Python: {error}.") from error


def _imports(tree: ast.AST, package: list[str], path: Path, optional: bool = False) -> Iterator[Import]:
    """Every import below a node, those inside functions included; those for type checkers and of scripts left out."""
    for node in ast.iter_child_nodes(tree):
        place = f"{path}:{getattr(node, 'lineno', 0)}"
        match node:
            case ast.expr():
                continue  # holds no statements
            case ast.Import():
                yield from (Import(alias.name, (), place, optional) for alias in node.names)
            case ast.ImportFrom():
                yield Import(_absolute(node, package), tuple(alias.name for alias in node.names), place, optional)
            case ast.If(
                test=ast.Name(id="TYPE_CHECKING")
                | ast.Attribute(attr="TYPE_CHECKING")
                | ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()])
            ):
                yield from _imports(ast.Module(node.orelse, []), package, path, optional)
            case ast.Try():
                yield from _imports(node, package, path, optional or any(map(_catches_missing, node.handlers)))
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts) | ast.Tuple(elts)) if path.name == "__init__.py":
                # `from package import *` imports those that are modules
                listed = tuple(own.value for own in elts if isinstance(own, ast.Constant) and isinstance(own.value, str))
                yield Import(".".join(package), listed, place, optional=True)
            case _:
                yield from _imports(node, package, path, optional)


def _absolute(node: ast.ImportFrom, package: list[str]) -> str:
    """The module that a statement imports from; empty where that is above the packages."""
    if node.level > len(package):
        return ""
    start = package[: len(package) - node.level + 1] if node.level else []
    return ".".join([*start, *([node.module] if node.module else [])])


def _catches_missing(handler: ast.ExceptHandler) -> bool:
    """True where an `except` takes the error of an import that fails."""
    return handler.type is None or any(isinstance(own, ast.Name) and own.id in CATCHES_MISSING for own in ast.walk(handler.type))


def original_line(original: str, copied: str, line: int) -> int:
    """The line of a file where the statement begins that is at this line of its copy without comments and layout."""
    pairs = zip(_first_lines(copied), _first_lines(original), strict=True)
    return max((pair for pair in pairs if pair[0] <= line), default=(line, line))[1]


def _first_lines(text: str) -> list[int]:
    """The line where each statement begins, its decorators included; in the order of the syntax tree."""
    statements = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt))
    return [min(own.lineno for own in (node, *getattr(node, "decorator_list", ()))) for node in statements]
