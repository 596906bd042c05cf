"""Quantization-aware training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressors.distillation import Distillation, teach
from compressors.quantization import Quantization, quantize
from compressors.quantization.calibrators import Range
from compressors.quantization.qat import Rounded, load_ranges, save_ranges, train_quantization_aware
from compressors.quantization.rounding import FakeQuantizedMap
from detection.checkpoint import Detector
from detection.data.dataset import Images
from detection.evaluation import as_input, as_planes
from detection.family import Batch, Raw
from detection.training import Recipe, fit
from hardware_profiles.runtimes.table import RUNTIMES, open_session
from tests.compressors.quantization.test_fake_quantize import lively, rounded_of
from tests.compressors.quantization.test_quantization import rounded_ranges
from tests.module_factory import module_detector

CPU = torch.device("cpu")
CONFIG = Quantization(pictures=8, qat_epochs=2, qat_learning_rate=1e-3)
RECIPE = CONFIG.qat_recipe(Recipe(batch_size=8))


def test_it_trains_and_leaves_the_given_detector_alone(tiny_detector: Detector, tiny_train: Images) -> None:
    """24 pictures in batches of 8 for two epochs: six updates, a falling loss, other weights, and ranges for every map."""
    before = tiny_detector.digest
    trained = train_quantization_aware(tiny_detector, tiny_train, RECIPE, seed=0, device=CPU)
    assert tiny_detector.digest == before != trained.detector.digest
    assert (trained.record.epochs, trained.record.images, trained.record.steps) == (2, 48, 6)
    assert trained.record.loss_per_epoch[1] < trained.record.loss_per_epoch[0]
    assert all(own.low <= 0 < own.high for own in trained.ranges.values())


@pytest.mark.parametrize("kind", ["compact", "odd_layers"])
def test_the_same_seed_gives_the_same_detector(kind: str, tiny_detector: Detector, tiny_train: Images) -> None:
    """Bit for bit, dropout included; another seed sees the pictures in another order."""
    own = tiny_detector if kind == "compact" else module_detector(kind, tiny_detector)
    first, again, other = (train_quantization_aware(own, tiny_train, RECIPE, seed=seed, device=CPU) for seed in (0, 0, 1))
    assert (first.detector.digest, first.ranges) == (again.detector.digest, again.ranges)
    assert first.detector.digest != other.detector.digest


def test_the_objective_is_the_cells(tiny_detector: Detector, tiny_train: Images) -> None:
    """Taught, it asks the teacher about every picture of every epoch and ends elsewhere than with labels alone."""
    objective = teach(Distillation(features=0), lively(tiny_detector), tiny_detector, CPU)
    taught = train_quantization_aware(tiny_detector, tiny_train, RECIPE, seed=0, device=CPU, objective=objective)
    assert objective.teacher_forwards == 48
    assert taught.detector.digest != train_quantization_aware(tiny_detector, tiny_train, RECIPE, seed=0, device=CPU).detector.digest


class Boundless:
    """A loss without end."""

    def __call__(self, network: nn.Module, raw: Raw, batch: Batch, loss: Tensor, *, half: bool) -> Tensor:
        return loss * torch.inf

    def parameters(self) -> list[nn.Parameter]:
        return []


def test_a_loss_that_is_no_number_stops_it(tiny_detector: Detector, tiny_train: Images) -> None:
    """The message names the setting to change."""
    with pytest.raises(FloatingPointError, match="the loss became inf in epoch 1 with rounding: lower `qat_learning_rate`"):
        train_quantization_aware(tiny_detector, tiny_train, RECIPE, seed=0, device=CPU, objective=Boundless())


def test_ranges_survive_their_file(tmp_path: Path) -> None:
    """What is written beside a detector is read again; without the file there are none."""
    ranges = {"stem_2": Range(0.0, 1.0), "add_1": Range(-0.5, 2.25)}
    assert load_ranges(tmp_path) is None
    save_ranges(ranges, tmp_path)
    assert load_ranges(tmp_path) == ranges


@pytest.fixture(scope="module", params=["compact", "own_points", "odd_layers"])
def kind(request: pytest.FixtureRequest) -> str:
    """A detector of ours, and modules of users."""
    return str(request.param)


@pytest.fixture(scope="module")
def trained(kind: str, tiny_detector: Detector, tiny_train: Images) -> Rounded:
    """A detector that has learned a little, and then some more with rounding."""
    own = tiny_detector if kind == "compact" else module_detector(kind, tiny_detector)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the odd module has dropout
        start, _ = fit(lively(own), tiny_train, Recipe(epochs=2, batch_size=8), seed=0, device=CPU)
    return train_quantization_aware(start, tiny_train, RECIPE, seed=0, device=CPU)


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """Each of those that have a tool."""
    return str(request.param)


@pytest.fixture(scope="module")
def file(runtime: str, trained: Rounded, tiny_train: Images, tiny_val: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained detector as that runtime's int8 file, in the ranges that were learned."""
    config, folder = CONFIG.model_copy(update={"calibrator": "minmax", "float_stem": False}), tmp_path_factory.mktemp(runtime)
    packed = quantize(trained.detector, config, runtime, tiny_train, tiny_val, 0, folder, trained.ranges)
    assert packed.record.ranges == "learned"
    return packed.file


