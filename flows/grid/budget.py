"""What the weights of a cell have seen, and what its methods spent besides, added up over the nodes that made it."""

from __future__ import annotations

from compressors.lightweight import Lightweight
from compressors.planning.graph import Node
from flows.grid.nodes import Done
from flows.records.schema import BudgetRecord


def budget_of(lineage: list[Done], named_teachers: list[Done], aware: list[Done]) -> BudgetRecord:
    """What the weights have seen over the whole lineage, and what the methods spent besides.

    The lineage ends with the float detector; `aware` are the trainings with rounding that followed, whose updates are extra.
    """
    with_rounding = [done.training for done in aware if done.training is not None]
    for_lessons = [done.training for done in named_teachers if done.training is not None]
    trained = [done.training for done in lineage if done.training is not None] + for_lessons
    # A search hands on an architecture, not weights: architectures start fresh, so the teacher's epochs are not theirs.
    fresh_from = max((i for i, done in enumerate(lineage) if done.node.kind in ("teacher", "architecture")), default=0)
    own = [done.training for done in lineage[fresh_from:] if done.training is not None]
    return BudgetRecord(
        train_epochs=sum(record.epochs for record in own),
        train_images=sum(record.images for record in own),
        search_images=sum(done.search_images for done in lineage),
        inherited_images=trained[0].images if any(_inherits(done.node) for done in lineage) else 0,
        teacher_forwards=sum(done.teacher_forwards for done in (*lineage, *aware)),
        teacher_images=sum(record.images for record in for_lessons),
        qat_updates=sum(record.steps for record in with_rounding),
        train_s=sum(record.train_s for record in trained + with_rounding),
    )


def _inherits(node: Node) -> bool:
    """Whether an architecture begins with what the teacher knew; one that a search hands on begins fresh."""
    return node.kind == "architecture" and any(isinstance(s, Lightweight) and s.weights == "inherited" for s in node.steps)
