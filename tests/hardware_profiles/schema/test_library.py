"""Where profiles come from: files of the package and of the user's folder, refused with file and field where they are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hardware_profiles.schema.library import FOLDER, known_profiles, load_host_cpu, load_profile, problems_of, profile_files
from hardware_profiles.schema.profile import ProfileError
from tests.hardware_profiles.profile_factory import INT8_ALONE, write

DEVICES = {
    "raspberry-pi-4", "raspberry-pi-5", "jetson-nano", "jetson-orin-nano", "intel-n100", "rk3588-cpu", "rk3588-npu",
    "coral-edge-tpu", "nvidia-t4",
}  # fmt: skip
HOSTS = {
    "x86-onnxruntime-1t", "x86-onnxruntime-2t", "x86-openvino-1t", "x86-openvino-2t", "zen4-onnxruntime-1t", "zen4-openvino-1t",
}  # fmt: skip


def test_the_shipped_profiles_are_listed() -> None:
    """Six hosts and nine devices, sorted, without a list kept by hand; each kind as its name says."""
    assert known_profiles() == tuple(sorted(DEVICES | HOSTS))
    assert {name for name in known_profiles() if load_profile(name).kind == "host"} == HOSTS


@pytest.mark.parametrize("name", sorted(DEVICES | HOSTS))
def test_shipped_profiles_load(name: str) -> None:
    """Every shipped file is valid, and its id is its file name."""
    assert load_profile(name).id == name


def test_an_unknown_name_lists_the_known_ones() -> None:
    """The message names what there is and how to add one."""
    with pytest.raises(
        ProfileError, match=r"no hardware profile 'pi6'; have coral-edge-tpu, .*zen4-openvino-1t\. `sixfold profiles new`"
    ):
        load_profile("pi6")


def test_a_users_folder_adds_profiles(tmp_path: Path) -> None:
    """Files of an extra folder load beside the shipped ones."""
    write(tmp_path)
    assert load_profile("board", tmp_path).name == "a board"
    assert set(known_profiles(tmp_path)) == {"board"} | DEVICES | HOSTS


def test_a_users_file_may_not_shadow_a_shipped_one(tmp_path: Path) -> None:
    """Two files of one name would make results depend on which was read."""
    write(tmp_path, "jetson-nano")
    with pytest.raises(ProfileError, match="jetson-nano are names of built-in profiles"):
        load_profile("jetson-nano", tmp_path)


def test_the_packages_own_folder_is_no_folder_of_a_user() -> None:
    """Whoever adds a profile to the package may name its folder: nothing is there twice."""
    assert profile_files(FOLDER) == profile_files()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The user learns which folder is not there."""
    with pytest.raises(ProfileError, match="nowhere: no such folder"):
        known_profiles(tmp_path / "nowhere")


def test_id_must_be_the_file_name(tmp_path: Path) -> None:
    """Else the name in params.yaml and the name in the results would differ."""
    write(tmp_path).rename(tmp_path / "other.yaml")
    with pytest.raises(ProfileError, match=r"other\.yaml: id: 'board', but the file is named 'other'"):
        load_profile("other", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threads": 0}, r"threads: should be greater than 0, found 0"),
        ({"threads": "four"}, r"threads: .*integer.*, found 'four'"),
        ({"peak_gops": {"fp32": -5, "int8": 400}}, r"peak_gops\.fp32: should be greater than 0, found -5"),
        ({"kind": "board"}, r"kind: should be 'host' or 'device', found 'board'"),
        ({"kind": None}, r"kind: should be 'host' or 'device', but is empty"),
        ({"clock_ghz": 2.4}, r"clock_ghz: no such field; allowed: schema, id, name, .*, sources"),
        ({"thread": 4}, r"thread: no such field; did you mean 'threads'\?"),
        (
            {"memory": {"bandwith_effective_gbs": 9}},
            r"memory\.bandwith_effective_gbs: no such field; did you mean 'bandwidth_effective_gbs'",
        ),
        (
            {"requires_reduce_range": False},
            r"requires_reduce_range: this field was removed: nothing obeyed it.*; delete the line",
        ),
        ({"peak_gops": 100}, r"peak_gops: should be \{fp32, fp16, int8\}, found 100"),
        ({"peak_gops": None}, r"peak_gops: should be \{fp32, fp16, int8\}, but is empty"),
        ({"dtypes": None}, r"dtypes: should be a list, but is empty"),
        ({"dtypes": ["bf16"]}, r"dtypes\.0: should be 'fp32', 'fp16' or 'int8', found 'bf16'"),
        ({"channel_alignment": {"fp32": 2.5}}, r"channel_alignment\.fp32: should be a whole number, found 2\.5"),
        ({"runtime": "tvm"}, r"runtime: unknown runtime 'tvm'; allowed: onnxruntime"),
        ({"host_cpu": "board"}, r"host_cpu: circular: board names itself"),
        ({"schema": 1}, r"schema: should be 2, found 1"),
    ],
)
def test_wrong_fields_are_explained(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """The message names the file, the field, what was found and what is allowed, and where to read on."""
    write(tmp_path, **changes)
    with pytest.raises(ProfileError, match=rf"board\.yaml: .*{message}.*\(docs/your-device\.md explains every field\)"):
        load_profile("board", tmp_path)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    """What every profile needs is asked for by name."""
    path = write(tmp_path)
    tree = yaml.safe_load(path.read_text())
    del tree["machine"]
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ProfileError, match=r"board\.yaml: machine: missing; every profile needs it"):
        load_profile("board", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id: [", "not valid YAML"),
        (b"- a list", "holds a list, but a profile is a mapping"),
        (b"", "holds nothing, but a profile is a mapping"),
        (b"\xff\xfe\x00", "not valid YAML|cannot be read as text"),
        (b"id: broken\nthreads: 1\nthreads: 2\n", "threads stands there twice"),
    ],
)
def test_files_that_are_no_profile(tmp_path: Path, content: bytes, message: str) -> None:
    """Broken YAML, a list, nothing, no text and a field that stands there twice are user errors, not tracebacks."""
    (tmp_path / "broken.yaml").write_bytes(content)
    with pytest.raises(ProfileError, match=rf"broken\.yaml: .*({message})"):
        load_profile("broken", tmp_path)


