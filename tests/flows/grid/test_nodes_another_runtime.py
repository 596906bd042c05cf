"""A runtime is an entry of the table: whatever is registered there is planned, packed, quantized, scored and read."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from compressors.planning.graph import Menu, cells_of, graph_of
from detection.frozen import InputError
from flows.grid.nodes import NODES, read_done
from flows.sweep.context import chosen_cells, lay_foundation, make_graph
from flows.sweep.plan_checks import load_plan
from hardware_profiles.estimate.graph.reading import read_operators
from hardware_profiles.runtimes.interface import ForInt8, Runtime, WriteInt8
from hardware_profiles.runtimes.ranges import Ranges
from hardware_profiles.runtimes.table import RUNTIMES
from tests.compressors.graph_factory import FOUNDATION
from tests.compressors.graph_factory import graph as default_graph
from tests.flows.sweep_factory import Sweep, run_grid, write_params

NAME, SUFFIX = "fake", ".fake"


def fake_runtime(calls: list[tuple[str, ...]]) -> Runtime:
    """ONNX Runtime under another name and suffix, which opens no .onnx; it notes which nodes each int8 file leaves float."""
    real = RUNTIMES["onnxruntime"]

    def pack(float_file: Path, folder: Path) -> Path:
        return Path(shutil.copyfile(float_file, folder / f"model{SUFFIX}"))

    def int8_writer(made_from: ForInt8) -> WriteInt8:
        write = real.int8_writer(made_from)

        def write_fake(ranges: Ranges, left_float: Iterable[str], folder: Path) -> Path:
            calls.append(tuple(left_float))
            return write(ranges, calls[-1], folder).rename(folder / f"model{SUFFIX}")

        return write_fake

    return replace(
        real, name=NAME, package="numpy", libraries=("numpy",), suffixes=(SUFFIX,), pack=pack, int8_writer=int8_writer,
    )  # fmt: skip


@pytest.fixture
def int8_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What the int8 writer of the registered runtime was asked for."""
    calls: list[tuple[str, ...]] = []
    monkeypatch.setitem(RUNTIMES, NAME, fake_runtime(calls))
    return calls


def test_it_is_planned_packed_quantized_scored_and_read(swept_copy: Sweep, int8_calls: list[tuple[str, ...]]) -> None:
    """Named in a plan: every cell gets a file of its own, float ones packed, int8 ones by its writer, and nothing trains again."""
    before = make_graph(swept_copy.plan, lay_foundation(swept_copy.plan, swept_copy.prepared), chosen_cells(swept_copy.plan, None))
    plan = load_plan(write_params(swept_copy.folder, grid__runtimes=["onnxruntime", NAME]))
    after = make_graph(plan, lay_foundation(plan, swept_copy.prepared), chosen_cells(plan, None))
    added = [after.nodes[key] for key in after.nodes.keys() - before.nodes.keys()]
    assert before.nodes.keys() <= after.nodes.keys()
    assert sorted((node.kind, node.runtime) for node in added) == [("packed", NAME)] * 4 + [("quantized", NAME)] * 4

    code, _ = run_grid(swept_copy, plan)
    assert code == 0
    assert len(int8_calls) == 4 * 4, "a file for each of four calibrators"
    assert all(any("predictions" in name for name in left_float) for left_float in int8_calls)
    for cell in swept_copy.cells.cells:
        own, other = cell.artifacts[NAME], cell.artifacts["onnxruntime"]
        assert own.url.endswith(SUFFIX)
        assert own.val.map_50_95 == other.val.map_50_95
        operators = [read_operators(swept_copy.store.file(url), runtime) for url, runtime in ((own.url, NAME), (other.url, None))]
        assert operators[0] == operators[1]
    (control,) = [node for node in added if node.name == f"packed {NAME} none"]
    assert read_done(swept_copy.store, control.key).macs == read_done(swept_copy.store, str(control.parent)).macs
    assert [path.suffix for path in swept_copy.store.open(NODES, control.key).glob("model.*")] == [SUFFIX]


def test_a_runtime_more_changes_no_key() -> None:
    """Of the default menu, whether it opens the exported file itself or not: all nodes of before are there under their keys."""
    before, cells = default_graph(), cells_of(Menu())
    libraries = FOUNDATION.model_copy(update={"libraries": FOUNDATION.libraries | {"numpy": "1.0"}})
    for suffixes, kinds in (((SUFFIX, ".onnx"), {"quantized"}), ((SUFFIX,), {"packed", "quantized"})):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(RUNTIMES, NAME, replace(fake_runtime([]), suffixes=suffixes))
            after = graph_of(cells, libraries, (*before.artifacts["none"], NAME))
        assert before.nodes.keys() <= after.nodes.keys()
        assert {after.nodes[key].kind for key in after.nodes.keys() - before.nodes.keys()} == kinds


def test_what_is_not_installed_is_said_when_the_plan_is_laid_out(swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours before the first int8 file would miss it."""
    monkeypatch.setitem(RUNTIMES, NAME, replace(fake_runtime([]), libraries=("not-a-package",)))
    plan = load_plan(write_params(swept_copy.folder, grid__runtimes=[NAME], measure__profiles=["raspberry-pi-5"]))
    with pytest.raises(InputError, match=r"grid\.runtimes: fake needs not-a-package, not installed here\. Run `pip install"):
        lay_foundation(plan, swept_copy.prepared)
