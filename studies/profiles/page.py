"""The generated part of docs/profiles.md, and its figure: cells of architectures that the fit had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flows.publish.marked_page import render, rewrite
from studies.profiles.host_accuracy import DTYPES, TARGET_MAPE, TARGET_TAU, HostAccuracy, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATE, PART = Path(__file__).with_name("page.md.j2"), "profiles"
INTERVAL = 0.9
TYPE_NAMES = {"fp32": "float", "int8": "int8"}
INK, COLOURS, MARKS = "#222222", {"fp32": "#00798c", "int8": "#d1495b"}, {"lightweight": "o", "nas": "^"}
BAND = 0.15


def write_page(page: Path, found: Summary) -> None:
    """Rewrite what stands between the marks of the page."""
    lines = [line for own in found.host for line in sentences(own)]
    rewrite(page, {PART: render(TEMPLATE, found=found, names=TYPE_NAMES, percent=percent, sentences=lines)})


def sentences(own: HostAccuracy) -> list[str]:
    """Each target of a profile and whether it is met; and intervals that hold too few of the times, beyond chance."""
    lines = []
    for dtype, target in TARGET_MAPE.items():
        error = own.error(dtype).ours
        reached = f"{own.profile}, {TYPE_NAMES[dtype]}: error {percent(error)}, target at most {percent(target)}."
        lines.append(f"{_verdict(error <= target)}: {reached}")
    tau = own.ranking.tau
    lines.append(f"{_verdict(tau >= TARGET_TAU)}: {own.profile}: Kendall's tau {tau:.2f}, target at least {TARGET_TAU}.")
    return lines + [
        f"Too narrow: {own.profile}, {TYPE_NAMES[dtype]}: the 90 % interval holds {percent(share.hits / share.of)} of the "
        "cells of families that the fit has not seen."
        for dtype, share in own.covered_90_by_type
        if share.high < INTERVAL
    ]


def _verdict(met: bool) -> str:
    return "Met" if met else "Falls short"


def percent(share: float) -> str:
    """A share in per cent, to two digits or to the whole number."""
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def draw_accuracy(host: Sequence[HostAccuracy], path: Path) -> None:
    """Write an SVG: one panel per profile, both axes logarithmic, with a band of 15 % around the truth."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(host), 4.6), layout="constrained")
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
                [1e3 * point.estimated_s for point in points],
                s=24,
                marker=mark,
                color=COLOURS[dtype],
                alpha=0.75,
                linewidths=0,
                label=f"{TYPE_NAMES[dtype]}, {left_out} left out",
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
