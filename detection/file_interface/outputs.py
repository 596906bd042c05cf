"""From the output tensors of an ONNX detector to boxes and scores, by a declaration of what the numbers mean.

Nothing here knows a runtime: arrays come in, arrays go out. N points, C classes, K numbers per point, A anchors per cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from detection.boxes import Array
from detection.file_interface.declaration import Boxes, BoxForm, Channels, Decoding, Part, ScoreForm
from detection.file_interface.points import Level, Placed, place
from detection.frozen import InputError

Outputs = Mapping[str, NDArray[Any]]
"""The tensors of one run of the file by name, in the file's order; their batch is 1."""
EXPONENT_LIMIT = 80.0
"""Arguments of exp() stop here: its value is then beyond any picture, and not yet beyond float32."""


class Candidates(NamedTuple):
    """All boxes of one picture before the selection."""

    boxes_xyxy_px: Array  # (N, 4)
    scores: Array  # (N, C) in [0, 1]


@np.errstate(over="ignore", invalid="ignore")
def decode(
    decoding: Decoding, outputs: Outputs, input_size: tuple[int, int], classes_count: int, scores: Array | None = None
) -> Candidates:
    """Boxes and scores of one picture; `decoding.select` says whether they still need suppression.

    `scores` are those of a decoding that differs in the boxes alone, where they are known already: of many classes they take long.
    InputError where shapes and declaration disagree. Values are never an error: those of a badly quantized file may be anything,
    and what is not a number stays so.
    """
    numbers, placed = _read(decoding, outputs, input_size, classes_count)
    if scores is None:
        scores = _scores(decoding, numbers, classes_count)
        if decoding.scores.peaks:
            scores = _peaks(scores, placed.levels[0])
        if decoding.count is not None:
            scores[int(_tensor(outputs, decoding.count, "count").reshape(-1)[0]) :] = 0
    return Candidates(_boxes(decoding.boxes, numbers, placed, input_size), scores)


def contradiction(decoding: Decoding, outputs: Outputs, input_size: tuple[int, int], classes_count: int) -> str | None:
    """What the values of a float file's outputs for a real picture say against the declaration, or None. InputError as `decode`.

    Scores that are no probabilities although declared so, or the reverse; detections of classes that do not exist.
    """
    numbers, _ = _read(decoding, outputs, input_size, classes_count)
    for what, part in (("scores", decoding.scores), ("objectness", decoding.objectness)):
        if not part or not numbers[what].size:
            continue
        low, high = float(numbers[what].min()), float(numbers[what].max())
        if (low >= -1e-3 and high <= 1 + 1e-3) != (part.form == "as_is"):
            remedy = "sigmoid or softmax makes probabilities of them" if part.form == "as_is" else "as_is takes probabilities"
            found = f"{_described(part, what, outputs)} has values from {low:.3g} to {high:.3g}"
            return f"decode.{what}: form {part.form}, but {found}; {remedy}."
    if decoding.labels:
        labels = numbers["labels"][:, 0] - decoding.labels.first
        unknown = labels[(labels != np.clip(np.rint(labels), 0, classes_count - 1)) & (_merged(decoding, numbers)[:, 0] > 0)]
        if len(unknown):
            first = decoding.labels.first
            return (
                f"decode.labels: {_described(decoding.labels, 'labels', outputs)} has {unknown[0] + first:g}; allowed are "
                f"{classes_count} classes counted from {first}. Correct `first`, `columns` or the list of classes."
            )
    return None


_NOWHERE = Placed(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32), np.zeros((1, 1), np.float32), levels=(), outer=False)
"""For boxes that are not relative to points."""


def _read(decoding: Decoding, outputs: Outputs, input_size: tuple[int, int], classes_count: int) -> tuple[dict[str, Array], Placed]:
    """The numbers of every part by its name, (N, K) float32 each, and the points; N is the same for all of them."""
    boxes, scores = decoding.boxes, decoding.scores
    placed = place(decoding.points, input_size) if decoding.points else _NOWHERE
    parts: dict[str, tuple[Part | None, int]] = {  # with K
        "boxes": (boxes, 2 if boxes.centres else 4 * (boxes.bins or 1)),
        "boxes.centres": (boxes.centres, 2),
        "scores": (scores, 1 if decoding.labels else classes_count + (scores.background != "none")),
        "objectness": (decoding.objectness, 1),
        "labels": (decoding.labels, 1),
    }
    numbers = {what: _rows(part, what, columns, outputs, placed) for what, (part, columns) in parts.items() if part}
    counts = {what: len(rows) for what, rows in numbers.items()}
    if decoding.points:
        counts["points"] = len(placed.centres_px)
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} of {what}" for what, count in counts.items())
        raise InputError(
            f"decode: rows must be equally many, but there are {found}{_counted(placed.levels)}. The file has {_listed(outputs)}. "
            "Correct `outputs`, `channels` or `points`."
        )
    return numbers, placed


