"""The chains that are compared: how other tools make a network smaller, and how they write it for a runtime.

Every network is written in every way. Settings are those that each tool's documentation recommends; where it leaves a choice, all
are tried, and val chooses among them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from importlib import metadata
from typing import Annotated, Literal

from pydantic import Field

from detection.frozen import Frozen, Share

KEPT_MACS = (0.7, 0.5, 0.3)
"""Shares of the multiply-adds that stay after pruning."""
RANK_SHARES = (0.5, 0.35, 0.25)
"""Shares of a convolution's channels that its ranks keep, on either side."""
CALIBRATION_PICTURES = 300
"""Training pictures that are shown while calibrating, NNCF's default; all where there are fewer."""
Importance = Literal["magnitude-l1", "magnitude-l2", "random", "lamp", "bn-scale", "fpgm", "taylor", "hessian", "activation"]
LEFT_OUT = {
    "OBDCImportance": "its Fisher matrix is that of a classifier, from labels drawn of its softmax",
    "BNScalePruner, GroupNormPruner and GrowingRegPruner": "they need a sparse training before pruning, and every network here has "
    "the same updates",
}
"""Of torch-pruning, what is not compared -> why."""
Scope = Literal["uniform", "isomorphic"]
"""Among which channels torch-pruning ranks: within each group, its default; or over groups of the same structure, which its README
recommends for global pruning (arXiv:2407.04616)."""


class Untouched(Frozen):
    """The checkpoint itself, or what the recovery training makes of it, which is the control's network."""

    kind: Literal["untouched"] = "untouched"
    recovered: bool

    def label(self) -> str:
        """Its name in tables."""
        return "recovered" if self.recovered else "checkpoint"


class Pruned(Frozen):
    """Channels removed by torch-pruning, then the recovery training."""

    kind: Literal["torch-pruning"] = "torch-pruning"
    importance: Importance
    scope: Scope
    keep_macs: Share

    def label(self) -> str:
        """Its name in tables."""
        return f"pruned-{self.importance}-{self.scope}-{self.keep_macs:g}"


class Tucker(Frozen):
    """Convolutions wider than 1x1 factored by Tucker-2 (arXiv:1511.06530) in tensorly, then the recovery training."""

    kind: Literal["tucker-2"] = "tucker-2"
    rank_share: Share

    def label(self) -> str:
        """Its name in tables."""
        return f"tucker2-{self.rank_share:g}"


class FloatFile(Frozen):
    """The exported ONNX file as it is."""

    kind: Literal["float"] = "float"
    runtime: Literal["onnxruntime", "openvino"]

    def label(self) -> str:
        """Its name in tables."""
        return "float"

    def form(self) -> str:
        """What files share whose graphs are alike, and so their speed."""
        return self.label()


class OrtPtq(Frozen):
    """ONNX Runtime's quant_pre_process and quantize_static: QDQ, weights per channel, activations as unsigned bytes."""

    kind: Literal["quantize_static"] = "quantize_static"
    runtime: Literal["onnxruntime"] = "onnxruntime"
    calibrator: Literal["minmax", "percentile", "entropy"]
    float_tail: bool
    """Whether the last predictions and the decoding are excluded."""

    def label(self) -> str:
        """Its name in tables."""
        return f"ort-{self.calibrator}{'-float-tail' * self.float_tail}"

    def form(self) -> str:
        """What files share whose graphs are alike, and so their speed: calibrators change numbers alone."""
        return f"ort{'-float-tail' * self.float_tail}"


class NncfPtq(Frozen):
    """NNCF's quantize on the OpenVINO model, or quantize_with_accuracy_control, which returns layers to float until val is kept."""

    kind: Literal["nncf"] = "nncf"
    runtime: Literal["openvino"] = "openvino"
    preset: Literal["performance", "mixed"]
    float_tail: bool
    """Whether the last predictions and the decoding are in the ignored scope."""
    most_drop: Share | None = None
    """Of val mAP, for accuracy control; None: without it."""

    def label(self) -> str:
        """Its name in tables."""
        control = "" if self.most_drop is None else "-accuracy-control"
        return f"nncf-{self.preset}{control}{'-float-tail' * self.float_tail}"

    def form(self) -> str:
        """What files share whose graphs are alike: each of these has quantizers of its own."""
        return self.label()


Network = Annotated[Untouched | Pruned | Tucker, Field(discriminator="kind")]
Packing = Annotated[FloatFile | OrtPtq | NncfPtq, Field(discriminator="kind")]


class Tool(Frozen):
    """What was compared with, and under which terms anybody may use it."""

    name: str
    version: str
    license: str
    does: str


def networks() -> Iterator[Untouched | Pruned | Tucker]:
    """All of them, the checkpoint first."""
    yield from (Untouched(recovered=recovered) for recovered in (False, True))
    for importance, keep_macs in itertools.product(Importance.__args__, KEPT_MACS):  # type: ignore[attr-defined]
        for scope in ("uniform", "isomorphic"):
            if (importance, scope) != ("random", "isomorphic"):  # chance needs no ranking
                yield Pruned(importance=importance, scope=scope, keep_macs=keep_macs)
    yield from (Tucker(rank_share=share) for share in RANK_SHARES)


def packings(runtimes: tuple[str, ...], most_drop: float) -> Iterator[FloatFile | OrtPtq | NncfPtq]:
    """The ways to write a network for these runtimes; most_drop of val mAP is permitted to accuracy control."""
    if "onnxruntime" in runtimes:
        yield FloatFile(runtime="onnxruntime")
        for calibrator, float_tail in itertools.product(("minmax", "percentile", "entropy"), (False, True)):
            yield OrtPtq(calibrator=calibrator, float_tail=float_tail)
    if "openvino" in runtimes:
        yield FloatFile(runtime="openvino")
        for preset, float_tail in itertools.product(("performance", "mixed"), (False, True)):
            yield NncfPtq(preset=preset, float_tail=float_tail)
        yield from (NncfPtq(preset=preset, float_tail=True, most_drop=most_drop or None) for preset in ("performance", "mixed"))


def tools() -> tuple[Tool, ...]:
    """Those whose results are compared, with the versions that are installed."""
    about = {
        "onnxruntime": ("MIT", "post-training quantization for ONNX Runtime"),
        "nncf": ("Apache-2.0", "post-training quantization for OpenVINO, with and without accuracy control"),
        "torch-pruning": ("MIT", "structured pruning"),
        "tensorly": ("BSD-3-Clause", "Tucker-2 decomposition"),
    }
    return tuple(Tool(name=name, version=metadata.version(name), license=own[0], does=own[1]) for name, own in about.items())
