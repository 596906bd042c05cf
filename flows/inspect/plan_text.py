"""A params file with the chosen settings of its detector in it, everything else as it was written."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from detection.file_interface.declaration import Decoding
from detection.frozen import InputError
from flows.inspect.choose import Choice
from hardware_profiles.schema.library import load_yaml

Sections = dict[str, dict[str, Any]]
"""Settings by section of the params file."""


def settings_of(choice: Choice, decode: str | Decoding, input_size: tuple[int, int]) -> Sections:
    """What was chosen, as data; what is the default is left out."""
    form = choice.feeding.form.model_dump(mode="json", exclude_defaults=True)
    return {
        "data": {"resize": choice.feeding.resize, "input_size": list(input_size)},
        "detector": {"input": form, "decode": decode if isinstance(decode, str) else _parts(decode)},
    }


def as_text(sections: Sections) -> str:
    """The settings as a params file has them."""
    lines: list[str] = []
    for section, settings in sections.items():
        lines += [f"{section}:", *(f"  {line}" for name, value in settings.items() for line in _lines(name, value))]
    return "\n".join(lines)


def with_settings(text: str, sections: Sections) -> str:
    """The text of a params file with these settings; InputError where it is written in another way than one setting a line."""
    wanted, changed = load_yaml(text), text
    for section, settings in sections.items():
        own = wanted.setdefault(section, {})
        for name, value in settings.items():
            if (value or name in own) and own.get(name) != value:
                own[name] = value
                changed = _with_setting(changed, section, name, value)
    try:
        written = load_yaml(changed)
    except Exception as error:  # of the parser, for what was put where it does not belong
        raise InputError(NOT_WRITTEN) from error
    if written != wanted:
        raise InputError(NOT_WRITTEN)
    return changed


NOT_WRITTEN = "the params file is not laid out with one setting of a section below another, so nothing was written into it."


def _parts(decoding: Decoding) -> dict[str, Any]:
    parts = decoding.model_dump(mode="json", exclude_defaults=True)
    if decoding.points is not None:  # the kind is a default that says which of the others is meant
        parts["points"] = {"kind": decoding.points.kind} | parts["points"]
    return parts


def _with_setting(text: str, section: str, name: str, value: Any) -> str:
    """The setting replaced, with the comment behind it kept, or put at the end of its section."""
    found = re.search(rf"^{section}:[ \t]*(#.*)?(\n([ \t]*(#.*)?\n)*[ \t]+\S.*)*", text, re.MULTILINE)
    if not found:
        return text
    body = found[0]
    indent = next((line[: len(line) - len(line.lstrip())] for line in body.split("\n")[1:] if line[:1].isspace()), "  ")
    first, *rest = (indent + line for line in _lines(name, value))
    present = re.search(rf"^{indent}{name}:.*(?:\n{indent}[ \t]+\S.*)*", body, re.MULTILINE)
    if present:
        comment = "" if "\n" in present[0] else "".join(re.findall(r"[ \t]+#.*", present[0])[:1])
        body = body[: present.start()] + "\n".join([first + comment, *rest]) + body[present.end() :]
    else:
        body = "\n".join([body, first, *rest])
    return text[: found.start()] + body + text[found.end() :]


def _lines(name: str, value: Any) -> list[str]:
    """A setting with its value in the same line, or each of its parts in a line."""
    if isinstance(value, dict) and any(isinstance(own, dict) for own in value.values()):
        return [f"{name}:", *(f"  {line}" for part, own in value.items() for line in _lines(part, own))]
    written = yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=math.inf)
    written = written.removesuffix("...\n").rstrip()  # the end of a document, which follows a bare value
    return [f"{name}: {written}"]
