"""What `sixfold inspect` says of a network that others wrote: do its functions keep their promises, and what can be changed?"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import nn

from compressors.channels.narrowable import narrowable
from detection.brought import NetworkDetector
from detection.checkpoint import fresh
from detection.costs import count_macs, count_params
from detection.data.dataset import load_split
from detection.export import export_onnx
from detection.family import family_of
from detection.frozen import InputError, some_of
from detection.spec import Spec
from detection.testing import check_family
from flows.inspect import stage, tables
from flows.inspect.int8_timing import int8_timings
from flows.progress import PrintTable, Say
from flows.sweep.given_network import network_spec, read_network
from flows.sweep.params import Plan
from flows.sweep.workspace import PREPARED
from hardware_profiles.schema.library import load_profile

PICTURES = 8
"""Of train, on which the promises are checked."""


def inspect_network(plan: Plan, asked: NetworkDetector, say: Say, table: PrintTable) -> None:
    """Say what was read, check it on a few prepared pictures, then tell what it costs; InputError with every broken promise."""
    train = load_split(PREPARED, "train")
    images = train.taking(np.arange(min(PICTURES, len(train))))
    size = plan.params.data.input_size
    spec = network_spec(asked, plan.base, size, images.classes)
    about = family_of(spec).about
    for line in () if about is None else about(spec):
        say(line)
    try:
        claims = check_family(spec, images)
    except ValueError as error:
        raise InputError(f"{asked.label()}: {error}") from error
    say(f"{asked.label()}: {len(claims)} of {len(claims)} claims hold on {len(images)} pictures of train")
    if read_network(asked, plan.base, size, images.classes) is not None:
        say("its trained weights fit")
    say(f"{count_params(spec) / 1e6:.2f} M parameters, {2 * count_macs(spec) / 1e9:.2f} GFLOP at {size[0]} x {size[1]}")
    for line in (*_narrowing(spec), *_reductions(spec)):
        say(line)
    with tempfile.TemporaryDirectory(prefix="sixfold-inspect-") as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(fresh(spec, 0), path)
        found = stage.inspect_file(path, size)
    say(tables.int8_answer(found))
    shown = [images.pixels[row] for row in range(len(images))]
    for timing in int8_timings(fresh(spec, 0), shown, plan.params.grid.runtimes, plan.params.threads):
        say(timing.sentence())
    profiles = [load_profile(name, plan.profiles_folder) for name in plan.params.measure.profiles]
    for line in tables.int8_gains(found, profiles):
        say(line)
    table(*tables.operators_table(found, profiles[0]))
    table(*tables.estimates_table(found, profiles))
    say(f"Next: {plan.command('plan')} says what a run will make, and how long that takes.")


def _reductions(spec: Spec) -> Iterator[str]:
    """Which numbers of its settings a search may take smaller."""
    reducible = family_of(spec).reducible
    for name, own in () if reducible is None else reducible(spec, (1.0,)).items():
        yield f"nas may give it fewer {name.replace('_', ' ')} than its {own.options[-1]}, with the weights that it has"


def _narrowing(spec: Spec) -> Iterator[str]:
    """How many layers can be narrowed, and why the others stay."""
    network = fresh(spec, 0).network()
    groups = narrowable(spec)
    narrow = {side.layer for group in groups.narrow for side in group.sides if side.end == "outputs"}
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    known = {name for name, _ in (*network.named_modules(), *network.named_parameters())}
    protected = set(family_of(spec).protected(network))
    yield f"{len([name for name in layers if name in narrow])} of {len(layers)} convolutions and linear layers can be narrowed"
    whole: dict[str, list[str]] = {"`protected` names them": sorted(protected)}
    for name, reason in groups.whole.items():
        if name in layers:
            layer, _, rest = reason.partition(": ")
            whole.setdefault(rest if layer in known else reason, []).append(name)
    for reason, names in whole.items():
        yield f"{len(names)} stay, {some_of(names)}: {reason}"
