"""Networks drawn at random from the search space of a plan, timed here: what a search's estimates are calibrated on.

The cells of a sweep are few architectures with much the same layers; a search asks about thousands of others, most of them
smaller. These have random weights, which cost the same time as trained ones.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compressors.nas import Nas, largest
from compressors.nas.space import search_space
from compressors.quantization import Quantization, quantize
from detection.blueprint import Blueprint
from detection.checkpoint import fresh
from detection.dataset import Images, load_split
from detection.export import export_onnx
from detection.frozen import InputError
from flows.host_rounds import Report, host_rounds
from flows.measure import Measure
from flows.params import load_plan
from flows.workspace import PREPARED
from hardware_profiles.anchors import Measurement, write_measurements
from hardware_profiles.environment import digest_of
from hardware_profiles.measure import File, RoundError
from hardware_profiles.profile import DType, HardwareProfile
from hardware_profiles.runtimes import runtime_version

PICTURES = 8
"""Shown to the quantizer: ranges decide what is computed, not how long it takes."""
MOST_DRAWS = 1000
"""In a row without a new architecture: the space holds hardly more."""


@dataclass(frozen=True)
class DrawnFile:
    """One exported network."""

    path: Path
    dtype: DType
    depths: str
    """Blocks of its stages, the family that is left out of a fit together: widths alone tell less than depths."""


def draw(start: Blueprint, config: Nas, count: int, seed: int) -> tuple[Blueprint, ...]:
    """So many different architectures of the space, the largest of it first; InputError where it holds fewer."""
    blueprint = largest(start, config)
    space = search_space(blueprint.architecture, config.width_shares, config.round_to, config.least_depth)
    chance, options = random.Random(seed), space.options()
    found = [space.largest]
    misses = 0
    while len(found) < count and misses < MOST_DRAWS:
        drawn = space.architecture({name: chance.choice(values) for name, values in options.items()})
        misses = misses + 1 if drawn in found else 0
        found += [] if drawn in found else [drawn]
    if len(found) < count:
        raise InputError(f"--count {count}: the search space holds no more than {len(found)} architectures. Ask for fewer.")
    return tuple(blueprint.model_copy(update={"architecture": architecture}) for architecture in found[:count])


def write_files(
    blueprints: Sequence[Blueprint], runtime: str, train: Images, val: Images, folder: Path, say: Report = print
) -> tuple[DrawnFile, ...]:
    """Each network with random weights as a float file and as the runtime's int8 file, below folder."""
    files: list[DrawnFile] = []
    config = Quantization(calibrator="minmax", pictures=PICTURES)
    for index, blueprint in enumerate(blueprints):
        detector = fresh(blueprint, seed=index)
        depths = "depths " + "-".join(map(str, blueprint.architecture.stage_depths))
        own = folder / f"{index:03d}"
        own.mkdir(parents=True, exist_ok=True)
        export_onnx(detector, own / "float.onnx")
        size = blueprint.input_size
        packed = quantize(detector, config, runtime, train.at(size), val.at(size), index, _made(own / runtime))
        files += [DrawnFile(own / "float.onnx", "fp32", depths), DrawnFile(packed.file, "int8", depths)]
        say(f"anchors: {index + 1} of {len(blueprints)} networks written for {runtime}")
    return tuple(files)


def time_files(
    files: Sequence[DrawnFile], profile: HardwareProfile, images: Images, config: Measure, say: Report = print
) -> tuple[float, ...]:
    """Seconds of each file: the median over fresh pinned processes; RoundError where one could not be timed."""
    jobs = tuple(File(digest=digest_of({"path": str(file.path)}), path=str(file.path)) for file in files)
    rounds = host_rounds([profile], {profile.id: jobs}, images, config, say)[profile.id]
    if rounds.why is not None:
        raise RoundError(f"{profile.id}: {rounds.why}")
    seconds = []
    for job in jobs:
        medians_s = [block.p50_s for block in rounds.blocks(job.digest)]
        if any(median_s is None for median_s in medians_s):
            raise RoundError(f"{job.path}: {next(block.error for block in rounds.blocks(job.digest) if block.error)}")
        seconds.append(statistics.median(median_s for median_s in medians_s if median_s is not None))
    return tuple(seconds)


def write_anchors(
    run: Path, profile: HardwareProfile, folder: Path, count: int, seed: int, rounds: int, say: Report = print
) -> Path:
    """The table that `sixfold profiles calibrate` reads, beside the files it names; the search space is that of the run's plan."""
    plan = load_plan(run / "params.yaml")
    if not plan.params.grid.methods.nas:
        raise InputError(f"{run / 'params.yaml'}: grid.methods.nas is empty, so there is no search space to draw from.")
    train, val = (load_split(run / PREPARED, split) for split in ("train", "val"))
    start = Blueprint(classes=train.classes, input_size=plan.params.data.input_size, architecture=plan.params.teacher.architecture)
    blueprints = draw(start, plan.params.grid.methods.nas[0], count, seed)
    files = write_files(blueprints, profile.runtime, train, val, folder / profile.runtime, say)
    config = plan.params.measure.model_copy(update={"rounds": rounds, "seed": seed})
    seconds = time_files(files, profile, val, config, say)
    path = folder / f"{profile.id}.csv"
    version = runtime_version(profile.runtime)
    timed = (
        Measurement(file.path.relative_to(folder), file.dtype, latency_s, file.depths, profile.threads, version)
        for file, latency_s in zip(files, seconds, strict=True)
    )
    write_measurements(timed, path)
    return path


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder
