"""The command `init`: look at data, detector and machine, decide, and write a plan that says why."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

from detection.data.archives import ENDINGS
from detection.frozen import InputError
from flows.init.detectors import brought
from flows.init.devices import FITTED, Devices, choices, devices, fit, minutes
from flows.init.looked_at import SEED, LookedAt, look, without_training
from flows.init.plan_text import plan_text
from flows.init.settings import Setting, decide, flow
from flows.progress import Say
from flows.records.files import write_text
from flows.sweep.params import parse_plan
from flows.sweep.plan_checks import check_plan
from flows.sweep.workspace import require_place, whole_run
from hardware_profiles.schema.authoring import text_of
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.environment import environment

PLANS, PROFILES = Path("plans"), "profiles"
Choose = Callable[[list[str]], str]
Agree = Callable[[int], bool]


def init(
    data: Path, *, detector: Path | None, device: str | None, out: Path | None, calibrate: bool | None, force: bool, say: Say,
    choose: Choose | None, agree: Agree | None,
) -> None:  # fmt: skip
    """Write the plan, once everything is settled, and say what was seen, what was decided and why, and what to do next.

    `choose` picks the target among names, `agree` says whether this machine may be timed for this many minutes; both are None where
    nobody can be asked. InputError, and nothing written, where something does not fit.
    """
    name = re.sub(f"({'|'.join(map(re.escape, ENDINGS))})$", "", data.resolve().name)
    path = out or (PLANS if PLANS.is_dir() else Path()) / f"{_slug(name)}.yaml"
    sweep, own_profiles = _slug(path.stem), path.parent / PROFILES
    require_place(path)
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder for the plan. Make it, or name another with --out.")
    _refuse_present(path, force)
    looked = look(data, path.resolve().parent)
    if detector and detector.is_file():
        looked = without_training(looked, path.resolve().parent)
    for line in (*looked.sentences(), *looked.labelled.notes):
        say(line)
    own = brought(detector, looked, path.resolve().parent) if detector else None
    is_file = own is not None and own.is_file
    if is_file and calibrate:
        raise InputError("init: --calibrate times what searches may find, and in an ONNX file nothing is searched. Leave it out.")
    folder = own_profiles if own_profiles.is_dir() else None
    profiles = devices(device or (choose(choices(folder)) if choose else None), folder)
    made = decide(looked, own, None if "int8" in load_profile(profiles.design, folder).dtypes else profiles.design)
    for setting in made:
        if setting.reason:
            say(f"{setting.name}: {setting.value} ({setting.reason})")

    def text() -> str:
        return plan_text(_header(data, looked, profiles), [*_start(path, sweep), *made, *_end(profiles)])

    plan = parse_plan(path, text())
    if not is_file:  # how a file is read is found by `sixfold inspect`, and checked there
        check_plan(path, plan)
        took = minutes(plan.params.data.input_size, len(profiles.here))
        if profiles.here and (calibrate or (calibrate is None and agree is not None and agree(took))):
            names = {name: f"{FITTED}{sweep}-{load_profile(name, folder).runtime}-1t" for name in profiles.here}
            for new in names.values():
                _refuse_present(own_profiles / f"{new}.yaml", force)
            say(f"timing this machine: about {took} minutes, longer with busy neighbours")
            made_here = fit(plan, looked, names, say)
            for new, profile in made_here.items():
                about = f"Numbers of {profile.name}, from times that `sixfold init` took on {date.today()}."
                say(f"fitted: {write_text(own_profiles / f'{new}.yaml', text_of(profile, about))}")
            profiles = profiles.renamed(names, "; ".join(map(_fitted, made_here.values())))
            check_plan(path, parse_plan(path, text()))
    aim = "the target" if profiles.design == profiles.target else f"the processor next to {profiles.target}"
    say(f"grid.design_profile: {profiles.design} ({aim}; {profiles.note})")
    say(f"plan: {write_text(path, text())}")
    inspect = f"`sixfold inspect --params {path} --write`, then " if is_file else ""
    say(f"Next: {inspect}{whole_run(path)}")


def _fitted(profile: HardwareProfile) -> str:
    """What was measured, and how good the fit is."""
    calibrations = {"fp32": profile.calibration.fp32, "int8": profile.calibration.int8}
    errors = [f"{own.leave_one_out_mape:.1%} of {own.networks} in {dtype}" for dtype, own in calibrations.items() if own]
    return f"{profile.id} was fitted on this machine on {date.today()}, error for networks left out: {', '.join(errors)}"


def _refuse_present(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise InputError(f"{path}: there already. Name another plan with --out, or let --force replace it.")


def _header(data: Path, looked: LookedAt, profiles: Devices) -> list[str]:
    about = environment()
    machine = f"{about['cpu'] or about['machine']} ({about['cpu_model'] or 'model unknown'})"
    return [
        f"Written by `sixfold init {data}` on {date.today()}, on {machine}. Change what you like; docs/methods.md explains it.",
        f"Looked at: {'; '.join(looked.sentences())}.",
        f"Measured: {profiles.note}{'' if profiles.fitted else '; `sixfold init --calibrate` does it in some minutes'}.",
    ]


def _start(path: Path, sweep: str) -> list[Setting]:
    """A checkout's plans, in a folder of their own, share one store."""
    store = "../.sixfold/store" if path.resolve().parent.name == PLANS.name else ".sixfold/store"
    name = flow(sweep)  # quoted where it looks like a number
    shared = {"sweep": name, "seed": str(SEED), "device": "auto", "threads": "1", "store": f"{{url: {store}}}", "data.name": name}
    return [Setting(name, value) for name, value in shared.items()]


def _end(profiles: Devices) -> list[Setting]:
    known_by = "fitted on this machine" if profiles.design in profiles.own else "not fitted on this machine, see above"
    aims = f"what searches aim at, by estimates{f'; {known_by}' if profiles.design in profiles.here else ''}"
    known = dict.fromkeys((*profiles.here, profiles.target))
    folder = [Setting("measure.profiles_folder", PROFILES)] if profiles.own else []
    return [
        Setting("grid.runtimes", "[onnxruntime, openvino]"),
        Setting("grid.design_profile", profiles.design, aims),
        *folder,
        Setting("measure.profiles", flow(list(known))),
        Setting("report.max_drop", "0.02", "shares of 1: two points of val mAP may be lost"),
    ]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "mine"
