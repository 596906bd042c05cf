"""Every part of a declared decoding, against values worked by hand."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detection.file_interface.declaration import Decoding
from detection.file_interface.outputs import Outputs, contradiction, decode
from detection.frozen import InputError

LN2, LN3 = math.log(2), math.log(3)
GRID = {"kind": "grid", "strides": [32], "offset": 0.5}
ANCHORS = {"kind": "anchors", "strides": [32], "sizes_px": [[[10, 20]]]}
PIXELS = {"outputs": ["boxes"], "form": "xyxy"}
SCORES = {"outputs": ["scores"]}


def declared(**parts: Any) -> Decoding:
    """A declaration; boxes and scores have usual values."""
    return Decoding.model_validate({"boxes": PIXELS, "scores": SCORES, **parts})


def boxes_of(box: dict[str, Any], numbers: NDArray[Any], input_size: tuple[int, int], **parts: Any) -> NDArray[Any]:
    """The boxes of one tensor of numbers; scores do not matter."""
    decoding = declared(boxes={"outputs": ["boxes"], **box}, **parts)
    rows = np.prod(numbers.shape) // 4
    return decode(decoding, {"boxes": numbers, "scores": np.zeros((1, rows, 1))}, input_size, 1).boxes_xyxy_px


def scores_of(score: dict[str, Any], numbers: Any, classes: int, other: dict[str, Any] | None = None, **parts: Any) -> NDArray[Any]:
    """The scores of one matrix of numbers; boxes do not matter."""
    scores = np.array(numbers, np.float32)
    outputs = {
        "boxes": np.zeros((len(scores), 4)),
        "scores": scores,
        **{name: np.array(value) for name, value in (other or {}).items()},
    }
    return decode(declared(scores={**SCORES, **score}, **parts), outputs, (32, 32), classes).scores


@pytest.mark.parametrize(
    ("box", "numbers", "expected"),
    [
        ({"form": "xyxy"}, (1, 2, 3, 4), (1, 2, 3, 4)),
        ({"form": "xyxy", "order": "yx"}, (1, 2, 3, 4), (2, 1, 4, 3)),
        ({"form": "xyxy", "unit": "share"}, (0.1, 0.2, 0.5, 0.6), (20, 20, 100, 60)),
        ({"form": "xyxy", "unit": "share", "order": "yx"}, (0.1, 0.2, 0.5, 0.6), (40, 10, 120, 50)),
        ({"form": "xywh"}, (1, 2, 3, 4), (1, 2, 4, 6)),
        ({"form": "cxcywh"}, (10, 20, 4, 6), (8, 17, 12, 23)),
        ({"form": "cxcywh", "unit": "share"}, (0.5, 0.5, 0.2, 0.4), (80, 30, 120, 70)),
        ({"form": "cxcywh", "order": "yx"}, (20, 10, 6, 4), (8, 17, 12, 23)),
    ],
    ids=str,
)
def test_boxes_without_points(box: dict[str, Any], numbers: tuple[float, ...], expected: tuple[float, ...]) -> None:
    """The input is 100 pixels high and 200 wide: exchanging them shows."""
    np.testing.assert_allclose(boxes_of(box, np.array([[numbers]]), (100, 200)), [expected], rtol=1e-6)


@pytest.mark.parametrize(
    ("box", "points", "numbers", "expected"),
    [
        ({"form": "ltrb"}, GRID, (1, 2, 3, 4), (47, 14, 51, 20)),
        ({"form": "ltrb", "order": "yx"}, GRID, (2, 1, 4, 3), (47, 14, 51, 20)),
        ({"form": "ltrb", "unit": "stride"}, GRID, (0.5, 0.25, 0.125, 0.5), (32, 8, 52, 32)),
        ({"form": "cxcywh", "unit": "stride"}, GRID, (1.5, 0.5, 1, 0.5), (32, 8, 64, 24)),
        ({"form": "cxcywh_linear", "unit": "stride"}, GRID, (0.25, -0.25, 1, 0.5), (40, 0, 72, 16)),
        ({"form": "cxcywh_linear", "unit": "pixels"}, GRID, (0.25, -0.25, 10, 4), (51, 6, 61, 10)),
        ({"form": "cxcywh_exp"}, GRID, (0.25, -0.25, -LN2, 0), (48, -8, 64, 24)),
        ({"form": "anchor_sigmoid"}, {**ANCHORS, "offset": 0}, (0, LN3, 0, LN3), (38, 20.75, 58, 43.25)),
        ({"form": "anchor_exp"}, {**ANCHORS, "offset": 0}, (0, LN3, LN2, 0), (28, 19, 68, 29)),
        ({"form": "ssd"}, ANCHORS, (1, -1, 5 * LN2, 0), (30, 10, 70, 20)),
        ({"form": "ssd", "order": "yx", "variances": [1, 1]}, ANCHORS, (-0.1, 0.1, 0, LN2), (30, 10, 70, 20)),
        ({"form": "tanh_sigmoid"}, {**GRID, "offset": 0}, (math.atanh(0.5), 0, 0, LN3), (32, -12, 64, 12)),
    ],
    ids=str,
)
def test_boxes_at_points(
    box: dict[str, Any], points: dict[str, Any], numbers: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    """The second of two cells of 32 pixels: its corner is at (32, 0), its middle at (48, 16); its anchor is 10 high and 20 wide."""
    found = boxes_of(box, np.array([[[0.0] * 4, numbers]]), (32, 64), points=points)
    np.testing.assert_allclose(found[1], expected, atol=1e-5)


def test_distributions_by_hand() -> None:
    """Of two bins at 0 and 1 stride the mean is the share of the second: left 1/2, top 3/4, right 1/4, bottom nothing."""
    logits = np.array([[[0.0] * 8, [0, 0, 0, LN3, LN3, 0, 0, -100]]])
    box = {"outputs": ["boxes"], "form": "ltrb_dfl", "unit": "stride", "bins": 2}
    decoding = declared(boxes=box, points=GRID)
    found = decode(decoding, {"boxes": logits, "scores": np.zeros((1, 2, 1))}, (32, 64), 1)
    np.testing.assert_allclose(found.boxes_xyxy_px[1], [32, -8, 56, 16], atol=1e-4)


def test_given_priors_by_hand() -> None:
    """A prior in the middle of 32 x 64 pixels, half as wide and high: one tenth of its size to the right."""
    points = {"kind": "given", "boxes_cxcywh": [[0.5, 0.5, 0.5, 0.5]]}
    np.testing.assert_allclose(
        boxes_of({"form": "ssd"}, np.array([[[1, 0, 0, 0]]]), (32, 64), points=points), [[19.2, 8, 51.2, 24]]
    )


@pytest.mark.parametrize("order", ["inner", "outer"])
def test_every_layout_gives_the_same_rows(order: str) -> None:
    """Two anchors at 2 x 3 cells: the axes may stand in any declared place, and rows of whole tensors are in the declared order."""
    numbers = np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype(np.float32)  # (A, height, width, K)
    points = {"kind": "anchors", "strides": [16], "sizes_px": [[[10, 20], [30, 5]]], "order": order}
    rows = (numbers if order == "outer" else numbers.transpose(1, 2, 0, 3)).reshape(-1, 4)
    last = [rows, rows[None], numbers[None], numbers.transpose(1, 2, 0, 3).reshape(1, 2, 3, 8)]
    first = [rows.T, rows.T[None], numbers.transpose(0, 3, 1, 2)[None], numbers.transpose(0, 3, 1, 2).reshape(1, 8, 2, 3)]
    expected = boxes_of({"form": "ssd"}, rows, (32, 48), points=points)
    for channels, tensors in (("last", last), ("first", first)):
        for tensor in tensors:
            found = boxes_of({"form": "ssd", "channels": channels}, tensor, (32, 48), points=points)
            np.testing.assert_array_equal(found, expected, err_msg=f"{channels} {tensor.shape}")


def test_levels_are_joined_in_the_order_of_the_strides() -> None:
    """One tensor for each stride, by name or position, and not in the file's order."""
    outputs = {"coarse": np.full((1, 4, 1, 2), 2.0), "scores": np.zeros((1, 10, 1)), "fine": np.ones((1, 4, 2, 4))}
    for names in (["fine", "coarse"], [2, 0]):
        box = {"outputs": names, "channels": "first", "form": "ltrb"}
        found = decode(declared(boxes=box, points={**GRID, "strides": [16, 32]}), outputs, (32, 64), 1)
        np.testing.assert_array_equal(
            found.boxes_xyxy_px[[0, 7, 8, 9]], [[7, 7, 9, 9], [55, 23, 57, 25], [14, 14, 18, 18], [46, 14, 50, 18]]
        )


