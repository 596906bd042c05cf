"""quantization: int8 by the tool of the runtime that will run it, its ranges taken from training pictures and chosen on val.

calibrators.py finds the ranges, `hardware_profiles.runtimes` writes the files, float_parts.py says what of them stays float,
qat.py is quantization-aware training: fake_quantize.py makes its network of what is in rounding.py, learned_ranges.py finds the
ranges that it learned in the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import Field, model_validator

from compressors.contract import Phase, Settings
from compressors.quantization import float_parts
from compressors.quantization.calibrators import RangeCalibrator, observe, ranges_of
from compressors.quantization.float_tail import PRODUCTS
from compressors.quantization.learned_ranges import tensor_ranges
from detection.checkpoint import Detector
from detection.data.dataset import Images
from detection.evaluation import accuracy, detect
from detection.export import INPUT_NAME, export_onnx
from detection.file_interface.interface import FileInterface
from detection.frozen import Frozen, InputError, Share
from detection.model_file import Reader, reader_for
from detection.training import Recipe
from hardware_profiles.runtimes.interface import ForInt8
from hardware_profiles.runtimes.onnx_repair import repair
from hardware_profiles.runtimes.onnxruntime.int8 import prepare
from hardware_profiles.runtimes.ranges import PICTURE_RANGE, Range, Ranges
from hardware_profiles.runtimes.table import RUNTIMES, Runtime, open_session
from hardware_profiles.runtimes.writing import as_planes
from hardware_profiles.schema.profile import HardwareProfile

LEAST_PICTURES = 8
"""Fewer say little about where activations end."""
HALF_STEM_STRIDE = 2
"""A stem that steps by 2 works at half the picture's sides, where ONNX Runtime's conversions to int8 and back cost more than the
few channels save: 349 us in int8 and 82 us of conversions on a 3->8 stem at 192x256, one thread of a Zen 4."""


class Quantization(Settings):
    """How small the numbers become. Weights are int8 per output channel and activations unsigned bytes, or weights are float16."""

    phase: ClassVar[Phase] = "packing"
    method: Literal["quantization"] = "quantization"
    precision: Literal["int8", "float16"] = "int8"
    """float16 halves the file and nothing else: its weights are widened when it is loaded."""
    calibrator: Literal["val", "minmax", "entropy", "percentile", "mse"] = "val"
    """What sets the ranges of activations; "val" tries `calibrators` and keeps the file with the best val mAP in its runtime. After
    quantization-aware training its own ranges are the first that "val" tries; any other choice takes those, the calibrator's only
    where the training had none."""
    calibrators: Annotated[tuple[RangeCalibrator, ...], Field(min_length=1)] = ("minmax", "percentile", "mse", "entropy")
    """The candidates; of equals the first stays."""
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    """Of all values of a tensor, how many lie within the percentile calibrator's range (arXiv:2004.09602, table 4)."""
    pictures: Annotated[int, Field(ge=LEAST_PICTURES)] = 64
    """Training pictures shown while calibrating; all of them where there are fewer."""
    float_stem: bool | None = None
    """Whether the first convolution stays float; null: in ONNX Runtime where it steps by 2, nowhere else. Quantization-aware
    training is one for all runtimes and rounds it where nothing is said; a stem that is float in one of them then errs less."""
    max_drop: Share | None = None
    """The most val mAP that int8 may lose, as a share of 1; null: whatever it loses. Where it loses more, the layers whose rounding
    harms the outputs most return to float, one, two, four and so on."""
    most_float_layers: Annotated[int, Field(ge=1)] = 8
    """The most layers that return."""
    qat_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs of training with rounded weights and activations (QAT, arXiv:1806.08342) before; 0: none."""
    qat_learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """Its peak; the rest of the schedule is that of the recovery, the objective that of the cell."""

    @model_validator(mode="after")
    def _candidates_differ(self) -> Quantization:
        if len(set(self.calibrators)) != len(self.calibrators):
            raise ValueError(f"calibrators {self.calibrators}: each may stand once")
        return self

    def _without_effect(self) -> dict[str, str]:
        if self.precision == "float16":  # it rounds nothing
            return dict.fromkeys(sorted(set(Quantization.model_fields) - {"method", "precision"}), "with precision int8")
        unused = {} if self.qat_epochs else {"qat_learning_rate": "with qat_epochs above 0"}
        unused |= {} if self.max_drop is not None else {"most_float_layers": "with a max_drop"}
        unused |= {} if self.calibrator == "val" else {"calibrators": "with calibrator val, which tries them"}
        return unused if "percentile" in self.candidates else unused | {"percentile": "for the percentile calibrator"}

    @property
    def looks_at_val(self) -> bool:
        """Whether val takes part in what comes out."""
        chooses = self.calibrator == "val" and len(self.calibrators) + bool(self.qat_epochs) > 1
        return self.precision == "int8" and (self.max_drop is not None or chooses)

    @property
    def candidates(self) -> tuple[RangeCalibrator, ...]:
        """The calibrators that are tried."""
        return self.calibrators if self.calibrator == "val" else (self.calibrator,)

    def training_part(self) -> Quantization:
        """What decides a quantization-aware training and nothing else, so that variants which differ in the rest share it."""
        return Quantization(
            calibrator="minmax", float_stem=self.float_stem, qat_epochs=self.qat_epochs, qat_learning_rate=self.qat_learning_rate
        )

    def qat_recipe(self, recovery: Recipe) -> Recipe:
        """The recovery's schedule for `qat_epochs` at this rate. In float32: bfloat16 cannot tell 256 levels apart."""
        changed = {"epochs": self.qat_epochs, "learning_rate": self.qat_learning_rate, "precision": "float32", "warmup_steps": 0}
        return recovery.model_copy(update=changed)

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params; what is not the default is in it, where it has an effect."""
        if self.precision == "float16":
            return self.precision
        usual, parts = Quantization(), [f"int8-{self.calibrator}"]
        if self.calibrator == "val" and self.calibrators != usual.calibrators:
            parts += ["of", *self.calibrators]
        if "percentile" in self.candidates and self.percentile != usual.percentile:
            parts.append(f"p{self.percentile:g}")
        parts += [f"{self.pictures}pictures"] if self.pictures != usual.pictures else []
        parts += [f"qat{self.qat_epochs}"] if self.qat_epochs else []
        if self.qat_epochs and self.qat_learning_rate != usual.qat_learning_rate:
            parts.append(f"lr{self.qat_learning_rate:g}")
        parts += [f"drop{self.max_drop:g}"] if self.max_drop is not None else []
        if self.max_drop is not None and self.most_float_layers != usual.most_float_layers:
            parts.append(f"most{self.most_float_layers}")
        parts += ["float-stem" if self.float_stem else "int8-stem"] if self.float_stem is not None else []
        return "-".join(parts)


Origin = Literal["learned", "minmax", "entropy", "percentile", "mse"]
"""Of ranges: a quantization-aware training, or a calibrator."""


class QuantizationRecord(Frozen):
    """What was chosen for one file, and by which numbers."""

    ranges: Origin | None = None
    """Where the ranges of the activations come from; None where nothing was calibrated."""
    val_map: dict[Origin, float] = Field(default_factory=dict)
    """Val mAP of each candidate's file in its runtime; empty where there was no choice."""
    float_layers: tuple[str, ...] = ()
    """Layers that returned to float because rounding them harmed most."""
    float_val_map: float | None = None
    """Val mAP of the float file in the same runtime; None where `max_drop` did not ask for it."""
    int8_val_map: float | None = None
    """Val mAP of the file; None where nobody looked."""

    def summary(self) -> str:
        """One line for the log."""
        tried = ", ".join(f"{name} {val_map:.4f}" for name, val_map in self.val_map.items())
        chosen = f"ranges by {self.ranges}" if self.ranges else "float16 weights"
        back = f"; float again: {', '.join(self.float_layers)}" if self.float_layers else ""
        return chosen + (f", val mAP of {tried}" if tried else "") + back


