"""Int8 files by ONNX Runtime's and NNCF's own functions, from the float file that the control is too."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from compressors.quantization.float_parts import float_tail
from detection.data.dataset import Images
from detection.evaluation import accuracy, as_input, selected
from detection.export import BOXES_NAME, INPUT_NAME, SCORES_NAME
from hardware_profiles.runtimes.interface import MODEL
from hardware_profiles.runtimes.openvino.runtime import import_openvino
from hardware_profiles.runtimes.writing import quiet
from studies.peers.chains import NncfPtq, OrtPtq


class Written(NamedTuple):
    """A file, and the pictures that the tool asked for."""

    file: Path
    calibration_images: int
    validation_images: int = 0


def by_onnxruntime(float_file: Path, config: OrtPtq, pictures: Sequence[Any], folder: Path) -> Written:
    """The int8 file in the folder; pictures are (1, height, width, 3) uint8, as the float file takes them.

    As ONNX Runtime's documentation says for x86 with VNNI: shapes inferred and the graph optimized first, QDQ, weights signed and
    activations unsigned, the whole range.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    methods = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
    target, reader = folder / f"{MODEL}.onnx", _Reader(pictures)
    with tempfile.TemporaryDirectory() as scratch, quiet():
        ready = Path(scratch) / "ready.onnx"
        quant_pre_process(str(float_file), str(ready), skip_symbolic_shape=True)  # every shape is static
        quantize_static(
            str(ready),
            str(target),
            reader,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, methods[config.calibrator]),
            nodes_to_exclude=_tail(ready) if config.float_tail else [],
        )
    return Written(target, reader.asked)


def by_nncf(float_file: Path, config: NncfPtq, pictures: Sequence[Any], val: Images, folder: Path) -> Written:
    """The int8 file (.xml and .bin) in the folder; with `most_drop`, accuracy control looks at the mAP of val."""
    openvino = import_openvino()
    import nncf

    with quiet():
        model = openvino.convert_model(float_file)
    tail = set(_tail(float_file)) if config.float_tail else set()
    # OpenVINO splits a convolution with a bias in two and gives its name to the addition.
    names = [name for op in model.get_ops() if (name := op.get_friendly_name()).removesuffix("/WithoutBiases") in tail]
    shown, seen = _Counted(pictures), _Counted(range(len(val)))
    how = {
        "preset": getattr(nncf.QuantizationPreset, config.preset.upper()),
        "subset_size": len(pictures),
        "ignored_scope": nncf.IgnoredScope(names=names, validate=False),
    }
    with quiet():
        if config.most_drop is None:
            quantized = nncf.quantize(model, nncf.Dataset(shown), **how)
        else:
            quantized = nncf.quantize_with_accuracy_control(
                model,
                nncf.Dataset(shown),
                nncf.Dataset(seen, lambda row: as_input(val.pixels[row])),
                lambda compiled, rows: (_val_map(compiled, list(rows), val), None),
                max_drop=config.most_drop,
                drop_type=nncf.DropType.ABSOLUTE,
                **how,
            )
        target = folder / f"{MODEL}.xml"
        openvino.save_model(quantized, target)
    return Written(target, shown.asked, seen.asked)


def _tail(float_file: Path) -> list[str]:
    """The last predictions and all that follows: what a person would list after a look at the graph."""
    return list(float_tail(onnx.load(float_file)))


def _val_map(compiled: Any, rows: list[int], val: Images) -> float:
    """The mAP of an opened OpenVINO model on these pictures of val."""
    some = val.taking(np.array(rows, np.int64))

    def outputs() -> Iterator[tuple[Any, Any]]:
        for row in rows:
            found = compiled({INPUT_NAME: as_input(val.pixels[row])})
            yield found[BOXES_NAME][0], found[SCORES_NAME][0]

    return accuracy(some.ground_truth, selected(outputs(), some)).map_50_95


class _Counted:
    """Items that can be gone through again and again, and how many were asked for."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.items, self.asked = list(items), 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> Any:
        self.asked += 1
        return self.items[position]

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            self.asked += 1
            yield item


class _Reader:
    """What quantize_static reads pictures from (a CalibrationDataReader)."""

    def __init__(self, pictures: Sequence[Any]) -> None:
        self.pictures, self.asked = pictures, 0

    def get_next(self) -> dict[str, Any] | None:
        """The next picture by the input's name; None after the last."""
        if self.asked == len(self.pictures):
            return None
        self.asked += 1
        return {INPUT_NAME: self.pictures[self.asked - 1]}
