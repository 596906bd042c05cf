"""What is wrong with a params file, in words: the setting, what was found, what is allowed."""

from __future__ import annotations

import difflib
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic import BeforeValidator, ValidationError

from detection.family import family_named
from detection.frozen import Frozen

RENAMED = {
    ("nas", "null_proxies"): "random_baseline",
    ("measure", "patience_s"): "contention_wait_s",
    **{("nas", name): f"space.{name}" for name in ("levels", "stem_stride", "head_branches", "head_depth", "block", "least_depth")},
}
"""(section or method, setting of an earlier version) -> its name now, there."""


def explain(path: Path, error: ValidationError, root: type[Frozen]) -> str:
    """One line per problem of a validation: field, what was found, what is allowed."""
    lines = []
    for problem in error.errors():
        if problem["type"] == "default_factory_not_called":
            continue  # a consequence of another problem, which is in the list
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{field}: no such setting{_renamed(problem['loc']) or _nearest(problem['loc'], root)}")
        else:
            found = "" if problem["type"] in ("missing", "value_error") else f" (found {problem['input']!r:.80})"
            lines.append(f"{field}: {problem['msg']}{found}")
    return f"{path}: " + "; ".join(lines)


def _renamed(location: tuple[Any, ...]) -> str:
    """Where a setting of an earlier version is now; empty where there was none of that name."""
    new = next((RENAMED[part, location[-1]] for part in location[:-1] if (part, location[-1]) in RENAMED), None)
    return f" any more; it is {new!r} now" if new else ""


def _nearest(location: tuple[Any, ...], root: type[Frozen]) -> str:
    """A hint at the setting that was probably meant."""
    models = [root]
    for part in location[:-1]:  # list positions and names of variants lead no deeper
        fields = [outer.model_fields[part] for outer in models if part in outer.model_fields]
        inner = [model for field in fields for kind in (*field.metadata, field.annotation) for model in _models(kind)]
        models = inner or models
    names = [name for model in models for name in model.model_fields]
    near = difflib.get_close_matches(str(location[-1]), names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; allowed: {', '.join(names)}"


def _models(annotation: Any) -> list[Any]:
    """The models anywhere inside a type: in a union, a tuple, an Annotated; of a family's settings those of the family."""
    if isinstance(annotation, BeforeValidator) and isinstance(annotation.func, partial):
        return [family_named(annotation.func.args[0]).settings]
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
