"""A params file with the chosen settings of its detector in it, everything else as it was written."""

from __future__ import annotations

import math
import re
from itertools import chain
from typing import Any, NamedTuple

import yaml

from detection.file_interface.declaration import Decoding
from detection.frozen import InputError
from flows.inspect.choose import Choice
from flows.inspect.tables import NOT_TOLD, not_told
from hardware_profiles.schema.library import load_yaml


class Setting(NamedTuple):
    """What a params file has under a name."""

    value: Any
    note: str = ""
    """What val leaves open about it: a comment behind the value."""


Sections = dict[str, dict[str, Setting]]
"""Settings by section of the params file."""
NOTE = re.compile(rf"[ \t]*# {NOT_TOLD}.*")
"""A note of an earlier run."""


def settings_of(choice: Choice, input_size: tuple[int, int]) -> Sections:
    """How the file is fed; numbers that are the default are left out."""
    form = {"colour": choice.feeding.colour} | choice.feeding.form.model_dump(mode="json", exclude_defaults=True)
    resize = [own for own in choice.axes if own.name == "resize"]
    others = [own for own in choice.axes if own.name != "resize"]
    return {
        "data": {"resize": Setting(choice.feeding.resize, not_told(resize)), "input_size": Setting(list(input_size))},
        "detector": {"input": Setting(form, not_told(others))},
    }


def decode_setting(decode: str | Decoding) -> Setting:
    """A preset or the parts."""
    return Setting(decode if isinstance(decode, str) else _parts(decode))


def as_text(sections: Sections) -> str:
    """The settings as a params file has them."""
    lines = ([f"{section}:", *(_indented(*own, "  ") for own in settings.items())] for section, settings in sections.items())
    return "\n".join(chain.from_iterable(lines))


def with_settings(text: str, sections: Sections) -> str:
    """The text of a params file with these settings; InputError where it is written in another way than one setting a line."""
    wanted, changed = load_yaml(text), text
    for section, settings in sections.items():
        if section not in wanted:
            wanted[section], changed = {}, f"{changed.rstrip()}\n\n{section}:\n"
        for name, setting in settings.items():
            changed = _with_setting(changed, section, name, setting, same=wanted[section].get(name) == setting.value)
            wanted[section][name] = setting.value
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


def _with_setting(text: str, section: str, name: str, setting: Setting, *, same: bool) -> str:
    """The setting replaced, with the comment behind it kept, or put at the end of its section; the same one keeps its lines."""
    found = re.search(rf"^{section}:[ \t]*(#.*)?(\n([ \t]*(#.*)?\n)*[ \t]+\S.*)*", text, re.MULTILINE)
    if not found:
        return text
    body = found[0]
    indent = next((line[: len(line) - len(line.lstrip())] for line in body.split("\n")[1:] if line[:1].isspace()), "  ")
    present = re.search(rf"^{indent}{name}:.*(?:\n{indent}[ \t]+\S.*)*", body, re.MULTILINE)
    if not present:
        body = f"{body}\n{_indented(name, setting, indent)}"
    else:
        own = present[0].split("\n")
        if same:
            own[0] = NOTE.sub("", own[0]) + _comment(setting)
        else:
            kept = "" if own[1:] else "".join(re.findall(r"[ \t]+#.*", NOTE.sub("", own[0]))[:1])
            first, *rest = _indented(name, setting._replace(note=""), indent).split("\n")
            own = [first + kept + _comment(setting), *rest]
        body = body[: present.start()] + "\n".join(own) + body[present.end() :]
    return text[: found.start()] + body + text[found.end() :]


def _comment(setting: Setting) -> str:
    return f"  # {setting.note}" if setting.note else ""


def _indented(name: str, setting: Setting, indent: str) -> str:
    first, *rest = _lines(name, setting.value)
    return "\n".join(indent + line for line in [first + _comment(setting), *rest])


def _lines(name: str, value: Any) -> list[str]:
    """A setting with its value in the same line, or each of its parts in a line."""
    if isinstance(value, dict) and any(isinstance(own, dict) for own in value.values()):
        return [f"{name}:", *(f"  {line}" for part, own in value.items() for line in _lines(part, own))]
    written = yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=math.inf)
    written = written.removesuffix("...\n").rstrip()  # the end of a document, which follows a bare value
    return [f"{name}: {written}"]
