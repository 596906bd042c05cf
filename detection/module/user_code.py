"""A user's own Python files: read with all that they import, and opened again wherever they have travelled."""

from __future__ import annotations

import base64
import hashlib
import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from detection.frozen import Digest, Frozen, InputError
from detection.module.code_copy import CodeCopy
from detection.module.import_names import is_ours, library_versions, other_owner
from detection.module.import_statements import Import, locate, nearest, read_source, with_parents
from detection.module.named_files import Guard, refused_files

MOST_FILES = 200
LARGEST_DATA_BYTES = 10_000_000
"""Of one file that the spec names: anchors and tables have kilobytes, and weights have a setting of their own."""


class UserCode(Frozen):
    """A user's own Python files as they travel in a spec: to workers, into the store, next to a saved model."""

    reference: str
    """"module:attribute"."""
    files: dict[str, str]
    """Path relative to the params file, with / -> source without comments and layout; sorted."""
    libraries: dict[str, str]
    """Distribution -> version, of what these files import besides; sorted."""
    data: dict[str, str]
    """Files that the spec names: path relative to the params file, with / -> content in base64; sorted."""

    @property
    def digest(self) -> Digest:
        """sha256 of all of it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def read_code(reference: str, base: Path, spec: Mapping[str, JsonValue]) -> UserCode:
    """The code that a reference "module:attribute" leads to, found by reading import statements below the params file's folder.

    Nothing is executed. InputError where it cannot be used.
    """
    module, _, attribute = reference.partition(":")
    if not attribute.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise InputError(
            f"detector.family: {reference!r}: not of the form module:attribute. "
            "For `family` in my_pkg/detector.py next to the params file write my_pkg.detector:family."
        )
    if locate(base, module) is None:
        raise InputError(
            f"detector.family: {reference}: no module {module} below {base}, the params file's folder{nearest(base, module)}. "
            "Only code from there travels to workers."
        )
    top = module.partition(".")[0]
    _refuse_other_owner(top, base)
    files, libraries = _walk(base, Import(module, (attribute,), f"detector.family: {reference}"))
    code = UserCode(
        reference=reference,
        files=dict(sorted(files.items())),
        libraries=dict(sorted(libraries.items())),
        data=dict(sorted(_read_data(base, spec).items())),
    )
    _BASES[code.digest] = base.resolve()
    return code


def user_object(code: UserCode) -> Any:
    """What the reference names, imported from a private copy of the files; the same code gives the same object.

    InputError where the import fails, opens a file that does not travel, or misses a module that no import statement names.
    """
    return _copy_of(code).open()


def own_spec(code: UserCode, spec: Mapping[str, JsonValue]) -> dict[str, Any]:
    """The spec as `build` gets it: each {"file": PATH} is a path to the unpacked file now; InputError where none travelled."""
    copy = _copy_of(code)

    def unpacked(given: str) -> Path:
        if (path := posixpath.normpath(given)) not in code.data:
            have = ", ".join(code.data) or "none"
            raise InputError(f"detector.spec: file {given!r} did not travel with the code; have {have}. Read the code again.")
        return copy.data_path(path)

    return {name: _with_files(value, unpacked) for name, value in spec.items()}


@contextmanager
def only_named_files(code: UserCode) -> Iterator[None]:
    """In this thread, InputError from opening a file that is neither in the copy of the code nor of an installed library."""
    with refused_files(_copy_of(code).guard):
        yield


_BASES: dict[Digest, Path] = {}
"""Where this process read code, for messages that name the user's own files."""
_COPIES: dict[Digest, CodeCopy] = {}


def _copy_of(code: UserCode) -> CodeCopy:
    digest = code.digest
    if digest not in _COPIES:
        _COPIES[digest] = CodeCopy(code.reference, code.files, code.data)
    _COPIES[digest].guard = Guard(_COPIES[digest].folder, _BASES.get(digest))  # equal code may be read from another folder later
    return _COPIES[digest]