def test_a_file_is_parsed_once_per_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own and its host_cpu's, each once."""
    write(tmp_path, "npu", **INT8_ALONE, host_cpu="board")
    write(tmp_path)
    read, real = [], Path.read_text

    def counted(path: Path, *args: Any, **options: Any) -> str:
        read.append(path.stem)
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", counted)
    load_profile("npu", tmp_path)
    assert read == ["npu", "board"]


def test_a_folder_named_like_a_profile_is_a_user_error(tmp_path: Path) -> None:
    """It cannot be read, and the message says so."""
    (tmp_path / "board.yaml").mkdir()
    with pytest.raises(ProfileError, match=r"board\.yaml: cannot be read as text"):
        load_profile("board", tmp_path)


def test_the_fallback_is_the_processor_beside_the_accelerator(tmp_path: Path) -> None:
    """A device names the profile that runs what it cannot; one that names none has none."""
    write(tmp_path, "npu", **INT8_ALONE, host_cpu="board")
    write(tmp_path)
    beside = load_host_cpu(load_profile("npu", tmp_path), tmp_path)
    assert beside == load_profile("board", tmp_path)
    assert load_host_cpu(load_profile("board", tmp_path), tmp_path) is None


def test_circular_fallbacks_are_refused(tmp_path: Path) -> None:
    """a -> b -> a would hand an operator over for ever."""
    write(tmp_path, "a", host_cpu="b")
    write(tmp_path, "b", host_cpu="a")
    with pytest.raises(ProfileError, match=r"a\.yaml: host_cpu: circular: a -> b -> a; end the chain"):
        load_profile("a", tmp_path)


def test_a_circle_behind_the_first_fallback_is_refused_too(tmp_path: Path) -> None:
    """a -> b -> c -> b does not come back to a."""
    write(tmp_path, "a", host_cpu="b")
    write(tmp_path, "b", host_cpu="c")
    write(tmp_path, "c", host_cpu="b")
    with pytest.raises(ProfileError, match=r"a\.yaml: host_cpu: circular: a -> b -> c -> b"):
        load_profile("a", tmp_path)


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        (None, "host_cpu: no hardware profile 'cpu' (npu -> cpu); have "),
        ({"peak_gops": None}, "cpu.yaml is wrong itself: peak_gops: should be"),
        ({**INT8_ALONE, "host_cpu": "raspberry-pi-4"}, "host_cpu: cpu takes int8 alone"),
        ({"machine": "x86_64"}, "host_cpu: cpu is for x86_64, this device for aarch64"),
    ],
)
def test_a_fallback_must_be_there_and_compute_in_float(tmp_path: Path, beside: dict[str, Any] | None, message: str) -> None:
    """It runs the float end of every detector, in the same computer."""
    path = write(tmp_path, "npu", **INT8_ALONE, host_cpu="cpu")
    if beside is not None:
        write(tmp_path, "cpu", **beside)
    (problem,) = problems_of(path, profile_files(tmp_path))
    assert message in problem


def test_problems_of_a_right_file_are_none() -> None:
    """Checking a shipped file finds nothing."""
    assert problems_of(FOLDER / "coral-edge-tpu.yaml", profile_files()) == ()
