"""The generated YOLO detectors against what was published about them."""

from __future__ import annotations

import pytest

from studies.profiles.layers import Sketch, Tensor
from studies.profiles.yolo_graphs import YoloName, parse_name, yolo_graph

PUBLISHED = {
    # name: (parameters in 1e6, GFLOPs at 640 x 640) of the deployed network with its own head
    YoloName(3, "", 1.0, 1.0, 640): (61.9, 155.6),  # ultralytics/yolov3 README
    YoloName(4, "", 1.0, 1.0, 640): (52.9, 120.4),  # YOLOv4-CSP, arXiv 2207.02696 table 1
    YoloName(5, "", 0.33, 0.25, 640): (1.9, 4.5),  # ultralytics/yolov5 README
    YoloName(5, "", 0.33, 0.5, 640): (7.2, 16.5),
    YoloName(5, "", 0.67, 0.75, 640): (21.2, 49.0),
    YoloName(5, "", 1.0, 1.0, 640): (46.5, 109.1),
    YoloName(6, "s", 0.33, 0.25, 640): (4.7, 11.4),  # meituan/YOLOv6 README: YOLOv6-N 3.0
    YoloName(6, "s", 0.33, 0.5, 640): (18.5, 45.3),
    YoloName(6, "m", 0.6, 0.75, 640): (34.9, 85.8),
    YoloName(6, "l", 1.0, 1.0, 640): (59.6, 150.7),
    YoloName(7, "", 1.0, 1.0, 640): (36.9, 104.7),  # WongKinYiu/yolov7 README
    YoloName(8, "", 0.33, 0.25, 640): (3.2, 8.7),  # ultralytics docs, models/yolov8
    YoloName(8, "", 0.33, 0.5, 640): (11.2, 28.6),
    YoloName(8, "", 0.67, 0.75, 640): (25.9, 78.9),
    YoloName(8, "", 1.0, 1.0, 640): (43.7, 165.2),
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items(), ids=lambda value: getattr(value, "architecture", ""))
def test_sizes_are_the_published_ones(name: YoloName, published: tuple[float, float]) -> None:
    """Parameters and multiply-adds agree within 2 % with the family's own publication, rounding of 1.9 and 4.7 included."""
    graph = yolo_graph(name, fused_silu=True, head="published")
    assert graph.parameters / 1e6 == pytest.approx(published[0], rel=0.02)
    assert graph.gflops == pytest.approx(published[1], rel=0.02)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("yolo5d67w25_320", YoloName(5, "", 0.67, 0.25, 320)),
        ("yolo8n_160", YoloName(8, "", 0.33, 0.25, 160)),
        ("yolo6m-d6w75_480", YoloName(6, "m", 0.6, 0.75, 480)),
        ("yolo4d1w5_416", YoloName(4, "", 1.0, 0.5, 416)),
        ("yolo7l_224", YoloName(7, "", 1.0, 1.0, 224)),
    ],
)
def test_names_say_what_they_are(name: str, expected: YoloName) -> None:
    """Family, variant, scale and resolution are read from YOLOBench's names."""
    assert parse_name(name) == expected


def test_other_names_are_refused() -> None:
    """A name that is none of YOLOBench's raises and says what they look like."""
    with pytest.raises(ValueError, match="yolo5n_320"):
        parse_name("efficientdet-lite0_320")


def test_unfused_silu_adds_movers_and_no_arithmetic() -> None:
    """Where SiLU is an operator of its own there are more operators and the same multiply-adds and parameters."""
    name = parse_name("yolo5n_320")
    fused, split = yolo_graph(name, fused_silu=True), yolo_graph(name, fused_silu=False)
    added = len(split.operators) - len(fused.operators)
    assert added == sum(operator.op_type == "Swish" for operator in split.operators) > 50
    assert (fused.gflops, fused.parameters) == (split.gflops, split.parameters)


def test_relu_networks_do_not_change_with_silu() -> None:
    """YOLOv6 M computes ReLU in its body; only YOLOBench's head has SiLU there: 2 x 2 convolutions on 3 levels."""
    name = parse_name("yolo6m-d33w25_320")
    split = yolo_graph(name, fused_silu=False)
    assert sum(operator.op_type == "Swish" for operator in split.operators) == 12


def test_work_grows_with_pixels() -> None:
    """Twice the side is four times the multiply-adds: every layer is convolutional."""
    small, large = (yolo_graph(parse_name(f"yolo8n_{side}"), fused_silu=True) for side in (160, 320))
    assert large.gflops == pytest.approx(4 * small.gflops)
    assert large.parameters == small.parameters


def test_convolution_by_hand() -> None:
    """3 to 8 channels, 3x3 at stride 2 on 10 x 6: 27 weights a channel, 5 x 3 outputs, two values of normalisation a channel."""
    sketch = Sketch(fused_silu=True)
    out = sketch.conv(Tensor(3, 10, 6), 8, kernel=3, stride=2)
    (operator,) = sketch.operators
    assert out == Tensor(8, 5, 3)
    assert (operator.kind, operator.macs, operator.weight_elements) == ("conv_other", 27 * 8 * 15, 27 * 8 + 8)
    assert (operator.input_elements, operator.output_elements) == (180, 120)
    assert sketch.parameters == 27 * 8 + 2 * 8


def test_transposed_convolution_by_hand() -> None:
    """Kernel 2 at stride 2 over 4 channels of 3 x 3: 36 places, each a dot product of 4 for each of 4 channels."""
    sketch = Sketch(fused_silu=True)
    assert sketch.upsampling_conv(Tensor(4, 3, 3)) == Tensor(4, 6, 6)
    assert sketch.operators[0].macs == 36 * 4 * 4