def _walk(base: Path, first: Import) -> tuple[dict[str, str], dict[str, str]]:
    """(path -> source, distribution -> version) of all that an import leads to."""
    files: dict[str, str] = {}
    libraries: dict[str, str] = {}
    waiting = [first]
    while waiting:
        wanted = waiting.pop()
        if not _is_own(wanted, base):
            libraries |= _versions(wanted, base)
            continue
        for path, module in _files_of(wanted, base):
            key = path.relative_to(base).as_posix()
            if key in files:
                continue
            if len(files) == MOST_FILES:
                raise InputError(
                    f"{wanted.place}: the imports lead to more than {MOST_FILES} files below {base}: a model zoo would travel in "
                    "every record. Import only the modules that make this network, or install the rest as a library."
                )
            source = read_source(path, module)
            files[key] = source.text
            waiting += source.imports
    return files, libraries


def _is_own(wanted: Import, base: Path) -> bool:
    """True where an import is of the user's files; InputError where it could be of two things."""
    if not wanted.module:
        if wanted.optional:
            return False
        raise InputError(f"{wanted.place}: a relative import above the packages below {base}. Import by the full name.")
    top = wanted.module.partition(".")[0]
    found = locate(base, top)
    if found is None or is_ours(top, found):
        return False
    if found.is_dir():  # for Python a plain folder comes after every installed module
        return other_owner(top, found) is None
    _refuse_other_owner(top, base)
    return True


def _refuse_other_owner(top: str, base: Path) -> None:
    """InputError where the user's module has a name that is taken."""
    found = locate(base, top)
    if found and (owner := other_owner(top, found)):
        own = found.parent if found.name == "__init__.py" else found
        raise InputError(f"{own}: {top} is also {owner}, so `import {top}` could mean either. Rename yours.")


def _files_of(wanted: Import, base: Path) -> Iterator[tuple[Path, str]]:
    """(file, module) of what an import loads, the packages on the way first; InputError where a module is missing."""
    for module in with_parents(wanted.module):
        found = locate(base, module)
        if found is None:
            if wanted.optional:
                return
            raise InputError(
                f"{wanted.place}: imports {module}, which is not below {base}{nearest(base, module)}. "
                "Correct the name; where the code does without, catch the ImportError."
            )
        if found.is_file():
            yield found, module
    for module in (f"{wanted.module}.{name}" for name in wanted.names):
        found = locate(base, module)
        if found and found.is_file():
            yield found, module


def _versions(wanted: Import, base: Path) -> dict[str, str]:
    """Distribution -> version of an import that is of no file of the user's; InputError where there is none."""
    if not wanted.module:
        return {}
    top = wanted.module.partition(".")[0]
    try:
        versions = library_versions(top)
    except InputError as error:
        raise InputError(f"{wanted.place}: {error}") from error
    if versions is None and not wanted.optional:
        raise InputError(
            f"{wanted.place}: imports {top}, which is neither a file below {base} nor an installed library{nearest(base, top)}. "
            "Install it, correct the name, or put the file there; where the code does without, catch the ImportError."
        )
    return versions or {}


def _with_files(value: Any, replace: Callable[[str], Any]) -> Any:
    """The same data with every {"file": PATH} replaced."""
    match value:
        case {"file": str(path), **rest} if not rest:
            return replace(path)
        case Mapping():
            return {name: _with_files(own, replace) for name, own in value.items()}
        case list() | tuple():
            return [_with_files(own, replace) for own in value]
    return value


def _read_data(base: Path, spec: Mapping[str, JsonValue]) -> dict[str, str]:
    """Path -> content in base64 of each file that a spec names; InputError where one cannot travel."""
    data: dict[str, str] = {}

    def read(given: str) -> None:
        path = base / given
        if posixpath.isabs(given):
            raise InputError(f"detector.spec: file {given!r}: write its path relative to the params file, {base}.")
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no such file"
            raise InputError(f"detector.spec: file {given!r}: {path}: {what}. Name a file, relative to the params file.")
        if (size_bytes := path.stat().st_size) > LARGEST_DATA_BYTES:
            raise InputError(
                f"detector.spec: file {given!r}: {size_bytes / 1e6:.1f} MB; {LARGEST_DATA_BYTES / 1e6:.0f} MB are allowed, for it "
                "travels in every record. Weights belong in detector.weights."
            )
        data[posixpath.normpath(given)] = base64.b64encode(path.read_bytes()).decode()

    for value in spec.values():
        _with_files(value, read)
    return data
