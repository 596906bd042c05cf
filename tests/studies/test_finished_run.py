"""What a study reads of a finished run, and what it says where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from studies.finished_run import open_run
from tests.studies.measurement.study_factory import tiny_run


def test_a_model_is_found_by_cell_and_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown cell or runtime is answered with the known ones."""
    run = tiny_run(tmp_path, monkeypatch)
    assert run.model("none", "onnxruntime").path == tmp_path / "none.onnx"
    with pytest.raises(InputError, match=r"no cell 'nas'; have none, lightweight\+nas"):
        run.model("nas", "onnxruntime")
    with pytest.raises(InputError, match="no file for 'openvino'; have onnxruntime"):
        run.model("none", "openvino")
    with pytest.raises(InputError, match=r"no results/cells\.json there"):
        open_run(tmp_path / "elsewhere")
