"""The base of everything in this package that is configured or recorded, and the errors that have a message for users."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Share = Annotated[float, Field(gt=0.0, le=1.0)]
"""A share of a whole: above 0, at most 1."""

PositiveInt = Annotated[int, Field(gt=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A sha256 in hex, never cut."""


class Frozen(BaseModel):
    """Immutable, closed data: an unknown key, a NaN or an infinity is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputError(ValueError):
    """Something the user gave is wrong; the message says what, where, what is allowed and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))  # it may name a file in an encoding of another system


def printable(text: str) -> str:
    """The text as UTF-8 can hold it: bytes of a file name that are not UTF-8 become escapes such as `\\xe9`.

    Python keeps byte xx as the character U+DCxx (PEP 383), which no file or terminal takes.
    """
    return text.encode(errors="backslashreplace").decode().replace("\\udc", "\\x")


def some_of(names: Sequence[str], most: int = 6) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class DamagedError(RuntimeError):
    """A file that this program wrote cannot be read back: cut off, or not even text. Infrastructure, not input."""


Model = TypeVar("Model", bound=BaseModel)


def read_json(path: Path, kind: type[Model], remedy: str) -> Model:
    """What a JSON file of ours holds. DamagedError where it is no JSON, InputError where it is of another version.

    Both name the file and end with the remedy. An OSError passes.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first, count = error.errors()[0], error.error_count()
        if first["type"] == "json_invalid":
            raise DamagedError(f"{path}: damaged ({first['msg']}). {remedy}") from error
        place = ".".join(map(str, first["loc"])) or "content"
        raise InputError(f"{path}: of another version ({count} problems, first: {place}: {first['msg']}). {remedy}") from error
