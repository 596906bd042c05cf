"""What all nodes of a sweep share, put together from params, data and machine; and the graph that follows."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from pydantic import ValidationError

from compressors import low_rank, pruning
from compressors.lightweight import light_spec
from compressors.nas import space_to_search
from compressors.planning.graph import Cell, Foundation, Graph, Menu, Reference, graph_of
from compressors.quantization import refuse_few_pictures
from detection import checkpoint
from detection.brought import Brought
from detection.checkpoint import Detector, fresh
from detection.data.dataset import Prepared, load_prepared
from detection.data.sources import provenance
from detection.frozen import Digest, InputError
from detection.spec import Spec
from flows.progress import reading
from flows.records.schema import in_numbers
from flows.records.store import GIVEN, Store
from flows.sweep.given_teachers import foundation_of, given_teachers
from flows.sweep.params import Plan, given_detector, new_spec
from hardware_profiles.runtimes.table import RUNTIMES
from hardware_profiles.schema.profile import HardwareProfile

WORDS = {"name", "sources", "calibration"}
"""Of a profile: nothing that is made by it depends on them."""
LIBRARIES = ("torch", "onnx", "onnxruntime", "torch-pruning", "tensorly", "optuna")
"""What any sweep trains and packs with; each runtime names its own besides."""


def lay_foundation(plan: Plan, prepared_folder: Path) -> Foundation:
    """The shared part of every node's key; InputError where nothing is prepared, or something else than the params ask for."""
    params, prepared = plan.params, load_prepared(prepared_folder)
    _check_current(plan, prepared, prepared_folder)
    given = given_detector(params, plan.base, prepared.input_size, prepared.classes)
    teacher = given.spec if given else new_spec(params, plan.base, prepared.input_size, prepared.classes)
    teachers = given_teachers(plan, prepared.classes)
    _check_shapes(plan.menu, teacher, teachers)
    for config in plan.menu.quantization:
        refuse_few_pictures(config, prepared.splits["train"].pictures)
    _check_targets(plan.menu, teacher, plan.design_profile)
    libraries = library_versions()
    _check_installed(params.grid.runtimes, libraries)
    return Foundation(
        teacher=teacher,
        given=None if given is None else given.digest,
        trains_given=params.trains_brought,
        teachers=foundation_of(teachers),
        training=params.teacher.training,
        recovery=params.grid.recovery,
        reduction=params.grid.reduction,
        seed=params.seed,
        train_digest=prepared.splits["train"].digest,
        val_digest=prepared.splits["val"].digest,
        train_pictures=prepared.splits["train"].pictures,
        val_pictures=prepared.splits["val"].pictures,
        device=choose_device(params.device).type,
        threads=params.threads,
        teacher_threads=params.teacher.threads,
        design_profile=profile_digest(plan.design_profile),
        libraries=libraries,
    )


def store_brought(plan: Plan, prepared: Prepared, store: Store) -> None:
    """Have the store hold every detector that the user brought, under its digest: workers find it wherever its file lies."""
    root = given_detector(plan.params, plan.base, prepared.input_size, prepared.classes)
    for detector in (root, *given_teachers(plan, prepared.classes).values()):
        if detector is not None and not store.has(GIVEN, detector.digest):
            with store.writing(GIVEN, detector.digest) as folder:
                checkpoint.save(detector, folder)


