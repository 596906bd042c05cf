"""The command `inspect`: everything in the order in which one wants to know it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from detection.frozen import InputError
from flows.inspect import plan_text, stage, tables
from flows.inspect.choose import Choice
from flows.progress import Say
from flows.records.files import write_text
from flows.sweep.params import Plan, read_plan
from flows.sweep.settings import Measure
from hardware_profiles.schema.library import load_profile

PrintTable = Callable[[Sequence[str], Sequence[Sequence[str]]], None]


def inspect(
    file: Path | None, params: Path | None, size: tuple[int, int] | None, write: bool, say: Say, table: PrintTable
) -> None:  # fmt: skip
    """Say what the file is; with a plan, also how it is fed and read. InputError where there is nothing to say."""
    plan = None if params is None else read_plan(params)
    found = stage.inspect_file(_source(file, plan), size or _declared_size(plan))
    say(tables.int8_answer(found))
    choice = None if plan is None or plan.params.detector is None else stage.chosen_on_val(found, plan, plan.params.detector)
    for line in [*(tables.choice_answer(choice) if choice else ()), "", *tables.about(found)]:
        say(line)
    _tell(found, plan, choice, table)
    if choice is None or plan is None or params is None or plan.params.detector is None:
        say("Next: a plan with labelled pictures and a `detector` section: `sixfold inspect --params PLAN` says how it is fed.")
        return
    decode = stage.decode_setting(found, choice, plan.params.detector, plan.base)
    sections = plan_text.settings_of(choice, decode, found.signature.input_size)
    if not write:
        say(plan_text.as_text(sections))
        say(f"Next: put that into {params}, or let `--write` do it; then `sixfold prepare`.")
        return
    try:
        text = plan_text.with_settings(plan.text, sections)
    except InputError:
        say(plan_text.as_text(sections))
        raise
    write_text(params, text)
    say(f"written: {params}\nNext: `sixfold prepare`, then `sixfold teacher`.")


def _tell(found: stage.Inspected, plan: Plan | None, choice: Choice | None, table: PrintTable) -> None:
    measure = Measure() if plan is None else plan.params.measure
    profiles = [load_profile(name, None if plan is None else plan.profiles_folder) for name in measure.profiles]
    table(*tables.operators_table(found))
    table(*tables.estimates_table(found, profiles))
    if choice is not None:
        table(*tables.reading_table(choice))
        table(*tables.axes_table(choice))
        table(*tables.feeding_table(choice))


def _source(file: Path | None, plan: Plan | None) -> Path:
    detector = None if plan is None else plan.params.detector
    if plan is None or detector is None:
        if file is None:
            raise InputError("inspect: the plan has no `detector` section, so name an ONNX file.")
        return file
    own = plan.base / detector.onnx
    if file is not None and file.resolve() != own.resolve():
        raise InputError(f"inspect: {file} is not the plan's detector, {own}. Name one of them: the plan says how its own is fed.")
    return own


def _declared_size(plan: Plan | None) -> tuple[int, int] | None:
    """The size that the plan gives; without one the file's own counts."""
    data = None if plan is None else plan.params.data
    return None if data is None or "input_size" not in data.model_fields_set else data.input_size