@pytest.mark.parametrize(
    ("score", "numbers", "expected"),
    [
        ({}, (0.25, 1.01), (0.25, 1.0)),  # a quantized file may step over the edge
        ({"form": "sigmoid"}, (0, LN3), (0.5, 0.75)),
        ({"form": "softmax"}, (0, LN3), (0.25, 0.75)),
        ({"form": "softmax", "background": "first"}, (LN2, 0, 0), (0.25, 0.25)),
        ({"form": "softmax", "background": "last"}, (0, LN2, LN2 * 2), (1 / 7, 2 / 7)),
        ({"background": "first"}, (0.7, 0.1, 0.2), (0.1, 0.2)),
        ({"best_class_only": True}, (0.4, 0.3), (0.4, 0.0)),
        ({"columns": [1, 3]}, (9, 0.1, 0.2, 9), (0.1, 0.2)),
        ({"columns": [1, None]}, (9, 0.1, 0.2), (0.1, 0.2)),
    ],
    ids=str,
)
def test_scores_by_hand(score: dict[str, Any], numbers: tuple[float, ...], expected: tuple[float, ...]) -> None:
    """Two classes at one point."""
    np.testing.assert_allclose(scores_of(score, [numbers], 2), [expected], rtol=1e-6)


@pytest.mark.parametrize(
    ("how", "objectness", "expected"),
    [
        ({}, 0.25, (0.25 * 0.0625, 0.25)),
        ({"form": "sigmoid"}, LN3, (0.75 * 0.0625, 0.75)),
        ({"powers": [0.5, 0.25]}, 0.25, (0.25, 0.5)),
    ],
    ids=str,
)
def test_objectness_by_hand(how: dict[str, Any], objectness: float, expected: tuple[float, float]) -> None:
    """Class scores 1/16 and 1."""
    found = scores_of({}, [[0.0625, 1.0]], 2, {"there": [[objectness]]}, objectness={"outputs": ["there"], **how})
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


