"""Which profiles a plan names: those of this machine, shipped or fitted now, and that of the device the detector is for."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detection.boxes import fit_of, fitted
from detection.data.dataset import Images, Split
from detection.frozen import InputError
from flows.init.looked_at import LookedAt
from flows.measure.calibration_networks import PICTURES, Asked, subjects_of, time_subjects
from flows.progress import Say
from flows.records.formatting import count
from flows.sweep.machine_warnings import mismatch_of
from flows.sweep.params import Plan
from hardware_profiles.estimate.fit.calibration import calibrate
from hardware_profiles.estimate.fit.measurements import read_measurements
from hardware_profiles.schema.library import known_profiles, load_profile
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.environment import cpu_model, digest_of, environment

THIS_MACHINE, FITTED = "this machine", "host-"
"""What `--device` may be besides a profile's name; what names of profiles begin with that were fitted here."""
FEWEST_DRAWS, MOST_DRAWS, SEED = 6, 24, 0
"""Networks drawn from the search space: as many as take MOST_MINUTES in all."""
NAMED = 3
"""Networks besides: the detector, the same from light blocks, a narrow one."""
MOST_MINUTES = 5.0
QUICK = {"rounds": 4, "timed_calls": 16, "end_to_end_calls": 1, "most_repeats": 1, "contention_wait_s": 5.0}
"""How they are timed: a fit averages over networks, so each needs less than files that are compared with one another."""
NETWORK_S, TIMING_S, AREA_PX = 3.0, 1.0, 192 * 256
"""Of a network in one runtime, in float and int8: files and sessions, and calls at this size; on two idle cores of a Zen 4."""


class Devices(NamedTuple):
    """The profiles of a plan by their names."""

    here: tuple[str, ...]
    """Of this machine, one for each runtime."""
    target: str
    """Of the device that the detector is for; it may be one of them."""
    design: str
    """What searches aim at: the target, or the processor next to it where the target takes int8 alone."""
    note: str
    """What is known of the numbers of this machine."""
    own: tuple[str, ...] = ()
    """Those of them that lie in the folder next to the plan: fitted now or earlier, or written by the user."""

    @property
    def fitted(self) -> bool:
        """Whether one of this machine is of its own."""
        return not set(self.own).isdisjoint(self.here)

    def renamed(self, names: Mapping[str, str], note: str) -> Devices:
        """The same with fitted profiles in place of those of this machine."""
        here, target, design = tuple(names.values()), names.get(self.target, self.target), names.get(self.design, self.design)
        return Devices(here, target, design, note, (*here, *(name for name in self.own if name not in names)))


def choices(folder: Path | None = None) -> list[str]:
    """What a target device may be: this machine, a profile in the folder next to the plan, or a shipped one."""
    shipped = known_profiles()
    return [*([THIS_MACHINE] if _here() else []), *(name for name in known_profiles(folder) if name not in shipped), *shipped]


def devices(target: str | None, folder: Path | None = None) -> Devices:
    """The profiles for a target, this machine by default. InputError or ProfileError where there is none.

    A profile of this machine in the folder next to the plan stands in place of the shipped one of its runtime.
    """
    here = _here()
    if not here and target in (None, THIS_MACHINE):
        raise InputError(f"init: no profile of this machine ({platform.machine()}). Name --device: {', '.join(choices(folder))}.")
    aim = load_profile(here[-1] if target is None or target == THIS_MACHINE else target, folder)
    design = aim.id if aim.float_dtype is not None or aim.host_cpu is None else aim.host_cpu
    own = tuple(name for name in (aim.id, design) if name not in known_profiles())
    if aim.id in own and _is_here(aim):
        here = tuple(aim.id if load_profile(name).runtime == aim.runtime else name for name in here)
    others = [name for name in here if mismatch_of(load_profile(name, folder), cpu_model())]
    earlier = f"{aim.id} was fitted earlier" if aim.id in own and aim.id in here else "nothing was measured on this machine"
    known = f"{' and '.join(others)} were fitted on another processor" if others else "its profiles are of such a processor"
    note = f"{earlier}; {known}" if here else "nothing"
    return Devices(here, aim.id, design, note, own)


def _here() -> tuple[str, ...]:
    """The shipped profile of each runtime for this machine, with one thread: fitted on such a processor where there is one."""
    own = [each for each in map(load_profile, known_profiles()) if _is_here(each)]
    own.sort(key=lambda each: (mismatch_of(each, cpu_model()) is None, each.id))
    by_runtime = {each.runtime: each.id for each in own}  # the last of each
    return tuple(by_runtime[runtime] for runtime in sorted(by_runtime))


def _is_here(profile: HardwareProfile) -> bool:
    return profile.kind == "host" and profile.machine == platform.machine() and profile.threads == 1


def draws(input_size: tuple[int, int], profiles: int) -> int:
    """How many networks are drawn; sizes are (height, width)."""
    fitting = (own for own in range(MOST_DRAWS, FEWEST_DRAWS, -1) if _minutes(input_size, profiles, own) <= MOST_MINUTES)
    return next(fitting, FEWEST_DRAWS)


def minutes(input_size: tuple[int, int], profiles: int) -> int:
    """About how long a calibration takes; sizes are (height, width)."""
    return max(1, round(_minutes(input_size, profiles, draws(input_size, profiles))))


def _minutes(input_size: tuple[int, int], profiles: int, drawn: int) -> float:
    network_s = NETWORK_S + TIMING_S * input_size[0] * input_size[1] / AREA_PX
    return profiles * (NAMED + drawn) * network_s / 60


def fit(plan: Plan, looked: LookedAt, names: Mapping[str, str], say: Say) -> dict[str, HardwareProfile]:
    """Every profile by its new name, fitted to times of what the plan asks about, taken here now."""
    size, classes, sweep = plan.params.data.input_size, looked.labelled.classes, plan.params.sweep
    subjects = subjects_of(plan, plan.detector.model_copy(update={"classes": classes}), draws(size, len(names)), SEED)
    asked, made = Asked(plan, subjects, _few(looked, "train", size), _few(looked, "val", size)), {}
    cpu, config = environment()["cpu"] or platform.machine(), plan.params.measure.model_copy(update=QUICK)
    for name, new in names.items():
        start = load_profile(name, plan.profiles_folder)
        with tempfile.TemporaryDirectory(prefix="sixfold-init-") as folder:
            measured = read_measurements(time_subjects([asked], start, Path(folder), config, say), start.runtime)
            found = calibrate(start, measured, f"what the plan {sweep} asks about, kinds left out in turn")
        words = f"{cpu}, {start.runtime}, {count(start.threads, 'thread')}, fitted for {sweep}"
        made[new] = found.model_copy(update={"id": new, "name": words})
    return made


def _few(looked: LookedAt, split: Split, input_size: tuple[int, int]) -> Images:
    """The first pictures of a split, without boxes: the quantizer looks at them, and timing runs on them."""
    own = list(islice(looked.labelled.splits[split], PICTURES))
    return Images(
        split=split,
        pixels=np.stack([fitted(picture.pixels(), input_size) for picture in own]),
        boxes_xyxy_px=(np.empty((0, 4), dtype=np.float32),) * len(own),
        labels=(np.empty(0, dtype=np.int64),) * len(own),
        picture_ids=tuple(range(1, len(own) + 1)),
        fits=tuple(fit_of(picture.size, input_size) for picture in own),
        classes=looked.labelled.classes,
        ground_truth={"images": [dict(zip(("height", "width"), picture.size, strict=True)) for picture in own]},
        digest=digest_of({"pictures": [picture.file_name for picture in own]}),
    )
