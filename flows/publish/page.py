"""Committed results: the records of a finished sweep copied to docs/results/<sweep>/, and docs/results.md written from them all."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from detection.frozen import InputError
from flows.compare.retrain_text import read_seeds, section, sentences
from flows.records.formatting import permitted
from flows.records.schema import CONTROL, CellsFile, LatencyFile, read_records
from flows.report.pareto import Panel, choose, panels, reference_panels
from flows.report.recommendation import RecommendationFile
from flows.report.static_plot import draw_pareto
from flows.report.table import as_markdown, make_table
from flows.stats.factorial import Effect, interactions, main_effects, methods_of
from flows.stats.verdicts import FLAG_TITLES, in_sentences, raised
from flows.sweep import workspace

RESULTS = Path("docs/results")
PAGE = Path("docs/results.md")
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
NO_EFFECT_NOTE = "After a semicolon: the mean without cells in which a method had nothing to change, and over how many pairs."
INPUT = 2
"""Exit code where the fault lies with what was given, as everywhere."""
SHOWN = ("bccd",)
"""Sweeps whose headline the README shows."""


def publish(source: Path, checkout: Path, command: str, note: str = "") -> Path:
    """Copy the records of the sweep that ran in source, and rewrite the page; where the page is. The note goes below the times."""
    cells = read_records(source / workspace.CELLS, CellsFile)
    latency = read_records(source / workspace.LATENCY, LatencyFile)
    recommended = source / workspace.REPORT / "recommendation.json"
    if not recommended.is_file():
        raise InputError(f"{recommended}: no such file. Run `sixfold report` first.")
    folder = checkout / RESULTS / cells.sweep
    folder.mkdir(parents=True, exist_ok=True)
    _copy_seeds(source / workspace.SEEDS, folder / workspace.SEEDS.name, cells)
    shutil.copy2(source / workspace.CELLS, folder / "cells.json")
    shutil.copy2(source / workspace.LATENCY, folder / "latency.json")
    shutil.copy2(recommended, folder / "recommendation.json")
    lines = (source / workspace.STAGE_TIMES).read_text().splitlines() if (source / workspace.STAGE_TIMES).is_file() else []
    stages = {line["stage"]: line for line in map(json.loads, lines)}  # the last run of each
    draw_pareto(cells, latency, folder / "pareto.svg")
    (folder / "stages.json").write_text(
        json.dumps({"command": command, "note": note, "stages": list(stages.values())}, indent=1) + "\n"
    )
    write_readme(checkout)
    return write_page(checkout)


def _copy_seeds(source: Path, copy: Path, cells: CellsFile) -> None:
    """The seeds that belong to these records; those of other networks must not stand on their page."""
    if source.is_file():
        if not read_seeds(source).is_of(cells):
            raise InputError(
                f"{source}: its first seed is not the cell and the control of {workspace.CELLS}, which were made again since. "
                "Run `sixfold retrain` again, or remove the file."
            )
        shutil.copy2(source, copy)
    elif copy.is_file() and not read_seeds(copy).is_of(cells):
        copy.unlink()


def write_readme(checkout: Path) -> None:
    """Put answer, picture and best rows of the first sweep on real pictures between the marks of README.md."""
    readme = checkout / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    blocks = [block for name in SHOWN if (checkout / RESULTS / name).is_dir() for block in _headline(checkout / RESULTS / name)]
    readme.write_text("\n".join([before + BEGIN, *blocks, END + after]))


def _headline(folder: Path) -> list[str]:
    cells, latency = read_records(folder / "cells.json", CellsFile), read_records(folder / "latency.json", LatencyFile)
    run = json.loads((folder / "stages.json").read_text())
    lines = [
        f"## What it found: {cells.dataset.name}",
        "",
        f"From `{run['command']}`, {len(cells.cells)} cells; all of it in [docs/results.md](docs/results.md).",
        "",
        f"![val mAP against measured latency, both runtimes]({folder.relative_to(folder.parents[2]).as_posix()}/pareto.svg)",
        "",
        "| device | cell | ms | speedup [95 %] | file, MB | val mAP | test mAP |",
        "|---|---|---|---|---|---|---|",
    ]
    for panel in panels(cells, latency):
        if panel.is_measured:
            lines += [_row(cells, panel, name) for name in _best(panel)]
    recommended = RecommendationFile.model_validate_json((folder / "recommendation.json").read_text())
    lines += ["", _what_the_rows_are(latency, recommended)]
    if (folder / workspace.SEEDS.name).is_file():
        lines += ["", *(f"- {line}" for line in sentences(read_seeds(folder / workspace.SEEDS.name)))]
    return [*lines, ""]


def _best(panel: Panel) -> tuple[str, ...]:
    """The control, then the fastest within 1, 2 and 5 points of its val mAP; nothing where the control has no time."""
    if panel.point(CONTROL) is None:
        return ()
    fastest = [choose(panel, drop).cell for drop in (0.01, 0.02, 0.05)]
    return tuple(dict.fromkeys([CONTROL, *(name for name in fastest if name is not None)]))


def _what_the_rows_are(latency: LatencyFile, recommended: RecommendationFile) -> str:
    """What a reader must know of the headline's rows: machine, what the times are of, what the whole way gains."""
    whole = [
        f"{own.control.end_to_end_p50_s / own.chosen.end_to_end_p50_s:.1f}x as fast on `{own.profile}`"
        for own in recommended.profiles
        if own.verdict == "ship" and own.chosen and own.control and own.chosen.end_to_end_p50_s and own.control.end_to_end_p50_s
    ]
    said = [
        f"Measured on {latency.environment.get('cpu', 'an unknown machine')}.",
        "Rows: the control, then the fastest within 1, 2 and 5 points of its val mAP (of those equally fast, the most accurate).",
        "Times are of the network alone;" if whole else "Times are of the network alone.",
        *([f"from picture to boxes the recommended cell is {' and '.join(whole)}."] if whole else []),
    ]
    return " ".join(said)


