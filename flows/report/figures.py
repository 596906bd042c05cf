"""The figures of the report: Plotly, readable offline; and one still plot for README and docs, by Matplotlib.

Measured and estimated latencies never share an axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from flows.records.formatting import permitted, with_interval
from flows.records.schema import CONTROL, GIVEN
from flows.report.findings import Choice, Findings, Panel, Point, pareto
from flows.stats.factorial import Effect, Interactions, Quantity

FLOAT_COLOUR, INT8_COLOUR, CHOSEN_COLOUR, QUIET = "#3b6ea8", "#d9822b", "#1a7f37", "#8a94a3"
"""Blue and orange stay apart for colour-blind readers."""
INK, INT8, FLOAT, FRONT, REFERENCE = "#222222", "#d1495b", "#00798c", "#8d99ae", "#6b5b95"
"""Of the still plot."""
SERIES_COLOURS = ("#3b6ea8", "#d9822b", "#6b5b95", "#2a9d8f", "#8a94a3")
FONT = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "#24292f"}
NARROW_SPAN = 0.1
"""Of val mAP; below it the ticks of an axis are less than 0.01 apart."""
FINE_RATIOS, COARSE_RATIOS = (1.05, 1.1, 1.2, 1.3), (1.5, 2, 3, 4, 6, 8, 16, 32)
TITLES = {
    "val_map": "Effect on val mAP (points)",
    "size": "Effect on file size (ratio)",
    "macs": "Effect on multiply-adds (ratio)",
    "speed": "Effect on measured speed (ratio, above 1 is faster)",
}


def plotly_script() -> Markup:
    """Plotly's own JavaScript, to be put into a page once."""
    return Markup(get_plotlyjs())


def as_html(figure: go.Figure, identifier: str) -> Markup:
    """A figure as a piece of a page that holds `plotly_script` already; Plotly's JSON escapes <, > and & itself."""
    html = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        include_mathjax=False,
        div_id=identifier,
        default_height=f"{figure.layout.height}px",
        config={"displaylogo": False, "responsive": True, "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]]},
    )
    return Markup(html)


def pareto_figure(panel: Panel, choice: Choice) -> go.Figure:
    """val mAP against latency for one profile: the front as a line, the control and the chosen cell named, references apart."""
    figure = go.Figure()
    front = [point for name in choice.front if (point := panel.point(name)) is not None]
    line = {"color": QUIET, "width": 2, "shape": "hv"}
    figure.add_trace(go.Scatter(**_places(front), mode="lines", name="Pareto front", line=line, hoverinfo="skip"))
    for name, dtype, colour in (("float", "fp32", FLOAT_COLOUR), ("int8", "int8", INT8_COLOUR)):
        figure.add_trace(_cloud(panel, [point for point in panel.points if point.computes_in == dtype], name, colour))
    if panel.references:
        figure.add_trace(_cloud(panel, panel.references, "references", QUIET).update(marker={"symbol": "diamond-open", "size": 9}))
    control, given = panel.point(CONTROL), panel.point(GIVEN)
    if control is not None:
        limit = (panel.baseline or control).val_map - choice.max_drop
        figure.add_hline(y=limit, line={"color": QUIET, "width": 1, "dash": "dot"})
        figure.add_annotation(
            x=0,  # the control stands to the right
            xref="paper",
            y=limit,
            text=f"lowest mAP permitted: {'given' if panel.baseline is given else 'control'} − {permitted(choice.max_drop)}",
            showarrow=False,
            xanchor="left",
            yanchor="top",
            font={"size": 11, "color": "#57606a"},
        )
        _name(figure, control, "control", "#24292f", left=False)
    if given is not None:
        _name(figure, given, "given", "#24292f", left=True)
    chosen = panel.point(choice.cell) if choice.cell else None
    if chosen is not None and chosen.cell not in (CONTROL, GIVEN):
        _name(figure, chosen, _folded(chosen.cell), CHOSEN_COLOUR, left=True)
    unit = "median latency, ms (measured)" if panel.is_measured else "ESTIMATED latency, ms (model with its interval; not measured)"
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    figure.update_layout(**_layout(440, margin={"l": 64, "r": 16, "t": 36, "b": 52}), hovermode="closest", legend=legend)
    figure.update_xaxes(title=unit, type="log", **_latency_axis(panel))
    maps = [point.val_map for point in (*panel.points, *panel.references)]
    span = max(maps) - min(maps)
    figure.update_yaxes(title=f"val mAP 50-95 ({panel.artifacts_of})", tickformat=".2f" if span > NARROW_SPAN else ".3f")
    return figure