@pytest.mark.parametrize("axes", [(3,), (1, 3), (3, 1), (1, 3, 1)], ids=str)
def test_chosen_classes_become_columns(axes: tuple[int, ...]) -> None:
    """Classes are counted from 1; a class that does not exist, and rows behind the count, have no score."""
    outputs = {
        "boxes": np.zeros((1, 3, 4)),
        "scores": np.array([0.9, 0.8, 0.7]).reshape(axes),
        "labels": np.array([2, 3, 1]).reshape(axes),
        "count": np.array([2]),
    }
    decoding = declared(labels={"outputs": ["labels"], "first": 1}, select="best")
    np.testing.assert_allclose(decode(decoding, outputs, (32, 32), 2).scores, [[0, 0.9], [0, 0], [0.7, 0]], rtol=1e-6)
    counted = decoding.model_copy(update={"count": "count"})
    np.testing.assert_allclose(decode(counted, outputs, (32, 32), 2).scores, [[0, 0.9], [0, 0], [0, 0]], rtol=1e-6)


def test_rows_of_detections() -> None:
    """Corners, score and class in one row, as end-to-end files give them: (1, M, 6), or (M, 6) without a batch."""
    row = np.array([[10, 20, 30, 40, 0.5, 1]])
    decoding = declared(
        boxes={"outputs": [0], "columns": [0, 4], "form": "xyxy"},
        scores={"outputs": [0], "columns": [4, 5]},
        labels={"outputs": [0], "columns": [5, 6]},
    )
    for tensor in (row, row[None]):
        found = decode(decoding, {"output": tensor}, (64, 64), 3)
        np.testing.assert_allclose(found.boxes_xyxy_px, [[10, 20, 30, 40]])
        np.testing.assert_allclose(found.scores, [[0, 0.5, 0]])


