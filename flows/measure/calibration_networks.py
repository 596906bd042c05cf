"""Networks that plans ask about, timed here before anything is trained: what a design profile is calibrated on.

A plan's detector, the same from light blocks and narrow, and networks drawn at random from the spaces that its searches look
through: the cells of a sweep are few architectures with much the same layers, a search asks about thousands of others.
All have random weights, which cost the same time as trained ones.
"""

from __future__ import annotations

import contextlib
import io
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compressors.lightweight import light_spec
from compressors.nas import Nas, space_to_search
from compressors.planning.references import NarrowReference, narrowed
from compressors.quantization import Quantization, quantize
from detection.checkpoint import fresh
from detection.data.dataset import Images, load_split
from detection.export import export_onnx
from detection.frozen import InputError
from detection.spec import Spec
from flows.measure.host import host_rounds, why_not_here
from flows.progress import Say, steps
from flows.sweep.context import lay_foundation
from flows.sweep.params import Plan
from flows.sweep.plan_checks import load_plan
from flows.sweep.settings import Measure
from flows.sweep.workspace import PREPARED
from hardware_profiles.estimate.fit.measurements import Measurement, write_measurements
from hardware_profiles.runtimes.table import runtime_version
from hardware_profiles.schema.profile import MIN_MEASURED, DType, HardwareProfile
from hardware_profiles.timing.environment import cpu_model, digest_of
from hardware_profiles.timing.round import File, RoundError

PICTURES = 8
"""Shown to the quantizer: ranges decide what is computed, not how long it takes."""
MOST_DRAWS = 1000
"""In a row without a new architecture: the space holds hardly more."""
DEPTHS = ("depth_", "block_")
"""What the names of decisions begin with that make a family: networks of other depths."""
SPREAD = 0.3
"""About a network's size, as a share of a decision's options."""


@dataclass(frozen=True)
class Subject:
    """One network that a plan asks about."""

    spec: Spec
    family: str
    """What is left out of a fit together: one kind of network of one plan, of drawn ones those with the same depths, since widths
    alone tell less than depths."""


@dataclass(frozen=True)
class Asked:
    """What one plan asks about, and the pictures that the quantizer and the timing see."""

    plan: Plan
    subjects: tuple[Subject, ...]
    train: Images
    val: Images


@dataclass(frozen=True)
class SubjectFile:
    """One exported network."""

    path: Path
    dtype: DType
    family: str


def subjects_of(plan: Plan, start: Spec, draws: int, seed: int) -> tuple[Subject, ...]:
    """What a plan asks about, none twice: its detector, light and narrow ones, and `draws` networks of its search spaces."""
    named = [("as it is", start)]
    named += [(f"light {config.block}", light_spec(start, config)) for config in plan.menu.lightweight]
    shares = [own.width_share for own in plan.params.grid.references or () if isinstance(own, NarrowReference)]
    named += [("narrow", narrowed(start, share)) for share in shares if share is not None]
    searched = [(space_to_search(start, config), config) for config in plan.menu.nas]  # many differ in their budgets alone
    spaces = {f"{space.largest.model_dump_json()} {space.options()}": config for space, config in searched}
    for index, config in enumerate(spaces.values()):
        count = draws // len(spaces) + (index < draws % len(spaces))
        named += draw(start, config, count, seed)
    first: dict[str, Subject] = {}
    for family, spec in named:
        first.setdefault(spec.model_dump_json(), Subject(spec, f"{plan.params.sweep} {family}"))
    return tuple(first.values())


def draw(start: Spec, config: Nas, count: int, seed: int) -> list[tuple[str, Spec]]:
    """The first `count` networks of a search's space, each with its family, the largest first; fewer where it holds fewer.

    Each has a size of its own, about which its decisions are drawn: independent draws of many decisions would all be of one size.
    """
    space = space_to_search(start, config)
    chance, options = random.Random(seed), space.options()
    depths = [name for name in options if name.startswith(DEPTHS)]
    found: list[dict[str, int]] = [{name: values[-1] for name, values in options.items()}]
    misses = 0
    while len(found) < count and misses < MOST_DRAWS:
        size = chance.random()
        drawn = {name: _near(size, values, chance) for name, values in options.items()}
        misses = misses + 1 if drawn in found else 0
        found += [] if drawn in found else [drawn]
    return [("depths " + "-".join(str(choice[name]) for name in depths), space.spec(choice)) for choice in found[:count]]


def _near(size: float, options: Sequence[int], chance: random.Random) -> int:
    """An option at about this share of them."""
    place = (size + chance.uniform(-SPREAD, SPREAD)) * len(options)
    return options[min(len(options) - 1, max(0, int(place)))]


