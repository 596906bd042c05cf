"""Checks of a plan across its settings: what could only fail hours later is refused when the params file is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from compressors.distillation import refuse_teacher
from compressors.latency import latency_dtype
from compressors.lightweight import light_spec
from compressors.nas import space_to_search
from compressors.planning.cells import CHANGING
from compressors.planning.names import METHODS
from compressors.quantization import refuse_unsupported
from detection.family import Capability, family_of
from detection.frozen import InputError
from flows.sweep.given_teachers import given_teachers
from flows.sweep.params import Plan, read_plan
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import ProfileError


def load_plan(path: Path) -> Plan:
    """The checked params of a file; InputError names the field, what was found and what is allowed."""
    plan = read_plan(path)
    check_plan(path, plan)
    return plan


def check_plan(path: Path, plan: Plan) -> None:
    """InputError names the first setting that cannot be met, and the file it stands in."""
    checks = (
        _check_detector, _refuse_not_applicable, _check_profiles, _check_distillation, _check_blocks, _check_rounding,
        _check_spaces, _check_references,
    )  # fmt: skip
    for check in checks:
        with _within(f"{path}: "):
            check(plan)


@contextmanager
def _within(place: str) -> Iterator[None]:
    """Messages of what is refused inside begin with the place."""
    try:
        yield
    except (InputError, ProfileError) as error:
        raise InputError(f"{place}{error}") from error


def _check_detector(plan: Plan) -> None:
    """InputError where the pictures do not fit the detector."""
    try:
        _ = plan.detector
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"data.{reason}.") from error


def _check_spaces(plan: Plan) -> None:
    """InputError where a search or light blocks ask for networks that there are not."""
    methods, start = plan.menu, plan.detector
    with _within("grid.methods."):
        for begun in (start, *(light_spec(start, config) for config in methods.lightweight)):
            for config in methods.nas:
                space_to_search(begun, config)


def _refuse_not_applicable(plan: Plan) -> None:
    """InputError where the plan names a method, or a reference, that the detector's family cannot do."""
    grid, cannot = plan.params.grid, plan.cannot
    asked: list[tuple[str, Capability]] = [
        (f"grid.methods.{method}", method)
        for method in METHODS
        if method in grid.methods.model_fields_set and grid.methods.variants(method)
    ]
    asked += [
        (f"grid.methods.quantization.{position}.qat_epochs", "qat")
        for position, config in enumerate(grid.methods.quantization)
        if config.qat_epochs
    ]
    asked += [(f"grid.references.{position}", config.needs) for position, config in enumerate(grid.references or ())]
    for place, capability in asked:
        if capability in cannot:
            raise InputError(f"{place}: not applicable to this detector: {cannot[capability]} Leave it out.")


def _check_profiles(plan: Plan) -> None:
    params = plan.params
    profiles = [load_profile(name, plan.profiles_folder) for name in (*params.measure.profiles, params.grid.design_profile)]
    if profiles[-1].float_dtype is None:
        raise InputError(
            f"grid.design_profile names {profiles[-1].id}, which takes int8 alone, but a search compares float networks. "
            f"Name a profile with a float type, for instance {profiles[-1].host_cpu}."
        )
    with _within("grid.methods."):
        for config in params.grid.methods.quantization:
            refuse_unsupported(config, profiles[-1])
        for search in params.grid.methods.nas:
            latency_dtype(search.latency_in, profiles[-1], "nas")
        for low_rank in params.grid.methods.low_rank:
            latency_dtype(low_rank.latency_in if low_rank.only_if_faster else "float", profiles[-1], "low_rank")
    for profile in profiles[:-1]:
        if profile.kind == "host" and profile.runtime not in params.grid.runtimes:
            raise InputError(
                f"measure.profiles names {profile.id}, which runs {profile.runtime}, but grid.runtimes has only "
                f"{', '.join(params.grid.runtimes)}. Add the runtime there or drop the profile."
            )


def _check_blocks(plan: Plan) -> None:
    """InputError where fresh weights cannot be trained, or a search would replace the blocks that its own cell asks for."""
    grid, menu = plan.params.grid, plan.menu
    for method in CHANGING:
        for position, config in enumerate(menu.variants(method)):
            if not config.inherits and not plan.params.teacher.training.epochs:
                raise InputError(
                    f"grid.methods.{method}.{position}.weights: fresh ones are trained for teacher.training.epochs, which is 0. "
                    f"Take inherited, or 1 epoch or more."
                )
    for position, config in enumerate(menu.nas):
        if "block" in config.space and menu.lightweight and grid.combinations == "all":
            raise InputError(
                f"grid.methods.nas.{position}.space.block: {config.space['block']} replaces lightweight's blocks, "
                f"which the grid crosses it with. Leave it out, set grid.methods.lightweight to [], or grid.combinations to alone."
            )


def _check_rounding(plan: Plan) -> None:
    """InputError where every layer is narrower than the multiple to which pruned or searched widths are rounded."""
    widths, methods = family_of(plan.detector).widths, plan.params.grid.methods
    if widths is None:
        return
    widest = max(widths(plan.detector))
    asked = [(f"pruning.{position}", config.round_to) for position, config in enumerate(methods.pruning)]
    asked += [(f"nas.{position}", config.round_to) for position, config in enumerate(methods.nas)]
    for place, round_to in asked:
        if round_to is not None and round_to > widest:
            raise InputError(
                f"grid.methods.{place}.round_to: {round_to} is more than the teacher's widest layer has channels "
                f"({widest}), so nothing could become narrower. Allowed are 1 to {widest}."
            )


def _check_distillation(plan: Plan) -> None:
    """InputError where a variant names a teacher that cannot teach the sweep's networks, or would remember what never returns."""
    params = plan.params
    recipes = {"teacher.training": params.teacher.training, "grid.recovery": params.grid.recovery}
    for position, config in enumerate(params.grid.methods.distillation):
        place = f"grid.methods.distillation.{position}"
        if config.teacher is not None and config.brought is None and not params.teacher.training.epochs:
            raise InputError(
                f"{place}.teacher: would be trained for teacher.training.epochs, which is 0. Name a trained one (`checkpoint` "
                f"or `onnx`), or take 1 epoch or more."
            )
        try:
            if config.teacher is not None and config.brought is None:
                refuse_teacher(config, config.teacher, plan.detector)
        except ValueError as error:
            raise InputError(f"{place}.{error}.") from error
        if config.cache and (augment := family_of(plan.detector).augment) and augment(plan.detector):
            raise InputError(
                f"{place}.cache: pictures are new each time, as the detector has an `augment` of its own. Set it to false."
            )
        for section, recipe in recipes.items():
            try:
                config.teacher_forwards(recipe, 1)
            except ValueError as error:
                raise InputError(f"{place}.cache, {section}.augmentation: {error}") from error
    given_teachers(plan)


def _check_references(plan: Plan) -> None:
    """InputError where two cells would have one name, or a reference asks for what this sweep does not have."""
    _ = plan.references
