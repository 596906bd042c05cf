"""The params file: read once, checked once, before anything is done."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from compressors.planning.cells import CHANGING, REDUCTIONS
from compressors.planning.graph import Cell, Combinations, Menu, Reference, ReferenceConfig, cells_of, references_of
from compressors.planning.names import METHODS, MethodName
from compressors.planning.reference_planner import given_reference
from detection.brought import NetworkDetector, OnnxDetector, parse_detector
from detection.checkpoint import Detector
from detection.data.sources import Data
from detection.family import Capability, family_named, family_of
from detection.frozen import Frozen, InputError, PositiveInt
from detection.spec import Spec, parse_settings
from detection.training import Recipe
from flows.sweep.given import read_given
from flows.sweep.given_checkpoint import read_checkpoint, read_start
from flows.sweep.given_network import network_spec, read_network
from flows.sweep.settings import Check, Measure, Report
from flows.sweep.workspace import PARAMS
from hardware_profiles.runtimes.table import RUNTIMES
from hardware_profiles.schema.library import load_profile, load_yaml
from hardware_profiles.schema.profile import HardwareProfile

FAMILY = "compact"
"""Of a detector that is named by its settings alone."""
RENAMED = {
    ("nas", "null_proxies"): "random_baseline",
    ("measure", "patience_s"): "contention_wait_s",
    **{("nas", name): f"space.{name}" for name in ("levels", "stem_stride", "head_branches", "head_depth", "block", "least_depth")},
}
"""(section or method, setting of an earlier version) -> its name now, there."""


UNTRAINED = "It makes a network that begins from scratch, and `teacher.training.epochs` is 0."


def _known_runtime(name: str) -> str:
    if name not in RUNTIMES:
        raise PydanticCustomError("unknown_runtime", "Input should be {allowed}", {"allowed": " or ".join(map(repr, RUNTIMES))})
    return name


Runtime = Annotated[str, AfterValidator(_known_runtime)]


class StoreParams(Frozen):
    """Where finished work lies."""

    url: str = ".sixfold/store"
    """A folder, relative to the params file."""


class Teacher(Frozen):
    """The detector to be compressed and how it is trained; every changed architecture trains by the same schedule."""

    architecture: Annotated[SerializeAsAny[Frozen], BeforeValidator(partial(parse_settings, FAMILY))] = Field(
        default_factory=lambda: family_named(FAMILY).settings()
    )
    """Settings of our own detector family."""
    checkpoint: Path | None = None
    """In place of `architecture`: the folder of a trained detector of ours, relative to the params file. It is compressed as it is.
    Every cell's weights then see `training` and `grid.recovery` beyond it; `training.epochs` may be 0."""
    start_from: Path | None = None
    """In place of `architecture`: such a folder, with whose weights `training` begins. Last predictions are drawn anew where the
    classes differ."""
    training: Recipe = Recipe()
    threads: PositiveInt = 1
    """While the teacher trains nothing else can, so it may have more. Their number orders sums, so it is part of its key."""

    @model_validator(mode="after")
    def _begins_in_one_way(self) -> Teacher:
        if len(self.named) > 1:
            raise ValueError(f"{' and '.join(self.named)} are all given, and each says what the teacher is. Keep one of them")
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """Settings that say what the teacher is."""
        return tuple(name for name in ("architecture", "checkpoint", "start_from") if name in self.model_fields_set)


