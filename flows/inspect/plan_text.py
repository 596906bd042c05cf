"""A params file with the chosen settings of its detector in it, everything else as it was written."""

from __future__ import annotations

import re
from typing import Any

import yaml

from detection.boxes import Resize
from detection.frozen import InputError
from flows.inspect.choose import Choice
from flows.sweep.settings import OnnxDetector
from hardware_profiles.schema.library import load_yaml

WIDTH = 120
"""Characters a line of what is written."""


def settings_of(asked: OnnxDetector, choice: Choice) -> dict[str, Any]:
    """The `detector` section with what was chosen, as data; what is the default is left out."""
    feeding = choice.fed[0][0]
    found: dict[str, Any] = {"onnx": str(asked.onnx)}
    found["classes"] = list(asked.classes) if isinstance(asked.classes, tuple) else str(asked.classes)
    if form := feeding.form.model_dump(mode="json", exclude_defaults=True):
        found["input"] = form
    return found | {"decode": choice.read[0].decoding.model_dump(mode="json", exclude_defaults=True)}


def with_settings(text: str, detector: dict[str, Any], resize: Resize) -> str:
    """The text of a params file with this `detector` section and `data.resize`; InputError where it is written in another way."""
    changed = _with_resize(_with_section(text, "detector", detector), resize)
    wanted = load_yaml(text)
    wanted = wanted | {"detector": detector, "data": wanted["data"] | {"resize": resize}}
    if load_yaml(changed) != wanted:
        raise InputError("the params file is not laid out as one section below another, so nothing was written into it.")
    return changed


def _with_section(text: str, name: str, content: dict[str, Any]) -> str:
    """The section replaced, or put at the end."""
    written = yaml.safe_dump({name: content}, sort_keys=False, default_flow_style=None, width=WIDTH)
    section = re.compile(rf"^{name}:.*\n(?:(?:[ \t].*)?\n)*", re.MULTILINE)
    if section.search(text):
        return section.sub(lambda _: written + "\n", text, count=1)
    return f"{text.rstrip()}\n\n{written}"


def _with_resize(text: str, resize: Resize) -> str:
    """`data.resize` replaced, or put first."""
    present = re.compile(r"(^data:.*\n(?:(?:[ \t].*)?\n)*?[ \t]+resize: *)\w+", re.MULTILINE)
    if present.search(text):
        return present.sub(lambda found: found[1] + resize, text, count=1)
    first = re.compile(r"^data:[ \t]*(#.*)?\n([ \t]+)", re.MULTILINE)
    return first.sub(lambda found: f"{found[0]}resize: {resize}\n{found[2]}", text, count=1)
