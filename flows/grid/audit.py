"""The budget of a cell, and the check of a finished run: equal budgets, pictures as planned, nothing made twice."""

from __future__ import annotations

from compressors.planning.graph import Foundation, Graph, reinitialises
from flows.grid.nodes import NODES, Done, read_done
from flows.records.schema import GIVEN, BudgetRecord, CellsFile, in_numbers
from flows.records.store import Store


class AuditError(RuntimeError):
    """A promise was broken: a bug of ours, and the records of this sweep are not to be trusted."""


def audit(cells: CellsFile, graph: Graph, base: Foundation, store: Store) -> str:
    """One sentence on what was checked; AuditError names the first cell or node that breaks a promise.

    Made twice is what the store's run made twice: workers that a killed run left may finish a node that this one makes too.
    """
    ok, references = ([own for own in of if own.budget is not None] for of in (cells.cells, cells.references))
    epochs = base.epochs
    for cell in (*ok, *references):
        assert cell.budget is not None
        expected = 0 if cell.cell == GIVEN else epochs
        if cell.budget.train_epochs != expected or cell.budget.train_images != expected * base.train_pictures:
            raise AuditError(
                f"{cell.cell}: its weights have seen {cell.budget.train_epochs} epochs and "
                f"{cell.budget.train_images} pictures, not {expected} and {expected * base.train_pictures}"
            )
    made = [key for key in graph.nodes if store.has(NODES, key)]
    pictures = sum(_pictures(key, graph, store) for key in made)
    again = {key: times for key, times in store.times_made(NODES).items() if times > 1 and key in graph.nodes}
    if again:
        key, times = next(iter(again.items()))
        raise AuditError(f"node {graph.nodes[key].name} {key} was made {times} times")
    more = " beyond the detector as it was brought" if base.given else ""
    return (
        f"checked: {in_numbers(len(ok), len(references))} with {epochs} train epochs each{more}; {len(made)} nodes put "
        f"{pictures:,} pictures through networks, each as planned; none was made twice"
    )


def _pictures(key: str, graph: Graph, store: Store) -> int:
    """Pictures that a node put through networks, after comparing every count with the plan."""
    done, planned = read_done(store, key), graph.nodes[key].planned
    counted = {
        "train_images": done.training.images if done.training else 0,
        "search_images": done.search_images,
        "teacher_forwards": done.teacher_forwards,
    }
    for name, count in counted.items():
        if count != getattr(planned, name):
            raise AuditError(f"node {graph.nodes[key].name} {key}: {name} is {count}, planned were {getattr(planned, name)}")
    return sum(counted.values())


def budget_of(lineage: list[Done], named_teachers: list[Done], aware: list[Done]) -> BudgetRecord:
    """What the weights have seen over the whole lineage, and what the methods spent besides.

    The lineage ends with the float detector; `aware` are the trainings with rounding that followed, whose updates are extra.
    """
    with_rounding = [done.training for done in aware if done.training is not None]
    of_teachers = [done.training for done in named_teachers if done.training is not None]
    trained = [done.training for done in lineage if done.training is not None] + of_teachers
    anew = [place for place in range(1, len(lineage)) if reinitialises(lineage[place].node, lineage[place - 1].node)]
    own = [done.training for done in lineage[max(anew, default=0) :] if done.training is not None]
    return BudgetRecord(
        train_epochs=sum(record.epochs for record in own),
        train_images=sum(record.images for record in own),
        search_images=sum(done.search_images for done in lineage),
        teacher_forwards=sum(done.teacher_forwards for done in (*lineage, *aware)),
        teacher_images=sum(record.images for record in of_teachers),
        qat_updates=sum(record.steps for record in with_rounding),
        train_s=sum(record.train_s for record in trained + with_rounding),
    )
