"""What holds for every example: it detects, learns from any batch, exports, and its adapter names layers that are there."""

from __future__ import annotations

import ast
import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from detection.family import Batch
from examples import odd_anchors, plain_yolo
from tests.places import ROOT

SIZE = (64, 96)
EXAMPLES: dict[str, tuple[Any, dict[str, Any], int]] = {
    "plain_yolo": (plain_yolo.family, {"width": 16}, 8 * 12 + 4 * 6 + 2 * 3),
    "odd_anchors": (odd_anchors.family, {"width": 64}, 3 * (8 * 12 + 4 * 6)),
}
"""Name -> the adapter, a small spec, and how many predictions it makes for a picture of SIZE."""
each_example = pytest.mark.parametrize(("family", "spec", "predictions"), EXAMPLES.values(), ids=EXAMPLES)


def built(family: Any, spec: dict[str, Any], classes: tuple[str, ...] = ("cat", "dog")) -> nn.Module:
    """A network with random weights, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = family.build(spec, classes, SIZE)
    return network


def batch_of(*pictures: list[tuple[int, tuple[float, float, float, float]]], room: int = 1) -> Batch:
    """A batch of noise; each picture is a list of (label, box), padded to `room` boxes at least."""
    most = max(room, *(len(own) for own in pictures))
    boxes, labels = torch.zeros(len(pictures), most, 4), torch.zeros(len(pictures), most, dtype=torch.int64)
    present = torch.zeros(len(pictures), most, dtype=torch.bool)
    for row, own in enumerate(pictures):
        for column, (label, box) in enumerate(own):
            boxes[row, column], labels[row, column], present[row, column] = torch.tensor(box), label, True
    images = torch.rand(len(pictures), 3, *SIZE, generator=torch.Generator().manual_seed(0))
    return Batch(images, boxes, labels, present)


@each_example
def test_it_gives_boxes_and_scores(family: Any, spec: dict[str, Any], predictions: int) -> None:
    """One box with a score for each class per prediction; widths and heights are positive, scores start low."""
    network = built(family, spec).eval()
    with torch.no_grad():
        boxes, scores = family.decode(network, network(batch_of([], []).images))
    assert boxes.shape == (2, predictions, 4)
    assert scores.shape == (2, predictions, 2)
    assert (boxes[..., 2:] > boxes[..., :2]).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.median() < 0.1


@each_example
def test_what_is_padded_counts_nothing(family: Any, spec: dict[str, Any], predictions: int) -> None:
    """More room for boxes, whatever lies there, leaves the loss as it is."""
    network = built(family, spec)
    pictures = [(0, (10.0, 10.0, 40.0, 50.0)), (1, (50.0, 5.0, 90.0, 60.0))], [(1, (4.0, 4.0, 20.0, 20.0))]
    tight, wide = batch_of(*pictures), batch_of(*pictures, room=5)
    wide.boxes_xyxy_px[~wide.present] = torch.tensor([0.0, 0.0, 96.0, 64.0])
    raw = network(tight.images)
    torch.testing.assert_close(family.loss(network, raw, wide), family.loss(network, raw, tight))


@each_example
@pytest.mark.parametrize("pictures", [([], []), ([], [(0, (10.0, 10.0, 40.0, 50.0))]), ([(0, (10.0, 10.0, 10.0, 10.0))], [])])
def test_pictures_without_boxes_teach_too(
    family: Any, spec: dict[str, Any], predictions: int, pictures: tuple[list[tuple[int, tuple[float, float, float, float]]], ...]
) -> None:
    """Loss and gradients are finite where a batch, or a picture of it, has no box, and where a box has no area."""
    network, batch = built(family, spec).train(), batch_of(*pictures)
    loss = family.loss(network, network(batch.images), batch)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert loss.isfinite()
    assert loss > 0
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


@each_example
def test_the_loss_is_in_float32_whatever_the_forward_was_in(family: Any, spec: dict[str, Any], predictions: int) -> None:
    """As where autocast computes the convolutions in bfloat16."""
    network, batch = built(family, spec), batch_of([(0, (10.0, 10.0, 40.0, 50.0))])
    with torch.autocast("cpu", torch.bfloat16):
        raw = network(batch.images)
    assert family.loss(network, raw, batch).dtype == torch.float32


@each_example
def test_it_learns(family: Any, spec: dict[str, Any], predictions: int, tiny_train: Images) -> None:
    """Forty steps on eight pictures lower the loss to less than half, and every parameter has a gradient."""
    network = built(family, spec, tiny_train.classes).train()
    batch = make_batch(tiny_train, np.arange(8), None, np.random.default_rng(0))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss: Tensor = family.loss(network, network(batch.images), batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 / 2, losses


@each_example
def test_the_exported_file_says_the_same(family: Any, spec: dict[str, Any], predictions: int, tmp_path: Path) -> None:
    """ONNX Runtime gives the boxes and scores of torch."""
    import onnxruntime

    decoded, images = Decoded(family, built(family, spec)).eval(), batch_of([]).images
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(decoded, (images,), str(tmp_path / "file.onnx"), dynamo=False, opset_version=18, input_names=["images"])
    session = onnxruntime.InferenceSession(tmp_path / "file.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = decoded(images)
    for own, other in zip(session.run(None, {"images": images.numpy()}), expected, strict=True):
        np.testing.assert_allclose(own, other.numpy(), rtol=1e-4, atol=1e-3)


class Decoded(nn.Module):
    """Images to boxes and scores."""

    def __init__(self, family: Any, network: nn.Module) -> None:
        super().__init__()
        self.family, self.network = family, network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.family.decode(self.network, self.network(images))
        return found


@each_example
def test_the_adapter_names_layers_that_are_there(family: Any, spec: dict[str, Any], predictions: int) -> None:
    """The last layers are convolutions; features are maps, fine to coarse; skippable blocks give the shape that they take."""
    network = built(family, spec).eval()
    shapes: dict[str, tuple[torch.Size, torch.Size]] = {}
    for name in (*family.features(network), *family.skippable(network)):
        network.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: shapes.update({name: (inputs[0].shape, output.shape)})
        )
    network(batch_of([]).images)
    assert all(isinstance(network.get_submodule(name), nn.Conv2d) for name in family.protected(network))
    heights = [shapes[name][1][2] for name in family.features(network)]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) == len(heights)
    assert family.skippable(network)
    assert all(shapes[name][0] == shapes[name][1] for name in family.skippable(network))


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_needs_torch_alone(name: str) -> None:
    """Users have no sixfold at hand where they train: what is imported from it, types need alone."""
    tree = ast.parse((ROOT / "examples" / f"{name}.py").read_text())
    for_types = {inner for node in tree.body if isinstance(node, ast.If) for inner in ast.walk(node)}
    modules = {
        module.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and node not in for_types
        for module in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert modules <= {"__future__", "collections", "math", "torch", "typing"}
