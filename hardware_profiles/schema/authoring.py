"""The text of new profile files: a template that is still to be filled in, and a profile that is finished."""

from __future__ import annotations

import textwrap
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel

from hardware_profiles.schema.profile import SCHEMA, HardwareProfile, numbers_of

WIDTH = 126
LEFT_OUT = ("calibration", "sources")
"""Fields without a place in the template's list: `calibrate` writes the first, the second stands at the end."""
EXAMPLES = {
    "dtypes": "[fp32, int8]",
    "peak_gops": "{fp32: 153.6, fp16: null, int8: 614.4}",
    "utilisation": "{fp32: 0.376, fp16: null, int8: 0.271}",
    "channel_alignment": "{fp32: 4, fp16: null, int8: 4}",
    "memory": "{bandwidth_theoretical_gbs: 17.1, bandwidth_effective_gbs: 9.2, budget_bytes: 1073741824}",
    "link": "{bandwidth_gbs: 0.3, latency_us: null}",
    "op_overhead_us": "{fp32: 6, fp16: null, int8: 6}",
    "interval_factor": "{fp32: 2.2, int8: 3.0}",
}
"""What a value looks like, where its name does not tell."""
SOURCES = """\
# Where each number above comes from, one line a number: "derived: ..." (the arithmetic), "measured ..." or "fitted ..."
# (on what), "chosen: ..." (why), "taken to be ..." (that of what), or the page it stands on. Null has no line.
sources:
#  threads: "chosen: all four cores"
#  peak_gops.fp32: "derived: 4 cores x 2 pipes x 4 lanes x 2 operations x 2.4 GHz; <page>"
"""


def template(name: str, like: HardwareProfile | None = None) -> str:
    """A profile file with every field explained and every number missing: checking it says what is still to be filled in.

    Where it is made like another profile, what is no number is copied, and the other's numbers stand in comments.
    """
    tree = like.model_dump(mode="json", by_alias=True) if like else {}
    lines = [
        f"# {name}: say here what the device is. Fill in every empty field; `sixfold profiles check` lists what is missing.",
        "# A number that nobody knows is null, never a guess: an estimate without it is better than one with a wrong one.",
    ]
    for field, about in HardwareProfile.model_fields.items():
        if field not in LEFT_OUT:
            explanation = [] if about.alias else _explanation(field, like is None)  # the version explains itself
            lines += ["", *explanation, *_line(about.alias or field, tree, name, like)]
    return "\n".join(lines) + "\n\n" + SOURCES


def _explanation(field: str, with_example: bool) -> list[str]:
    """What the field means, part by part, as comments."""
    about = HardwareProfile.model_fields[field]
    lines = _comment(about.description or "")
    if choices := [str(choice or "null") for choice in _choices(about.annotation)]:
        lines.append(f"# One of {', '.join(choices)}.")
    for model in (about.annotation, *get_args(about.annotation)):
        for part, detail in getattr(model, "model_fields", {}).items():
            lines += _comment(f"{part}: {detail.description}") if detail.description else []
    return [*lines, f"# For instance {EXAMPLES[field]}"] if with_example and field in EXAMPLES else lines


def _choices(annotation: Any) -> list[Any]:
    """What a field allows where it is one of a few words, null among them where it may be null; else empty."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    kinds = get_args(annotation)
    words = [word for kind in kinds for word in _choices(kind)] if type(None) in kinds else []
    return [*words, None] if words else []


def _line(key: str, tree: dict[str, Any], name: str, like: HardwareProfile | None) -> list[str]:
    """The field itself: filled in where it is given, copied or has a default, else empty."""
    if key in ("schema", "id"):
        return [f"{key}: {SCHEMA if key == 'schema' else name}"]
    about = HardwareProfile.model_fields[key]
    empty = f"{key}:" if about.is_required() else f"{key}: {_flow(about.default)}"
    if like is None or key == "name":
        return [empty]
    if numbers_of({key: tree[key]}):
        return [f"# {like.id} has {_flow(tree[key])}", empty]
    return [f"{key}: {_flow(tree[key])}"]


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join(text.split()), WIDTH)]


def _flow(value: Any) -> str:
    """The value on one line, as YAML."""
    value = value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value
    value = list(value) if isinstance(value, tuple) else value
    return str(yaml.safe_dump([value], default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)).strip()[1:-1]


def text_of(profile: HardwareProfile, about: str) -> str:
    """The profile as a YAML file that loads into the same profile, under comments that say what it is."""
    tree = profile.model_dump(mode="json", by_alias=True, exclude={"sources"}, exclude_defaults=True)
    lines = [*_comment(about), *(f"{key}: {_flow(value)}" for key, value in tree.items())]
    sources = yaml.safe_dump({"sources": profile.sources}, sort_keys=False, width=WIDTH, allow_unicode=True)
    return "\n".join(lines) + "\n" + sources
