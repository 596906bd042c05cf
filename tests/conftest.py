"""What every test may use: a tiny detector, tiny data, a workbench and a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

from compressors.contract import Workbench
from detection.checkpoint import Detector, fresh
from detection.compact.architecture import Architecture
from detection.data.augmentation import Augmentation
from detection.data.dataset import Images, load_split
from detection.data.generated import PictureCounts
from detection.data.sources import Data, GeneratedSource
from detection.spec import Spec
from detection.training import Recipe
from flows.prepare.stage import prepare
from flows.records.store import Store
from hardware_profiles.schema.library import load_profile

torch.set_num_threads(1)

TINY = Architecture(
    stem_width=8,
    stage_widths=(16, 16, 24, 32),
    stage_depths=(1, 1, 1, 1),
    neck_width=16,
    head_width=16,
    head_depth=1,
    box_bins=4,
)
"""Every kind of part that the real detector has, at a thousandth of its cost."""


CONTRACT = "tests/compressors/test_contract"
"""The suites over whole cells, of which many have the same ancestors."""


def _slow_files() -> frozenset[str]:
    """Test files that start Ray, DVC or MLflow, relative to the checkout."""
    tests = Path(__file__).parent
    found = (path for path in tests.rglob("test_*.py") if "mark.slow" in path.read_text())
    return frozenset(path.relative_to(tests.parent).as_posix() for path in found)


class _Shares(LoadScopeScheduling):
    """Tests of a file stay together, for its fixtures are made once; contract suites too, for they share a store; slow files too,
    for two Ray sessions would share the cores."""

    slow_files = _slow_files()

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "slow" if file in self.slow_files else "contract" if file.startswith(CONTRACT) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """How the workers of `make test` share the work."""
    return _Shares(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files come first, so that no worker is left with them at the end."""
    items.sort(key=lambda item: item.nodeid.partition("::")[0] not in _Shares.slow_files)


@pytest.fixture(scope="session")
def tiny_prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of 24 + 8 + 8 pictures of 64 x 96 pixels."""
    folder = tmp_path_factory.mktemp("data") / "prepared"
    source = GeneratedSource(pictures=PictureCounts(train=24, val=8, test=8), picture_size=(64, 96), object_size_px=(16.0, 32.0))
    prepare(Data(name="tiny", source=source, input_size=(64, 96)), folder, folder, 0, lambda _: None)
    return folder


@pytest.fixture(scope="session")
def tiny_train(tiny_prepared: Path) -> Images:
    """The training split."""
    return load_split(tiny_prepared, "train")


@pytest.fixture(scope="session")
def tiny_val(tiny_prepared: Path) -> Images:
    """The val split."""
    return load_split(tiny_prepared, "val")


@pytest.fixture(scope="session")
def tiny_detector(tiny_train: Images) -> Detector:
    """A detector of 40 thousand parameters with random weights, ten classes, 64 x 96 pixels."""
    return fresh(Spec(classes=tiny_train.classes, input_size=(64, 96), settings=TINY), seed=0)


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """One short epoch."""
    return Recipe(epochs=1, batch_size=8, augmentation=Augmentation(flip_horizontal=0.0))


@pytest.fixture(scope="session")
def workbench(tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tiny_recipe: Recipe) -> Workbench:
    """All that a method may see."""
    return Workbench(
        teacher=tiny_detector,
        train=tiny_train,
        val=tiny_val,
        device=torch.device("cpu"),
        seed=0,
        design_profile=load_profile("x86-openvino-1t"),
        recipe=tiny_recipe,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")
