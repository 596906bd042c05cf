"""quantization: int8 by the tool of the runtime that will run it, calibrated on training pictures."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnx
from pydantic import Field

from detection.checkpoint import Detector
from detection.dataset import Images
from detection.evaluation import as_input
from detection.export import INPUT_NAME, export_onnx
from detection.frozen import Frozen, InputError


class Quantization(Frozen):
    """How activations get their ranges; weights are int8 per output channel in every case."""

    method: Literal["quantization"] = "quantization"
    calibrator: Literal["minmax", "percentile"] = "minmax"
    """For ONNX Runtime. NNCF collects its own default statistics for OpenVINO, whatever stands here."""
    pictures: Annotated[int, Field(ge=8)] = 64
    """Training pictures shown while calibrating."""

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params."""
        return f"int8-{self.calibrator}"


def quantize(detector: Detector, config: Quantization, runtime: str, train: Images, seed: int, folder: Path) -> Path:
    """The int8 file written into folder for this runtime; InputError where we have no tool for it."""
    if runtime not in QUANTIZERS:
        raise InputError(f"quantization: no tool for runtime {runtime!r}; have {', '.join(sorted(QUANTIZERS))}.")
    if train.split != "train":
        raise InputError(f"quantization: calibrates on training pictures only, was given {train.split!r}.")
    rows = np.random.default_rng(seed).permutation(len(train))[: config.pictures]
    pictures = [as_input(train.pixels[row]) for row in sorted(rows)]
    with tempfile.TemporaryDirectory() as scratch:
        float_file = Path(scratch) / "float.onnx"
        export_onnx(detector, float_file)
        return QUANTIZERS[runtime](float_file, config, pictures, folder)


def _for_onnxruntime(float_file: Path, config: Quantization, pictures: list[Any], folder: Path) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(pictures)

        def get_next(self) -> dict[str, Any] | None:
            picture = next(self.left, None)
            return None if picture is None else {INPUT_NAME: picture}

    method = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
    }[config.calibrator]
    ready, target = float_file.with_name("ready.onnx"), folder / "model.onnx"
    with _quiet():
        quant_pre_process(str(float_file), str(ready), skip_symbolic_shape=True)  # every shape is static
        quantize_static(
            str(ready),
            str(target),
            Pictures(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=float_tail(onnx.load(ready)),
            calibrate_method=method,
        )
    return target


def _for_openvino(float_file: Path, config: Quantization, pictures: list[Any], folder: Path) -> Path:
    from hardware_profiles.runtimes import import_openvino

    openvino = import_openvino()  # first: it keeps both from sending usage data
    import nncf

    target = folder / "model.xml"
    with _quiet():
        model = openvino.convert_model(float_file)
        tail = set(float_tail(onnx.load(float_file)))
        # OpenVINO splits a convolution with a bias in two and gives its name to the addition.
        names = [name for op in model.get_ops() if (name := op.get_friendly_name()).removesuffix("/WithoutBiases") in tail]
        scope = nncf.IgnoredScope(names=names, validate=False)
        small = nncf.quantize(
            model, nncf.Dataset(pictures), subset_size=len(pictures), preset=nncf.QuantizationPreset.MIXED, ignored_scope=scope
        )
        openvino.save_model(small, target, compress_to_fp16=False)
    return target


QUANTIZERS: dict[str, Callable[[Path, Quantization, list[Any], Path], Path]] = {
    "onnxruntime": _for_onnxruntime,
    "openvino": _for_openvino,
}


def float_tail(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that stay float: the last prediction convolutions and everything after them.

    Decoding multiplies small errors by the stride, and scores live in the last bits: int8 here is how detectors fall to 0 mAP.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    waiting = [producers[output.name] for output in model.graph.output]
    tail: dict[str, onnx.NodeProto] = {}
    while waiting:
        node = waiting.pop()
        if node.name in tail:
            continue
        tail[node.name] = node
        if node.op_type != "Conv":
            waiting += [producers[name] for name in node.input if name in producers]
    return list(tail)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The tools print their own progress; the node's log has one line from us instead."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
