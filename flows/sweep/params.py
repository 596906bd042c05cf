"""The params file: read once, checked once, at the door."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from compressors.distillation import refuse_strangers
from compressors.latency import latency_dtype
from compressors.planning.cells import REDUCTIONS
from compressors.planning.graph import Cell, Combinations, Menu, Reference, ReferenceConfig, cells_of, references_of
from compressors.planning.names import MethodName
from compressors.quantization import refuse_unsupported
from detection.compact.blueprint import Architecture, Blueprint
from detection.data.sources import Data
from detection.frozen import Frozen, InputError, PositiveInt
from detection.training import Recipe
from flows.sweep.check_settings import Check
from flows.sweep.measure_settings import Measure
from flows.sweep.report_settings import Report
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import ProfileError

Runtime = Literal["onnxruntime", "openvino"]


class StoreParams(Frozen):
    """Where finished work lies."""

    url: str = ".sixfold/store"
    """A folder, relative to the params file."""


class Teacher(Frozen):
    """The detector to be compressed and how it is trained; every changed architecture trains by the same schedule."""

    architecture: Architecture = Architecture()
    training: Recipe = Recipe()
    threads: PositiveInt = 1
    """While the teacher trains nothing else can, so it may have more. Their number orders sums, so it is part of its key."""


class Grid(Frozen):
    """Which cells, and how they are made."""

    methods: Menu = Menu()
    combinations: Combinations = "all"
    """`all`: every combination of the methods; `alone`: the control, and each variant of each method by itself."""
    references: tuple[ReferenceConfig, ...] | None = None
    """What is made beside the cells for comparison, a list; null: what the menu allows of random pruning, a narrow network like the
    first search's and smaller pictures, all in float. An empty list: nothing."""
    recovery: Recipe = Recipe(epochs=10, learning_rate=1e-3)
    """The one training after the reduction phase; every cell gets it, the control too."""
    reduction: tuple[MethodName, ...] = REDUCTIONS
    """Order within the reduction phase."""
    runtimes: Annotated[tuple[Runtime, ...], Field(min_length=1)] = ("onnxruntime", "openvino")
    design_profile: str = "x86-openvino-1t"
    """The device whose estimated latency the search works against."""
    on_failure: Literal["stop", "continue"] = "stop"
    """`stop`: exit 3 when a cell failed; `continue`: exit 0. Either way everything else is finished first."""

    @model_validator(mode="after")
    def _reduction_names_both(self) -> Grid:
        if sorted(self.reduction) != sorted(REDUCTIONS):
            raise ValueError(f"reduction must name {' and '.join(REDUCTIONS)} once each")
        return self


class Params(Frozen):
    """The whole file; each stage has a section of its name, `data` says what `prepare` reads."""

    sweep: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """Name of the sweep: lower-case letters, digits and dashes."""
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: PositiveInt = 1
    """Per training task; two one-thread tasks beat one two-thread task."""
    store: StoreParams = StoreParams()
    data: Data = Data()
    teacher: Teacher = Teacher()
    grid: Grid = Grid()
    measure: Measure = Measure()
    report: Report = Report()
    check: Check = Check()


