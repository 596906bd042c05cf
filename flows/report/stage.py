"""The report stage: from records to one offline page, its Markdown twin, recommendation.json, and the models to deploy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from detection.data.dataset import Images
from flows.prepare.card import DataCard, count_line
from flows.progress import Say
from flows.publish.marked_page import render
from flows.records.files import whole_folder
from flows.records.formatting import leaves, literal, not_applicable, one_line, permitted
from flows.records.schema import CONTROL, GIVEN, ArtifactRecord, CellsFile, LatencyFile, write_records
from flows.records.store import Store, read_detections
from flows.report.figures import as_html, effects_figure, interactions_figure, pareto_figure, plotly_script
from flows.report.findings import Findings, Panel, ranking_sentences
from flows.report.model_export import export_best
from flows.report.pictures import HOW_CHOSEN, Picture, draw_pictures
from flows.report.recommendation import RecommendationFile, recommend
from flows.report.table import as_markdown, make_table
from flows.stats.factorial import QuantityKind, interactions, main_effects, methods_of
from flows.stats.latency import ALPHA, MIN_ROUNDS, POWER
from flows.stats.map_bootstrap import Difference, artifact_difference
from flows.stats.verdicts import FLAG_TITLES, flag_sentences, flags_of
from flows.sweep.settings import Report

HERE = Path(__file__).parent
QUANTITIES: tuple[QuantityKind, ...] = ("val_map", "speed", "size", "macs")
MARKDOWN = {"as_markdown": as_markdown, "one_line": one_line, "permitted": permitted, "literal": literal}


def report(
    cells: CellsFile,
    latency: LatencyFile,
    test: Images,
    config: Report,
    *,
    folder: Path,
    best_folder: Path,
    store: Store,
    say: Say,
    card: DataCard | None = None,
) -> RecommendationFile:
    """What is recommended. `index.html`, `report.md` and `recommendation.json` go to folder, the chosen models to best_folder.

    Accepts partial records, and data without a card, as older versions prepared it. Both folders are replaced whole, after
    everything in them was made.
    """
    findings = Findings.of(cells, latency, config.max_drop)

    def compare(other: ArtifactRecord, chosen: ArtifactRecord) -> Difference:
        pair, draws = (other, chosen), config.bootstrap_draws
        return artifact_difference(test.ground_truth, "test", pair, store, seed=config.seed, draws=draws)

    recommended = recommend(findings, compare)
    context = _context(findings, recommended, config, best_folder.name) | _pictures(cells, test, recommended, config, store)
    context |= {"card": card, "count_line": count_line}
    thresholds = (config.score_threshold, config.iou_threshold)
    with whole_folder(folder) as page, whole_folder(best_folder) as best:  # both are put in place at the end, the models first
        write_records(page / "recommendation.json", recommended)
        (page / "report.md").write_text(render(HERE / "report.md.j2", **context, **MARKDOWN))
        (page / "index.html").write_text(_html(context, findings))
        export_best(cells, latency, recommended, best, thresholds=thresholds, resize=test.resize, store=store)
    for line in (*(own.answer for own in recommended.profiles), *context["flag_sentences"]):
        say(line)
    say(f"report: {folder / 'index.html'}; models: {best_folder}")
    return recommended


def _context(findings: Findings, recommended: RecommendationFile, config: Report, best_name: str) -> dict[str, Any]:
    """What both the page and its Markdown twin say."""
    cells, latency = findings.cells, findings.latency
    flags = flags_of(cells, latency.rows)
    records = (*cells.cells, *cells.references)
    made = {record.cell for record in records if record.status == "ok"}
    control = cells.cell(CONTROL)
    return {
        "cells": cells,
        "control_trained": bool(control and control.budget and control.budget.train_epochs),
        "not_applicable": not_applicable(cells.not_applicable),
        "config": config,
        "recommended": recommended,
        "has_given": any(own.cell == GIVEN for own in cells.references),
        "methods": methods_of(cells),
        "seeds": sorted({cell.seed for cell in cells.cells}),
        "table": make_table(findings, recommended),
        "flags": flags,
        "flag_titles": FLAG_TITLES,
        "flag_sentences": (*ranking_sentences(cells), *flag_sentences(flags)),
        "test": {"alpha": ALPHA, "power": POWER, "min_rounds": MIN_ROUNDS},
        "failed": [record for record in records if record.status != "ok"],
        "unnumbered": [row for row in latency.rows if (row.p50_s is None or row.fits is False) and row.cell in made],
        "without_panel": sorted({row.profile for row in latency.rows} - {panel.profile for panel in findings.panels}),
        "rounds": {panel.profile: _rounds(latency, panel) for panel in findings.panels if panel.is_measured},
        "environment": [(name, _fact(value)) for name, value in leaves(latency.environment)],
        "best_name": best_name,
    }


def _rounds(latency: LatencyFile, panel: Panel) -> str:
    rows = [row for row in latency.rows if (row.profile, row.is_measured) == (panel.profile, panel.is_measured)]
    counts = sorted({len(row.rounds_s) for row in rows if row.rounds_s})
    return " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "an unknown number of"


def _fact(value: Any) -> str:
    """What is known about the host, in a line."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "unknown" if value is None else str(value)


def _pictures(cells: CellsFile, test: Images, recommended: RecommendationFile, config: Report, store: Store) -> dict[str, Any]:
    """Headings and pictures: the control and every distinct chosen file."""
    chosen = [(own.chosen.cell, own.artifacts_of) for own in recommended.profiles if own.verdict == "recommended" and own.chosen]
    shown = list(dict.fromkeys([(CONTROL, chosen[0][1] if chosen else cells.runtimes[0]), *chosen]))
    control = cells.cell(CONTROL)
    drawn: tuple[Picture, ...] = ()
    if config.pictures and control is not None and shown[0][1] in control.artifacts:
        artifacts = [cell.artifacts[runtime] for name, runtime in shown if (cell := cells.cell(name)) is not None]
        results = [read_detections(store.file(artifact.test.detections)) for artifact in artifacts]
        drawn = draw_pictures(test, results, config.pictures, config.score_threshold)
    headings = ["ground truth"] + [f"{'control' if name == CONTROL else name} ({runtime})" for name, runtime in shown]
    return {"pictures": drawn, "headings": headings, "how_chosen": HOW_CHOSEN.format(score=config.score_threshold)}


def _html(context: dict[str, Any], findings: Findings) -> str:
    quantities = main_effects(findings.cells, findings.latency)
    by_kind = [[quantity for quantity in quantities if quantity.kind == kind and quantity.effects] for kind in QUANTITIES]
    every = interactions(findings.cells)
    matrices = [matrix for matrix in every if any(value is not None for row in matrix.matrix for value in row)]
    pareto = [(panel, pareto_figure(panel, choice)) for panel, choice in zip(findings.panels, findings.choices, strict=True)]
    figures = {
        "pareto": [(panel, as_html(figure, f"pareto-{number}")) for number, (panel, figure) in enumerate(pareto)],
        "effects": [as_html(effects_figure(own), f"effects-{number}") for number, own in enumerate(by_kind) if own],
        "interactions": [as_html(interactions_figure(matrix), f"interactions-{number}") for number, matrix in enumerate(matrices)],
        "pairs": max((effect.pairs for quantity in quantities for effect in quantity.effects), default=0),
        "plotly": plotly_script(),
    }
    return render(HERE / "page.html.j2", **context, **figures, code=_code, permitted=permitted).removesuffix("\n")


def _code(text: str) -> Markup:
    """Escaped text whose backticks became code marks."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))