def test_peaks_by_hand() -> None:
    """A diagonal neighbour counts, equal neighbours both stay, the border has neighbours on one side only, classes are apart."""
    heat = np.array([[0.9, 0.1, 0.1, 0.2, 0.2], [0.3, 0.8, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, 0.7]])
    other = np.full((3, 5), 0.1)
    outputs = {"heat": np.stack([heat, other])[None], "boxes": np.zeros((1, 15, 4))}
    scores = {"outputs": ["heat"], "channels": "first", "peaks": True}
    decoding = declared(boxes={"outputs": ["boxes"], "form": "ltrb"}, scores=scores, points={"kind": "grid", "strides": [4]})
    found = decode(decoding, outputs, (12, 20), 2).scores
    np.testing.assert_allclose(found[:, 0].reshape(3, 5), [[0.9, 0, 0, 0.2, 0.2], [0] * 5, [0, 0, 0, 0, 0.7]], rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], 0.1, rtol=1e-6)


def test_centres_in_a_tensor_of_their_own() -> None:
    """CenterNet's offsets and sizes, y before x: a cell of 4 pixels at (4, 0), moved by 1/2 and 1/4."""
    outputs = {"offsets": np.array([[[0, 0], [0.25, 0.5]]]), "sizes": np.array([[[0, 0], [2, 1]]]), "scores": np.zeros((1, 2, 1))}
    box = {"outputs": ["sizes"], "centres": {"outputs": ["offsets"]}, "form": "cxcywh_linear", "unit": "stride", "order": "yx"}
    found = decode(declared(boxes=box, points={"kind": "grid", "strides": [4], "offset": 0}), outputs, (4, 8), 1)
    np.testing.assert_allclose(found.boxes_xyxy_px[1], [4, -3, 8, 5])


def test_what_comes_out_is_float32_and_what_comes_in_stays() -> None:
    """Whatever the file's types are, and although the scores are limited to [0, 1]."""
    for kind in (np.float16, np.float64, np.int32):
        outputs = {"boxes": np.ones((1, 2, 4), kind), "scores": np.full((1, 2, 1), 2, kind)}
        found = decode(declared(), outputs, (32, 32), 1)
        assert (found.boxes_xyxy_px.dtype, found.scores.dtype) == (np.float32, np.float32)
        assert (outputs["scores"] == 2).all()


@pytest.mark.parametrize("form", ["as_is", "sigmoid", "softmax"])
def test_no_value_is_an_error(form: str) -> None:
    """Numbers far outside, infinite or none at all, as a badly quantized file may give them: no warning, and scores in [0, 1]."""
    numbers = np.array([[1e30, -1e30, 3e4, -3e4], [np.inf, -np.inf, np.nan, 0]], np.float32)
    box = {"outputs": ["boxes"], "form": "cxcywh_exp"}
    decoding = declared(boxes=box, scores={**SCORES, "form": form}, points=GRID)
    found = decode(decoding, {"boxes": numbers, "scores": numbers}, (32, 64), 4)
    assert np.isfinite(found.boxes_xyxy_px[0]).all()
    assert not ((found.scores < 0) | (found.scores > 1)).any()


def test_no_detections_are_empty_arrays() -> None:
    """An end-to-end file may find nothing."""
    outputs = {"boxes": np.zeros((1, 0, 4)), "scores": np.zeros((1, 0)), "labels": np.zeros((1, 0))}
    found = decode(declared(labels={"outputs": ["labels"]}), outputs, (32, 32), 3)
    assert (found.boxes_xyxy_px.shape, found.scores.shape) == ((0, 4), (0, 3))


