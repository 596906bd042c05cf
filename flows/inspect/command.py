"""The command `inspect`: everything in the order in which one wants to know it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from detection.frozen import InputError
from flows.inspect import stage
from flows.inspect.plan_text import settings_of, with_settings
from flows.progress import Say
from flows.records.files import write_text
from flows.sweep.params import Plan, read_plan
from flows.sweep.settings import Measure
from hardware_profiles.schema.library import load_profile

PrintTable = Callable[[Sequence[str], Sequence[Sequence[str]]], None]


def inspect(
    file: Path | None, params: Path | None, size: tuple[int, int] | None, write: bool, say: Say, table: PrintTable
) -> None:
    """Say what the file is; with a plan, also how it is fed and read. InputError where there is nothing to say."""
    plan = None if params is None else read_plan(params)
    source = _source(file, plan)
    input_size = size or (None if plan is None else plan.params.data.input_size)
    found = stage.inspect_file(source, input_size)
    for line in stage.about(found):
        say(line)
    table(*stage.operators_table(found))
    measure = Measure() if plan is None else plan.params.measure
    own = None if plan is None else plan.profiles_folder
    table(*stage.estimates_table(found, [load_profile(name, own) for name in measure.profiles]))
    if plan is None or params is None or plan.params.detector is None:
        say("Next: a plan with labelled pictures and a `detector` section: `sixfold inspect --params PLAN` says how it is fed.")
        return
    choice = stage.chosen_on_val(found, plan, plan.params.detector)
    table(*stage.reading_table(choice))
    table(*stage.feeding_table(choice))
    for line in stage.conclusions(choice):
        say(line)
    say(f"val: mAP {choice.map_50_95:.3f}, mAP50 {choice.map_50:.3f}")
    settings, resize = settings_of(plan.params.detector, choice), choice.fed[0][0].resize
    if write:
        write_text(params, with_settings(plan.text, settings, resize))
        say(f"written: {params}\nNext: `sixfold prepare`, then `sixfold teacher`.")
        return
    say(yaml.safe_dump({"data": {"resize": resize}, "detector": settings}, sort_keys=False, default_flow_style=None))
    say(f"Next: put that into {params}, or let `--write` do it; then `sixfold prepare`.")


def _source(file: Path | None, plan: Plan | None) -> Path:
    if file is not None:
        return file
    if plan is None or plan.params.detector is None:
        raise InputError("inspect: the plan has no `detector` section, so name an ONNX file.")
    return plan.base / plan.params.detector.onnx
