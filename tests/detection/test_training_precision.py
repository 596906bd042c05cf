"""Training in bfloat16: convolutions in groups that step stay in float32, and the average knows nothing of it."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook

from detection.checkpoint import Detector
from detection.compact.network import Network
from detection.data.augmentation import Augmentation, make_batch
from detection.data.dataset import Images
from detection.training import Recipe, _Run, fit, strided_depthwise_in_float32
from tests.detection.variants import DEPTHWISE, VARIANTS, lively

CPU = torch.device("cpu")
ONE_EPOCH = Recipe(epochs=1, batch_size=8, augmentation=Augmentation(flip_horizontal=0.0))
STEPPING = {*(f"stages.{stage}.0.0" for stage in range(4)), "neck.downs.0.0", "neck.downs.1.0"}
"""Of the tiny detector in depthwise pairs: the step into each stage, and both steps up the pyramid."""


@pytest.fixture(scope="module")
def light(tiny_detector: Detector) -> Detector:
    """The tiny detector in depthwise pairs; no part of it is neutral."""
    return lively(tiny_detector.spec.having(DEPTHWISE))


@contextmanager
def computed() -> Iterator[set[tuple[bool, torch.dtype]]]:
    """(whether it steps in groups, of what type its maps are) of every convolution meanwhile."""
    seen: set[tuple[bool, torch.dtype]] = set()

    def look(module: nn.Module, _inputs: object, maps: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            seen.add((module.groups > 1 and module.stride == (2, 2), maps.dtype))

    hook = register_module_forward_hook(look)
    try:
        yield seen
    finally:
        hook.remove()


def changed(network: nn.Module) -> set[str]:
    """Modules with a forward of their own instead of their class's."""
    return {name for name, module in network.named_modules() if "forward" in vars(module)}


@pytest.mark.parametrize(("variant", "names"), [("depthwise", STEPPING), ("dense", set()), ("ghost", set())])
def test_only_convolutions_in_groups_that_step_are_changed(variant: str, names: set[str]) -> None:
    """Six of a depthwise detector; a ghost's cheap ones do not step, a dense one's steps are in one group."""
    network = Network(VARIANTS[variant])
    strided_depthwise_in_float32(network)
    assert changed(network) == names


def test_a_changed_convolution_computes_in_float32_whatever_surrounds_it() -> None:
    """To the bit what float32 gives, of bfloat16 maps and under autocast; its gradients are those of float32, and one that does not
    step is left to autocast."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False))
    kernel = nn.Parameter(network[0].weight.detach().clone())  # type: ignore[union-attr,operator]
    strided_depthwise_in_float32(network)
    for dtype in (torch.float32, torch.bfloat16):
        maps = torch.randn(2, 8, 6, 10, generator=generator).to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            stepped = network[0](maps)
            assert network[1](stepped).dtype == torch.bfloat16
        expected = F.conv2d(maps.float(), kernel, stride=2, padding=1, groups=8)
        assert torch.equal(stepped, expected)
        stepped.square().sum().backward()
        expected.square().sum().backward()
    assert kernel.grad is not None
    torch.testing.assert_close(network[0].weight.grad, kernel.grad)


def test_a_light_detector_trains_in_bfloat16_but_for_its_steps(light: Detector, tiny_train: Images) -> None:
    """Steps in groups make float32 maps, all other convolutions bfloat16 ones; losses and weights are finite, and float32."""
    recipe = ONE_EPOCH.model_copy(update={"precision": "bfloat16"})
    with computed() as seen:
        trained, record = fit(light, tiny_train, recipe, seed=0, device=CPU)
    assert seen == {(True, torch.float32), (False, torch.bfloat16)}
    assert all(math.isfinite(loss) for loss in record.loss_per_epoch)
    assert all(tensor.isfinite().all() for tensor in trained.weights.values())
    assert {tensor.dtype for tensor in trained.weights.values()} == {torch.float32, torch.int64}


def test_training_in_float32_does_not_change(light: Detector, tiny_train: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without autocast there is nothing to stay out of: the same weights bit for bit as without the exception."""
    found, record = fit(light, tiny_train, ONE_EPOCH, seed=0, device=CPU)
    monkeypatch.setattr("detection.training.strided_depthwise_in_float32", lambda _: None)
    expected, expected_record = fit(light, tiny_train, ONE_EPOCH, seed=0, device=CPU)
    assert found.digest == expected.digest
    assert record.loss_per_epoch == expected_record.loss_per_epoch


@pytest.fixture
def run(light: Detector, tiny_train: Images) -> _Run:
    """A training in bfloat16 after two steps."""
    recipe = ONE_EPOCH.model_copy(update={"precision": "bfloat16", "batch_size": 4})
    run = _Run(light.network().train(), light.family, None, recipe, steps_per_epoch=6)
    for first in (0, 4):
        run.step(make_batch(tiny_train, np.arange(first, first + 4), None, np.random.default_rng(0)))
    return run


def test_the_average_has_no_trace_of_it(run: _Run, light: Detector) -> None:
    """The network in training steps in float32; the average of its weights is a network as any other, under autocast too."""
    assert changed(run.network) == STEPPING
    assert changed(run.average) == set()
    assert not torch.equal(run.average.state_dict()["stages.0.0.0.weight"], light.weights["stages.0.0.0.weight"])
    with computed() as seen, torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        run.average(torch.rand(1, 3, 64, 96))
    assert seen == {(True, torch.bfloat16), (False, torch.bfloat16)}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))], ids=["deepcopy", "pickle"])
def test_the_average_can_be_copied(copied: Callable[[nn.Module], nn.Module], run: _Run) -> None:
    """A copy of the average answers as it does, and goes on doing so when training goes on with the average."""
    pictures = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = copied(run.average.eval())
        before = run.average(pictures).score_logits
        assert torch.equal(own(pictures).score_logits, before)
        run.means[0].add_(1.0)  # the stem's kernel
        assert not torch.equal(run.average(pictures).score_logits, before)
        assert torch.equal(own(pictures).score_logits, before)


def test_a_copy_of_the_trained_network_steps_by_its_own_weights(run: _Run) -> None:
    """Its convolutions do not compute with the weights of the network it was copied from."""
    own, pictures = copy.deepcopy(run.network).eval(), torch.rand(1, 3, 64, 96)
    assert changed(own) == STEPPING
    with torch.no_grad():
        before = own(pictures).score_logits
        run.network.get_submodule("stages.0.0.0").weight.zero_()  # type: ignore[union-attr,operator]
        assert torch.equal(own(pictures).score_logits, before)
        own.get_submodule("stages.0.0.0").weight.zero_()  # type: ignore[union-attr,operator]
        assert not torch.equal(own(pictures).score_logits, before)
