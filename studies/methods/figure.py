"""The figures of docs/methods.md: test mAP against cost, of every variant of a method, its references and the control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from studies.methods.results import InRuntime, MethodResult, Role, Shown, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, BAR = "#222222", "#8d99ae"
COLOURS: dict[Role, str] = {"control": INK, "variant": "#00798c", "reference": "#6b5b95"}
MARKS: dict[Role, str] = {"control": "*", "variant": "o", "reference": "D"}
SAME = 1.02
"""Where all lie within 2 % of each other, a cost orders nothing and the marks stand side by side."""

Cost = Callable[[Shown, InRuntime], float | None]
"""None where there is no such number."""


def draw_method(found: Summary, own: MethodResult, path: Path) -> None:
    """Write one SVG: a row per runtime, and in it a panel for measured latency, multiply-adds and file size."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    costs: dict[str, Cost] = {
        "measured latency, ms": lambda _, values: 1e3 * values.timings[0].p50_s if values.timings else None,
        "multiply-adds, M": lambda shown, _: shown.macs / 1e6,
        "file size, MB": lambda _, values: values.size_bytes / 1e6,
    }
    rows = len(found.runtimes)
    figure = Figure(figsize=(10.5, 2.9 * rows), layout="constrained")
    for axes_row, runtime in zip(figure.subplots(rows, len(costs), squeeze=False, sharey="row"), found.runtimes, strict=True):
        for axes, (title, cost) in zip(axes_row, costs.items(), strict=True):
            _draw(axes, (found.control, *own.shown), own.marks, runtime, title, cost)
        axes_row[0].set_ylabel(f"test mAP 50-95, {runtime}")
        axes_row[1].legend(frameon=False, fontsize=7)  # every network has multiply-adds, so this panel is never empty
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same ids whenever it is drawn; letters as text, in a font that is named once.
    with rc_context({"svg.hashsalt": "sixfold", "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"]}):
        figure.savefig(path, metadata={"Date": None})


def _draw(axes: Axes, shown: Sequence[Shown], marks: Mapping[str, str], runtime: str, title: str, cost: Cost) -> None:
    made = [(own, values) for own in shown if (values := own.within(runtime)) is not None]
    entries = [(own, values, at) for own, values in made if (at := cost(own, values)) is not None]
    axes.spines[["top", "right"]].set_visible(False)
    if not entries:
        axes.set_xlabel(f"{title}: none")
        return
    positions = [at for _, _, at in entries]
    if max(positions) <= SAME * min(positions):
        axes.set_xlabel(f"{title}: {positions[0]:.3g} for all, side by side")
        axes.set_xticks([])
        positions = [float(number) for number in range(len(entries))]
    else:
        axes.set_xlabel(title)
    control_map = next((values.test_map for own, values, _ in entries if own.role == "control"), None)
    if control_map is not None:
        axes.axhline(control_map, color=BAR, linewidth=0.8, linestyle=":", zorder=0)
    for role in COLOURS:
        _draw_role(axes, role, [(values, at) for (own, values, _), at in zip(entries, positions, strict=True) if own.role == role])
    for (own, values, _), at in zip(entries, positions, strict=True):
        position = (at, values.test_map)
        axes.annotate(
            marks.get(own.label, ""), position, xytext=(4, 2), textcoords="offset points", fontsize=7, color=COLOURS[own.role]
        )
    axes.grid(visible=True, alpha=0.15)


def _draw_role(axes: Axes, role: Role, entries: Sequence[tuple[InRuntime, float]]) -> None:
    """Marks with the interval of their difference to the control; the control has none."""
    if not entries:
        return
    maps = [values.test_map for values, _ in entries]
    below = [max(0.0, values.difference.mean - values.difference.low) for values, _ in entries]
    above = [max(0.0, values.difference.high - values.difference.mean) for values, _ in entries]
    axes.errorbar(
        [at for _, at in entries],
        maps,
        yerr=[below, above],
        fmt=MARKS[role],
        color=COLOURS[role],
        ecolor=BAR,
        elinewidth=0.8,
        markersize=9 if role == "control" else 5,
        markerfacecolor="none" if role == "reference" else COLOURS[role],
        linewidth=0,
        label=role,
    )