def _row(cells: CellsFile, panel: Panel, name: str) -> str:
    record, point = cells.cell(name), next(point for point in panel.points if point.cell == name)
    assert record is not None, "a point is of a cell"
    artifact = record.artifacts[panel.artifacts_of]
    interval = f" [{point.speedup_ci95[0]:.2f}, {point.speedup_ci95[1]:.2f}]" if point.speedup_ci95 else ""
    shown = "none (the control)" if name == CONTROL else name.replace("+", " + ")
    return (
        f"| {panel.profile} | {shown} | {1e3 * point.p50_s:.2f} | {point.speedup or 1:.2f}{interval} "
        f"| {artifact.size_bytes / 1e6:.2f} | {point.val_map:.3f} | {artifact.test.map_50_95:.3f} |"
    )


def write_page(checkout: Path) -> Path:
    """docs/results.md from every committed sweep."""
    folders = sorted(path.parent for path in (checkout / RESULTS).glob("*/cells.json"))
    parts = ["# Measured results", "", "Generated by `make publish` from the records beside this page; not written by hand."]
    for folder in folders:
        parts += ["", *_sweep(folder)]
    page = checkout / PAGE
    page.write_text("\n".join(parts) + "\n")
    return page


def _sweep(folder: Path) -> list[str]:
    cells, latency = read_records(folder / "cells.json", CellsFile), read_records(folder / "latency.json", LatencyFile)
    recommended = RecommendationFile.model_validate_json((folder / "recommendation.json").read_text())
    run = json.loads((folder / "stages.json").read_text())
    found = panels(cells, latency)
    data = cells.dataset
    counts = ", ".join(f"{split} {count}" for split, count in data.pictures.items())
    table = make_table(cells, found, reference_panels(cells, latency), methods_of(cells), recommended)
    return [
        f"## {cells.sweep}",
        "",
        f"`{run['command']}`: {cells.in_numbers()} ok on data {data.name!r} ({counts} pictures, "
        f"{data.input_size[0]} x {data.input_size[1]}), runtimes {', '.join(cells.runtimes)}, seed {cells.cells[0].seed}.",
        "",
        f"Chosen on val, at most {permitted(recommended.max_drop)} of mAP 50-95 lost against the control; test is only reported.",
        "",
        *_answers(recommended),
        "",
        f"![val mAP against measured latency]({folder.relative_to(folder.parents[1]).as_posix()}/pareto.svg)",
        "",
        *_teachers(folder),
        *_seeds(folder),
        *_budget(run["stages"], run["note"]),
        *_effects(cells, latency),
        *_flags(cells, latency),
        "### Every cell",
        "",
        "Measured columns are medians over fresh processes with 95 % intervals of the ratio to the control; columns marked as",
        "estimates come from a model of a device that was not there (calibrated where fitted on measured networks). The mark",
        "\u25cf is the Pareto front of val mAP against latency; pt are points of val mAP; `narrow~CELL` is narrow, and as fast as",
        'CELL by estimate; "would find" is the smallest ratio that these rounds would probably have told from 1.',
        "",
        as_markdown(table),
        "",
        f"Machine: {latency.environment.get('cpu', 'unknown')}. Records: `docs/results/{folder.name}/`.",
    ]


def _answers(recommended: RecommendationFile) -> list[str]:
    """Each answer with what has to be known beside it."""
    return [line for own in recommended.profiles for line in (f"- {own.answer}", *(f"  - {note}" for note in own.notes))]


