"""A user's files unpacked in a private folder, and imported from there: what is missing from the copy fails before it travels.

Two versions of the same modules may be open in one process. `sys.modules` has those of one at a time; import statements in the
user's files first bring their own version back. A script that has imported its own files keeps them.
"""

from __future__ import annotations

import ast
import atexit
import base64
import builtins
import importlib
import os
import posixpath
import shutil
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from detection.frozen import InputError
from detection.module.import_names import other_owner
from detection.module.import_statements import close_names, locate, original_line
from detection.module.named_files import CODE, Guard, active_guard, refused_files


class MissingModuleError(InputError, ModuleNotFoundError):
    """The copy lacks a module; code that does without it may catch it as the ImportError that it is."""


class CodeCopy:
    """The unpacked files of one user's code and the modules made from them."""

    def __init__(self, reference: str, files: Mapping[str, str], data: Mapping[str, str]) -> None:
        self.reference, self.files = reference, files
        self.tops = {path.partition("/")[0].removesuffix(".py") for path in files}
        """First parts of the modules' names."""
        self.folder = Path(tempfile.mkdtemp(prefix="sixfold-code-")).resolve()
        self.root = self.folder / CODE
        self.guard = Guard(self.folder, base=None)
        self.own_builtins = vars(builtins) | {"__import__": self._import}
        self._modules: dict[str, ModuleType] = {}  # those that wait outside of sys.modules
        self._before: dict[str, ModuleType] = {}  # others of the same names that it had: a script of the user's has imported them
        self._opened: list[Any] = []
        self._data_root = self.folder.joinpath("data", *["above"] * max((path.count("../") for path in data), default=0))
        atexit.register(_remove, self.folder, os.getpid())
        self.root.mkdir()
        for path, text in files.items():
            _write(self.root / path, text.encode())
        for path, content in data.items():
            _write(self.data_path(path), base64.b64decode(content))

    def data_path(self, path: str) -> Path:
        """Where the file lies that the user's spec names by this path; files lie to each other as they did."""
        return Path(posixpath.normpath((self._data_root / path).as_posix()))

    def open(self) -> Any:
        """The attribute that the reference names, always the same object; InputError where importing it fails."""
        if not self._opened:
            self._load()
        self.activate()
        self._give_back()
        return self._opened[0]

    def activate(self) -> None:
        """`sys.modules` has this copy's modules, and no others of the same names."""
        if self in _ACTIVE:
            return
        for other in [own for own in _ACTIVE if own.tops & self.tops]:
            other.deactivate()
        self._before = self._take_out()
        sys.modules.update(self._modules)
        _ACTIVE.append(self)
        if _FINDER not in sys.meta_path:
            sys.meta_path.insert(0, _FINDER)

    def deactivate(self) -> None:
        """`sys.modules` has none of this copy's modules; its objects keep working."""
        self._modules = self._take_out()
        sys.modules.update(self._before)
        _ACTIVE.remove(self)

    def _give_back(self) -> None:
        if self._before:
            self.deactivate()

    def _take_out(self) -> dict[str, ModuleType]:
        names = [name for name in list(sys.modules) if name.partition(".")[0] in self.tops]
        return {name: sys.modules.pop(name) for name in names}

    def _load(self) -> None:
        """Imports what the reference names while no other copy's modules can be found in place of what this one misses."""
        others = list(_ACTIVE)
        for other in others:
            other.deactivate()
        self.activate()
        try:
            with refused_files(self.guard):
                self._opened.append(self._attribute())
        except (Exception, SystemExit) as error:
            self.deactivate()
            self._modules.clear()
            raise InputError(self._message(error)) from error
        finally:
            for other in others:
                if self not in _ACTIVE or not self.tops & other.tops:
                    other.activate()

    def _import(self, name: str, *arguments: Any, **named: Any) -> ModuleType:
        """What `import` means in these files."""
        outermost = self not in _ACTIVE
        self.activate()
        try:
            return builtins.__import__(name, *arguments, **named)
        finally:
            if outermost:
                self._give_back()

    def _attribute(self) -> Any:
        module, _, attribute = self.reference.partition(":")
        loaded = importlib.import_module(module)
        if hasattr(loaded, attribute):
            return getattr(loaded, attribute)
        if locate(self.root, f"{module}.{attribute}"):
            return importlib.import_module(f"{module}.{attribute}")
        have = close_names(attribute, list(vars(loaded)))
        raise InputError(
            f"detector.family: {self.reference}: module {module} has no attribute {attribute!r}{have}. Correct the name."
        )

    def _message(self, error: BaseException) -> str:
        place = self._place(error)
        if isinstance(error, InputError):
            return f"{place}: {error}" if place and isinstance(error, MissingModuleError) else str(error)
        if isinstance(error, ModuleNotFoundError) and error.name:
            return f"{place}: {_missing(error.name)} If it is a library, install it."
        return f"{place or self.reference}: {type(error).__name__} while your code is imported: {error}. Correct it."

    def _place(self, error: BaseException) -> str:
        """File and line of the user's where an exception came out of their code; empty where it came out of none."""
        frames = [(Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(error.__traceback__)]
        own = [(path.relative_to(self.root).as_posix(), line) for path, line in frames if path.is_relative_to(self.root)]
        if not own:
            return ""
        path, line = own[-1]
        original = self.guard.base / path if self.guard.base else None
        try:
            text = original.read_text(encoding="utf-8-sig") if original else ""
            if original and ast.unparse(ast.parse(text)) == self.files[path]:
                return f"{original}:{original_line(text, self.files[path], line)}"
        except (OSError, ValueError, SyntaxError):
            pass  # changed since it was read
        return f"{path}, `{self.files[path].splitlines()[line - 1].strip()}`"


class _Loader(SourceFileLoader):
    """Executes a file of a copy with the copy's own `import`."""

    def __init__(self, name: str, path: Path, copy: CodeCopy) -> None:
        super().__init__(name, str(path))
        self._copy = copy

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._copy.own_builtins  # where the interpreter looks for `__import__`
        super().exec_module(module)


class _Finder:
    """Finds modules of open copies, there and nowhere else; refuses files of the user's that no copy has."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The module as `sys.meta_path` asks for it; None for what is of no copy."""
        top = name.partition(".")[0]
        copy = next((own for own in _ACTIVE if top in own.tops), None)
        if copy is None:
            base = guard.base if (guard := active_guard()) else None
            if base and (original := locate(base, top)) and not other_owner(top, original):
                raise _missing(name)  # it may be on sys.path here, and is on no worker's
            return None
        found = locate(copy.root, name)
        if found is None:
            raise _missing(name)
        if found.is_file():
            return spec_from_file_location(name, found, loader=_Loader(name, found, copy))
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(found)]
        return spec


def _missing(module: str) -> MissingModuleError:
    error = MissingModuleError(
        f"module {module} is missing from the copy of your code: it was not found by reading the import statements. "
        f"Add an import statement, `import {module}`, to the file that needs it."
    )
    error.name = module  # `from package import module` asks for it
    return error


_FINDER = _Finder()
_ACTIVE: list[CodeCopy] = []
"""Copies whose modules `sys.modules` has; no two share a name."""


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _remove(folder: Path, process: int) -> None:
    """At the end of the process that made it; a forked one leaves it to its parent."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
