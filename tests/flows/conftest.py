"""What the tests of the flows share: one small sweep, its data prepared and its grid run once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from detection.checkpoint import Detector
from detection.checkpoint import fresh as fresh_detector
from detection.data.dataset import load_split
from detection.export import export_onnx
from detection.spec import Spec
from flows.cli.main import main
from flows.grid.forecast import forecast
from flows.prepare.stage import prepare
from flows.records.store import Store
from flows.sweep.plan_checks import load_plan
from tests.compressors.quantization.test_fake_quantize import lively
from tests.flows.cli_runner import READING, Ended, Sixfold
from tests.flows.sweep_factory import Sweep, run_grid, write_params


@pytest.fixture(scope="session")
def sweep_prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared folder that the tiny params ask for: 24 + 8 + 8 pictures of 64 x 96 pixels. Read it only."""
    folder = tmp_path_factory.mktemp("sweep-data")
    plan = load_plan(write_params(folder))
    prepare(plan.params.data, plan.base, folder / "prepared", plan.params.seed, lambda _: None)
    return folder / "prepared"


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory, sweep_prepared: Path, tiny_detector: Detector) -> Path:
    """A user's detector in a file of its own: planes (1, 3, 64, 96) of 0 to 255 in, boxes and scores out."""
    path = tmp_path_factory.mktemp("theirs") / "theirs.onnx"
    spec = Spec(classes=load_split(sweep_prepared, "val").classes, input_size=(64, 96), settings=tiny_detector.spec.settings)
    export_onnx(lively(fresh_detector(spec, 0)), path, planes=True)
    return path


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory, sweep_prepared: Path) -> Sweep:
    """The tiny sweep, made once by the inline executor. Read it only; `swept_copy` is there to be spoiled."""
    folder = tmp_path_factory.mktemp("swept")
    plan = load_plan(write_params(folder))
    prepared, store = folder / "data/prepared", Store(folder / ".sixfold/store")
    shutil.copytree(sweep_prepared, prepared)
    before = Sweep(folder, plan, prepared, store, forecast(plan, prepared, store, None), -1, ())
    code, said = run_grid(before)
    return Sweep(folder, plan, prepared, store, before.forecast, code, tuple(said))


@pytest.fixture
def swept_copy(swept: Sweep, tmp_path: Path) -> Sweep:
    """A copy of the tiny sweep."""
    return swept.copied_to(tmp_path / "copy")


@pytest.fixture
def sixfold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sixfold:
    """Runs a command in a folder, in this process; an exception that gets out of main() would be a traceback.

    Its stderr comes without the first line, which says what is read.
    """

    def run(folder: Path, *arguments: str) -> Ended:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["sixfold", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        out, err = capsys.readouterr()
        return Ended(ended.value.code, out, READING.sub("", err))

    return run


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A folder with tiny params and nothing else."""
    write_params(tmp_path / "fresh")
    return tmp_path / "fresh"