def effects_figure(quantities: Sequence[Quantity]) -> go.Figure:
    """Mean effect of each method on one kind of number, one bar per runtime or profile; whiskers are the sd over pairs."""
    kind = quantities[0].kind
    figure = go.Figure()
    # mAP in points; ratios as powers of two, so that halving and doubling are equally long
    unit = 100.0 if kind == "val_map" else 1 / math.log(2)
    for quantity, colour in [*zip(quantities, SERIES_COLOURS, strict=False)][::-1]:  # Plotly draws the first bar at the bottom
        effects = quantity.effects[::-1]
        figure.add_trace(
            go.Bar(
                name=quantity.of or "all runtimes",
                orientation="h",
                y=[effect.method for effect in effects],
                x=[effect.mean * unit for effect in effects],
                marker={"color": colour},
                error_x={"array": [effect.sd * unit for effect in effects], "color": "#57606a", "thickness": 1.2, "width": 3},
                customdata=[
                    [*(_shown(kind, own) for own in (effect.mean, effect.low, effect.high)), effect.pairs, _without(kind, effect)]
                    for effect in effects
                ],
                hovertemplate="<b>%{y}</b><br>%{customdata[0]}<br>%{customdata[1]} to %{customdata[2]} over %{customdata[3]} pairs"
                "%{customdata[4]}",
            )
        )
    figure.update_layout(
        **_layout(330, margin={"l": 8, "r": 16, "t": 66, "b": 36}),
        title={"text": TITLES[kind], "font": {"size": 14}, "x": 0, "xref": "paper", "y": 0.97, "yanchor": "top"},
        barmode="group",
        bargap=0.3,
        showlegend=True,
        legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0, "font": {"size": 11}, "traceorder": "reversed"},
    )
    ticks = {} if kind == "val_map" else _ratio_axis(quantities)
    figure.update_xaxes(zeroline=True, zerolinecolor="#57606a", zerolinewidth=1, **ticks)
    figure.update_yaxes(automargin=True, ticksuffix="  ", showgrid=False)
    return figure


def interactions_figure(found: Interactions) -> go.Figure:
    """Two-way interactions on val mAP in points, as the lower triangle of a matrix."""
    methods, size = found.methods, len(found.methods)
    points = [
        [None if column >= row or (value := found.matrix[row][column]) is None else 100 * value for column in range(size - 1)]
        for row in range(1, size)
    ]
    reach = max([abs(value) for row in points for value in row if value is not None], default=0.0) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=points,
            x=methods[:-1],
            y=methods[1:],
            zmid=0,
            zmin=-reach,
            zmax=reach,
            colorscale=[[0, "#c4622d"], [0.5, "#f6f7f8"], [1, "#3b6ea8"]],
            xgap=3,
            ygap=3,
            hoverongaps=False,
            text=[["" if value is None else f"{value:+.1f}" for value in row] for row in points],
            texttemplate="%{text}",
            hovertemplate="%{y} with %{x}<br>%{z:+.2f} points of val mAP<extra></extra>",
            colorbar={"thickness": 10, "outlinewidth": 0, "title": {"text": "points", "font": {"size": 11}}},
        )
    )
    title = {"text": f"Interactions on val mAP, {found.runtime}", "font": {"size": 14}, "x": 0, "xref": "paper"}
    figure.update_layout(**_layout(380, margin={"l": 8, "r": 8, "t": 44, "b": 8}), title=title)
    figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True, ticksuffix="  ")
    figure.update_xaxes(showgrid=False, automargin=True, tickangle=-30)
    return figure


def draw_pareto(findings: Findings, path: Path) -> None:
    """Write one SVG: a panel per measured profile, val mAP against median latency, the front as a line, references apart."""
    from matplotlib.figure import Figure

    measured = [panel for panel in findings.panels if panel.is_measured]
    figure = Figure(figsize=(5.6 * max(1, len(measured)), 4.4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, max(1, len(measured)), squeeze=False)[0], measured, strict=False):
        _draw(axes, panel)
    figure.savefig(path, metadata={"Date": None})


