"""docs/profiles.json: what the study found last, kept where its inputs are absent."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from detection.frozen import InputError
from studies.profiles.host_accuracy import HostAccuracy
from studies.profiles.results import PublishedFit, Record


class Summary(Record):
    """Everything that docs/profiles.md shows."""

    command: str
    published: tuple[PublishedFit, ...] = ()
    host: tuple[HostAccuracy, ...] = ()


def read_summary(path: Path) -> Summary | None:
    """What is kept at the path; None where nothing is, InputError where it is something else."""
    if not path.is_file():
        return None
    try:
        return Summary.model_validate_json(path.read_text())
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{path}: not this study's results ({error.error_count()} problems, first: {'.'.join(map(str, first['loc']))}: "
            f"{first['msg']}). Delete it and run `make profiles-accuracy` with the published files and a finished run."
        ) from error


def write_summary(path: Path, found: Summary) -> None:
    """Write it whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(found.model_dump_json(indent=1) + "\n")
    partial.replace(path)
