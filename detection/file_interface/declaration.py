"""What the output tensors of a detector mean, as a plan declares it.

Sizes are (height, width); pixels are those of the network's input. N points, C classes, K numbers per point, A anchors per cell.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from detection.file_interface.points import Points
from detection.frozen import Frozen

Channels = Literal["first", "last"]
ScoreForm = Literal["as_is", "sigmoid", "softmax"]
BoxForm = Literal[
    "xyxy",
    "xywh",
    "cxcywh",
    "ltrb",
    "ltrb_dfl",
    "cxcywh_linear",
    "cxcywh_exp",
    "anchor_sigmoid",
    "anchor_exp",
    "ssd",
    "tanh_sigmoid",
]


class Part(Frozen):
    """Where one kind of number lies in the outputs."""

    outputs: tuple[str | NonNegativeInt, ...] = Field(min_length=1)
    """Names of tensors, or positions from 0. Several are levels, in the order of `points.strides`: their rows are joined."""
    columns: tuple[NonNegativeInt, PositiveInt | None] | None = None
    """The first of a point's numbers to take and the one after the last (null: to the end); without it all."""
    channels: Channels = "last"
    """Axis of a point's numbers. first: (1, K, N), (1, A * K, height, width) or (1, A, K, height, width).
    last: (1, N, K), (1, height, width, A * K), (1, A, height, width, K), or (N, K) without a batch."""


class Boxes(Part):
    """Four numbers a, b, c, d per point; (x, y) is the point, s its stride, (w, h) its anchor."""

    form: BoxForm
    """xyxy, xywh, cxcywh: corners, corner and size, centre and size, in `unit`.
    ltrb: distances from the point to the left, top, right and bottom side, in `unit`.
    ltrb_dfl: the same, each the mean of a softmax over `bins` distances 0, 1, 2, ... (generalized focal loss; YOLOv8, NanoDet).
    cxcywh_linear: centre (x + a s, y + b s), size (c, d) in `unit` (CenterNet).
    cxcywh_exp: the same centre, size (s exp c, s exp d) (YOLOX).
    anchor_sigmoid: centre (x + s (2 sigmoid a - 0.5), ...), size (w (2 sigmoid c)^2, ...) (YOLOv5, YOLOv7).
    anchor_exp: centre (x + s sigmoid a, ...), size (w exp c, ...) (YOLOv3).
    ssd: centre (x + a v0 w, ...), size (w exp(c v1), ...) with the two `variances`.
    tanh_sigmoid: centre (x + s tanh a, ...), size (sigmoid c, sigmoid d) as shares of the input (FastestDet)."""
    unit: Literal["pixels", "stride", "share"] = "pixels"
    """Of xyxy, xywh, cxcywh, ltrb, ltrb_dfl and the size of cxcywh_linear: pixels, strides of the point, or shares of the input."""
    order: Literal["xy", "yx"] = "xy"
    """yx: each pair has its vertical number first, as yxyx corners or TensorFlow's (y, x, height, width)."""
    bins: PositiveInt | None = None
    """Of ltrb_dfl: how many numbers each side has. The four sides follow each other."""
    variances: tuple[PositiveFloat, PositiveFloat] = (0.1, 0.2)
    """Of ssd: factors of the centre and of the size."""
    centres: Part | None = None
    """Where the first two numbers are in tensors of their own (CenterNet's offsets): `outputs` then holds the other two."""


class Scores(Part):
    """One number per class, in the order of the classes; with `labels`, one number."""

    form: ScoreForm = "as_is"
    """as_is: probabilities already. softmax includes the background."""
    background: Literal["none", "first", "last"] = "none"
    """Where a column stands for no object; it is left out."""
    best_class_only: bool = False
    """Whether a point counts for its likeliest class only."""
    peaks: bool = False
    """Whether a score counts only if none of its class is larger in the 3 x 3 cells around it (CenterNet)."""


class Objectness(Part):
    """One number per point that enters the score of every class."""

    form: Literal["as_is", "sigmoid"] = "as_is"
    powers: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    """score = objectness ^ first * class ^ second; (1, 1) multiplies."""


class Labels(Part):
    """One number per detection: the index of its class."""

    first: Literal[0, 1] = 0
    """The index of the first class; 1 where 0 means background."""


class Decoding(Frozen):
    """What the outputs of a detector mean. FastestDet, as it stands in a plan:

    boxes: {outputs: [0], columns: [1, 5], channels: first, form: tanh_sigmoid}
    objectness: {outputs: [0], columns: [0, 1], channels: first, powers: [0.6, 0.4]}
    scores: {outputs: [0], columns: [5, null], channels: first, best_class_only: true}
    points: {kind: grid, strides: [16], offset: 0}
    """

    boxes: Boxes
    scores: Scores
    objectness: Objectness | None = None
    labels: Labels | None = None
    """Where the file has already chosen a class for each detection."""
    count: str | NonNegativeInt | None = None
    """The tensor that says how many of the rows, from the first, are detections; the others are padding."""
    points: Points | None = None
    """What boxes are relative to; none where they are not."""
    select: Literal["nms", "best"] = "nms"
    """nms: boxes of one object are still to be suppressed. best: the file gives each object once, or has suppressed them itself."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        form, kind = self.boxes.form, self.points.kind if self.points else "none"
        strides: tuple[float, ...] = getattr(self.points, "strides", ())
        needed = POINTS_NEEDED.get(form, ("none",) if self.boxes.unit != "stride" else STRIDED)
        if kind not in needed:
            raise ValueError(f"boxes.form {form} with points of kind {kind}; it takes {' or '.join(needed)}")
        if self.boxes.unit == "stride" and kind not in STRIDED:
            raise ValueError(f"boxes.unit stride with points of kind {kind}; it takes {' or '.join(STRIDED)}")
        if (form == "ltrb_dfl") != (self.boxes.bins is not None):
            raise ValueError("boxes.bins belongs to boxes.form ltrb_dfl, which needs it")
        if self.scores.peaks and (kind != "grid" or len(strides) != 1):
            raise ValueError("scores.peaks looks for neighbours in points of kind grid with one stride")
        if self.labels and (self.scores.peaks or self.scores.background != "none"):
            raise ValueError("labels chooses one class per row: scores.peaks and scores.background do not go with it")
        for part in (self.boxes, self.boxes.centres, self.scores, self.objectness):
            if part and strides and len(part.outputs) not in {1, len(strides)}:
                raise ValueError(f"{len(part.outputs)} outputs for {len(strides)} strides; name one, or one for each stride")
        return self


STRIDED = ("grid", "anchors", "priors")
POINTS_NEEDED: dict[BoxForm, tuple[str, ...]] = {
    "ltrb": (*STRIDED, "given"),
    "ltrb_dfl": (*STRIDED, "given"),
    "cxcywh_linear": STRIDED,
    "cxcywh_exp": STRIDED,
    "anchor_sigmoid": ("anchors", "priors"),
    "anchor_exp": ("anchors", "priors"),
    "ssd": ("anchors", "priors", "given"),
    "tanh_sigmoid": STRIDED,
}
"""Kinds of points that a form takes; the forms that are missing here take none, or a grid as their unit."""