def write_files(
    subjects: Sequence[Subject], profile: HardwareProfile, train: Images, val: Images, folder: Path
) -> tuple[SubjectFile, ...]:
    """Each network with random weights in every type that the profile computes in, below folder."""
    files: list[SubjectFile] = []
    config = Quantization(calibrator="minmax", pictures=PICTURES)
    for index, subject in enumerate(steps(subjects, len(subjects), f"write for {profile.runtime}", "networks")):
        detector = fresh(subject.spec, seed=index)
        own = folder / f"{index:03d}"
        own.mkdir(parents=True, exist_ok=True)
        if profile.float_dtype is not None:
            export_onnx(detector, own / "float.onnx")
            files.append(SubjectFile(own / "float.onnx", profile.float_dtype, subject.family))
        if "int8" in profile.dtypes:
            size = subject.spec.input_size
            (own / profile.runtime).mkdir(exist_ok=True)
            with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws bars of its own
                packed = quantize(detector, config, profile.runtime, train.at(size), val.at(size), index, own / profile.runtime)
            files.append(SubjectFile(packed.file, "int8", subject.family))
    return tuple(files)


def time_files(
    files: Sequence[SubjectFile], profile: HardwareProfile, images: Images, config: Measure, say: Say = print
) -> tuple[float, ...]:
    """Seconds of each file: the median over fresh pinned processes, of those without contention where there are such.

    RoundError where one could not be timed. Unlike cells, these are not compared with one another round by round.
    """
    jobs = tuple(File(digest=digest_of({"path": str(file.path)}), path=str(file.path)) for file in files)
    rounds = host_rounds([profile], {profile.id: jobs}, images, config, say)[profile.id]
    if rounds.why is not None:
        raise RoundError(f"{profile.id}: {rounds.why}")
    seconds = []
    for job in jobs:
        blocks = rounds.blocks(job.digest)
        broken = next((block.error for block in blocks if block.error), None)
        if broken:
            raise RoundError(f"{job.path}: {broken}")
        quiet = [block for block in blocks if not block.contended] or blocks
        seconds.append(statistics.median(block.p50_s for block in quiet if block.p50_s is not None))
    return tuple(seconds)


def benchmark_networks(
    params_files: Sequence[Path], profile: HardwareProfile, folder: Path, draws: int, seed: int, rounds: int, say: Say = print
) -> Path:
    """The table that `sixfold profiles calibrate` reads, beside the files it names, of what these plans ask about.

    Each plan's data is prepared beside its params file. All are timed together, with pictures and settings of the first plan.
    InputError, before anything is written, where a plan or this machine cannot give what is asked for.
    """
    _check_here(profile)
    plans = [load_plan(path) for path in params_files]
    places = [path.parent / PREPARED for path in params_files]
    kinds = [subjects_of(plan, lay_foundation(plan, place).teacher, draws, seed) for plan, place in zip(plans, places, strict=True)]
    asked = [
        Asked(plan, own, load_split(place, "train"), load_split(place, "val"))
        for plan, place, own in zip(plans, places, kinds, strict=True)
    ]
    names = [plan.params.sweep for plan in plans]
    if len(set(names)) < len(names):
        raise InputError(f"--params: two plans name the same sweep ({', '.join(names)}); give each once.")
    networks = sum(len(own.subjects) for own in asked)
    if networks < MIN_MEASURED:
        raise InputError(
            f"--count {draws}: {networks} different networks in all; a fit needs {MIN_MEASURED}. Ask for more, or name more plans."
        )
    config = plans[0].params.measure.model_copy(update={"rounds": rounds, "seed": seed})
    return time_subjects(asked, profile, folder, config, say)


def time_subjects(asked: Sequence[Asked], profile: HardwareProfile, folder: Path, config: Measure, say: Say = print) -> Path:
    """The table of these networks, beside the files it names; InputError where this machine cannot time the profile."""
    _check_here(profile)
    table = folder / f"{profile.id}.csv"
    table.unlink(missing_ok=True)  # it would name files that are no longer those it was timed with
    files: list[SubjectFile] = []
    for own in asked:
        files += write_files(own.subjects, profile, own.train, own.val, folder / profile.id / own.plan.params.sweep)
    seconds = time_files(files, profile, asked[0].val, config, say)
    version, cpu = runtime_version(profile.runtime), cpu_model()
    timed = (
        Measurement(file.path.relative_to(folder), file.dtype, latency_s, file.family, profile.threads, version, cpu)
        for file, latency_s in zip(files, seconds, strict=True)
    )
    write_measurements(timed, table)
    return table


def _check_here(profile: HardwareProfile) -> None:
    if why := why_not_here(profile):
        raise InputError(f"{profile.id}: cannot be timed here: {why}.")
