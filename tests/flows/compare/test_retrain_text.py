"""What is told of several seeds, against numbers worked by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from flows.compare.retrain_text import HEADS, points, read_seeds, rows, section, sentences
from flows.records.schema import write_records
from flows.stats.map_bootstrap import Difference
from tests.flows.records_factory import digest, eight_cells
from tests.flows.seeds_factory import seeds_of

CELLS, _ = eight_cells()
CELL = "pruning+quantization"
LOSES = Difference(mean=0.008, low=-0.001, high=0.017, p=0.08, error=0.0045)
MAPS = ((0.550, 0.545), (0.560, 0.547), (0.540, 0.534))
"""Drops of 0.5, 1.3 and 0.6 points: 0.8 on average."""


def test_a_loss_is_told_with_interval_seeds_and_pictures() -> None:
    """The drop in points with its interval, then what it rests on."""
    (sentence,) = sentences(seeds_of(CELLS, CELL, MAPS, LOSES))
    assert sentence == (
        "In onnxruntime `pruning+quantization` loses 0.8 points of test mAP [−0.1, 1.7] against the control "
        "(mean of 3 seeds, standard deviation 0.5; 8 test pictures)."
    )


def test_a_gain_turns_the_interval_round() -> None:
    """A drop of -0.8 in [-1.7, 0.1] is a gain of 0.8 in [-0.1, 1.7]."""
    gains = LOSES.model_copy(update={"mean": -0.008, "low": -0.017, "high": 0.001})
    (sentence,) = sentences(seeds_of(CELLS, CELL, MAPS, gains))
    assert "gains 0.8 points of test mAP [−0.1, 1.7]" in sentence


def test_one_seed_has_no_deviation() -> None:
    """Neither in the sentence nor as a line of means."""
    one = seeds_of(CELLS, CELL, MAPS[:1], LOSES, sd=None)
    assert "(one seed; 8 test pictures)" in sentences(one)[0]
    assert [line[1] for line in rows(one)] == ["0"]


def test_the_table_has_each_seed_and_the_mean() -> None:
    """Drops are control minus cell: 55.0 - 54.5; the means are of the columns, the interval stands beside the mean drop."""
    first, *_, mean = rows(seeds_of(CELLS, CELL, MAPS, LOSES))
    assert first == ("onnxruntime", "0", "0.550", "0.545", "0.5", "0.5", "0.50", "100.0", "0.80", "10.0")
    assert mean == ("onnxruntime", "mean", "0.550", "0.542", "0.8 [−0.1, 1.7]", "0.8", "0.50", "100.0", "0.80", "10.0")
    assert len(first) == len(HEADS)


def test_the_section_says_what_the_pictures_resolve() -> None:
    """Half of the interval from -0.1 to 1.7 is 0.9 points; the title says how often."""
    text = "\n".join(section(seeds_of(CELLS, CELL, MAPS, LOSES)))
    assert text.startswith("### The chosen cell, three times\n")
    assert "recommended on `x86-onnxruntime-1t`, and the control, each made again from the root" in text
    assert "with the seeds 0, 1, 2 on the same prepared data" in text
    assert "the interval on 8 test pictures reaches 0.9 points to either side" in text
    assert "| onnxruntime | mean | 0.550 | 0.542 | 0.8 [−0.1, 1.7] |" in text


def test_a_cell_that_somebody_named_is_not_called_the_chosen_one() -> None:
    """Its name stands in the title instead."""
    named = section(seeds_of(CELLS, CELL, MAPS[:2], LOSES, recommended_on=None))
    assert named[0] == "### `pruning+quantization`, twice"


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
    assert '"schema": 1' in (tmp_path / "seeds.json").read_text()
    assert read_seeds(tmp_path / "seeds.json") == seeds


@pytest.mark.parametrize("text", [None, "{}", '{"schema": 2}'])
def test_a_file_that_is_not_there_or_not_ours_names_its_command(text: str | None, tmp_path: Path) -> None:
    """`sixfold retrain` makes it."""
    if text is not None:
        (tmp_path / "seeds.json").write_text(text)
    with pytest.raises(InputError, match="Run `sixfold retrain`"):
        read_seeds(tmp_path / "seeds.json")


@pytest.mark.parametrize(("share", "text"), [(0.008, "0.8"), (-0.0123, "−1.2"), (-0.0004, "0.0"), (0.0, "0.0")])
def test_points_have_a_minus_where_they_are_below_0(share: float, text: str) -> None:
    """Hundredths of a share, no sign of nothing."""
    assert points(share) == text
