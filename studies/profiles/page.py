"""The generated part of docs/profiles.md."""

from __future__ import annotations

from pathlib import Path

from flows.publish.marked_page import render, rewrite
from studies.profiles.host_accuracy import TARGET_MAPE, TARGET_TAU, HostAccuracy, Summary

TEMPLATE, PART = Path(__file__).with_name("page.md.j2"), "profiles"
INTERVAL = 0.9
TYPE_NAMES = {"fp32": "float", "int8": "int8"}


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
