from __future__ import annotations

import json

import pytest

from flows.grid.audit import AuditError, audit
from flows.grid.nodes import NODES
from flows.records.schema import CellsFile
from flows.records.store import JOURNAL, Store
from flows.sweep.context import chosen_cells, lay_foundation, make_graph
from tests.flows.sweep_factory import Sweep


def checked(sweep: Sweep, run: str = "", cells: CellsFile | None = None) -> str:
    """What the audit says of a sweep, or of other records of its cells."""
    base = lay_foundation(sweep.plan, sweep.prepared)
    graph = make_graph(sweep.plan, base, chosen_cells(sweep.plan, None))
    return audit(cells or sweep.cells, graph, base, Store(sweep.store.root, run))


def test_a_whole_sweep_is_counted(swept: Sweep) -> None:
    """8 cells with 2 + 1 epochs; 24 pictures: teacher 48, recovered 4 * 24, two taught 2 * 24, two prunings 2 * 8."""
    assert checked(swept).startswith("checked: 8 cells with 3 train epochs each; 9 nodes put 208 pictures")


def test_a_node_made_twice_is_named(swept_copy: Sweep) -> None:
    """A second line of the journal by the same run; one by another run, which a killed one's workers write, is none of it."""
    key, journal = swept_copy.cells.cells[0].node, swept_copy.store.root / JOURNAL
    (run,) = {json.loads(line)["run"] for line in journal.read_text().splitlines() if json.loads(line)["key"] == key}
    assert run, "a grid names its run"
    for by, twice in (("another run", False), (run, True)):
        with journal.open("a") as file:
            file.write(json.dumps({"section": NODES, "key": key, "run": by}) + "\n")
        if twice:
            with pytest.raises(AuditError, match="was made 2 times"):
                checked(swept_copy, run)
        else:
            assert "none was made twice" in checked(swept_copy, run)


def test_pictures_other_than_planned_are_named(swept_copy: Sweep) -> None:
    """One picture too many in one training breaks the promise of equal budgets."""
    path = swept_copy.store.folder(NODES, swept_copy.cells.cells[0].node) / "done.json"
    done = json.loads(path.read_text())
    done["training"]["images"] += 1
    path.unlink()
    path.write_text(json.dumps(done))
    with pytest.raises(AuditError, match="train_images is 25, planned were 24"):
        checked(swept_copy)


def test_references_are_held_to_the_same_budget(swept: Sweep) -> None:
    """One that was trained longer would be no reference; whole ones are counted beside the cells."""
    base = lay_foundation(swept.plan, swept.prepared)
    graph = make_graph(swept.plan, base, chosen_cells(swept.plan, None))
    control = swept.cells.cells[0]
    assert control.budget is not None
    longer = control.budget.model_copy(update={"train_epochs": 4})
    for budget, refused in ((control.budget, False), (longer, True)):
        reference = control.model_copy(update={"cell": "reference:narrow-0.5", "budget": budget})
        records = swept.cells.model_copy(update={"references": (reference,)})
        if refused:
            with pytest.raises(
                AuditError, match=r"reference:narrow-0\.5: its weights have seen 4 epochs and 72 pictures, not 3 and 72"
            ):
                audit(records, graph, base, swept.store)
        else:
            said = audit(records, graph, base, swept.store)
            assert said.startswith("checked: 8 cells and 1 reference with 3 train epochs each")
