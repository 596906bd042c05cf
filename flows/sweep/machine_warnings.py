"""What to say before a plan runs on a machine that it does not fit."""

from __future__ import annotations

from flows.sweep.context import choose_device
from flows.sweep.params import Plan
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.environment import cpu_flags, cpu_model

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Features of processors that multiply bfloat16 by instructions of their own; others convert every number there and back."""


def machine_warnings(plan: Plan) -> tuple[str, ...]:
    """A sentence per thing that makes the plan slow, or its search aim elsewhere, on this machine."""
    return tuple(filter(None, (processor_mismatch(plan), _slow_precision(plan))))


def processor_mismatch(plan: Plan) -> str | None:
    """The warning of `mismatch_of` for this machine and a plan that asks its design profile anything, or None."""
    asked = any(config.asks_design_profile for cell in plan.cells for config in cell.configs)
    if not asked and not any(own.kind == "narrow" and own.like for own in plan.params.grid.references or ()):
        return None
    return mismatch_of(plan.design_profile, cpu_model())


def mismatch_of(profile: HardwareProfile, here: str | None) -> str | None:
    """What to say before anything is searched for by a host profile that was fitted on another processor than this one, or None."""
    calibrations = (profile.calibration.fp32, profile.calibration.int8)
    others = {own.cpu for own in calibrations if own is not None and own.cpu and here and _kind(own.cpu) != _kind(here)}
    if profile.kind != "host" or not others:
        return None
    return (
        f"grid.design_profile: {profile.id} was fitted on another processor ({', '.join(sorted(others))}) than this one ({here}): "
        f"what is searched for will be fast there, and here perhaps not. `sixfold profiles benchmark {profile.id}` times here what "
        f"the plan asks about; `calibrate` then fits a profile to it."
    )


def _kind(cpu: str) -> str:
    """Without the last step of a revision, of x86 and of Arm, in which times do not differ."""
    return cpu.partition(" stepping")[0].partition(" CPU revision")[0]


def _slow_precision(plan: Plan) -> str | None:
    """The warning of bfloat16 on a processor known to have no instructions for it, or None."""
    recipes = {"teacher.training": plan.params.teacher.training, "grid.recovery": plan.params.grid.recovery}
    asked, flags = [name for name, recipe in recipes.items() if recipe.precision == "bfloat16"], cpu_flags()
    if not asked or not flags or flags & BFLOAT16_FLAGS or choose_device(plan.params.device).type != "cpu":
        return None
    settings = " and ".join(f"{name}.precision" for name in asked)
    return (
        f"{settings}: bfloat16, but this processor has no instructions for it ({', '.join(sorted(BFLOAT16_FLAGS))}: none of them): "
        f"training was 8 times slower on such a one than with float32. Set float32; weights and node keys are then others."
    )
