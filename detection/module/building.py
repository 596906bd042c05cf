"""A user's network, built by the user's own functions."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from detection.adapted.network import Adapted
from detection.frozen import InputError
from detection.module.settings import ModuleSettings
from detection.module.user_code import only_named_files, own_spec, user_object
from detection.spec import Spec

REQUIRED = ("build", "decode", "loss", "protected")
"""What the user's object must have; docs/your-detector.md says what each gives."""


def build(spec: Spec) -> Adapted:
    """The network of a spec, edits applied, with random weights."""
    settings = cast(ModuleSettings, spec.settings)
    functions = functions_of(settings)
    return Adapted(spec, functions, _built(functions, settings, spec))


def functions_of(settings: ModuleSettings) -> Any:
    """The object with the user's functions; InputError where one is missing."""
    user = user_object(settings.code)
    if missing := [name for name in REQUIRED if not callable(getattr(user, name, None))]:
        raise InputError(
            f"detector.family: {settings.code.reference} has no {' and no '.join(missing)}; it needs {', '.join(REQUIRED)}, each "
            f"as docs/your-detector.md says."
        )
    return user


def _built(user: Any, settings: ModuleSettings, spec: Spec) -> nn.Module:
    code = settings.code
    with only_named_files(code):
        network = user.build(own_spec(code, settings.spec), spec.classes, spec.input_size)
    if not isinstance(network, nn.Module):
        found = type(network).__name__
        raise InputError(f"detector.family: build of {code.reference} gives a {found}. It has to give a torch module.")
    return network