def profile_digest(profile: HardwareProfile) -> Digest:
    """sha256 of what nodes may depend on in a design profile."""
    return hashlib.sha256(profile.model_dump_json(by_alias=True, exclude=WORDS).encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """Name -> version of what trains and packs; without those of runtimes that are not installed here."""
    found = {name: version(name) for name in LIBRARIES}
    for name in {name for runtime in RUNTIMES.values() for name in runtime.libraries}:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _check_installed(runtimes: tuple[str, ...], libraries: dict[str, str]) -> None:
    """InputError where a runtime of the plan lacks what writes or opens its files."""
    for runtime in runtimes:
        if missing := [name for name in RUNTIMES[runtime].libraries if name not in libraries]:
            raise InputError(
                f"grid.runtimes: {runtime} needs {' and '.join(missing)}, not installed here. "
                f"Run `pip install {' '.join(missing)}`, or leave the runtime out."
            )


def _check_current(plan: Plan, prepared: Prepared, folder: Path) -> None:
    """Data from before a change of the params would give results under the wrong name; DVC notices, a bare command would not."""
    made_from, wanted = prepared.made_from, provenance(plan.params.data, plan.base, plan.params.seed, reading)
    if made_from is None or made_from.settings != wanted.settings:
        changed = "`data` or `seed` of the params, or the way sixfold reads them, have changed since"
        why = "it was not noted from what" if made_from is None else changed
    elif None not in (made_from.files, wanted.files) and made_from.files != wanted.files:
        why = "the files of the data set have changed since"
    else:
        return
    raise InputError(f"{folder}: prepared as {prepared.name!r}, but {why}. Run `sixfold prepare` again.")


def _check_shapes(menu: Menu, teacher: Spec, teachers: Mapping[Brought, Detector]) -> None:
    """InputError where a variant asks for a network that this teacher cannot become: hours before its turn would come."""
    for start in (teacher, *(light_spec(teacher, config) for config in menu.lightweight)):
        for config in menu.nas:
            _check_teachable(menu, teacher, teachers, space_to_search(start, config).largest.input_size)


def _check_targets(menu: Menu, teacher: Spec, profile: HardwareProfile) -> None:
    """InputError where a variant asks of the teacher for fewer multiply-adds, or less time, than its own floors leave."""
    refusals = [(f"pruning.{i}", partial(pruning.refuse_out_of_reach, config)) for i, config in enumerate(menu.pruning)]
    refusals += [(f"low_rank.{i}", partial(low_rank.refuse_out_of_reach, config)) for i, config in enumerate(menu.low_rank)]
    if not refusals:
        return
    untrained = fresh(teacher, 0)  # how far it can go does not depend on weights
    for place, refuse in refusals:
        try:
            refuse(untrained, profile)
        except InputError as error:
            raise InputError(f"grid.methods.{place}.{str(error).partition('.')[2]}") from error


def _check_teachable(menu: Menu, teacher: Spec, teachers: Mapping[Brought, Detector], input_size: tuple[int, int]) -> None:
    """InputError where a teacher of the menu cannot see pictures of this size, which its student sees."""
    for config in menu.distillation:
        if config.gives_boxes:
            continue  # a file sees pictures at its own size
        own = teachers[config.brought].spec if config.brought else teacher
        asked = own if config.brought or config.teacher is None else teacher.having(config.teacher)
        try:
            asked.at(input_size)
        except ValidationError as error:
            raise InputError(
                f"grid.methods: nas.input_share leaves pictures of {input_size} (height, width), which do not fit the strides of "
                f"the teacher that distillation asks. Choose another, or leave out one of the two."
            ) from error


def choose_device(wanted: str) -> torch.device:
    """The device to train on; `auto` takes CUDA where there is one."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda is wanted, but torch finds none here. Allowed: auto, cpu, cuda.")
    return torch.device("cuda" if wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available()) else "cpu")


def chosen_cells(plan: Plan, pattern: str | None) -> tuple[Cell, ...]:
    """The cells of the menu whose name matches the shell pattern; the control always, since all else is compared with it."""
    cells = plan.cells
    if pattern is None:
        return cells
    matching = [cell for cell in cells if fnmatch.fnmatchcase(cell.name, pattern)]
    if not matching and not chosen_references(plan, pattern):
        there = in_numbers(len(cells), len(plan.references))
        raise InputError(
            f"--cells {pattern!r}: matches none of the {there}, such as {cells[-1].name!r}. Patterns are as in a shell."
        )
    return tuple(cell for cell in cells if not cell.configs or cell in matching)


def chosen_references(plan: Plan, pattern: str | None) -> tuple[Reference, ...]:
    """The references of the plan whose name matches the shell pattern."""
    return tuple(own for own in plan.references if pattern is None or fnmatch.fnmatchcase(own.name, pattern))


def make_graph(plan: Plan, base: Foundation, cells: tuple[Cell, ...]) -> Graph:
    """The nodes that the cells, and references among them, need on the runtimes of the plan."""
    return graph_of(cells, base, plan.params.grid.runtimes)