def _rows(part: Part, what: str, columns: int, outputs: Outputs, placed: Placed) -> Array:
    """The numbers of one part, (N, columns)."""
    levels: tuple[Level | None, ...] = placed.levels
    if len(levels) != len(part.outputs):
        levels = (None,) * len(part.outputs)  # one tensor holds all levels
    where = f"decode.{what}: {_described(part, what, outputs)}, channels {part.channels}, columns {part.columns or 'all'}"
    matrices: list[NDArray[Any]] = []
    for name, level in zip(part.outputs, levels, strict=True):
        tensor = _tensor(outputs, name, what)
        if columns == 1 and part.columns is None and tensor.ndim <= 2:
            matrix = tensor.reshape(-1, 1)  # (1, N) or (N,)
        else:
            matrix = _matrix(tensor, part.channels, level, placed.outer, where)[:, slice(*(part.columns or (None,)))]
        if matrix.shape[1] != columns:
            raise InputError(
                f"{where}: {matrix.shape[1]} numbers per point, {columns} are needed. Correct `columns` or `channels`."
            )
        matrices.append(matrix)
    return np.concatenate(matrices).astype(np.float32, copy=False)


def _matrix(tensor: NDArray[Any], channels: Channels, level: Level | None, outer: bool, where: str) -> NDArray[Any]:
    """One tensor as (N, K), its rows in the order of the points."""
    if not 2 <= tensor.ndim <= 5 or (tensor.ndim > 2 and tensor.shape[0] != 1):
        raise InputError(
            f"{where}: allowed are (N, K), or 3 to 5 dimensions of which the first is a batch of 1. Export the file so."
        )
    values = tensor[0] if tensor.ndim > 2 else tensor
    if channels == "first":
        values = np.moveaxis(values, -min(values.ndim, 3), -1)
    if level and values.ndim > 2:
        *anchors, height, width, columns = values.shape
        if (height, width) != level[:2] or (anchors[0] != level.anchors if anchors else columns % level.anchors):
            raise InputError(f"{where}: does not go with points{_counted((level,))}. Correct `points` or `channels`.")
        if not anchors:
            values = np.moveaxis(values.reshape(height, width, level.anchors, -1), 2, 0)
        values = values if outer else np.moveaxis(values, 0, 2)  # (A, height, width, K) or (height, width, A, K)
    return values.reshape(-1, values.shape[-1])


def _tensor(outputs: Outputs, name: str | int, what: str) -> NDArray[Any]:
    if isinstance(name, int) and name < len(outputs):
        return list(outputs.values())[name]
    if name not in outputs:
        raise InputError(f"decode.{what}: no output {name!r}; the file has {_listed(outputs)}. Give a name, or a position from 0.")
    return outputs[str(name)]


def _listed(outputs: Outputs) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in outputs.items())


def _described(part: Part, what: str, outputs: Outputs) -> str:
    return ", ".join(f"output {name!r} {_tensor(outputs, name, what).shape}" for name in part.outputs)


def _counted(levels: tuple[Level, ...]) -> str:
    return " in " + ", ".join(f"{level.height} x {level.width} cells of {level.anchors}" for level in levels) if levels else ""


class _Terms(NamedTuple):
    """What the formulas of boxes are made of; pairs are x, y."""

    first: Array  # (N, 2)
    second: Array  # (N, 2)
    point: Array  # (N, 2)
    anchor: Array  # (N, 2)
    stride: Array  # (N, 1)
    input: Array  # (2,)
    unit: Array  # (1,), (2,) or (N, 1)
    variances: tuple[float, float]


