"""What `sixfold inspect` says: answers in a sentence each, then tables."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

from detection.file_interface.declaration import Decoding
from flows.inspect.choose import Axis, Choice, Read
from flows.inspect.feeding import DECLARED
from flows.inspect.search import Tried
from flows.inspect.stage import Inspected
from flows.records.formatting import leaves
from flows.stats.map_bootstrap import Difference
from hardware_profiles.estimate.model import Operator, Roofline, cannot_run, estimate, unfitted_share
from hardware_profiles.schema.profile import HardwareProfile

NOT_TOLD = "val does not tell"
LEAST_GAIN = 1.1
"""Times faster than float that int8 has to be estimated to be worth trying: estimates are known to some ten percent at best."""
Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]
"""Heads and lines."""


def int8_answer(found: Inspected) -> str:
    """What int8 can reach."""
    if found.graph is None:
        return f"what int8 reaches is not known, since multiply-adds are not counted: {found.why_not_counted}"
    macs = sum(operator.macs for operator in found.graph.operators)
    reached = sum(operator.macs for operator in _as_int8(found) if operator.quantized)
    weights = sum(operator.weight_elements for operator in found.graph.operators)  # those of a shared head once for each use
    left = f"; {len(found.float_nodes)} nodes from {found.float_nodes[0]} on stay float" if found.float_nodes else ""
    return (
        f"int8 reaches {reached / max(1, macs):.0%} of the multiply-adds (of {2 * macs / 1e9:.2f} GFLOP a picture, "
        f"{weights / 1e6:.2f} M weights read){left}"
    )


def int8_gains(found: Inspected, profiles: Sequence[HardwareProfile]) -> Iterator[str]:
    """A line for each device on which int8 is hardly worth its loss of accuracy, before hours are spent on it."""
    for profile in profiles if found.graph else ():
        float_s, int8_s = (_estimated_s(own, profile) for own in (_as_int8(found, quantized=False), _as_int8(found)))
        if float_s and int8_s and float_s < LEAST_GAIN * int8_s:
            than = "slower than" if float_s < int8_s else "hardly faster than"
            yield (
                f"int8 does not pay on {profile.id}: estimated {than} float, {int8_s * 1e3:.3g} ms against {float_s * 1e3:.3g}. "
                f"Plan `quantization: [{{precision: float16}}]` for a smaller file, or fewer multiply-adds by the other methods"
            )


def choice_answer(choice: Choice) -> Iterator[str]:
    """How the file is used and how well that does, then what labels do not tell and what the plan has otherwise."""
    reached = f"mAP {choice.accuracy.map_50_95:.3f}, mAP50 {choice.accuracy.map_50:.3f} on {choice.pictures} pictures of val"
    preset = "as the plan declares" if choice.preset == DECLARED else f"as {choice.preset}"
    yield f"read {preset}, fed as {choice.feeding}: {reached}"
    for axis in choice.axes:
        kept = "stays, as in the plan or by default" if axis.value == axis.planned else f"is taken, not {axis.planned}"
        if not axis.decided:
            told = f"{axis.other}: mAP {_points(axis.difference)}" if axis.matters else "nothing changes on these pictures"
            yield f"{not_told([axis])} ({told}); {axis.value} {kept}: decide yourself"
        elif axis.value != axis.planned:
            yield f"{axis.name}: clearly {axis.value}, not {axis.planned} as in the plan or by default"
    if choice.beaten:
        yield f"decode: what the plan declares finds less, mAP {_points(choice.beaten.difference)}"
    for rival in choice.rivals:
        other = differences(rival.decoding, choice.decoding)
        stays = "what the plan declares stays" if choice.as_declared else "decide yourself"
        yield f"decode: val does not tell {rival.preset} with {other} from what is taken (mAP {_points(rival.difference)}): {stays}"
    for name, other in choice.mistaken.items():
        yield f"classes: {name} is mostly found as {other}: are `detector.classes` in the order of the file's scores?"


def not_told(axes: Sequence[Axis]) -> str:
    """What val leaves open of these parts of the feeding; nothing where all are decided."""
    open_parts = [f"{own.name} {own.value} from {own.other}" for own in axes if not own.decided]
    return f"{NOT_TOLD} {', '.join(open_parts)}" if open_parts else ""


def about(found: Inspected) -> Iterator[str]:
    """What the file is, in lines."""
    own = found.signature
    height_px, width_px = own.input_size
    yield f"{found.source}: ONNX, operator set {found.opset}"
    yield f"input {own.input_name}: {own.dtype}, {height_px} x {width_px} (height x width), {own.channels} channels, {own.layout}"
    yield from (f"output {name}: {' x '.join(map(str, shape))}" for name, shape in found.shapes.items())
    yield from (f"changed so that every runtime opens it: {change}" for change in found.changes)
    yield from found.remarks


def operators_table(found: Inspected, profile: HardwareProfile) -> Table:
    """Where the work is: operators by type, most multiply-adds first, and what share of the time each is estimated to take."""
    operators = found.graph.operators if found.graph else ()
    counts, macs, took_s = Counter[str](), Counter[str](), Counter[str]()
    seconds = [0.0] * len(operators) if cannot_run(operators, profile) else Roofline(operators, profile).seconds().tolist()
    for operator, own_s in zip(operators, seconds, strict=True):
        name = operator.kind if operator.kind != "other" else operator.op_type
        counts[name] += 1
        macs[name] += operator.macs
        took_s[name] += own_s
    shares = [{name: f"{own[name] / (sum(own.values()) or 1):.0%}" for name in counts} for own in (macs, took_s)]
    ranked = sorted(counts, key=lambda name: (-macs[name], -took_s[name]))
    lines = [(name, str(counts[name]), f"{macs[name] / 1e6:.1f}", *(own[name] for own in shares)) for name in ranked]
    return ("operator", "count", "M multiply-adds", "share", f"estimated share of time on {profile.id}, float"), lines


def estimates_table(found: Inspected, profiles: Sequence[HardwareProfile]) -> Table:
    """Estimated latency per device, in float and as if quantized, and what of it no profile was fitted on."""
    lines = []
    for profile in profiles if found.graph else ():
        float_s, int8_s = (_estimated_s(own, profile) for own in (_as_int8(found, quantized=False), _as_int8(found)))
        ratio = f"{float_s / int8_s:.1f}x" if float_s and int8_s else "-"
        not_fitted = f"{unfitted_share(_as_int8(found, quantized=False), profile):.0%}" if float_s else "-"
        lines.append((profile.id, *("-" if own is None else f"{own * 1e3:.3g}" for own in (float_s, int8_s)), ratio, not_fitted))
    return ("estimated on", "float ms", "int8 ms", "float / int8", "of float not fitted"), lines


def reading_table(read: Sequence[Read], chosen: Decoding | None = None) -> Table:
    """Ways of reading the outputs, best first, those that values contradict last and counted."""
    lines, contradicted = [], Counter((own.preset, own.why_not) for own in read if own.why_not)
    for own in read:
        if not own.why_not:
            other = "taken" if own.decoding == chosen else differences(own.decoding, chosen)
            lines.append((own.preset, *_reached(own.tried), other))
    lines += [(preset, *_reached(None), f"{count} ways: {why}") for (preset, why), count in contradicted.items()]
    return ("read as", "mAP, fed best", "pictures", "how it differs, or what values contradict it"), lines


def feeding_table(choice: Choice) -> Table:
    """Ways of feeding the file, best first."""
    lines = [(*map(str, feeding[:3]), *_reached(tried)) for feeding, tried in choice.fed]
    return ("numbers", "colour", "resize", "mAP", "pictures"), lines


def axes_table(choice: Choice) -> Table:
    """Each part of the feeding against the best of its other values."""
    lines = [(own.name, own.value, own.other, _points(own.difference)) for own in choice.axes]
    return ("part", "taken", "next best", "mAP of that against the one taken"), lines


def differences(ours: Decoding, theirs: Decoding | None) -> str:
    """The settings of the first that the second has not, as a plan would write them."""
    own, other = (dict(leaves(it.model_dump(mode="json", exclude_none=True))) if it else {} for it in (ours, theirs))
    return ", ".join(f"{name} {value}" for name, value in own.items() if other.get(name, "absent") != value) or "fewer settings"


def _estimated_s(operators: Sequence[Operator], profile: HardwareProfile) -> float | None:
    return None if cannot_run(operators, profile) else estimate(operators, profile).point_s


def _as_int8(found: Inspected, *, quantized: bool = True) -> tuple[Operator, ...]:
    """The operators as if quantized, all but the float tail; or as they are."""
    steps = found.graph.steps if found.graph else ()
    in_int8 = [quantized and not found.float_tensors & set(step.writes) for step in steps]
    return tuple(dataclasses.replace(step.operator, quantized=own) for step, own in zip(steps, in_int8, strict=True))


def _reached(tried: Tried | None) -> tuple[str, str]:
    return ("-", "-") if tried is None or not tried.pictures else (f"{tried.map_50_95:.3f}", str(tried.pictures))


def _points(difference: Difference) -> str:
    mean, low, high = (100 * own for own in (difference.mean, difference.low, difference.high))
    return f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]"
