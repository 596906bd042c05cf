"""The hardware profiles there are: one YAML file each, in this package and in a folder of the user's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from hardware_profiles.schema.profile import HardwareProfile, ProfileError

FOLDER = Path(__file__).parents[1] / "devices"
IN_WORDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
}
"""What YAML's writer calls the types of pydantic's messages."""
REMOVED = {"requires_reduce_range": "nothing obeyed it, for int8 files are made once per runtime and not per profile"}
"""Fields of earlier versions, and why they went."""
HELP = "docs/your-device.md explains every field"
MERGE = "tag:yaml.org,2002:merge"


def load_profile(name: str, extra_folder: Path | None = None) -> HardwareProfile:
    """The named profile, from the files of this package or from extra_folder; ProfileError where it is missing or wrong.

    The profiles it falls back on are read too, so that a missing or circular one is found here.
    """
    files = profile_files(extra_folder)
    if name not in files:
        raise ProfileError(
            f"no hardware profile {name!r}; have {', '.join(sorted(files))}. "
            f"`sixfold profiles new` starts one ({HELP.partition(' ')[0]} shows how)."
        )
    found = _checked(files[name], files)
    if isinstance(found, HardwareProfile):
        return found
    raise ProfileError(f"{files[name]}: {'; '.join(found)} ({HELP})")


def load_host_cpu(profile: HardwareProfile, extra_folder: Path | None = None) -> HardwareProfile | None:
    """The profile of the processor that runs what the device cannot; None where the profile names none."""
    return None if profile.host_cpu is None else load_profile(profile.host_cpu, extra_folder)


def known_profiles(extra_folder: Path | None = None) -> tuple[str, ...]:
    """Names that load_profile accepts, sorted."""
    return tuple(sorted(profile_files(extra_folder)))


def profile_files(extra_folder: Path | None = None) -> dict[str, Path]:
    """Name -> file, of this package and of extra_folder; ProfileError where one name stands for two files."""
    own = {path.stem: path for path in FOLDER.glob("*.yaml")}
    if extra_folder is None or extra_folder.resolve() == FOLDER.resolve():
        return own
    if not extra_folder.is_dir():
        found = f"{extra_folder}: no such folder of hardware profiles"
        raise ProfileError(f"{found}. Make it with `sixfold profiles new`, or correct the setting that names it.")
    extra = {path.stem: path for path in extra_folder.glob("*.yaml")}
    if both := sorted(own.keys() & extra.keys()):
        raise ProfileError(f"{extra_folder}: {', '.join(both)} are names of built-in profiles; choose other file names and ids")
    return own | extra


def problems_of(path: Path, files: Mapping[str, Path]) -> tuple[str, ...]:
    """All that is wrong with the file, each as `dotted.field: what; what is allowed`; empty where nothing is.

    `files` is where the profiles it falls back on are looked up.
    """
    found = _checked(path, files)
    return () if isinstance(found, HardwareProfile) else found


def _checked(path: Path, files: Mapping[str, Path]) -> HardwareProfile | tuple[str, ...]:
    """The profile of a file, or all that is wrong with it."""
    try:
        profile = _read(path)
    except ProfileError as error:
        return (str(error),)
    except ValidationError as error:
        return tuple(_explain(error))
    if profile.id != path.stem:
        return (f"id: {profile.id!r}, but the file is named {path.stem!r}; make them the same",)
    return tuple(_fallback_problem(profile, files)) or profile


def _read(path: Path) -> HardwareProfile:
    """The profile of a file; ProfileError where it is no YAML mapping, ValidationError where fields are wrong."""
    try:
        tree = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"cannot be read as text: {error}") from error
    except ValueError as error:
        raise ProfileError(str(error)) from error
    if not isinstance(tree, dict):
        found = "nothing" if tree is None else f"a {type(tree).__name__}"
        raise ProfileError(f"holds {found}, but a profile is a mapping of fields to values")
    return HardwareProfile.model_validate(tree)


def _fallback_problem(profile: HardwareProfile, files: Mapping[str, Path]) -> list[str]:
    """What is wrong with the chain of fallbacks, in at most one line."""
    chain = [profile]
    while (name := chain[-1].host_cpu) is not None:
        way = " -> ".join([*(link.id for link in chain), name])
        if any(name == link.id for link in chain):
            return [f"host_cpu: circular: {way}; end the chain at a profile whose host_cpu is null"]
        if name not in files:
            return [f"host_cpu: no hardware profile {name!r} ({way}); have {', '.join(sorted(files))}"]
        try:
            other = _read(files[name])
        except (ProfileError, ValidationError) as error:
            why = "; ".join(_explain(error)) if isinstance(error, ValidationError) else str(error)
            return [f"host_cpu: {way}, but {files[name]} is wrong itself: {why}"]
        if other.float_dtype is None:
            return [f"host_cpu: {name} takes int8 alone; name the profile of a processor, which computes in float too"]
        if other.machine != profile.machine:
            return [f"host_cpu: {name} is for {other.machine}, this device for {profile.machine}; both sit in one computer"]
        chain.append(other)
    return []


def _explain(error: ValidationError) -> list[str]:
    """One line per problem: dotted field, what was found, what is allowed."""
    lines = []
    for problem in error.errors():
        field, kind = ".".join(str(part) for part in problem["loc"]), problem["type"]
        message = re.sub(r"^Value error, ", "", problem["msg"])
        if kind == "extra_forbidden" and field in REMOVED:
            message = f"this field was removed: {REMOVED[field]}; delete the line"
        elif kind == "extra_forbidden":
            message = f"no such field{_nearest(problem['loc'])}"
        elif kind == "missing":
            message = "missing; every profile needs it"
        elif kind != "value_error":
            kinds = IN_WORDS | {"model_type": f"{{{', '.join(_fields_at(problem['loc']))}}}"}
            message = f"should be {kinds[kind]}" if kind in kinds else message.replace("Input should", "should", 1)
            message += ", but is empty" if problem["input"] is None else f", found {problem['input']!r:.80}"
        lines.append(f"{field}: {message}" if field else message)
    return lines


def _nearest(location: tuple[int | str, ...]) -> str:
    """A hint at the field that was probably meant."""
    names = _fields_at(location[:-1])
    near = difflib.get_close_matches(str(location[-1]), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; allowed: {', '.join(names)}"


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """The names allowed in the mapping at this location."""
    model: type[BaseModel] = HardwareProfile
    for part in location:
        field = model.model_fields.get(str(part))
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def load_yaml(text: str) -> Any:
    """What the text holds; ValueError in one line, with the place, where it is no YAML or a mapping has a key twice."""
    try:
        return _UniqueKeys(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2026-02-30
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from error


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == MERGE:
                continue
            name, line = str(self.construct_object(key, deep=True)), key.start_mark.line + 1
            if name in lines:
                raise yaml.YAMLError(f"{name} stands there twice, in lines {lines[name]} and {line}; leave one of them out")
            lines[name] = line
        return super().construct_mapping(node, deep)
