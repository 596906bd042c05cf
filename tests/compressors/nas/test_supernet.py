"""One set of weights from which every architecture takes the front part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressors.nas import Nas, space_to_search
from compressors.nas.supernet import Supernet
from detection.checkpoint import Detector, fresh
from detection.compact.architecture import Architecture, architecture_of
from detection.compact.space import Space
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from detection.family import SearchSpace
from detection.spec import Spec
from detection.training import Recipe
from tests.detection.test_training_recipe import updates

CPU = torch.device("cpu")
DEEP = {"stage_depths": (1, 2, 1, 1)}
SMALL = {"stage_widths": (8, 16, 16, 24), "stage_depths": (1, 1, 1, 1), "neck_width": 8, "head_width": 8}


@pytest.fixture(scope="module")
def start(tiny_detector: Detector) -> Detector:
    """The tiny detector with a second block in one stage, so that there is a depth to search."""
    return fresh(tiny_detector.spec.having(tiny_detector.spec.settings.model_copy(update=DEEP)), 3)


@pytest.fixture(scope="module")
def space(start: Detector) -> SearchSpace:
    return space_to_search(start.spec, Nas(width_shares=(0.5, 1.0)))


@pytest.fixture(scope="module")
def small(start: Detector) -> Spec:
    return start.spec.having(start.spec.settings.model_copy(update=SMALL))


@pytest.fixture(scope="module")
def pictures(tiny_train: Images) -> Tensor:
    """Sixteen training pictures as the network sees them: one batch of a recalibration."""
    return make_batch(tiny_train, np.arange(16), None, np.random.default_rng(0)).images


def only(spec: Spec, largest: Spec) -> SearchSpace:
    """The space whose one choice is this network."""
    architecture: Architecture = architecture_of(spec)
    widths = {f"stage{i}": (width,) for i, width in enumerate(architecture.stage_widths)}
    widths |= {"stem": (architecture.stem_width,), "neck": (architecture.neck_width,), "head": (architecture.head_width,)}
    depths = {f"stage{i}": (depth,) for i, depth in enumerate(architecture.stage_depths)}
    return Space(largest=largest, widths=widths, depths=depths)


def one_step(supernet: Supernet, space: SearchSpace, train: Images, seed: int = 0) -> int:
    """Train for one epoch of one step without weight decay; the pictures it took."""
    return supernet.train(space, train, Recipe(batch_size=len(train), weight_decay=0.0), 1, seed)


def test_the_largest_path_is_the_detector_it_started_from(start: Detector, pictures: Tensor) -> None:
    """Untrained, the full slice says what the start detector says once its statistics are taken from the same pictures."""
    expected = start.network()
    for module in expected.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        expected.train()(pictures)
        mine = Supernet(start, CPU).extract(start.spec, pictures)(pictures)
        theirs = expected.eval()(pictures)
    torch.testing.assert_close(mine.score_logits, theirs.score_logits)
    torch.testing.assert_close(mine.box_logits, theirs.box_logits)


def test_a_smaller_path_takes_the_first_channels_and_blocks(start: Detector, small: Spec, pictures: Tensor) -> None:
    """Every weight of a smaller network is the front corner of the largest one's, and no other weights exist."""
    network = Supernet(start, CPU).extract(small, pictures)
    assert "stages.1.2.reduce.0.weight" in start.weights
    assert "stages.1.2.reduce.0.weight" not in network.state_dict()
    cut = 0
    for name, parameter in network.named_parameters():
        whole = start.weights[name]
        assert torch.equal(parameter, whole[tuple(slice(0, n) for n in parameter.shape)]), name
        cut += parameter.shape != whole.shape
    assert cut > 20


def test_statistics_are_those_of_the_path(start: Detector, small: Spec, pictures: Tensor) -> None:
    """The stem's statistics are the mean and variance of its convolution over the recalibration pictures, worked by numpy."""
    network = Supernet(start, CPU).extract(small, pictures)
    with torch.no_grad():
        maps = network.get_submodule("stem.0")(pictures).numpy().astype(float)
    state = network.state_dict()
    np.testing.assert_allclose(state["stem.1.running_mean"], maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["stem.1.running_var"], maps.var((0, 2, 3), ddof=1), rtol=1e-3)


def test_the_extracted_network_detects_and_is_in_evaluation_mode(start: Detector, small: Spec, pictures: Tensor) -> None:
    """It has the small architecture, says the same twice, and its boxes and scores are finite."""
    network = Supernet(start, CPU).extract(small, pictures)
    assert {name: tensor.shape for name, tensor in network.state_dict().items()} == {
        name: tensor.shape for name, tensor in fresh(small, 0).weights.items()
    }
    with torch.no_grad():
        boxes, scores = start.family.decode(network, network(pictures))
        again = network(pictures).score_logits
    assert torch.equal(again.sigmoid(), scores)
    assert torch.isfinite(boxes).all()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_one_step_changes_only_the_path(start: Detector, small: Spec, tiny_train: Images) -> None:
    """A step along a small path moves front corners only: channels behind them and deeper blocks keep their values."""
    supernet = Supernet(start, CPU)
    before = {name: weight.detach().clone() for name, weight in supernet.weights.items()}
    assert one_step(supernet, only(small, start.spec), tiny_train) == len(tiny_train)
    network = Supernet(start, CPU).extract(small, torch.zeros(1, 3, 64, 96))
    path = {name: parameter.shape for name, parameter in network.named_parameters()}
    moved = 0
    for name, weight in supernet.weights.items():
        now, was = weight.detach().clone(), before[name]
        if name in path:
            corner = tuple(slice(0, n) for n in path[name])
            moved += not torch.equal(now[corner], was[corner])
            now[corner] = was[corner]
        assert torch.equal(now, was), f"{name} changed outside the path"
    assert moved > 0.9 * len(path)


