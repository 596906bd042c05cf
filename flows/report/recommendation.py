"""The answer of a sweep: one recommendation per profile, as data and in plain words. Test numbers join here, after every choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from detection.frozen import Digest, Frozen
from flows.records.schema import CONTROL, ArtifactRecord, CellRecord, CellsFile, LatencyFile, Source, SpeedVerdict
from flows.report.pareto import Choice, Panel, Point, Tier, choose, panels, reference_panels
from flows.report.recommendation_text import Side, answer, notes
from flows.report.reference_to_beat import Beside, rival, speed_beside
from flows.stats.map_bootstrap import Difference

Compare = Callable[[ArtifactRecord, ArtifactRecord], Difference]
"""(another's file, chosen file) -> paired difference of test mAP, above 0 where the chosen one is better."""


class Recommendation(Frozen):
    """What to ship on one profile; `chosen` and `control` are None only where the control has no number there."""

    profile: str
    source: Source
    runtime: str
    artifacts_of: str
    """Runtime whose files gave accuracy and size."""
    verdict: Literal["ship", "keep_control", "undecided"]
    chosen: Side | None
    control: Side | None
    speedup: float | None
    speedup_ci95: tuple[float, float] | None
    speed_verdict: SpeedVerdict | None = None
    """Of the chosen one against the control; None where nothing was measured or tested."""
    minimal_effect: float | None = None
    """The ratio of times that its rounds would probably have found."""
    test_difference: Difference | None
    """Chosen minus control; None where the control itself is kept."""
    beside: Beside | None = None
    """The simpler network that the chosen one has to beat; None where no reference was measured, and in older records."""
    front: tuple[str, ...]
    not_told_apart: tuple[str, ...]
    tiers: tuple[Tier, ...]
    exported_to: str | None
    """Folder below models/best; None where the sweep made no file for this runtime."""
    answer: str
    notes: tuple[str, ...]
    is_blind: bool = False
    """Whether the control itself has no more val mAP than may be lost, so that what detects nothing qualifies; do not ship then."""


class RecommendationFile(Frozen):
    """`results/report/recommendation.json`."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    sweep: str
    dataset: str
    dataset_digest: Digest
    max_drop: float
    """Permitted loss of val mAP against the control, in shares of 1."""
    profiles: tuple[Recommendation, ...]


def recommend(cells: CellsFile, latency: LatencyFile, max_drop: float, compare: Compare) -> RecommendationFile:
    """One recommendation per panel. Choices are made first, from val; then test numbers are looked up and compared."""
    found = panels(cells, latency)
    choices = [choose(panel, max_drop) for panel in found]
    exporting = _exporting(found, choices)
    return RecommendationFile(
        sweep=cells.sweep,
        dataset=cells.dataset.name,
        dataset_digest=cells.dataset.digest,
        max_drop=max_drop,
        profiles=tuple(
            _recommendation(cells, latency, panel, choice, compare, panel.profile if number in exporting else None)
            for number, (panel, choice) in enumerate(zip(found, choices, strict=True))
        ),
    )


def _exporting(found: tuple[Panel, ...], choices: list[Choice]) -> set[int]:
    """Panels whose choice can be copied to models/best: one per profile, a measured one before an estimated one."""
    taken: dict[str, int] = {}
    for number in sorted(range(len(found)), key=lambda number: not found[number].is_measured):
        if found[number].has_own_artifacts and choices[number].cell is not None:
            taken.setdefault(found[number].profile, number)
    return set(taken.values())


def _recommendation(
    cells: CellsFile, latency: LatencyFile, panel: Panel, choice: Choice, compare: Compare, exported_to: str | None
) -> Recommendation:
    point = panel.point(choice.cell) if choice.cell else None
    chosen, control = (_side(cells, latency, panel, point), _side(cells, latency, panel, panel.point(CONTROL)))
    difference, beside = None, None
    if choice.verdict == "ship" and chosen and control:
        difference = compare(_artifact(cells, panel, CONTROL), _artifact(cells, panel, chosen.cell))
        beside = _beside(cells, latency, panel, chosen.cell, compare)
    return Recommendation(
        profile=panel.profile,
        source=panel.source,
        runtime=panel.runtime,
        artifacts_of=panel.artifacts_of,
        verdict=choice.verdict,
        chosen=chosen,
        control=control,
        speedup=point.speedup if point else None,
        speedup_ci95=point.speedup_ci95 if point else None,
        speed_verdict=point.verdict if point else None,
        minimal_effect=point.minimal_effect if point else None,
        test_difference=difference,
        beside=beside,
        front=choice.front,
        not_told_apart=choice.not_told_apart,
        tiers=choice.tiers,
        exported_to=exported_to,
        answer=answer(panel, choice, point, chosen=chosen, control=control, difference=difference, beside=beside),
        notes=notes(panel, choice, difference),
        is_blind=choice.is_blind,
    )


def _beside(cells: CellsFile, latency: LatencyFile, panel: Panel, chosen: str, compare: Compare) -> Beside | None:
    """The chosen cell beside the reference that it has to beat; nothing where times are modelled."""
    others = (own for own in reference_panels(cells, latency) if (own.profile, own.source) == (panel.profile, panel.source))
    references = next(others, None)
    found = rival(chosen, panel, references) if references is not None and panel.is_measured else None
    if references is None or found is None:
        return None
    name, is_as_fast = found
    point = references.point(name)
    rows = [latency.measured(own, panel.profile) for own in (chosen, name)]
    assert point is not None, "the rival is one of these references"
    assert rows[0] is not None, "a point of a measured panel has a row"
    assert rows[1] is not None, "a point of a measured panel has a row"
    artifact = _artifact(cells, panel, name)
    return Beside(
        reference=name,
        is_as_fast=is_as_fast,
        p50_s=point.p50_s,
        size_bytes=point.size_bytes,
        val_map=point.val_map,
        test_map=artifact.test.map_50_95,
        speed=speed_beside(rows[0], rows[1]),
        test_difference=compare(artifact, _artifact(cells, panel, chosen)),
    )


def _side(cells: CellsFile, latency: LatencyFile, panel: Panel, point: Point | None) -> Side | None:
    if point is None:
        return None
    row = latency.measured(point.cell, panel.profile) if panel.is_measured else None
    artifact = _artifact(cells, panel, point.cell)
    return Side(
        cell=point.cell,
        methods=point.methods,
        p50_s=point.p50_s,
        interval_s=point.interval_s,
        size_bytes=point.size_bytes,
        val_map=point.val_map,
        test_map=artifact.test.map_50_95,
        artifact_digest=artifact.digest,
        end_to_end_p50_s=row.end_to_end_p50_s if row is not None else None,
    )


def _artifact(cells: CellsFile, panel: Panel, name: str) -> ArtifactRecord:
    known: dict[str, CellRecord] = {record.cell: record for record in (*cells.cells, *cells.references)}
    cell = known[name]
    return cell.artifacts[panel.artifacts_of]
