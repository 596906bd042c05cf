"""The figure of docs/measurement.md: how often a planted slowdown is detected."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from studies.measurement.intervals import mean_power
from studies.measurement.records import PlantedPart

INK, OBSERVED, PREDICTED = "#222222", "#d1495b", "#00798c"


def draw_detection(part: PlantedPart, path: Path) -> None:
    """Write an SVG: share of trials detected with exact 95 % intervals, the predicted curve, and the minimum detectable effect."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    sizes = np.array([own.slower_by for own in part.results])
    shares = np.array([own.found.share for own in part.results])
    low, high = np.array([own.found.ci95 for own in part.results]).T
    curve = np.geomspace(sizes.min() / 2, sizes.max() * 1.2, 80)
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    predicted = [100 * mean_power(float(size), part.trial_spreads, part.rounds) for size in curve]
    axes.plot(100 * curve, predicted, color=PREDICTED, label="predicted from the spreads of the trials")
    around = 100 * np.stack([shares - low, high - shares])
    axes.errorbar(100 * sizes, 100 * shares, yerr=around, fmt="o", color=OBSERVED, capsize=3, label="detected, exact 95 % interval")
    axes.axvline(100 * part.minimum_detectable_effect, color=INK, linestyle=":", label="minimum detectable effect, median")
    axes.set_xscale("log")
    axes.set_xticks(100 * sizes, [f"{100 * size:g}" for size in sizes], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 103)
    axes.set_xlabel("planted slowdown, % (logarithmic)")
    axes.set_ylabel("trials detected, %")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside upper left")
    with rc_context({"svg.hashsalt": "sixfold"}):  # the same ids whenever it is drawn
        figure.savefig(path, metadata={"Date": None})