def test_the_file_rounds_in_the_ranges_that_were_learned(kind: str, runtime: str, file: Path, trained: Rounded) -> None:
    """Each of them is in the file; OpenVINO's leaves alone what only predictions read.

    Of the odd module three in four are at least: one runtime takes a part of a map in the range of the whole, the other moves what
    multiplies a map into weights.
    """
    predicting = set() if runtime == "onnxruntime" else only_read_by_predictions(trained.detector)
    kept, found = trained.ranges.keys() - predicting, rounded_ranges(file)
    assert len(kept) > 0.6 * len(trained.ranges)
    learned = {place: pytest.approx(trained.ranges[place].with_exact_zero(), rel=1e-5, abs=1e-6) for place in kept}
    lost = [place for place, right in learned.items() if not any(own == right for own in found)]
    assert len(lost) <= (len(kept) // 4 if kind == "odd_layers" else 0), lost


def only_read_by_predictions(detector: Detector) -> set[str]:
    """Of the rounded maps, those that the last layers alone read."""
    rounded, last = rounded_of(detector), detector.family.protected(detector.network())
    readers = {node.target: {user.target for user in node.users} for node in rounded.graph.graph.nodes}
    return {place for place, module in rounded.roundings.items() if readers[module] <= set(last)}


def rounding_in(trained: Rounded, widened: float) -> nn.Module:
    """The trained weights, rounding in so many times the ranges that they were trained in."""
    rounded = rounded_of(trained.detector)
    for place, module in rounded.roundings.items():
        own = rounded.graph.get_submodule(module)
        assert isinstance(own, FakeQuantizedMap)
        own.low.fill_(widened * trained.ranges[place].low)
        own.high.fill_(widened * trained.ranges[place].high)
    return rounded.graph.eval()


def test_the_runtimes_file_says_what_the_rounded_network_says(
    kind: str, runtime: str, file: Path, trained: Rounded, tiny_val: Images
) -> None:
    """The int8 file is the network that was trained: its boxes and scores are nearer to that network's than to those of the same
    weights in ranges half or twice as wide, by three tenths at least; of the odd module, much of which rounds in one runtime alone,
    by whatever it is.

    They are not equal, since a value between two levels may fall to either, depending on the order of a sum, and all that follows
    depends on it.
    """
    session, network = open_session(runtime, file, 1), trained.detector.network()

    def apart(widened: float) -> np.ndarray:
        """Mean difference of boxes in pixels, and of scores."""
        rounded, found = rounding_in(trained, widened), []
        for pixels in tiny_val.pixels:
            with torch.no_grad():
                said = trained.detector.family.decode(network, rounded(torch.from_numpy(as_planes(pixels))))
            found.append([np.abs(own - right.numpy()).mean() for own, right in zip(session(as_input(pixels)), said, strict=True)])
        return np.mean(found, axis=0)

    as_learned, share = apart(1.0), 1.0 if kind == "odd_layers" else 0.7
    assert (as_learned < share * apart(0.5)).all()
    assert (as_learned < share * apart(2.0)).all()
