"""What is told of several seeds, against numbers worked by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from flows.compare.retrain_text import HEADS, read_seeds, rows, section, sentences
from flows.records.schema import write_records
from flows.stats.map_bootstrap import Difference
from tests.flows.records_factory import digest, eight_cells
from tests.flows.seeds_factory import seeds_of
from tests.golden import assert_golden

CELLS, _ = eight_cells()
CELL = "pruning+quantization"
LOSES = Difference(mean=0.008, low=-0.001, high=0.017, p=0.08, error=0.0045)
MAPS = ((0.550, 0.545), (0.560, 0.547), (0.540, 0.534))
"""Drops of 0.5, 1.3 and 0.6 points: 0.8 on average."""


def test_seeds_are_put_so() -> None:
    """Means of three seeds as a section of a page; one seed has no deviation and no mean; a gain turns the interval round; a cell
    that somebody named is not called the chosen one."""
    three = seeds_of(CELLS, CELL, MAPS, LOSES)
    one = seeds_of(CELLS, CELL, MAPS[:1], LOSES.model_copy(update={"mean": -0.008, "low": -0.017, "high": 0.001}), sd=None)
    named = seeds_of(CELLS, CELL, MAPS[:2], LOSES, recommended_on=None)
    title, _, _ = section(named).partition("\n")
    assert_golden("seeds.md", "\n".join((section(three), *sentences(one), *map(str, rows(one)), "", title)) + "\n")


def test_the_mean_is_of_the_seeds() -> None:
    """Drops are control minus cell: 55.0 - 54.5; the means are of the columns, the interval stands with the mean drop."""
    first, *_, mean = rows(seeds_of(CELLS, CELL, MAPS, LOSES))
    assert first == ("onnxruntime", "0", "0.550", "0.545", "0.5", "0.5", "0.50", "100.0", "0.80", "10.0")
    assert mean == ("onnxruntime", "mean", "0.550", "0.542", "0.8 [−0.1, 1.7]", "0.8", "0.50", "100.0", "0.80", "10.0")
    assert len(first) == len(HEADS)


def test_seeds_belong_to_the_records_they_began_with() -> None:
    """Same data and same nodes of control and cell in the first seed; a cell made again since is another one."""
    seeds = seeds_of(CELLS, CELL, MAPS, LOSES)
    assert seeds.is_of(CELLS)
    again = [cell.model_copy(update={"node": digest("again")}) if cell.cell == CELL else cell for cell in CELLS.cells]
    assert not seeds.is_of(CELLS.model_copy(update={"cells": tuple(again)}))
    assert not seeds.is_of(CELLS.model_copy(update={"dataset": CELLS.dataset.model_copy(update={"digest": digest("other")})}))
    assert not seeds.is_of(CELLS.model_copy(update={"cells": CELLS.cells[:1]}))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Schema 1 under its own name; every field comes back."""
    seeds = seeds_of(CELLS, CELL, MAPS, LOSES)
    write_records(tmp_path / "seeds.json", seeds)
    assert '"schema": 2' in (tmp_path / "seeds.json").read_text()
    assert read_seeds(tmp_path / "seeds.json") == seeds


@pytest.mark.parametrize("text", [None, "{}", '{"schema": 3}'])
def test_a_file_that_is_not_there_or_not_ours_names_its_command(text: str | None, tmp_path: Path) -> None:
    """`sixfold retrain` makes it."""
    if text is not None:
        (tmp_path / "seeds.json").write_text(text)
    with pytest.raises(InputError, match="Run `sixfold retrain`"):
        read_seeds(tmp_path / "seeds.json")