@dataclass(frozen=True)
class Plan:
    """Checked params and where they came from."""

    params: Params
    base: Path
    """Folder of the params file: its relative paths start here."""
    text: str

    @property
    def profiles_folder(self) -> Path | None:
        """Where the user's own hardware profiles lie, or None."""
        folder = self.params.measure.profiles_folder
        return None if folder is None else self.base / folder

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell of the grid, the control first."""
        return cells_of(self.params.grid.methods, self.params.grid.combinations)

    @property
    def references(self) -> tuple[Reference, ...]:
        """What is made beside the cells; InputError names the setting that cannot be met."""
        grid, architecture = self.params.grid, self.params.teacher.architecture
        # How many classes there are is known once data is prepared; no reference depends on it.
        teacher = Blueprint(classes=("any",), input_size=self.params.data.input_size, architecture=architecture)
        profile = load_profile(grid.design_profile, self.profiles_folder)
        return references_of(grid.references, grid.methods, self.cells, teacher, profile)

    @property
    def digest(self) -> str:
        """sha256 of what makes the cells (not of what measures or reports them), independent of comments and layout."""
        made = self.params.model_dump_json(by_alias=True, exclude={"store", "measure", "report", "check"})
        return hashlib.sha256(made.encode()).hexdigest()


def load_plan(path: Path) -> Plan:
    """The checked params of a file; InputError names the field, what was found and what is allowed."""
    plan = read_plan(path)
    _check_profiles(path, plan)
    _check_distillation(path, plan.params)
    _check_blocks(path, plan.params.grid)
    _check_rounding(path, plan.params)
    _check_references(path, plan)
    return plan


def read_plan(path: Path) -> Plan:
    """As load_plan, but without a look at the hardware profiles it names: for the commands that say what is wrong with those."""
    if not path.is_file():
        raise InputError(f"{path}: no such params file. Name one with --params; the project brings params.yaml and plans/*.yaml.")
    try:
        text = path.read_text()
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{path}: holds {type(tree).__name__}, but a params file is a mapping of sections to settings.")
    try:
        params = Params.model_validate(tree)
    except ValidationError as error:
        raise InputError(explain(path, error)) from error
    return Plan(params, path.resolve().parent, text)


def explain(path: Path, error: ValidationError) -> str:
    """One line per problem of a validation: field, what was found, what is allowed."""
    lines = []
    for problem in error.errors():
        if problem["type"] == "default_factory_not_called":
            continue  # a consequence of another problem, which is in the list
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{field}: no such setting{_nearest(problem['loc'])}")
        else:
            found = "" if problem["type"] in ("missing", "value_error") else f" (found {problem['input']!r:.80})"
            lines.append(f"{field}: {problem['msg']}{found}")
    return f"{path}: " + "; ".join(lines)


def _nearest(location: tuple[Any, ...]) -> str:
    """A hint at the setting that was probably meant."""
    models = [Params]
    for part in location[:-1]:  # list positions and names of variants lead no deeper
        inner = [model for outer in models if part in outer.model_fields for model in _models(outer.model_fields[part].annotation)]
        models = inner or models
    names = [name for model in models for name in model.model_fields]
    near = difflib.get_close_matches(str(location[-1]), names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; allowed: {', '.join(names)}"


def _models(annotation: Any) -> list[Any]:
    """The models anywhere inside a type: in a union, a tuple, an Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _check_profiles(path: Path, plan: Plan) -> None:
    params = plan.params
    try:
        profiles = [load_profile(name, plan.profiles_folder) for name in (*params.measure.profiles, params.grid.design_profile)]
    except ProfileError as error:
        raise InputError(f"{path}: {error}") from error
    if profiles[-1].float_dtype is None:
        raise InputError(
            f"{path}: grid.design_profile names {profiles[-1].id}, which takes int8 alone, but a search compares float networks. "
            f"Name a profile with a float type, for instance {profiles[-1].fallback}."
        )
    try:
        for config in params.grid.methods.quantization:
            refuse_unsupported(config, profiles[-1])
        for search in params.grid.methods.nas:
            latency_dtype(search.latency_in, profiles[-1], "nas")
        for low_rank in params.grid.methods.low_rank:
            latency_dtype(low_rank.latency_in if low_rank.only_if_faster else "float", profiles[-1], "low_rank")
    except InputError as error:
        raise InputError(f"{path}: grid.methods.{error}") from error
    for profile in profiles[:-1]:
        if profile.kind == "host" and profile.runtime not in params.grid.runtimes:
            raise InputError(
                f"{path}: measure.profiles names {profile.id}, which runs {profile.runtime}, but grid.runtimes has only "
                f"{', '.join(params.grid.runtimes)}. Add the runtime there or drop the profile."
            )


def _check_blocks(path: Path, grid: Grid) -> None:
    """InputError where a search would replace the light blocks that its own cell asks for, or lose the weights they inherited."""
    for position, light in enumerate(grid.methods.lightweight):
        if light.weights == "inherited" and grid.methods.nas and grid.combinations == "all":
            raise InputError(
                f"{path}: grid.methods.lightweight.{position}.weights: inherited ones are lost in cells with nas, which the "
                f"grid crosses it with: a search hands on an architecture. Take fresh, set grid.methods.nas to [], or "
                f"grid.combinations to alone."
            )
    for position, config in enumerate(grid.methods.nas):
        if config.block is not None and grid.methods.lightweight and grid.combinations == "all":
            raise InputError(
                f"{path}: grid.methods.nas.{position}.block: {config.block} takes the place of lightweight's blocks, which the "
                f"grid crosses it with. Leave it out, set grid.methods.lightweight to [], or grid.combinations to alone."
            )


def _check_rounding(path: Path, params: Params) -> None:
    """InputError where every layer is narrower than the multiple to which pruned or searched widths are rounded."""
    own = params.teacher.architecture
    widest = max(own.stem_width, *own.stage_widths, own.neck_width, own.head_width)
    methods = params.grid.methods
    asked = [(f"pruning.{position}", config.round_to) for position, config in enumerate(methods.pruning)]
    asked += [(f"nas.{position}", config.round_to) for position, config in enumerate(methods.nas)]
    for place, round_to in asked:
        if round_to is not None and round_to > widest:
            raise InputError(
                f"{path}: grid.methods.{place}.round_to: {round_to} is more than the teacher's widest layer has channels "
                f"({widest}), so nothing could become narrower. Allowed are 1 to {widest}."
            )


def _check_distillation(path: Path, params: Params) -> None:
    """InputError where a variant names a teacher that cannot teach the sweep's networks, or would remember what never returns."""
    recipes = {"teacher.training": params.teacher.training, "grid.recovery": params.grid.recovery}
    for position, config in enumerate(params.grid.methods.distillation):
        place = f"{path}: grid.methods.distillation.{position}"
        try:
            if config.teacher is not None:
                refuse_strangers(config, config.teacher, params.teacher.architecture)
        except ValueError as error:
            raise InputError(f"{place}.{error}.") from error
        for section, recipe in recipes.items():
            try:
                config.teacher_forwards(recipe, 1)
            except ValueError as error:
                raise InputError(f"{place}.cache, {section}.augmentation: {error}") from error


def _check_references(path: Path, plan: Plan) -> None:
    """InputError where cells could not be told apart, or a reference asks for what this sweep does not have."""
    try:
        _ = plan.references
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