_CORNERS: dict[BoxForm, Callable[[_Terms], tuple[NDArray[Any], NDArray[Any]]]] = {
    "xyxy": lambda t: (t.first * t.unit, t.second * t.unit),
    "xywh": lambda t: (t.first * t.unit, (t.first + t.second) * t.unit),
    "ltrb": lambda t: (t.point - t.first * t.unit, t.point + t.second * t.unit),
    "ltrb_dfl": lambda t: (t.point - t.first * t.unit, t.point + t.second * t.unit),
}
"""Top left and bottom right corner in pixels."""
_CENTRE_AND_SIZE: dict[BoxForm, Callable[[_Terms], tuple[NDArray[Any], NDArray[Any]]]] = {
    "cxcywh": lambda t: (t.first * t.unit, t.second * t.unit),
    "cxcywh_linear": lambda t: (t.point + t.first * t.stride, t.second * t.unit),
    "cxcywh_exp": lambda t: (t.point + t.first * t.stride, _exp(t.second) * t.stride),
    "anchor_sigmoid": lambda t: (t.point + (2 * _sigmoid(t.first) - 0.5) * t.stride, (2 * _sigmoid(t.second)) ** 2 * t.anchor),
    "anchor_exp": lambda t: (t.point + _sigmoid(t.first) * t.stride, _exp(t.second) * t.anchor),
    "ssd": lambda t: (t.point + t.first * t.variances[0] * t.anchor, _exp(t.second * t.variances[1]) * t.anchor),
    "tanh_sigmoid": lambda t: (t.point + np.tanh(t.first) * t.stride, _sigmoid(t.second) * t.input),
}
"""Centre and size in pixels."""


def _boxes(boxes: Boxes, numbers: dict[str, Array], placed: Placed, input_size: tuple[int, int]) -> Array:
    """(N, 4) xyxy in pixels."""
    four: NDArray[Any] = numbers["boxes"]
    if boxes.bins:
        four = _softmax(four.reshape(-1, 4, boxes.bins)) @ np.arange(boxes.bins, dtype=np.float32)
    if boxes.centres:
        four = np.concatenate([numbers["boxes.centres"], four], 1)
    if boxes.order == "yx":
        four = four[:, [1, 0, 3, 2]]
    input_px = np.array(input_size[::-1], np.float32)
    unit_px = {"pixels": np.ones(1, np.float32), "share": input_px, "stride": placed.strides_px}[boxes.unit]
    terms = _Terms(four[:, :2], four[:, 2:], *placed[:3], input_px, unit_px, boxes.variances)
    if boxes.form in _CORNERS:
        corners_px = _CORNERS[boxes.form](terms)
    else:
        centre_px, size_px = _CENTRE_AND_SIZE[boxes.form](terms)
        corners_px = centre_px - size_px / 2, centre_px + size_px / 2
    return np.concatenate(corners_px, 1).astype(np.float32, copy=False)


def _scores(decoding: Decoding, numbers: dict[str, Array], classes_count: int) -> Array:
    """(N, C) in [0, 1], before peaks are picked."""
    scores = _merged(decoding, numbers)
    if decoding.labels:
        labels = np.rint(numbers["labels"]) - decoding.labels.first
        scores = np.where(labels == np.arange(classes_count), scores, np.float32(0))  # a class that does not exist gets none
    if decoding.scores.best_class_only:
        scores = np.where(np.arange(scores.shape[1]) == scores.argmax(1)[:, None], scores, np.float32(0))
    return scores


def _merged(decoding: Decoding, numbers: dict[str, Array]) -> Array:
    """Probabilities of the file's own columns, (N, C) or with labels (N, 1): without background, with objectness."""
    scores = _probabilities(numbers["scores"], decoding.scores.form)
    scores = {"none": scores, "first": scores[:, 1:], "last": scores[:, :-1]}[decoding.scores.background]
    if not decoding.objectness:
        return scores
    first, second = decoding.objectness.powers
    return _probabilities(numbers["objectness"], decoding.objectness.form) ** first * scores**second


def _probabilities(values: Array, form: ScoreForm) -> Array:
    """The values in [0, 1], in an array of their own."""
    return values.clip(0, 1) if form == "as_is" else _sigmoid(values) if form == "sigmoid" else _softmax(values)


def _peaks(scores: Array, level: Level) -> Array:
    """The scores (height * width, C) with 0 where a neighbour has more (Zhou et al. 2019, section 4)."""
    plane = scores.reshape(level.height, level.width, -1)
    most = np.pad(plane, ((1, 1), (1, 1), (0, 0)))
    most = np.maximum(np.maximum(most[:-2], most[1:-1]), most[2:])
    most = np.maximum(np.maximum(most[:, :-2], most[:, 1:-1]), most[:, 2:])  # (height, width, C): of 3 x 3 cells
    return np.where(plane == most, plane, np.float32(0)).reshape(scores.shape)


def _exp(values: Array) -> Array:
    return cast(Array, np.exp(np.minimum(values, np.float32(EXPONENT_LIMIT))))


def _sigmoid(values: Array) -> Array:
    return cast(Array, 1 / (1 + _exp(-values)))


def _softmax(values: Array) -> Array:
    """Along the last axis."""
    powers = np.exp(values - values.max(-1, keepdims=True))
    return cast(Array, powers / powers.sum(-1, keepdims=True))