def test_training_takes_every_picture_once_an_epoch(start: Detector, space: SearchSpace, tiny_train: Images) -> None:
    """Two epochs of 24 pictures in batches of 10 are 48 pictures, the last batch of each being smaller."""
    assert Supernet(start, CPU).train(space, tiny_train, Recipe(batch_size=10), 2, 0) == 2 * len(tiny_train) == 48


def test_training_repeats_under_a_seed(start: Detector, space: SearchSpace, tiny_train: Images) -> None:
    """The same seed draws the same paths and gives the same weights; another seed gives others."""
    trained = [Supernet(start, CPU) for _ in range(3)]
    for supernet, seed in zip(trained, (0, 0, 1), strict=True):
        supernet.train(space, tiny_train, Recipe(batch_size=12), 1, seed)
    first, second, other = (supernet.weights for supernet in trained)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_start_detector_is_left_alone(start: Detector, small: Spec, tiny_train: Images) -> None:
    """Training the supernet and extracting from it do not reach the detector it came from."""
    digest = start.digest
    supernet = Supernet(start, CPU)
    one_step(supernet, only(small, start.spec), tiny_train)
    supernet.extract(small, torch.rand(4, 3, 64, 96))
    assert start.digest == digest


def test_weights_decay_and_nothing_else_does(start: Detector, space: SearchSpace, tiny_train: Images) -> None:
    """As in every training: of two that differ in weight decay alone, only convolution weights part in the first step."""
    free, decayed = (Supernet(start, CPU) for _ in range(2))
    for supernet, decay in ((free, 0.0), (decayed, 0.5)):
        supernet.train(space, tiny_train, Recipe(batch_size=len(tiny_train), weight_decay=decay), 1, 0)
    apart = {name for name, weight in free.weights.items() if not torch.equal(weight, decayed.weights[name])}
    assert {free.weights[name].ndim for name in apart} == {4}
    assert "stem.0.weight" in apart


def test_the_rate_by_hand(start: Detector, space: SearchSpace, tiny_train: Images) -> None:
    """Four steps down a cosine from the peak towards nothing: 1, 1/2 + 1/sqrt 8, 1/2, 1/2 - 1/sqrt 8 of it."""
    with updates() as seen:
        Supernet(start, CPU).train(space, tiny_train, Recipe(batch_size=12, learning_rate=0.01), 2, 0)
    assert [update.rate for update in seen] == pytest.approx([0.01, 0.00853553, 0.005, 0.00146447], rel=1e-5)


def test_long_gradients_are_cut_to_ten(start: Detector, space: SearchSpace, tiny_train: Images) -> None:
    """A loss a thousand times too steep: at every step all gradients of the path together have the length ten."""
    supernet, learn = Supernet(start, CPU), start.family.learn

    def steep(*given: Any, **more: Any) -> tuple[Any, Tensor]:
        raw, loss = learn(*given, **more)
        return raw, loss * 1000

    supernet.family = replace(supernet.family, learn=steep)
    with updates() as seen:
        supernet.train(space, tiny_train, Recipe(batch_size=8), 1, 0)
    assert [update.gradient_norm for update in seen] == pytest.approx([10.0] * 3, rel=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_supernet_stays_on_its_device(start: Detector, space: SearchSpace, small: Spec, tiny_train: Images) -> None:
    """On a CUDA device it trains there, and what is extracted is there too."""
    device = torch.device("cuda")
    supernet = Supernet(start, device)
    one_step(supernet, space, tiny_train)
    network = supernet.extract(small, torch.zeros(2, 3, 64, 96, device=device))
    assert {tensor.device.type for tensor in (*supernet.weights.values(), *network.state_dict().values())} == {"cuda"}


def test_half_precision_trains_too(start: Detector, space: SearchSpace, tiny_train: Images) -> None:
    """With bfloat16 convolutions the weights stay float32, finite, and move."""
    supernet = Supernet(start, CPU)
    supernet.train(space, tiny_train, Recipe(batch_size=24, precision="bfloat16"), 1, 0)
    assert all(weight.dtype == torch.float32 and torch.isfinite(weight).all() for weight in supernet.weights.values())
    assert not torch.equal(supernet.weights["stem.0.weight"], start.weights["stem.0.weight"])


def test_it_travels_to_another_process(start: Detector, small: Spec, space: SearchSpace, tiny_train: Images) -> None:
    """As what travels is put together again: the same family by its name, the same weights, and no network built so far."""
    supernet, arrived = Supernet(start, CPU), Supernet.__new__(Supernet)
    supernet.train(space, tiny_train, Recipe(batch_size=12), 1, 0)
    state = supernet.__getstate__()
    assert state["family"] == "compact"
    arrived.__setstate__(dict(state))
    assert arrived.family is supernet.family
    assert supernet._networks
    assert not arrived._networks
    pictures = torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    theirs, own = (network.extract(small, pictures).state_dict() for network in (arrived, supernet))
    assert all(torch.equal(theirs[name], tensor) for name, tensor in own.items())
