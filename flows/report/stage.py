"""The report stage: from records to one offline page, its Markdown twin, recommendation.json, and the models to deploy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from detection.data.dataset import Images
from flows.progress import Say
from flows.records.files import whole_folder
from flows.records.formatting import one_line, permitted, points
from flows.records.schema import CONTROL, ArtifactRecord, CellsFile, LatencyFile
from flows.records.store import Store, read_detections
from flows.report.figures import as_html, effects_figure, interactions_figure, pareto_figure, plotly_script
from flows.report.findings import Findings, Panel
from flows.report.model_export import export_best
from flows.report.pictures import HOW_CHOSEN, Picture, draw_pictures
from flows.report.recommendation import RecommendationFile, recommend
from flows.report.table import as_markdown, make_table
from flows.stats.factorial import QuantityKind, interactions, main_effects, methods_of, seeds_of
from flows.stats.latency import ALPHA, MIN_ROUNDS, POWER
from flows.stats.map_bootstrap import Difference, artifact_difference
from flows.stats.verdicts import FLAG_TITLES, flag_sentences, flags_of
from flows.sweep.settings import Report

TEMPLATE = "page.html.j2"
QUANTITIES: tuple[QuantityKind, ...] = ("val_map", "speed", "size", "macs")


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
) -> Path:
    """The page's path. Writes `index.html`, `report.md` and `recommendation.json` to folder and the chosen models to best_folder.

    Accepts partial records. Both folders are replaced whole, after everything in them was made.
    """
    findings = Findings.of(cells, latency, config.max_drop)

    def compare(other: ArtifactRecord, chosen: ArtifactRecord) -> Difference:
        pair, draws = (other, chosen), config.bootstrap_draws
        return artifact_difference(test.ground_truth, "test", pair, store, seed=config.seed, draws=draws)

    recommended = recommend(findings, compare)
    context = _context(findings, recommended, config, best_folder.name) | _pictures(cells, test, recommended, config, store)
    thresholds = (config.score_threshold, config.iou_threshold)
    with whole_folder(folder) as page, whole_folder(best_folder) as best:  # both are put in place at the end, the models first
        (page / "recommendation.json").write_text(recommended.model_dump_json(by_alias=True, indent=1) + "\n")
        (page / "report.md").write_text(_markdown(context))
        (page / "index.html").write_text(_html(context, findings))
        export_best(cells, latency, recommended, best, thresholds=thresholds, store=store)
    for line in (*(own.answer for own in recommended.profiles), *context["flag_sentences"]):
        say(line)
    say(f"report: {folder / 'index.html'}; models: {best_folder}")
    return folder / "index.html"


def _context(findings: Findings, recommended: RecommendationFile, config: Report, best_name: str) -> dict[str, Any]:
    """What both the page and its Markdown twin say."""
    cells, latency = findings.cells, findings.latency
    flags = flags_of(cells, latency.rows)
    return {
        "cells": cells,
        "config": config,
        "recommended": recommended,
        "methods": methods_of(cells),
        "seeds": seeds_of(cells),
        "table": make_table(findings, recommended),
        "flags": flags,
        "flag_titles": FLAG_TITLES,
        "flag_sentences": flag_sentences(flags),
        "test": {"alpha": ALPHA, "power": POWER, "min_rounds": MIN_ROUNDS},
        "failed": [cell for cell in (*cells.cells, *cells.references) if cell.status != "ok"],
        "unnumbered": [row for row in latency.rows if (row.p50_s is None or row.fits is False) and _is_ok(cells, row.cell)],
        "without_panel": sorted({row.profile for row in latency.rows} - {panel.profile for panel in findings.panels}),
        "rounds": {panel.profile: _rounds(latency, panel) for panel in findings.panels if panel.is_measured},
        "environment": list(_flat("", latency.environment)),
        "best_name": best_name,
    }


def _is_ok(cells: CellsFile, name: str) -> bool:
    return any(cell.cell == name and cell.status == "ok" for cell in (*cells.cells, *cells.references))


def _rounds(latency: LatencyFile, panel: Panel) -> str:
    rows = [row for row in latency.rows if (row.profile, row.is_measured) == (panel.profile, panel.is_measured)]
    counts = sorted({len(row.rounds_s) for row in rows if row.rounds_s})
    return " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "an unknown number of"


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    """Nested facts about the host as lines: `versions.onnxruntime` and its value."""
    if isinstance(value, dict):
        return [line for key in value for line in _flat(f"{prefix}.{key}" if prefix else str(key), value[key])]
    return [(prefix, ", ".join(map(str, value)) if isinstance(value, list | tuple) else "unknown" if value is None else str(value))]


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
    panels = zip(findings.panels, findings.choices, findings.references, strict=True)
    pareto = [(panel, pareto_figure(panel, choice, others.points if others else ())) for panel, choice, others in panels]
    figures = {
        "pareto": [(panel, _safe(figure, f"pareto-{number}")) for number, (panel, figure) in enumerate(pareto)],
        "effects": [_safe(effects_figure(own), f"effects-{number}") for number, own in enumerate(by_kind) if own],
        "interactions": [_safe(interactions_figure(matrix), f"interactions-{number}") for number, matrix in enumerate(matrices)],
        "pairs": max((effect.pairs for quantity in quantities for effect in quantity.effects), default=0),
        "plotly": Markup(plotly_script()),  # Plotly's own code, not data
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": _code, "points": points, "permitted": permitted}
    return environment.get_template(TEMPLATE).render(**context, **figures)


def _safe(figure: Any, identifier: str) -> Markup:
    return Markup(as_html(figure, identifier))  # Plotly's JSON escapes <, > and & itself


def _code(text: str) -> Markup:
    """Escaped text whose backticks became code marks."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _markdown(context: dict[str, Any]) -> str:
    cells, recommended = context["cells"], context["recommended"]
    lines = [f"# Report: {cells.sweep}", ""]
    for own in recommended.profiles:
        lines += [f"- {own.answer}"] + [f"  - {note}" for note in own.notes]
    lines += [f"- No number on `{profile}`." for profile in context["without_panel"]]
    lines += ["", f"Chosen on val (at most {permitted(recommended.max_drop)} of mAP 50-95 lost); test is only reported.", ""]
    lines += [f"- Not applicable to this detector: {method}. {reason}" for method, reason in cells.not_applicable.items()]
    lines += ["## Cells", ""]
    lines += [
        "Columns that say estimate come from a model, not from a clock; ● marks the Pareto front (val mAP against latency).",
        "",
        as_markdown(context["table"]),
    ]
    if context["flags"]:
        lines += ["", "## Smaller but not faster, int8 slower than float", ""]
        lines += [*context["flag_sentences"], ""]
        lines += [
            f"- `{flag.cell}` on `{flag.profile}` ({flag.source}): {FLAG_TITLES[flag.kind]}; {flag.why}."
            for flag in context["flags"]
        ]
    if context["failed"]:
        lines += ["", "## Not made", ""]
        lines += [f"- `{cell.cell}` ({cell.status}): {one_line(cell.error)}" for cell in context["failed"]]
    if context["unnumbered"]:
        lines += ["", "## Without latency", ""]
        lines += [f"- `{row.cell}` on `{row.profile}`: {one_line(row.why)}" for row in context["unnumbered"]]
    return "\n".join(lines) + "\n"