class Grid(Frozen):
    """Which cells, and how they are made."""

    methods: Menu = Menu()
    combinations: Combinations = "all"
    """`all`: every combination of the methods; `alone`: the control, and each variant of each method by itself."""
    references: tuple[ReferenceConfig, ...] | None = None
    """What is made in addition to the cells, for comparison, a list; null: what the menu allows of random pruning, a narrow network
    like the first search's and smaller pictures, all in float. An empty list: nothing."""
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
    def _is_whole(self) -> Grid:
        if self.recovery.epochs == 0:
            raise ValueError("recovery.epochs: 0, but reduced networks have to be trained again. Take 1 or more")
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
    detector: Annotated[OnnxDetector | NetworkDetector | None, BeforeValidator(parse_detector)] = None
    """A detector of your own: an ONNX file, the code of a torch module, or a folder of the transformers library; null: ours."""
    teacher: Teacher = Teacher()
    grid: Grid = Grid()
    measure: Measure = Measure()
    report: Report = Report()
    check: Check = Check()

    @model_validator(mode="after")
    def _one_detector(self) -> Params:
        if self.onnx is not None and "teacher" in self.model_fields_set:
            raise ValueError("detector and teacher are both given: a file is not trained. Leave one of them out")
        if self.network is not None and self.teacher.named:
            raise ValueError(f"detector and teacher.{self.teacher.named[0]} both say what the teacher is. Leave one of them out")
        if self.teacher.training.epochs == 0 and not self.compresses_weights:
            raise ValueError("teacher.training.epochs: 0 is for a `checkpoint`, or a detector with `weights`. Take 1 or more")
        return self

    @property
    def onnx(self) -> OnnxDetector | None:
        """The detector of your own where it is a file."""
        return self.detector if isinstance(self.detector, OnnxDetector) else None

    @property
    def network(self) -> NetworkDetector | None:
        """The detector of your own where it is built and trained here."""
        return None if isinstance(self.detector, OnnxDetector) else self.detector

    @property
    def compresses_weights(self) -> bool:
        """Whether what is compressed are trained weights as they were brought."""
        return self.teacher.checkpoint is not None or (self.network is not None and self.network.as_it_is)

    @property
    def trains_brought(self) -> bool:
        """Whether the teacher's training may begin with weights that were brought."""
        return self.teacher.start_from is not None or (self.network is not None and not self.network.as_it_is)


def given_detector(
    params: Params, base: Path, input_size: tuple[int, int], classes: tuple[str, ...] | None = None
) -> Detector | None:
    """What the user brought, for pictures of this size (height, width) and the data's classes; None where all weights are new.

    Without classes it has its own, which is before the data is prepared.
    """
    if params.onnx is not None:
        return read_given(params.onnx, base, input_size, classes)
    if params.network is not None:
        return read_network(params.network, base, input_size, classes, params.seed)
    if params.teacher.checkpoint is not None:
        return read_checkpoint(base / params.teacher.checkpoint, input_size, classes)
    if params.teacher.start_from is not None:
        return read_start(base / params.teacher.start_from, input_size, classes, params.seed)
    return None


def new_spec(params: Params, base: Path, input_size: tuple[int, int], classes: tuple[str, ...]) -> Spec:
    """The detector that the sweep trains from random weights."""
    if params.network is not None:
        return network_spec(params.network, base, input_size, classes)
    return Spec(family=FAMILY, classes=classes, input_size=input_size, settings=params.teacher.architecture)


