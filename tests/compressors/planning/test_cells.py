"""Methods alone instead of crossed, and variants that could not be told apart."""

from __future__ import annotations

import pytest

from compressors.planning.graph import CONTROL, METHODS, Menu, cells_of
from compressors.pruning import Pruning
from compressors.quantization import Quantization
from detection.frozen import InputError


def test_alone_is_the_control_and_each_variant_by_itself() -> None:
    """Two prunings and one variant of each other method: the control and seven cells, none with two methods."""
    menu = Menu(pruning=(Pruning(), Pruning(keep_macs=0.3)))
    assert [cell.name for cell in cells_of(menu, "alone")] == [
        CONTROL, "lightweight", "nas", "pruning:taylor-0.5", "pruning:taylor-0.3", "low_rank", "distillation", "quantization",
    ]  # fmt: skip


def test_alone_gives_cells_that_all_combinations_have_too() -> None:
    """Same names, same configurations: a sweep of operating points and a grid share their nodes."""
    menu = Menu(pruning=(Pruning(), Pruning(importance="l2")), quantization=(Quantization(calibrator="mse"), Quantization()))
    alone, every = cells_of(menu, "alone"), cells_of(menu)
    assert len(alone) < len(every)
    assert all(cell in every and len(cell.configs) <= 1 for cell in alone)


def test_alone_without_variants_is_the_control() -> None:
    """An empty menu has nothing to stand alone."""
    assert [cell.name for cell in cells_of(Menu(**dict.fromkeys(METHODS, ())), "alone")] == [CONTROL]


def test_variants_of_one_label_are_refused() -> None:
    """Their cells would have one name; the message says which variants, and that the label is not all of a setting."""
    menu = Menu(pruning=(Pruning(), Pruning(importance="l2"), Pruning(most_removed=0.5)))
    with pytest.raises(InputError, match=r"grid\.methods\.pruning\.2: named 'taylor-0\.5' like number 0"):
        cells_of(menu)
