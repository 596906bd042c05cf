"""What the contract suites share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def contract_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, empty at first: nodes that several suites have in common are made once in a process."""
    return tmp_path_factory.mktemp("contract") / "store"
