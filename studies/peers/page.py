"""The generated part of docs/peers.md: what would be chosen of ours and of every group of peers, then all files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flows.publish.marked_page import render, rewrite, table
from flows.records.formatting import interval, literal, megabytes, milliseconds, points, with_interval
from flows.stats.map_bootstrap import Difference
from studies.peers.chains import LEFT_OUT
from studies.peers.records import Line, ProfilePage, Summary, Versus

TEMPLATE = Path(__file__).with_name("page.md.j2")
PART = "peers"
NONE = "\u2013"
HEADS = ("MACs", "MB", "val mAP", "change, pt [95 %]", "test mAP", "change, pt [95 %]", "ms", "speedup [95 %]", "pictures", "min")


def write_page(page: Path, found: Summary) -> None:
    """Rewrite what stands between the marks."""
    shown = [
        {
            "own": own,
            "sentences": tuple(sentences(own)),
            "chosen": chosen_table(own),
            "versus": versus_table(own),
            "all": all_table(own),
        }
        for own in found.profiles
    ]
    tools = table(("tool", "version", "license", "does"), [(own.name, own.version, own.license, own.does) for own in found.tools])
    failures = [(own.name, own.runtime, literal(own.error).replace("|", "\\|")) for own in found.failures]
    failed = table(("chain", "runtime", "what the tool said"), failures) if failures else ""
    rest = (f"`{own.packing}` of {own.tried} of {own.of} ({own.runtime})" for own in found.tried if own.tried < own.of)
    shown_rest = {"failed": failed, "untried": ", ".join(rest), "left_out": LEFT_OUT}
    rewrite(page, {PART: render(TEMPLATE, found=found, shown=shown, tools=tools, **shown_rest)})


def chosen_table(own: ProfilePage) -> str:
    """The control, what is chosen of ours and what is chosen of every group."""
    rows = [["control", NONE, *_numbers(own.control)]]
    for who, name in (("sixfold", own.ours), *((entry.group, entry.peer) for entry in own.versus)):
        line = None if name is None else _line(own, name)
        rows.append([who, "none" if line is None else f"`{line.name}`", *([NONE] * len(HEADS) if line is None else _numbers(line))])
    return table(("", "chosen on val", *HEADS), rows, left=2)


def versus_table(own: ProfilePage) -> str:
    """What is chosen of ours compared with what is chosen of each group."""
    rows = []
    for entry in own.versus:
        speed = NONE if entry.speed_ratio is None else with_interval(f"{entry.speed_ratio:.2f}x", entry.speed_ratio_ci95)
        rows.append([entry.group, NONE if entry.test_difference is None else _spread(entry.test_difference), speed])
    return table(
        ("compared with", "test mAP of sixfold's less theirs, pt [95 %]", "their time over sixfold's [95 %]"), rows, left=1
    )


def all_table(own: ProfilePage) -> str:
    """Every file, the fastest first, those that were not timed last."""
    ordered = sorted(own.lines, key=lambda line: (line.p50_s is None, line.p50_s or 0.0, -line.val_map))
    return table(("group", "file", *HEADS), [[line.group, f"`{line.name}`", *_numbers(line)] for line in ordered], left=2)


def sentences(own: ProfilePage) -> Iterator[str]:
    """Where sixfold's choice wins, loses, or does not differ significantly, group by group; by intervals, not by points."""
    for entry in own.versus:
        if own.ours is None:
            yield f"{entry.group}: nothing of sixfold's is within the drop and faster than the control."
        elif entry.peer is None:
            yield f"{entry.group}: none of its files is within the drop and faster than the control."
        else:
            yield f"{entry.group}: sixfold's choice is {_faster(entry)} and {_better(entry)}."


def _faster(entry: Versus) -> str:
    if entry.speed_ratio is None or entry.speed_ratio_ci95 is None:
        return "not compared in speed (too few rounds)"
    low, high = entry.speed_ratio_ci95
    ratio = f"{entry.speed_ratio:.2f}x its speed"
    return f"faster ({ratio})" if low > 1.0 else f"slower ({ratio})" if high < 1.0 else f"as fast ({ratio}, not significant)"


def _better(entry: Versus) -> str:
    assert entry.test_difference is not None, "both were chosen"
    own = entry.test_difference
    word = "more accurate" if own.low > 0.0 else "less accurate" if own.high < 0.0 else "not significantly different in test mAP"
    return f"{word} ({points(own.mean)} points)"


def _line(own: ProfilePage, name: str) -> Line:
    return next(line for line in own.lines if line.name == name)


def _numbers(line: Line) -> list[str]:
    speed = NONE if line.speedup is None else with_interval(f"{line.speedup:.2f}x", line.speedup_ci95)
    return [
        f"{100 * line.macs_share:.0f} %",
        megabytes(line.size_bytes),
        f"{line.val_map:.3f}",
        _spread(line.val_difference),
        f"{line.test_map:.3f}",
        _spread(line.test_difference),
        NONE if line.p50_s is None else milliseconds(line.p50_s),
        speed,
        f"{line.spent.images:,}",
        f"{line.spent.wall_s / 60:.1f}",
    ]


def _spread(difference: Difference) -> str:
    if difference.low == difference.high:
        return points(difference.mean)
    return f"{points(difference.mean)} {interval((difference.low, difference.high), points)}"
