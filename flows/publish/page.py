"""Committed results: the records of a finished sweep copied to docs/results/<sweep>/, and docs/results.md written from them all."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from detection.frozen import InputError
from flows.cli.errors import INPUT, exit_code
from flows.compare.retrain_text import SeedsFile, read_seeds, section, sentences
from flows.publish.marked_page import render, rewrite, table
from flows.records.files import write_text
from flows.records.formatting import megabytes, permitted, with_interval
from flows.records.schema import CONTROL, CellsFile, LatencyFile, read_records, read_schema
from flows.report.figures import draw_pareto
from flows.report.findings import Findings, Panel, choose, panels
from flows.report.recommendation import RecommendationFile
from flows.report.table import as_markdown, make_table
from flows.stats.factorial import Effect, Interactions, Quantity, interactions, main_effects
from flows.stats.verdicts import FLAG_TITLES, flag_sentences, flags_of
from flows.sweep import workspace

RESULTS, PAGE, README = Path("docs/results"), Path("docs/results.md"), Path("README.md")
PART = "results"
"""Of the README."""
SHOWN = ("bccd",)
"""Sweeps whose headline the README shows."""
DROPS = (0.01, 0.02, 0.05)
"""Of val mAP: the README shows the fastest cell within each."""


class Published(NamedTuple):
    """The committed records of one sweep."""

    folder: Path
    cells: CellsFile
    latency: LatencyFile
    recommended: RecommendationFile
    run: dict[str, Any]
    """The command that made it, the last run of each stage, and a note."""
    seeds: SeedsFile | None
    """The chosen cell over several seeds, where `sixfold retrain` made it."""
    teachers: dict[str, Any] | None
    """The teacher over several seeds, where that was measured."""

    @property
    def counts(self) -> str:
        """Pictures by split."""
        return ", ".join(f"{split} {count}" for split, count in self.cells.dataset.pictures.items())


def publish(source: Path, checkout: Path, command: str, note: str = "") -> Path:
    """Copy the records of the sweep that ran in source, and rewrite the page; where the page is. The note goes below the times."""
    cells = read_records(source / workspace.CELLS, CellsFile)
    latency = read_records(source / workspace.LATENCY, LatencyFile)
    recommended = source / workspace.REPORT / "recommendation.json"
    max_drop = read_schema(recommended, RecommendationFile, "sixfold report").max_drop
    folder = checkout / RESULTS / cells.sweep
    folder.mkdir(parents=True, exist_ok=True)
    _copy_seeds(source / workspace.SEEDS, folder / workspace.SEEDS.name, cells)
    shutil.copy2(source / workspace.CELLS, folder / "cells.json")
    shutil.copy2(source / workspace.LATENCY, folder / "latency.json")
    shutil.copy2(recommended, folder / "recommendation.json")
    lines = (source / workspace.STAGE_TIMES).read_text().splitlines() if (source / workspace.STAGE_TIMES).is_file() else []
    stages = {line["stage"]: line for line in map(json.loads, lines)}  # the last run of each
    draw_pareto(Findings.of(cells, latency, max_drop), folder / "pareto.svg")
    run = {"command": command, "note": note, "stages": list(stages.values())}
    write_text(folder / "stages.json", json.dumps(run, indent=1) + "\n")
    return write_pages(checkout)


def write_pages(checkout: Path) -> Path:
    """docs/results.md from every committed sweep, and the headline of the README; where the former is."""
    found = [read_published(path.parent) for path in sorted((checkout / RESULTS).glob("*/cells.json"))]
    templates, headline = Path(__file__).parent, [own for own in found if own.folder.name in SHOWN]
    shown = render(
        templates / "readme.md.j2",
        sweeps=headline,
        best_cells=_best_cells,
        whole_path=_whole_path,
        seeds_sentences=sentences,
    )
    page = render(
        templates / "results.md.j2",
        sweeps=found,
        every_cell=_every_cell,
        effects_table=_effects_table,
        strongest=_strongest,
        main_effects=main_effects,
        flags_of=flags_of,
        flag_sentences=flag_sentences,
        flag_titles=FLAG_TITLES,
        permitted=permitted,
        seeds_section=section,
    )
    rewrite(checkout / README, {PART: shown})
    write_text(checkout / PAGE, page)
    return checkout / PAGE


def read_published(folder: Path) -> Published:
    """What lies in a folder of docs/results."""
    seeds, teachers = folder / workspace.SEEDS.name, folder / "teachers.json"
    return Published(
        folder=folder,
        cells=read_records(folder / "cells.json", CellsFile),
        latency=read_records(folder / "latency.json", LatencyFile),
        recommended=RecommendationFile.model_validate_json((folder / "recommendation.json").read_text()),
        run=json.loads((folder / "stages.json").read_text()),
        seeds=read_seeds(seeds) if seeds.is_file() else None,
        teachers=json.loads(teachers.read_text()) if teachers.is_file() else None,
    )


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


def _best_cells(own: Published) -> str:
    """Per measured profile the control, then the fastest within each of DROPS; nothing where the control has no time."""
    rows = []
    for panel in panels(own.cells, own.latency):
        if panel.is_measured and panel.point(CONTROL) is not None:
            fastest = [name for drop in DROPS if (name := choose(panel, drop).cell) is not None]
            rows += [_row(own.cells, panel, name) for name in dict.fromkeys([CONTROL, *fastest])]
    return table(["device", "cell", "ms", "speedup [95 %]", "file, MB", "val mAP", "test mAP"], rows)


def _row(cells: CellsFile, panel: Panel, name: str) -> list[str]:
    record, point = cells.record(name), panel.point(name)
    assert point is not None, "what was chosen has a point"
    artifact = record.artifacts[panel.artifacts_of]
    return [
        panel.profile,
        "none (the control)" if name == CONTROL else name.replace("+", " + ") + " (from scratch)" * record.from_scratch,
        f"{1e3 * point.p50_s:.2f}",
        with_interval(f"{point.speedup or 1:.2f}", point.speedup_ci95),
        megabytes(artifact.size_bytes),
        f"{point.val_map:.3f}",
        f"{artifact.test.map_50_95:.3f}",
    ]


def _whole_path(recommended: RecommendationFile) -> str:
    """What the times are of, and what the path from picture to boxes gains."""
    whole = [
        f"{own.control.end_to_end_p50_s / own.chosen.end_to_end_p50_s:.1f}x as fast on `{own.profile}`"
        for own in recommended.profiles
        if own.verdict == "recommended"
        and own.chosen
        and own.control
        and own.chosen.end_to_end_p50_s
        and own.control.end_to_end_p50_s
    ]
    rest = f"; from picture to boxes the recommended cell is {' and '.join(whole)}" if whole else ""
    return f"Times are of the network alone{rest}."


def _every_cell(own: Published) -> str:
    return as_markdown(make_table(Findings.of(own.cells, own.latency, own.recommended.max_drop), own.recommended))


def _effects_table(quantities: Sequence[Quantity]) -> str:
    rows = [[f"{own.kind} {own.of}", *(_effect(own.kind, effect) for effect in own.effects)] for own in quantities]
    return table(["quantity", *(effect.method for effect in quantities[0].effects)], rows)


def _effect(kind: str, effect: Effect) -> str:
    """Points of mAP, or factors: the effects on sizes and speeds come as logarithms of ratios."""

    def number(value: float, unit: str = "") -> str:
        return f"{100 * value:+.1f}{unit}" if kind == "val_map" else f"{math.exp(value):.2f}"

    times = "" if kind == "val_map" else "x"
    shown = f"{times}{number(effect.mean, ' pt')} [{number(effect.low)}, {number(effect.high)}]"
    if effect.effective_pairs == effect.pairs:
        return shown
    rest = "none" if effect.effective_mean is None else f"{times}{number(effect.effective_mean, ' pt')}"
    return f"{shown}; {rest} over {effect.effective_pairs} of {effect.pairs}"


def _strongest(cells: CellsFile) -> Iterator[tuple[Interactions, tuple[float, str, str]]]:
    """Per runtime, the interaction of two methods that changes val mAP most, in shares of 1."""
    for own in interactions(cells):
        pairs = [
            (value, own.methods[i], own.methods[j])
            for i, row in enumerate(own.matrix)
            for j, value in enumerate(row)
            if i < j and value is not None
        ]
        if pairs:
            yield own, max(pairs, key=lambda pair: (abs(pair[0]), pair))


def main(arguments: Sequence[str], checkout: Path) -> int:
    """Exit code; prints where the page is, or on stderr what is wrong with what was given. Without arguments nothing is copied."""
    if len(arguments) not in (0, 2, 3):
        print("usage: python -m flows.publish.page [FOLDER_OF_THE_RUN COMMAND_THAT_MADE_IT [NOTE]]", file=sys.stderr)
        return INPUT
    made = partial(publish, Path(arguments[0]), checkout, *arguments[1:]) if arguments else partial(write_pages, checkout)
    return exit_code(lambda: print(made()), "publish")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path.cwd()))
