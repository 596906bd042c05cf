"""The list of faults, and where each of them would be planted in a checkout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

LIST = Path(__file__).with_name("faults.yaml")
PACKAGES = ("detection", "hardware_profiles", "compressors", "flows", "studies")


class StaleError(Exception):
    """The fault cannot be planted in this tree: its snippet or its tests are not there."""


@dataclass(frozen=True)
class Fault:
    """One entry of the list, for one layout."""

    name: str
    kind: str
    claim: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]
    others: tuple[Fault, ...] = ()
    """The same fault as other trees have it, where code and tests differ: the first that can be planted is."""


def read_faults(layout: str, path: Path = LIST) -> list[Fault]:
    """The faults of the list as they are planted in a layout; ValueError where the list is wrong."""
    faults = []
    for entry in yaml.safe_load(path.read_text()):
        before, others = entry.pop("before", {}), entry.pop("or", [])
        own, *rest = [entry | before] if layout == "before" else [entry, *(entry | other for other in others)]
        faults.append(Fault(**own | {"tests": tuple(own["tests"])}, others=tuple(Fault(**other) for other in rest)))
    names = [fault.name for fault in faults]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{path}: {', '.join(sorted(twice))} stands there twice; names differ")
    every = [own for fault in faults for own in (fault, *fault.others)]
    if idle := [own.name for own in every if own.find.split() == own.replace.split() or not own.tests]:
        raise ValueError(f"{path}: {', '.join(idle)}: changes nothing, or names no test file")
    return faults


def standing(fault: Fault, tree: Path) -> Fault:
    """The fault in the form that this tree has code and tests for; StaleError where there is none."""
    reasons = []
    for own in (fault, *fault.others):
        try:
            planted(own, tree)
            named_files(own, tree)
        except StaleError as error:
            reasons.append(error)
        else:
            return own
    raise StaleError("; or ".join(map(str, reasons)))


def planted(fault: Fault, tree: Path) -> tuple[Path, str]:
    """The file to change and its new text; StaleError where the snippet does not stand in one place."""
    pattern = pattern_of(fault.find)
    named = tree / fault.file
    places = [named] if named.is_file() and pattern.search(named.read_text()) else _places(pattern, tree)
    if not places:
        raise StaleError(f"{fault.file}: has no `{' '.join(fault.find.split())}`, nor has any other file")
    if len(places) > 1:
        raise StaleError(f"{fault.file}: has no such snippet any more, and {len(places)} other files have it")
    text = places[0].read_text()
    matches = list(pattern.finditer(text))
    if len(matches) > 1:
        raise StaleError(f"{places[0].relative_to(tree)}: has the snippet {len(matches)} times; make it longer")
    start, end = matches[0].span()
    indent = re.match(r"[ \t]*", text[text.rfind("\n", 0, start) + 1 :])
    assert indent is not None, "an empty indent is one too"
    changed = text[:start] + fault.replace.replace("\n", f"\n{indent.group()}") + text[end:]
    if places[0].suffix == ".py":
        try:
            compile(changed, str(places[0]), "exec")
        except SyntaxError as error:
            raise StaleError(f"{places[0].relative_to(tree)}: would not be Python afterwards ({error})") from error
    return places[0], changed


def pattern_of(snippet: str) -> re.Pattern[str]:
    """What matches the snippet however it is laid out: spaces, line breaks and trailing commas do not count."""
    tokens = re.findall(r"\w+|[^\w\s]", snippet)
    pattern = r"(?<!\w)" if tokens[0][0].isalnum() else ""
    for before, token in zip(["", *tokens], tokens, strict=False):
        if before:
            both_words = re.match(r"\w", before[-1]) and re.match(r"\w", token[0])
            pattern += r"\s+" if both_words else r"\s*,?\s*" if token in ")]}" and before != "," else r"\s*"
        pattern += re.escape(token)
    return re.compile(pattern + (r"(?!\w)" if re.match(r"\w", tokens[-1][-1]) else ""))


def _places(pattern: re.Pattern[str], tree: Path) -> list[Path]:
    """Every source file with the snippet."""
    return [path for package in PACKAGES for path in sorted((tree / package).rglob("*.py")) if pattern.search(path.read_text())]


def named_files(fault: Fault, tree: Path) -> list[str]:
    """The test files that are there: one that moved is found by its name. StaleError where none is left."""
    found = []
    for name in fault.tests:
        places = [tree / name] if (tree / name).is_file() else sorted((tree / "tests").rglob(Path(name).name))
        found += [path.relative_to(tree).as_posix() for path in places if len(places) == 1]
    if not found:
        raise StaleError(f"no test file left of {', '.join(fault.tests)}")
    return list(dict.fromkeys(found))
