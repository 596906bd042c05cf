"""Who has an import name besides the user: this project, Python, or an installed distribution, and of which version."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from detection.frozen import InputError

OURS = frozenset({"detection", "compressors", "hardware_profiles", "flows", "studies", "tests", "sixfold"})
"""Packages of this project; what a user's code takes from them has versions of its own in the keys."""
CHECKOUT = Path(__file__).resolve().parents[2]


def is_ours(top: str, found: Path) -> bool:
    """True where a file below the params file's folder is of this project: the params file lies in the checkout."""
    return top in OURS and found.resolve().is_relative_to(CHECKOUT / top)


def other_owner(top: str, found: Path) -> str | None:
    """Who else has the first part of a module's name, in words; None where it is the user's alone.

    A project that is installed in editable mode from the folder where the file was found is the user's own.
    """
    if top in OURS:
        return "a package of sixfold"
    if top in sys.stdlib_module_names:
        return "a module of Python"
    for name in distributions().get(top, ()):
        folder = _editable_folder(name)
        if folder is None or not found.resolve().is_relative_to(folder):
            return f"in the installed distribution {name}"
    return None


def library_versions(top: str) -> dict[str, str] | None:
    """Distribution -> version for an import name: empty for this project and Python, None where nothing of that name is installed.

    InputError where a version does not tell the content.
    """
    if top in OURS or top in sys.stdlib_module_names:
        return {}
    names = set(distributions().get(top, ()))
    for name in names:
        if folder := _editable_folder(name):
            raise InputError(
                f"{top} is installed in editable mode from {folder}, so its version does not tell what is in it. "
                "Link its folder of modules next to the params file, so that its files travel with yours, or install it plainly."
            )
    return {_canonical(name): distribution(name).version for name in names} or None


@cache
def distributions() -> Mapping[str, Sequence[str]]:
    """Import name -> distributions that have it; it takes tenths of a second to find out."""
    return packages_distributions()


@cache
def _editable_folder(name: str) -> Path | None:
    """The project that a distribution is a link to (PEP 610); None for a plain installation."""
    origin = json.loads(distribution(name).read_text("direct_url.json") or "{}")
    editable = origin.get("dir_info", {}).get("editable", False)
    return Path(url2pathname(urlparse(origin["url"]).path)).resolve() if editable else None


def _canonical(name: str) -> str:
    """The name as every index and machine writes it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
