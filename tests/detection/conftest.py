"""What several tests of this package use: every variant as an exported file."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.export import export_onnx
from tests.detection.variants import VARIANTS, lively


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """ONNX files of all variants, by name; their weights are those of `lively`."""
    folder = tmp_path_factory.mktemp("exported")
    for name, spec in VARIANTS.items():
        export_onnx(lively(spec), folder / f"{name}.onnx")
    return {name: folder / f"{name}.onnx" for name in VARIANTS}