class Packed(NamedTuple):
    """The file and what was chosen for it."""

    file: Path
    record: QuantizationRecord
    float_layers: tuple[str, ...] = ()
    """Products that int8 leaves in float, whatever the reason, in the order of the graph: a stem, the last layers."""


def quantize(
    detector: Detector,
    config: Quantization,
    runtime: str,
    train: Images,
    val: Images,
    seed: int,
    folder: Path,
    learned: Ranges | None = None,
) -> Packed:
    """The file written into folder for this runtime, and what was chosen.

    Learned ranges, by node of the traced network, come from a quantization-aware training; they are one candidate more, the first.
    """
    if (train.split, val.split) != ("train", "val"):
        raise InputError(f"quantization: calibrates on train and chooses on val, was given {train.split!r} and {val.split!r}.")
    refuse_few_pictures(config, len(train))
    shown = [train.pixels[row] for row in rows_shown(config, len(train), seed)]
    return pack(detector, config, runtime, shown, folder, val, learned)


def rows_shown(config: Quantization, pictures: int, seed: int) -> list[int]:
    """Which of this many pictures the ranges are taken from, in ascending order: `config.pictures` of them, or all."""
    return sorted(np.random.default_rng(seed).permutation(pictures)[: config.pictures].tolist())


def pack(
    detector: Detector,
    config: Quantization,
    runtime: str,
    shown: Sequence[NDArray[np.uint8]],
    folder: Path,
    val: Images | None = None,
    learned: Ranges | None = None,
) -> Packed:
    """As `quantize`, with ranges from all the pictures shown, (height, width, 3) RGB of the input's size.

    val may be missing where the config does not look at it: one calibrator, no `max_drop`.
    """
    assert val is not None or not config.looks_at_val
    entry = RUNTIMES[runtime]
    with tempfile.TemporaryDirectory() as scratch:
        exported, planes_file = Path(scratch) / "float.onnx", Path(scratch) / "planes.onnx"
        export_onnx(detector, exported)
        if config.precision == "float16":
            return Packed(entry.write_float16(exported, folder), QuantizationRecord())
        describe = detector.family.interface
        interface = None if describe is None else cast(FileInterface, describe(detector.spec))
        if interface is None:
            export_onnx(detector, planes_file, planes=True)
        else:  # the tools need names, constants in one list, and an operator set with ranges per channel
            repair(exported, planes_file, detector.spec.input_size)
        pictures = _as_taken(shown, planes_file, interface)
        tensors = tensor_ranges(detector, planes_file, shown[0], learned) if learned else {}
        reader = replace(reader_for(interface), select=detector.family.select(detector.spec))
        work = _Work(config, entry, exported, planes_file, pictures, val, tensors, interface, reader)
        return work.packed(folder)


