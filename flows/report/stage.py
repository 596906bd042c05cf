"""The report stage: from records to one offline page, its Markdown twin, a recommendation for machines, and the models to ship."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from detection.data.dataset import Images
from flows.records.detections import read_detections
from flows.records.formatting import permitted, points
from flows.records.schema import CONTROL, ArtifactRecord, CellsFile, LatencyFile
from flows.report.figures import as_html, effects_figure, interactions_figure, pareto_figure, plotly_script
from flows.report.model_export import export_best
from flows.report.pareto import Panel, choose, panels, reference_panels
from flows.report.pictures import HOW_CHOSEN, Picture, draw_pictures
from flows.report.recommendation import RecommendationFile, recommend
from flows.report.table import as_markdown, make_table
from flows.stats.factorial import QuantityKind, interactions, main_effects, methods_of, seeds_of
from flows.stats.latency import ALPHA, MIN_ROUNDS, POWER
from flows.stats.map_bootstrap import NO_DIFFERENCE, Difference, paired_map_difference
from flows.stats.verdicts import FLAG_TITLES, in_sentences, raised
from flows.sweep.report_settings import Report

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
    resolve: Callable[[str], Path],
    report: Callable[[str], None],
) -> Path:
    """The page's path. Writes `index.html`, `report.md` and `recommendation.json` to folder and the chosen models to best_folder.

    Accepts partial records. resolve turns a URL of the store into a path, report receives lines for people.
    Both folders are replaced whole, after everything in them was made.
    """
    found = panels(cells, latency)
    recommended = recommend(cells, latency, config.max_drop, partial(_paired, test=test, config=config, resolve=resolve))
    context = _context(cells, latency, found, recommended, config=config, best_name=best_folder.name)
    context |= _picture_context(cells, test, recommended, config, resolve)
    partial_page, partial_best = _fresh(folder), _fresh(best_folder)
    partial_page.mkdir(parents=True)
    (partial_page / "recommendation.json").write_text(recommended.model_dump_json(by_alias=True, indent=1) + "\n")
    (partial_page / "report.md").write_text(_markdown(context))
    (partial_page / "index.html").write_text(_html(context, cells, latency, found, config))
    thresholds = (config.score_threshold, config.iou_threshold)
    export_best(cells, latency, recommended, partial_best, thresholds=thresholds, resolve=resolve)
    _replace(partial_best, best_folder)
    _replace(partial_page, folder)
    for own in recommended.profiles:
        report(own.answer)
    for sentence in context["flag_sentences"]:
        report(sentence)
    report(f"report: {folder / 'index.html'}; models: {best_folder}")
    return folder / "index.html"


def _paired(
    other: ArtifactRecord, chosen: ArtifactRecord, test: Images, config: Report, resolve: Callable[[str], Path]
) -> Difference:
    """Of test mAP, chosen minus the other; a file does not differ from itself."""
    if other.digest == chosen.digest:
        return NO_DIFFERENCE
    first, second = (read_detections(resolve(artifact.test.detections)) for artifact in (other, chosen))
    return paired_map_difference(test.ground_truth, first, second, seed=config.seed, draws=config.bootstrap_draws)


def _context(
    cells: CellsFile,
    latency: LatencyFile,
    found: tuple[Panel, ...],
    recommended: RecommendationFile,
    *,
    config: Report,
    best_name: str,
) -> dict[str, Any]:
    """What both the page and its Markdown twin say."""
    methods = methods_of(cells)
    references = reference_panels(cells, latency)
    flags = raised(cells, latency.rows)
    return {
        "cells": cells,
        "config": config,
        "recommended": recommended,
        "methods": methods,
        "seeds": seeds_of(cells),
        "table": make_table(cells, found, references, methods, recommended),
        "flags": flags,
        "flag_titles": FLAG_TITLES,
        "flag_sentences": in_sentences(flags),
        "test": {"alpha": ALPHA, "power": POWER, "min_rounds": MIN_ROUNDS},
        "failed": [cell for cell in (*cells.cells, *cells.references) if cell.status != "ok"],
        "unnumbered": [row for row in latency.rows if (row.p50_s is None or row.fits is False) and _is_ok(cells, row.cell)],
        "without_panel": sorted({row.profile for row in latency.rows} - {panel.profile for panel in found}),
        "rounds": {panel.profile: _rounds(latency, panel) for panel in found if panel.is_measured},
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


def _picture_context(
    cells: CellsFile, test: Images, recommended: RecommendationFile, config: Report, resolve: Callable[[str], Path]
) -> dict[str, Any]:
    """Headings and pictures: the control and every distinct chosen file."""
    chosen = [(own.chosen.cell, own.artifacts_of) for own in recommended.profiles if own.verdict == "ship" and own.chosen]
    shown = list(dict.fromkeys([(CONTROL, chosen[0][1] if chosen else cells.runtimes[0]), *chosen]))
    control = cells.cell(CONTROL)
    drawn: tuple[Picture, ...] = ()
    if config.pictures and control is not None and shown[0][1] in control.artifacts:
        artifacts = [cell.artifacts[runtime] for name, runtime in shown if (cell := cells.cell(name)) is not None]
        results = [read_detections(resolve(artifact.test.detections)) for artifact in artifacts]
        drawn = draw_pictures(test, results, config.pictures, config.score_threshold)
    headings = ["ground truth"] + [f"{'control' if name == CONTROL else name} ({runtime})" for name, runtime in shown]
    return {"pictures": drawn, "headings": headings, "how_chosen": HOW_CHOSEN.format(score=config.score_threshold)}


def _html(context: dict[str, Any], cells: CellsFile, latency: LatencyFile, found: tuple[Panel, ...], config: Report) -> str:
    quantities = main_effects(cells, latency)
    by_kind = [[quantity for quantity in quantities if quantity.kind == kind and quantity.effects] for kind in QUANTITIES]
    matrices = [matrix for matrix in interactions(cells) if any(value is not None for row in matrix.matrix for value in row)]
    beside = {(panel.profile, panel.is_measured): panel.points for panel in reference_panels(cells, latency)}
    pareto = [pareto_figure(own, choose(own, config.max_drop), beside.get((own.profile, own.is_measured), ())) for own in found]
    figures = {
        "pareto": [(panel, _safe(figure, f"pareto-{n}")) for n, (panel, figure) in enumerate(zip(found, pareto, strict=True))],
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
        lines += [f"- `{cell.cell}` ({cell.status}): {_one_line(cell.error)}" for cell in context["failed"]]
    if context["unnumbered"]:
        lines += ["", "## Without latency", ""]
        lines += [f"- `{row.cell}` on `{row.profile}`: {_one_line(row.why)}" for row in context["unnumbered"]]
    return "\n".join(lines) + "\n"


def _one_line(text: str | None) -> str:
    return " ".join((text or "no reason recorded").split())


def _fresh(folder: Path) -> Path:
    """A sibling on the same file system, not there yet."""
    made = folder.with_name(folder.name + ".partial")
    shutil.rmtree(made, ignore_errors=True)
    return made


def _replace(made: Path, final: Path) -> None:
    old = final.with_name(final.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    made.rename(final)
    shutil.rmtree(old, ignore_errors=True)
