"""What a plan sets for the data, the detector and the machine at hand, each setting with its reason."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import numpy as np
import yaml

from detection.data.sources import Data
from flows.init.looked_at import LookedAt
from flows.sweep.machine_warnings import BFLOAT16_FLAGS
from hardware_profiles.timing.environment import cores_here, cpu_flags

STEP_PX, SHORTEST_PX, LONGEST_PX = 32, 96, 640
"""Sides are multiples of the coarsest stride; the longer one lies between these."""
LEAST_SIDE_PX, LARGE_SHARE = 24, 0.9
"""Nine tenths of the boxes are to be three cells of the finest level (8 px) wide: the rule gives 192 x 256 for plans/bccd.yaml,
which was found by hand. In params.yaml a tenth of the boxes is below 22 px."""
PICTURES_SHOWN, FEWEST_EPOCHS, MOST_EPOCHS = 12_000, 5, 120
"""Pictures that a training sees in all: 60 epochs of 205 in plans/bccd.yaml. Bounds of the epochs."""
FEW_PICTURES = 300
"""Up to here batches of 4 and their rate, as in plans/bccd.yaml; beyond it of 8, as in params.yaml."""
SMALL_SET = 500
"""Training pictures up to which weights to start from are advised, and mosaics where there are none: with 236 they gave 13 and 6
points of test mAP, together no more than the weights alone (docs/your-data.md). More pictures were not tried."""
ARCHITECTURE = "{stem_width: 16, stage_widths: [32, 64, 128, 256], stage_depths: [1, 2, 2, 2], neck_width: 64, head_width: 64}"
"""Of plans/bccd.yaml."""
NUMBERS = "zero|one|two|three|four|five|six|seven|eight|nine|ten"
HANDED = re.compile(rf"\d+|[a-z]|{NUMBERS}|(.*[\W_])?(left|right|arrows?|letters?|digits?|text)([\W_].*)?", re.IGNORECASE)
"""Names of classes that are another class, or none, in a mirror."""


class Setting(NamedTuple):
    """A line of a plan."""

    name: str
    """With its sections: `data.input_size`."""
    value: str
    """As YAML."""
    reason: str = ""
    """Told, and a comment above the line; empty for what is the same in every plan."""


class Brought(NamedTuple):
    """The detector that the user has, as a plan names it."""

    settings: tuple[Setting, ...]
    input_size: tuple[int, int] | None = None
    """(height, width) in pixels that it takes; None where any will do."""
    is_file: bool = False
    """Whether it is an ONNX file, which is not trained."""


def flow(value: Any) -> str:
    """A value in one line of YAML."""
    written = yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return written.removesuffix("...\n").rstrip()


def input_size(looked: LookedAt) -> tuple[tuple[int, int], str]:
    """(height, width) in pixels, and why: the smallest in the pictures' shape at which nearly all boxes are large enough."""
    height_px, width_px = looked.picture_size
    shape = min(height_px, width_px) / max(height_px, width_px)
    most = min(LONGEST_PX, max(SHORTEST_PX, -(-max(height_px, width_px) // STEP_PX) * STEP_PX))
    for longer in range(SHORTEST_PX, most + 1, STEP_PX):
        shorter = max(STEP_PX, round(longer * shape / STEP_PX) * STEP_PX)
        size = (shorter, longer) if width_px >= height_px else (longer, shorter)
        scales = (np.array(size) / looked.sizes).min(axis=1)
        share = float(np.mean(looked.shorter_px * scales >= LEAST_SIDE_PX))
        if share >= LARGE_SHARE:
            break
    found = f"{share:.0%} of the boxes are {LEAST_SIDE_PX} px or more wide and high"
    why = "the smallest in the pictures' shape where" if share >= LARGE_SHARE else "the largest that is considered; only"
    return size, f"height, width; {why} {found}"


def decide(looked: LookedAt, own: Brought | None, no_int8: str | None = None) -> list[Setting]:
    """The sections of data and detector, and the grid's methods; `no_int8` is the device, where that does not multiply in int8."""
    size, why = (own.input_size, "height, width; what the detector takes") if own and own.input_size else input_size(looked)
    source = {"kind": looked.source.kind} | looked.source.model_dump(mode="json", exclude_unset=True)
    shares = "nothing is trained, so few pictures are in train, for calibration alone" if looked.source.split_shares else ""
    data = [Setting("data.source", flow(source), shares), Setting("data.input_size", flow(list(size)), why), *_large(looked, size)]
    few = own is None and len(looked.labelled.splits["train"]) <= SMALL_SET
    better = f"random weights; for up to {SMALL_SET} training pictures `--detector` and plans/pretrain.yaml give better ones"
    root = list(own.settings) if own else [Setting("teacher.architecture", ARCHITECTURE, better if few else "")]
    half = Setting("grid.methods.quantization", "[{precision: float16}]", f"{no_int8} does not multiply in int8")
    quantized = [half] if no_int8 else []
    return [*data, *root, *(quantized if own and own.is_file else _training(looked, quantized, mosaics=few))]


def _large(looked: LookedAt, size: tuple[int, int]) -> list[Setting]:
    """What is said where a split's pixels are more than are stored raw."""
    split = max(looked.labelled.splits, key=lambda own: len(looked.labelled.splits[own]))
    raw_bytes, most_bytes = len(looked.labelled.splits[split]) * math.prod(size) * 3, Data().pixel_cache_bytes
    why = f"the pixels of {split} are {raw_bytes / 1e9:.1f} GB raw; a split above this is stored encoded, without loss"
    return [Setting("data.pixel_cache_bytes", str(most_bytes), why)] if raw_bytes > most_bytes else []


def _training(looked: LookedAt, quantized: list[Setting], *, mosaics: bool) -> list[Setting]:
    train = len(looked.labelled.splits["train"])
    epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(PICTURES_SHOWN / train)))
    again = max(1, round(epochs / 3))  # as in plans/bccd.yaml, where 20 follow 60
    batch_size, rate = (4, 0.004) if train <= FEW_PICTURES else (8, 0.003)
    handed = [name for name in looked.labelled.classes if HANDED.fullmatch(name.strip())]
    mirror = f"a mirror may change {', '.join(handed[:4])}" if handed else "no class is named as if a mirror changed it"
    has = sorted(cpu_flags() & BFLOAT16_FLAGS)
    instructions = (
        f"this processor has {', '.join(has)}" if has else "this processor is not known to have instructions for bfloat16"
    )
    varied = f"{{flip_horizontal: {0.0 if handed else 0.5}, flip_vertical: 0.0{', mosaic: 1.0' if mosaics else ''}}}"
    upright = "upside down only where there is no up, as in a microscope: 0.5"
    four = f"; four in one up to {SMALL_SET} training pictures" if mosaics else ""
    return [
        Setting("teacher.threads", str(cores_here()), "cores of this machine"),
        Setting("teacher.training.epochs", str(epochs), f"{train:,} training pictures, so {epochs * train:,} are shown in all"),
        Setting("teacher.training.batch_size", str(batch_size), f"4 up to {FEW_PICTURES} training pictures, 8 beyond"),
        Setting("teacher.training.learning_rate", str(rate)),
        Setting("teacher.training.precision", "bfloat16" if has else "float32", instructions),
        Setting("teacher.training.augmentation", varied, f"{mirror}; {upright}{four}"),
        Setting("grid.methods.lightweight", "[{weights: inherited}]", "fitted to the teacher's blocks; only the recovery follows"),
        Setting("grid.methods.nas", f"[{{supernet_epochs: {again}}}]"),
        *quantized,
        Setting("grid.recovery", f"{{<<: *schedule, epochs: {again}, learning_rate: {rate / 2:g}}}", "a third of the training"),
    ]
