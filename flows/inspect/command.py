"""The command `inspect`: everything in the order in which one wants to know it."""

from __future__ import annotations

import os
from pathlib import Path

from detection.brought import OnnxDetector
from detection.frozen import InputError
from flows.inspect import plan_text, stage, tables
from flows.inspect.choose import Choice, NoFitError
from flows.inspect.network_command import inspect_network
from flows.progress import PrintTable, Say
from flows.records.files import write_text
from flows.sweep.params import Plan, read_plan
from flows.sweep.settings import Measure
from flows.sweep.workspace import whole_run
from hardware_profiles.schema.library import load_profile


def inspect(
    file: Path | None, params: Path | None, size: tuple[int, int] | None, write: bool, say: Say, table: PrintTable
) -> None:  # fmt: skip
    """Say what the file is; with a plan, also how it is fed and read. InputError where there is nothing to say."""
    plan = None if params is None else read_plan(params)
    if plan is not None and plan.params.network is not None:
        if file is not None or size is not None or write:
            raise InputError(
                "inspect: the plan's detector is a network, of code or a folder: it has no file, size or --write. Leave them out."
            )
        inspect_network(plan, plan.params.network, say, table)
        return
    found = stage.inspect_file(_source(file, plan), size or _declared_size(plan))
    say(tables.int8_answer(found))
    if plan is None or params is None:
        _tell(found, None, say, table)
        say("Next: `sixfold inspect FILE --data PLAN`, with labelled pictures in the plan's `data`, says how it is fed and read.")
        return
    try:
        labelled = stage.labelled_data(plan)
        asked = plan.params.onnx or _detector(found, plan, labelled.classes)
        choice = stage.chosen_on_val(found, plan, asked, labelled)
    except InputError as error:
        _tell(found, plan, say, table)
        if isinstance(error, NoFitError):
            table(*tables.reading_table(error.read))
        raise
    for line in tables.choice_answer(choice):
        say(line)
    _tell(found, plan, say, table)
    for own in (tables.reading_table(choice.read, choice.decoding), tables.axes_table(choice), tables.feeding_table(choice)):
        table(*own)
    _settle(found, plan, params, asked, choice, say, write=write)


def _settle(
    found: stage.Inspected, plan: Plan, params: Path, asked: OnnxDetector, choice: Choice, say: Say, *, write: bool
) -> None:  # fmt: skip
    """Show what belongs into the plan, or write it; InputError where val leaves open how the outputs are read."""
    own = asked.names(plan.base)
    rivals = () if choice.as_declared else choice.rivals
    readings = [(choice.preset, choice.decoding), *((rival.preset, rival.decoding) for rival in rivals)]
    values = [plan_text.decode_setting(stage.decode_value(found, name, decoding, len(own))) for name, decoding in readings]
    sections = plan_text.settings_of(choice, found.signature.input_size)
    if plan.params.onnx is None:
        named = {"onnx": plan_text.Setting(str(asked.onnx)), "classes": plan_text.Setting(list(own))}
        sections["detector"] = named | sections["detector"]
    if len(values) == 1 and not (write and choice.as_declared):
        sections["detector"]["decode"] = values[0]
    if write:
        _write(plan, params, sections, say)
    else:
        say(plan_text.as_text(sections))
    put = "" if write else f"put that into {params}, or let `--write` do it; then "
    if len(values) > 1:
        say("val does not tell these apart, although they detect differently:")
        for value in values:
            say(plan_text.as_text({"detector": {"decode": value}}))
        if write:
            raise InputError(f"{params}: `decode` is not written, since {len(values)} ways are equal. Declare one of those above.")
        put += "declare one of these; then "
    say(f"Next: {put}{whole_run(params)}")


def _write(plan: Plan, params: Path, sections: plan_text.Sections, say: Say) -> None:
    """Into the params file; InputError, once it is told what to write, where that cannot be done."""
    try:
        if plan.params.onnx is None and "teacher" in plan.params.model_fields_set:
            raise InputError(f"{params}: has a `teacher` section, but a file is not trained. Take it out, then write again.")
        text = plan_text.with_settings(plan.text, sections)
    except InputError:
        say(plan_text.as_text(sections))
        raise
    write_text(params, text)
    say(f"written: {params}")


def _tell(found: stage.Inspected, plan: Plan | None, say: Say, table: PrintTable) -> None:
    """What the file is, where its time goes, and what is estimated."""
    for line in ("", *tables.about(found)):
        say(line)
    measure = Measure() if plan is None else plan.params.measure
    profiles = [load_profile(name, None if plan is None else plan.profiles_folder) for name in measure.profiles]
    for line in tables.int8_gains(found, profiles):
        say(line)
    table(*tables.operators_table(found, profiles[0]))
    table(*tables.estimates_table(found, profiles))


def _detector(found: stage.Inspected, plan: Plan, classes: tuple[str, ...]) -> OnnxDetector:
    """The file as if the plan named it, with the classes of the data in the order of its scores."""
    return OnnxDetector(onnx=Path(os.path.relpath(found.source.resolve(), plan.base)), classes=classes)


def _source(file: Path | None, plan: Plan | None) -> Path:
    detector = None if plan is None else plan.params.onnx
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