def refuse_unsupported(config: Quantization, profile: HardwareProfile) -> None:
    """InputError where int8 files are asked for and the device that the sweep designs for cannot multiply in int8."""
    if config.precision == "int8" and "int8" not in profile.dtypes:
        raise InputError(
            f"quantization.precision: int8 is asked for, but the design profile {profile.id!r} multiplies in "
            f"{', '.join(profile.dtypes)} only. Set `precision: float16`, leave quantization out, or name another design profile."
        )


def refuse_few_pictures(config: Quantization, train_pictures: int) -> None:
    """InputError where ranges are to be found on fewer training pictures than say anything about them."""
    if config.precision == "int8" and train_pictures < LEAST_PICTURES:
        raise InputError(
            f"quantization.pictures: ranges need {LEAST_PICTURES} training pictures at least; train has {train_pictures}. "
            "Prepare more, set `precision: float16`, or leave quantization out."
        )


class _Work:
    """One detector on its way to int8 in one runtime."""

    def __init__(
        self, config: Quantization, runtime: Runtime, exported: Path, planes_file: Path, pictures: list[Any], val: Images | None,
        learned: Ranges, interface: FileInterface | None, reader: Reader,
    ) -> None:  # fmt: skip
        self.reader = reader
        self.config, self.runtime, self.exported, self.pictures, self.val = config, runtime, exported, pictures, val
        self.ready = prepare(planes_file)
        self.graph, planes = onnx.load(self.ready), onnx.load(planes_file)
        # Preparing fuses nodes, and some runtimes start from the other file.
        self.tail = dict.fromkeys((*float_parts.float_tail(planes), *float_parts.float_tail(self.graph)))
        self.write = runtime.int8_writer(ForInt8(planes_file, self.ready, tuple(pictures), bool(learned), interface is None))
        histograms = observe(self.ready, float_parts.activations_of(self.graph), pictures)
        found: dict[Origin, Ranges] = {name: ranges_of(histograms, name, config.percentile) for name in config.candidates}
        if learned:  # what a quantization-aware training was clipped to; it leaves out what only one of the runtimes rounds
            first: dict[Origin, Ranges] = {"learned": found[config.candidates[0]] | learned}
            found = first | found if config.calibrator == "val" else first
        picture = {INPUT_NAME: PICTURE_RANGE} if interface is None else {self.graph.graph.input[0].name: Range(*interface.limits())}
        self.ranges = {name: own | picture for name, own in found.items()}

    def packed(self, folder: Path) -> Packed:
        """The best candidate's file, in folder, with layers returned to float where that is asked for."""
        keeps_stem = self.config.float_stem
        if keeps_stem is None:
            keeps_stem = self.runtime.keeps_half_stem_float and float_parts.stem_stride(self.graph) == HALF_STEM_STRIDE
        stem = tuple(float_parts.float_stem(self.graph)) if keeps_stem else ()
        files, val_map = {}, {}
        for name, ranges in self.ranges.items():
            files[name] = self.written(name, ranges, stem)
            if self.config.looks_at_val:
                val_map[name] = self.val_map(files[name])
        chosen = max(val_map, key=lambda name: val_map[name]) if val_map else next(iter(self.ranges))
        record = QuantizationRecord(ranges=chosen, val_map=val_map, int8_val_map=val_map.get(chosen))
        file = files[chosen]
        if self.config.max_drop is not None:
            file, record = self._within_drop(file, record, self.config.max_drop, stem)
        left = {*self.tail, *stem, *record.float_layers}
        layers = (node.name for node in self.graph.graph.node if node.op_type in PRODUCTS and node.name in left)
        return Packed(_moved(file, folder), record, tuple(layers))

    def written(self, name: str, ranges: Ranges, left_float: Iterable[str]) -> Path:
        """The int8 file in a folder of this name; nodes of the float tail stay float whatever else does."""
        folder = self.exported.with_name(name)
        folder.mkdir()
        return self.write(ranges, (*self.tail, *left_float), folder)

    def val_map(self, file: Path) -> float:
        """Of one file in this runtime."""
        assert self.val is not None
        infer = self.reader.infer(open_session(self.runtime.name, file, 1))
        return accuracy(self.val.ground_truth, detect(infer, self.val, self.reader.select)).map_50_95

    def _within_drop(
        self, file: Path, record: QuantizationRecord, max_drop: float, stem: tuple[str, ...]
    ) -> tuple[Path, QuantizationRecord]:
        """The file with the fewest float layers tried that keeps within the drop; the most accurate one where none does."""
        assert record.ranges is not None
        assert record.int8_val_map is not None
        pack, ranges = self.runtime.pack, self.ranges[record.ranges]  # a runtime that opens no ONNX packs the float file
        float_val_map = self.val_map(self.exported if pack is None else pack(self.exported, self.exported.parent))
        tried: list[tuple[float, tuple[str, ...], Path]] = [(record.int8_val_map, (), file)]
        layers = [name for name in float_parts.layers_of(self.graph) if name not in stem]
        ranked: list[str] = []
        for count in _counts(min(self.config.most_float_layers, len(layers))):
            if tried[-1][0] >= float_val_map - max_drop:
                break
            ranked = ranked or float_parts.most_harmful(self.ready, ranges, layers, self.pictures)
            back = tuple(ranked[:count])
            file = self.written(f"float-{count}", ranges, (*stem, *float_parts.with_activations(self.graph, back)))
            tried.append((self.val_map(file), back, file))
        good = [entry for entry in tried if entry[0] >= float_val_map - max_drop]
        val_map, back, file = good[0] if good else max(tried, key=lambda entry: entry[0])
        return file, record.model_copy(update={"float_layers": back, "float_val_map": float_val_map, "int8_val_map": val_map})


def _counts(most: int) -> tuple[int, ...]:
    """How many layers return to float, try by try: 1, 2, 4 and so on, and at last as many as may."""
    doubled = [2**power for power in range(most.bit_length()) if 2**power < most]
    return (*doubled, most) if most else ()


def _as_taken(shown: Sequence[NDArray[np.uint8]], planes_file: Path, interface: FileInterface | None) -> list[Any]:
    """The pictures as the file takes them."""
    if interface is not None:
        return [interface.tensor(pixels) for pixels in shown]
    model = onnx.load(planes_file)
    return [as_planes(model, pixels) for pixels in shown]


def _moved(file: Path, folder: Path) -> Path:
    for part in file.parent.iterdir():
        (folder / part.name).write_bytes(part.read_bytes())
    return folder / file.name
