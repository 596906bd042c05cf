"""The transformers library, imported where a detector needs it and nowhere else."""

from __future__ import annotations

import importlib
import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from detection.frozen import InputError

GET_IT = 'Run `pip install "sixfold[transformers]"`, or leave `detector.transformers` out.'


def library_version() -> str:
    """Of the library that is installed; InputError where none is."""
    try:
        return version("transformers")
    except PackageNotFoundError as error:
        raise InputError(f"detector.transformers: the transformers library is not installed here. {GET_IT}") from error


@cache
def library() -> ModuleType:
    """The library, silent; InputError where it is not installed."""
    library_version()
    # Its own run-time checks of values stop tracing and export, and say nothing that our tests of parity do not.
    os.environ.setdefault("TRANSFORMERS_DISABLE_TORCH_CHECK", "1")
    found = importlib.import_module("transformers")
    found.logging.set_verbosity_error()
    found.logging.disable_progress_bar()
    return found
