"""Profiles: what is shipped holds together, and what a user writes wrong is explained."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from hardware_profiles.profile import FOLDER, ProfileError, known_profiles, load_profile

SHIPPED = ("jetson-nano", "raspberry-pi-5", "x86-onnxruntime-1t", "x86-openvino-1t")


def write(folder: Path, name: str = "board", **changes: Any) -> Path:
    """A copy of a shipped profile under another id, with top-level fields changed."""
    tree = copy.deepcopy(yaml.safe_load((FOLDER / "raspberry-pi-5.yaml").read_text())) | {"id": name} | changes
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_the_shipped_profiles_are_listed() -> None:
    """Names come sorted, without a list kept by hand."""
    assert known_profiles() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profiles_load(name: str) -> None:
    """Every shipped file is valid, and its id is its file name."""
    assert load_profile(name).id == name


@pytest.mark.parametrize("name", SHIPPED)
def test_every_source_says_whence(name: str) -> None:
    """A source is derived from something, chosen for a reason, measured, fitted, assumed in words, or a place to look it up."""
    starts = ("derived:", "chosen:", "measured", "fitted", "taken to be")
    for field, source in load_profile(name).sources.items():
        assert source.startswith(starts) or "page" in source, f"{name}: {field}: {source!r} does not say where the number is from"


def test_jetson_nano_has_no_int8() -> None:
    """Its GPU lacks dp4a, so no int8 peak may appear."""
    nano = load_profile("jetson-nano")
    assert "int8" not in nano.dtypes
    assert nano.peak_gops.int8 is None


def test_producible_follows_the_runtime() -> None:
    """Files are made for onnxruntime and openvino; TensorRT and ncnn devices can only be estimated."""
    assert {name: load_profile(name).producible for name in SHIPPED} == {
        "jetson-nano": False,
        "raspberry-pi-5": False,
        "x86-onnxruntime-1t": True,
        "x86-openvino-1t": True,
    }


def test_raspberry_pi_peaks_are_arithmetic() -> None:
    """4 cores x 2 pipes x lanes x 2 operations x 2.4 GHz, with 4, 8 and 16 lanes."""
    peaks = load_profile("raspberry-pi-5").peak_gops
    assert (peaks.fp32, peaks.fp16, peaks.int8) == pytest.approx((4 * 2 * 4 * 2 * 2.4, 4 * 2 * 8 * 2 * 2.4, 4 * 2 * 16 * 2 * 2.4))


def test_an_unknown_name_lists_the_known_ones() -> None:
    """The message names what there is and how to add one."""
    with pytest.raises(ProfileError, match=r"no hardware profile 'pi6'; have jetson-nano, .*x86-openvino-1t\. Add one by copying"):
        load_profile("pi6")


def test_a_users_folder_adds_profiles(tmp_path: Path) -> None:
    """Files of an extra folder load beside the shipped ones."""
    write(tmp_path)
    assert load_profile("board", tmp_path).name.startswith("Raspberry")
    assert known_profiles(tmp_path) == ("board", *SHIPPED)


def test_a_users_file_may_not_shadow_a_shipped_one(tmp_path: Path) -> None:
    """Two files of one name would make results depend on which was read."""
    write(tmp_path, "jetson-nano")
    with pytest.raises(ProfileError, match="jetson-nano are names of built-in profiles"):
        load_profile("jetson-nano", tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The user learns which folder is not there."""
    with pytest.raises(ProfileError, match="nowhere: no such folder"):
        known_profiles(tmp_path / "nowhere")


def test_id_must_be_the_file_name(tmp_path: Path) -> None:
    """Else the name in params.yaml and the name in the results would differ."""
    write(tmp_path).rename(tmp_path / "other.yaml")
    with pytest.raises(ProfileError, match="id is 'board', but the file is named 'other'"):
        load_profile("other", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threads": 0}, r"threads: Input should be greater than 0, found 0"),
        ({"kind": "board"}, r"kind: Input should be 'host' or 'datasheet', found 'board'"),
        ({"clock_ghz": 2.4}, r"clock_ghz: Extra inputs are not permitted"),
        ({"peak_gops": {"fp32": 200, "fp16": 307, "int8": 100}}, r"peak_gops.int8 100 is below fp32's 200"),
        ({"kind": "host"}, r"runtime 'ncnn' cannot be measured here; a host profile needs onnxruntime or openvino"),
        ({"float_dtype": "fp16", "dtypes": ["fp32"]}, r"float_dtype fp16 is not among dtypes fp32"),
        ({"interval_factor": 0.5}, r"interval_factor: Input should be greater than or equal to 1, found 0.5"),
        ({"channel_alignment": {"fp32": 2.5}}, r"channel_alignment.fp32: Input should be a valid integer"),
    ],
)
def test_wrong_fields_are_explained(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """The message names the file, the field, what was found and what is allowed."""
    write(tmp_path, **changes)
    with pytest.raises(ProfileError, match=rf"board\.yaml: .*{message}"):
        load_profile("board", tmp_path)


def test_a_number_without_source_is_refused(tmp_path: Path) -> None:
    """The rule that keeps guesses out of profiles."""
    sources = yaml.safe_load((FOLDER / "raspberry-pi-5.yaml").read_text())["sources"]
    del sources["utilisation.fp16"]
    write(tmp_path, sources=sources)
    with pytest.raises(ProfileError, match=r"no source for utilisation\.fp16"):
        load_profile("board", tmp_path)


def test_a_source_without_number_is_refused(tmp_path: Path) -> None:
    """A number set to null takes its source with it; a misspelt field is found this way too."""
    write(tmp_path, op_overhead_us={"fp32": None, "fp16": None, "int8": None})
    with pytest.raises(ProfileError, match=r"sources name op_overhead_us.fp16, .*op_overhead_us.int8, no number"):
        load_profile("board", tmp_path)


def test_a_dtype_needs_its_peak(tmp_path: Path) -> None:
    """What the device is said to multiply in has a peak and a utilisation."""
    path = write(tmp_path)
    tree = yaml.safe_load(path.read_text())
    tree["peak_gops"]["fp16"] = None
    del tree["sources"]["peak_gops.fp16"]
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ProfileError, match=r"peak_gops\.fp16 is null, but fp16 is among dtypes"):
        load_profile("board", tmp_path)


@pytest.mark.parametrize("text", ["id: [", "- a list", ""])
def test_files_that_are_no_profile(tmp_path: Path, text: str) -> None:
    """Broken YAML, a list and an empty file are user errors, not tracebacks."""
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(ProfileError, match=r"broken\.yaml: "):
        load_profile("broken", tmp_path)
