"""The figure of docs/profiles.md: estimated against measured latency of cells of architectures that the fit had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from studies.profiles.host_accuracy import DTYPES, HostAccuracy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, COLOURS, MARKS = "#222222", {"fp32": "#00798c", "int8": "#d1495b"}, {"lightweight": "o", "nas": "^"}
NAMES = {"fp32": "float", "int8": "int8"}
BAND = 0.15


def draw_accuracy(host: Sequence[HostAccuracy], path: Path) -> None:
    """Write an SVG: one panel per profile, both axes logarithmic, with a band of 15 % around the truth."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(host), 4.6), layout="constrained")
    FigureCanvasSVG(figure)
    for axes, own in zip(figure.subplots(1, len(host), squeeze=False)[0], host, strict=True):
        _draw(axes, own)
    with rc_context({"svg.hashsalt": "sixfold"}):  # the same ids whenever it is drawn
        figure.savefig(path, metadata={"Date": None})


def _draw(axes: Axes, own: HostAccuracy) -> None:
    from matplotlib.ticker import ScalarFormatter

    measured_ms = 1e3 * np.array([point.measured_s for point in own.points])
    line = np.array([0.8 * measured_ms.min(), 1.25 * measured_ms.max()])
    axes.fill_between(line, (1 - BAND) * line, (1 + BAND) * line, color=INK, alpha=0.08, linewidth=0, label="within 15 %")
    axes.plot(line, line, color=INK, linewidth=0.8)
    for dtype in DTYPES:
        for left_out, mark in MARKS.items():
            points = [point for point in own.points if (point.dtype, point.left_out) == (dtype, left_out)]
            axes.scatter(
                [1e3 * point.measured_s for point in points],
                [1e3 * point.foretold_s for point in points],
                s=24,
                marker=mark,
                color=COLOURS[dtype],
                alpha=0.75,
                linewidths=0,
                label=f"{NAMES[dtype]}, {left_out} left out",
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(ScalarFormatter())
    axes.set_title(own.profile, loc="left", fontsize=11)
    axes.set_xlabel("measured, ms (logarithmic)")
    axes.set_ylabel("estimated, ms (logarithmic)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", fontsize=8)