def _teachers(folder: Path) -> list[str]:
    """The teacher over several seeds, where that was measured."""
    path = folder / "teachers.json"
    if not path.is_file():
        return []
    seeds = json.loads(path.read_text())
    tests = [own["test_map_50_95"] for own in seeds["teachers"]]
    mean = sum(tests) / len(tests)
    spread = max(tests) - min(tests)
    shown = ", ".join(f"seed {own['seed']}: {own['test_map_50_95']:.3f}" for own in seeds["teachers"])
    return [
        f"Teacher: {seeds['params'] / 1e6:.2f} M parameters, {seeds['gflops']:.2f} GFLOP, test mAP {mean:.3f} "
        f"(mean of {len(tests)} seeds, range {spread:.3f}; {shown}), by {seeds['command']}.",
        "",
    ]


def _seeds(folder: Path) -> list[str]:
    """The chosen cell over several seeds, where `sixfold retrain` made it."""
    path = folder / workspace.SEEDS.name
    return section(read_seeds(path)) if path.is_file() else []


def _budget(stages: Sequence[dict[str, object]], note: str) -> list[str]:
    """Where the time of the run went."""
    if not stages:
        return []
    rows = [f"| {own['stage']} | {float(str(own['wall_s'])):.0f} |" for own in stages]
    total = sum(float(str(own["wall_s"])) for own in stages)
    return [
        "### Where the time went",
        "",
        "| stage | wall seconds |",
        "|---|---|",
        *rows,
        f"| all | {total:.0f} |",
        "",
        "Each line is the last run of its stage; what was stored by then was not made again.",
        "",
        *([note, ""] if note else []),
    ]


def _effects(cells: CellsFile, latency: LatencyFile) -> list[str]:
    """Main effects, and the strongest interaction, in a small table."""
    quantities = main_effects(cells, latency)
    lines = ["### What each method does on average", ""]
    lines += ["Mean over the pairs of cells that differ in this method alone; the range over these pairs in brackets."]
    lines += ["With one seed this speaks of these trained networks, not of the methods in general."]
    lines += [NO_EFFECT_NOTE, ""] if any(cell.no_effect for cell in cells.cells) else [""]
    lines += ["| quantity | " + " | ".join(effect.method for effect in quantities[0].effects) + " |"] if quantities else []
    lines += ["|---" * (1 + len(quantities[0].effects)) + "|"] if quantities else []
    for quantity in quantities:
        shown = [_shown(quantity.kind, effect) for effect in quantity.effects]
        lines.append(f"| {quantity.kind} {quantity.of} | " + " | ".join(shown) + " |")
    lines.append("")
    for own in interactions(cells):
        pairs = [
            (abs(value), value, own.methods[i], own.methods[j])
            for i, row in enumerate(own.matrix)
            for j, value in enumerate(row)
            if i < j and value is not None
        ]
        if pairs:
            _, value, first, second = max(pairs)
            lines.append(f"Strongest interaction on val mAP in {own.runtime}: {first} with {second}, {100 * value:+.1f} points.")
    return [*lines, ""]


def _shown(kind: str, effect: Effect) -> str:
    """Points of mAP, or factors: the effects on sizes and speeds come as logarithms of ratios."""

    def number(value: float, unit: str = "") -> str:
        return f"{100 * value:+.1f}{unit}" if kind == "val_map" else f"{math.exp(value):.2f}"

    times = "" if kind == "val_map" else "x"
    shown = f"{times}{number(effect.mean, ' pt')} [{number(effect.low)}, {number(effect.high)}]"
    if effect.effective_pairs == effect.pairs:
        return shown
    rest = "none" if effect.effective_mean is None else f"{times}{number(effect.effective_mean, ' pt')}"
    return f"{shown}; {rest} over {effect.effective_pairs} of {effect.pairs}"


def _flags(cells: CellsFile, latency: LatencyFile) -> list[str]:
    found = raised(cells, latency.rows)
    if not found:
        return []
    measured = [flag for flag in found if flag.source == "measured"]  # of modelled ones the sentences say enough
    lines = [f"- {FLAG_TITLES[flag.kind]}, {flag.profile}: `{flag.cell}`: {flag.why}" for flag in measured]
    said = [f"- {sentence}" for sentence in in_sentences(found)]
    return ["### Smaller but not faster, int8 slower than float", "", *said, "", *([*lines, ""] if lines else [])]


def main(arguments: Sequence[str], checkout: Path) -> int:
    """Exit code; prints where the page is, or on stderr what is wrong with what was given."""
    if len(arguments) not in (2, 3):
        print("usage: python -m flows.publish.page FOLDER_OF_THE_RUN COMMAND_THAT_MADE_IT [NOTE]", file=sys.stderr)
        return INPUT
    try:
        print(publish(Path(arguments[0]), checkout, *arguments[1:]))
    except InputError as error:
        print(f"publish: {error}", file=sys.stderr)
        return INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path.cwd()))