OUTPUTS: Outputs = {
    "boxes": np.zeros((1, 8, 4)),
    "scores": np.zeros((1, 8, 3)),
    "heat": np.zeros((1, 3, 4, 2)),
    "two": np.zeros((2, 8, 3)),
}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"scores": {"outputs": ["logits"]}}, r"decode.scores: no output 'logits'; the file has boxes \(1, 8, 4\), scores"),
        ({"scores": {"outputs": [7]}}, "decode.scores: no output 7; .* a position from 0"),
        ({"scores": {"outputs": ["two"]}}, r"decode.scores: output 'two' \(2, 8, 3\), .*a batch of 1"),
        ({"scores": {"outputs": ["boxes"]}}, r"decode.scores: output 'boxes' \(1, 8, 4\), .* 4 numbers per point, 3 are needed"),
        ({"scores": {**SCORES, "background": "last"}}, "3 numbers per point, 4 are needed"),
        ({"scores": {**SCORES, "columns": [1, 9]}}, r"columns \(1, 9\): 2 numbers per point, 3 are needed"),
        ({"boxes": {**PIXELS, "outputs": ["heat"]}}, r"decode.boxes: output 'heat' \(1, 3, 4, 2\).* 2 numbers per point, 4 are"),
        ({"scores": {"outputs": ["heat"], "channels": "first"}, "boxes": {**PIXELS, "columns": [0, 4]}}, None),
        ({"objectness": {"outputs": ["heat"], "columns": [0, 1]}}, "8 of boxes, 8 of scores, 12 of objectness"),
        ({"boxes": {**PIXELS, "form": "ltrb"}, "points": GRID}, "8 of boxes, 8 of scores, 2 of points in 1 x 2 cells of 1"),
        (
            {
                "boxes": {**PIXELS, "form": "ltrb"},
                "scores": {"outputs": ["heat"], "channels": "first"},
                "points": {**GRID, "strides": [16]},
            },
            r"decode.scores: output 'heat' \(1, 3, 4, 2\), .* does not go with points in 2 x 4 cells of 1",
        ),
        ({"count": "n"}, "decode.count: no output 'n'"),
    ],
    ids=str,
)
def test_shapes_that_disagree_are_one_message(parts: dict[str, Any], message: str | None) -> None:
    """It says which part and output, what was found and what is needed."""
    if message is None:
        assert decode(declared(**parts), OUTPUTS, (32, 64), 3).scores.shape == (8, 3)
        return
    with pytest.raises(InputError, match=message):
        decode(declared(**parts), OUTPUTS, (32, 64), 3)


@pytest.mark.parametrize(
    ("parts", "scores", "labels", "message"),
    [
        ({}, [[0.0, 0.5]], [[0.0]], None),
        ({}, [[-3.0, 0.5]], [[0.0]], "decode.scores: form as_is, .* values from -3 to 0.5; sigmoid or softmax"),
        ({"scores": {**SCORES, "form": "sigmoid"}}, [[-3.0, 0.5]], [[0.0]], None),
        ({"scores": {**SCORES, "form": "softmax"}}, [[0.2, 0.5]], [[0.0]], "decode.scores: form softmax, .* as_is takes prob"),
        ({"objectness": {"outputs": ["labels"]}}, [[0.2, 0.5]], [[3.0]], r"decode.objectness: .*'labels' \(1, 1\)"),
        ({"labels": {"outputs": ["labels"]}, "scores": {**SCORES, "columns": [0, 1]}}, [[0.2, 0.5]], [[1.0]], None),
        (
            {"labels": {"outputs": ["labels"]}, "scores": {**SCORES, "columns": [0, 1]}},
            [[0.2, 0.5]],
            [[2.0]],
            "has 2; allowed are 2 classes",
        ),
        ({"labels": {"outputs": ["labels"]}, "scores": {**SCORES, "columns": [0, 1]}}, [[0.2, 0.5]], [[0.3]], "has 0.3"),
        ({"labels": {"outputs": ["labels"]}, "scores": {**SCORES, "columns": [0, 1]}}, [[0.0, 0.5]], [[-1.0]], None),
    ],
    ids=str,
)
def test_values_that_contradict_the_declaration(parts: dict[str, Any], scores: Any, labels: Any, message: str | None) -> None:
    """Logits are no probabilities, probabilities no logits, and padding may have any class."""
    outputs = {"boxes": np.zeros((1, 4)), "scores": np.array(scores), "labels": np.array(labels)}
    found = contradiction(declared(**parts), outputs, (32, 32), 2)
    assert (found is None) == (message is None), found
    if message is not None:
        assert re.search(message, found or ""), found


def test_decoding_loads_no_heavy_library() -> None:
    """It runs where latency is measured, and on devices."""
    code = "import sys, detection.file_interface.presets; print({'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stdout.strip() == "set()"