def _draw(axes: Any, panel: Panel) -> None:
    from matplotlib.ticker import ScalarFormatter

    for dtype, colour, name in (("fp32", FLOAT, "float"), ("int8", INT8, "int8")):
        own = [point for point in panel.points if point.computes_in == dtype]
        axes.scatter(**_places(own), s=26, color=colour, alpha=0.75, label=name, linewidths=0)
    if panel.references:
        axes.scatter(**_places(panel.references), s=30, marker="D", facecolors="none", edgecolors=REFERENCE, label="references")
    axes.plot(*_places(pareto(panel.points)).values(), color=FRONT, zorder=0, label="front")
    if control := panel.point(CONTROL):
        place = (1e3 * control.p50_s, control.val_map)
        axes.annotate("control", place, xytext=(-6, 8), textcoords="offset points", ha="right", color=INK)
        axes.scatter(*place, s=70, facecolors="none", edgecolors=INK)
    axes.set_xscale("log")
    for axis_ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis_ticks(ScalarFormatter())
    axes.set_title(panel.profile, loc="left", fontsize=11)
    axes.set_xlabel("median latency, ms (measured, logarithmic)")
    axes.set_ylabel("val mAP 50-95")
    axes.grid(visible=True, which="both", alpha=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")


def _places(points: Sequence[Point]) -> dict[str, list[float]]:
    """Milliseconds and val mAP."""
    return {"x": [point.p50_s * 1e3 for point in points], "y": [point.val_map for point in points]}


def _cloud(panel: Panel, points: Sequence[Point], name: str, colour: str) -> go.Scatter:
    bars = None
    if not panel.is_measured:
        intervals_ms = [[bound * 1e3 for bound in point.interval_s or (point.p50_s, point.p50_s)] for point in points]
        bars = {
            "type": "data",
            "symmetric": False,
            "color": "rgba(138,148,163,0.35)",
            "thickness": 1,
            "width": 0,
            "array": [high - point.p50_s * 1e3 for point, (_, high) in zip(points, intervals_ms, strict=True)],
            "arrayminus": [point.p50_s * 1e3 - low for point, (low, _) in zip(points, intervals_ms, strict=True)],
        }
    return go.Scatter(
        **_places(points),
        mode="markers",
        error_x=bars,
        name=name if panel.is_measured else f"{name} (estimate)",
        marker={
            "color": colour,
            "size": [7 + 1.5 * len(point.methods) for point in points],
            "opacity": 0.85,
            "symbol": "circle" if panel.is_measured else "circle-open",
            "line": {"width": 1, "color": "white"} if panel.is_measured else {"width": 2, "color": colour},
        },
        customdata=[[point.cell, _speedup(point), point.size_bytes / 1e6] for point in points],
        hovertemplate="<b>%{customdata[0]}</b><br>%{x:.2f} ms, %{customdata[1]}<br>"
        "val mAP %{y:.3f}, %{customdata[2]:.2f} MB<extra></extra>",
    )


def _name(figure: go.Figure, point: Point, text: str, colour: str, left: bool) -> None:
    """An arrow with a name: a point of the front has nobody to its upper left, the control has room on its right."""
    figure.add_annotation(
        x=math.log10(point.p50_s * 1e3),
        y=point.val_map,
        text=f"<b>{text}</b>",
        showarrow=True,
        arrowhead=0,
        arrowwidth=1.4,
        arrowcolor=colour,
        ax=-34 if left else 30,
        ay=-34 if left else 26,
        xanchor="right" if left else "left",
        align="right" if left else "left",
        font={"color": colour, "size": 12},
        bgcolor="rgba(255,255,255,0.85)",
        standoff=5,
    )


def _folded(cell: str) -> str:
    """A cell's name in lines of at most two methods."""
    methods = cell.split("+")
    return "+<br>".join("+".join(methods[start : start + 2]) for start in range(0, len(methods), 2))


def _latency_axis(panel: Panel) -> dict[str, object]:
    """Range with room for the names on both sides and, of estimates, for the upper ends; ticks at 1-2-5 steps."""
    low = math.log10(min(point.p50_s for point in panel.points) * 1e3)
    high = math.log10(max(point.p50_s for point in panel.points) * 1e3)
    span = max(high - low, 0.3)
    ticks = [step * 10.0**power for power in range(math.floor(low) - 2, math.ceil(high) + 2) for step in (1, 2, 5)]
    right = 0.12 if panel.is_measured else 0.25
    return {"range": [low - 0.3 * span, high + right * span], "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _ratio_axis(quantities: Sequence[Quantity]) -> dict[str, object]:
    """Ticks at plain ratios, placed at their powers of two."""
    reach = max((abs(effect.mean) + effect.sd for quantity in quantities for effect in quantity.effects), default=0.0)
    ratios = FINE_RATIOS if reach < math.log(1.4) else COARSE_RATIOS
    ticks = [*(1 / ratio for ratio in reversed(ratios)), 1.0, *ratios]
    return {"tickvals": [math.log2(tick) for tick in ticks], "ticktext": [f"×{tick:.2g}" for tick in ticks]}


def _without(kind: str, effect: Effect) -> str:
    """A line about the cells that changed something, where some did not."""
    if effect.effective_pairs == effect.pairs:
        return ""
    mean = "nothing" if effect.effective_mean is None else _shown(kind, effect.effective_mean)
    return f"<br>without cells in which a method changed nothing: {mean} over {effect.effective_pairs} pairs"


def _shown(kind: str, value: float) -> str:
    return f"{value * 100:+.2f} points" if kind == "val_map" else f"×{math.exp(value):.2f}"


def _speedup(point: Point) -> str:
    return "speedup unknown" if point.speedup is None else with_interval(f"{point.speedup:.2f}x", point.speedup_ci95)


def _layout(height_px: int, margin: dict[str, int]) -> dict[str, object]:
    return {"template": "plotly_white", "font": FONT, "height": height_px, "margin": margin, "autosize": True}
