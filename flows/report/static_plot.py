"""A static Pareto plot for README and docs; the report's are interactive."""

from __future__ import annotations

from pathlib import Path

from flows.records.schema import CONTROL
from flows.report.findings import Findings, Panel, Point, pareto

INK, INT8, FLOAT, FRONT, REFERENCE = "#222222", "#d1495b", "#00798c", "#8d99ae", "#6b5b95"


def draw_pareto(findings: Findings, path: Path) -> None:
    """Write one SVG: a panel per measured profile, val mAP against median latency, the front as a line, references apart."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    measured = [pair for pair in zip(findings.panels, findings.references, strict=True) if pair[0].is_measured]
    figure = Figure(figsize=(5.6 * max(1, len(measured)), 4.4), layout="constrained")
    FigureCanvasSVG(figure)
    for axes, (panel, references) in zip(figure.subplots(1, max(1, len(measured)), squeeze=False)[0], measured, strict=False):
        _draw(axes, panel, references.points if references else ())
    figure.savefig(path, metadata={"Date": None})


def _draw(axes: object, panel: Panel, references: tuple[Point, ...]) -> None:
    from matplotlib.axes import Axes
    from matplotlib.ticker import ScalarFormatter

    assert isinstance(axes, Axes)
    for dtype, colour, name in (("fp32", FLOAT, "float"), ("int8", INT8, "int8")):
        own = [point for point in panel.points if point.computes_in == dtype]
        axes.scatter(
            [1e3 * p.p50_s for p in own], [p.val_map for p in own], s=26, color=colour, alpha=0.75, label=name, linewidths=0
        )
    if references:
        times_ms, accuracies = zip(*((1e3 * p.p50_s, p.val_map) for p in references), strict=True)
        axes.scatter(times_ms, accuracies, s=30, marker="D", facecolors="none", edgecolors=REFERENCE, label="references")
    front = pareto(panel.points)
    axes.plot([1e3 * p.p50_s for p in front], [p.val_map for p in front], color=FRONT, zorder=0, label="front")
    for point in panel.points:
        if point.cell == CONTROL:
            axes.annotate(
                "control", (1e3 * point.p50_s, point.val_map), xytext=(-6, 8), textcoords="offset points", ha="right", color=INK
            )
            axes.scatter([1e3 * point.p50_s], [point.val_map], s=70, facecolors="none", edgecolors=INK)
    axes.set_xscale("log")
    for axis_ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis_ticks(ScalarFormatter())
    axes.set_title(panel.profile, loc="left", fontsize=11)
    axes.set_xlabel("median latency, ms (measured, logarithmic)")
    axes.set_ylabel("val mAP 50-95")
    axes.grid(visible=True, which="both", alpha=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
