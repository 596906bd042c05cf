"""New profile files: a template asks for what is missing, and a finished profile survives its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hardware_profiles.schema.authoring import template, text_of
from hardware_profiles.schema.library import known_profiles, load_profile, problems_of, profile_files
from hardware_profiles.schema.profile import HardwareProfile
from tests.hardware_profiles.profile_factory import TREE, tree, write
from tests.places import ROOT

FIELDS = [field.alias or name for name, field in HardwareProfile.model_fields.items()]
REQUIRED = [field.alias or name for name, field in HardwareProfile.model_fields.items() if field.is_required()]


def problems(tmp_path: Path, text: str) -> list[str]:
    """The fields that checking the text complains about."""
    path = tmp_path / "my-board.yaml"
    path.write_text(text)
    return [problem.partition(":")[0] for problem in problems_of(path, profile_files())]


def test_a_template_is_wrong_until_it_is_filled_in(tmp_path: Path) -> None:
    """Checking it asks for every required field but those given, and float_dtype, which may be null."""
    assert problems(tmp_path, template("my-board")) == [name for name in REQUIRED if name not in ("schema", "id", "float_dtype")]


def test_a_template_like_another_asks_for_its_numbers_alone(tmp_path: Path) -> None:
    """What is no number is copied; the other's numbers stand in comments, where nobody can forget to replace them."""
    text = template("my-board", load_profile("raspberry-pi-5"))
    numbers = ["threads", "peak_gops", "utilisation", "channel_alignment", "memory", "interval_factor"]
    assert problems(tmp_path, text) == ["name", *numbers, "sources"]
    assert "# raspberry-pi-5 has {fp32: 153.6, fp16: null, int8: 614.4}\npeak_gops:\n" in text
    assert yaml.safe_load(text)["runtime"] == "onnxruntime"


def test_a_filled_template_is_right(tmp_path: Path) -> None:
    """Nothing else is asked for once the empty fields have values."""
    text = template("my-board")
    for name, value in (tree() | {"id": "my-board"}).items():
        text = text.replace(f"\n{name}:\n", f"\n{yaml.safe_dump({name: value})}")
    assert problems(tmp_path, text) == []


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_explained(name: str) -> None:
    """In the template, as a comment, and in the document that messages point at."""
    about = next(field for key, field in HardwareProfile.model_fields.items() if (field.alias or key) == name)
    assert about.description
    document = (ROOT / "docs" / "your-device.md").read_text()
    assert f"`{name}`" in document


@pytest.mark.parametrize("name", known_profiles())
def test_a_profile_survives_its_file(name: str) -> None:
    """What is written loads into the same profile."""
    profile = load_profile(name)
    assert HardwareProfile.model_validate(yaml.safe_load(text_of(profile, "A device: with a colon."))) == profile


def test_a_written_profile_reads_like_one_by_hand(tmp_path: Path) -> None:
    """One line a field, in the order of the schema, under a comment."""
    write(tmp_path)
    lines = text_of(load_profile("board", tmp_path), "About it.").splitlines()
    assert lines[0] == "# About it."
    assert "peak_gops: {fp32: 100.0, int8: 400.0}" in lines
    assert [line.partition(":")[0] for line in lines[1:] if not line.startswith(" ")] == [*TREE, "sources"]