@dataclass(frozen=True)
class Plan:
    """Checked params and where they came from."""

    params: Params
    base: Path
    """Folder of the params file: its relative paths start here."""
    text: str
    path: Path = PARAMS
    """The params file, as it was named."""

    def command(self, verb: str) -> str:
        """What a person types to go on with this plan, between backticks."""
        return f"`sixfold {verb}`" if self.path == PARAMS else f"`sixfold {verb} --params {self.path}`"

    @property
    def profiles_folder(self) -> Path | None:
        """Where the user's own hardware profiles lie, or None."""
        folder = self.params.measure.profiles_folder
        return None if folder is None else self.base / folder

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell of the grid, the control first."""
        return cells_of(self.menu, self.params.grid.combinations)

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """What is made besides the cells; InputError names the setting that cannot be met."""
        asked = self.params.grid.references
        own = references_of(asked, self.menu, self.cells, self.detector, self.design_profile, self.cannot)
        return (*((given_reference(),) if self.params.compresses_weights else ()), *own)

    @cached_property
    def design_profile(self) -> HardwareProfile:
        """The profile of the device that searches and pruning design for."""
        return load_profile(self.params.grid.design_profile, self.profiles_folder)

    @cached_property
    def cannot(self) -> Mapping[Capability, str]:
        """What is not applicable in this sweep, by the detector's family or for want of epochs -> why."""
        cannot = family_of(self.detector).cannot(self.detector)
        if self.params.teacher.training.epochs:
            return cannot
        asked = {name: self.methods.variants(name) for name in CHANGING}
        untrained = [name for name, configs in asked.items() if configs and not any(config.inherits for config in configs)]
        return {**dict.fromkeys((*untrained, "narrow", "smaller_input"), UNTRAINED), **cannot}

    @cached_property
    def not_applicable(self) -> dict[MethodName, str]:
        """Methods that are not applicable, and why; they make no cells."""
        return {method: self.cannot[method] for method in METHODS if method in self.cannot}

    @cached_property
    def methods(self) -> Menu:
        """The variants of the params; light blocks and searches of brought weights go on with them if nothing else is said."""
        asked = self.params.grid.methods
        return asked.going_on() if self.params.compresses_weights else asked

    @cached_property
    def menu(self) -> Menu:
        """The variants that the grid crosses: those asked for without the methods that are not applicable."""
        return self.methods.without(self.not_applicable)

    @cached_property
    def detector(self) -> Spec:
        """The detector to be compressed, but for its classes: those are known once data is prepared, and nothing here depends on
        them."""
        params = self.params
        if self.given is not None:
            return self.given.spec
        return new_spec(params, self.base, params.data.input_size, ("any",))

    @cached_property
    def given(self) -> Detector | None:
        """The detector that the user brought, with the file's own classes; None where the sweep trains one."""
        return given_detector(self.params, self.base, self.params.data.input_size)

    @property
    def digest(self) -> str:
        """sha256 of what makes the cells (not of what measures or reports them), independent of comments and layout."""
        made = self.params.model_dump_json(by_alias=True, exclude={"store", "measure", "report", "check"})
        return hashlib.sha256(made.encode()).hexdigest()


def read_plan(path: Path) -> Plan:
    """As `plan_checks.load_plan`, without a look at the hardware profiles it names: for commands that say what is wrong there."""
    if not path.is_file():
        raise InputError(f"{path}: no such params file. Name one with --params; the project brings params.yaml and plans/*.yaml.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8.") from error
    return parse_plan(path, text)


def parse_plan(path: Path, text: str) -> Plan:
    """What the text says as the content of this params file, which need not be there yet; InputError as from `read_plan`."""
    try:
        tree = load_yaml(text)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{path}: holds {type(tree).__name__}, but a params file is a mapping of sections to settings.")
    try:
        params = Params.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{path}: " + "; ".join(_problems(error))) from error
    return Plan(params, path.resolve().parent, text, path)


def _problems(error: ValidationError) -> Iterator[str]:
    """Each problem of a validation: field, what was found, what is allowed."""
    for problem in error.errors():
        if problem["type"] == "default_factory_not_called":
            continue  # a consequence of another problem, which is in the list
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            yield f"{field}: no such setting{_renamed(problem['loc']) or _nearest(problem['loc'])}"
        else:
            found = "" if problem["type"] in ("missing", "value_error") else f" (found {problem['input']!r:.80})"
            place = f"{field}: " if field else ""  # a rule about several sections names them itself
            yield f"{place}{problem['msg'].removeprefix('Value error, ')}{found}"


def _renamed(location: tuple[Any, ...]) -> str:
    """Where a setting of an earlier version is now; empty where there was none of that name."""
    new = next((RENAMED[part, location[-1]] for part in location[:-1] if (part, location[-1]) in RENAMED), None)
    return f" any more; it is {new!r} now" if new else ""


def _nearest(location: tuple[Any, ...]) -> str:
    """A hint at the setting that was probably meant."""
    models: list[Any] = [Params]
    for part in location[:-1]:  # list positions and names of variants lead no deeper
        fields = [outer.model_fields[part] for outer in models if part in outer.model_fields]
        inner = [model for field in fields for kind in (*field.metadata, field.annotation) for model in _models(kind)]
        models = inner or models
    names = [name for model in models for name in model.model_fields]
    near = difflib.get_close_matches(str(location[-1]), names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; allowed: {', '.join(names)}"


def _models(annotation: Any) -> list[Any]:
    """The models anywhere inside a type: in a union, a tuple, an Annotated; of a family's settings those of the family."""
    if isinstance(annotation, BeforeValidator) and isinstance(annotation.func, partial):
        return [family_named(annotation.func.args[0]).settings]
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
