"""docs/profiles.md: the generated part, and the tables of published devices, kept as they were found."""

from __future__ import annotations

import hashlib
import re
import shutil
from itertools import takewhile
from pathlib import Path

import pytest

from flows.records.schema import read_schema
from hardware_profiles.schema.library import load_profile
from studies.profiles.host_accuracy import HostAccuracy, Ranking, Share, Summary, TypeErrors
from studies.profiles.page import draw_accuracy, sentences, write_page
from tests.places import ROOT

PAGE, SUMMARY = ROOT / "docs/profiles.md", ROOT / "docs/profiles.json"
SOURCE, FITS = "| device | runtime | precision | threads |", "| device | runtime | precision | GFLOP/s |"
"""How the two tables of published devices begin."""


def host(float_error: float, concordant: int) -> HostAccuracy:
    return HostAccuracy(
        sweep="bccd",
        profile="x86-onnxruntime-1t",
        runtime="onnxruntime 1.31.1",
        machine="a processor",
        rounds=8,
        files=64,
        errors=tuple(
            TypeErrors(dtype=dtype, left_out="either", cells=24, ours=ours, flops=0.4, parameters=0.5)
            for dtype, ours in (("fp32", float_error), ("int8", 0.2))
        ),
        ranking=Ranking(concordant=concordant, discordant=100 - concordant),
        ranking_flops=Ranking(concordant=60, discordant=40),
        ranking_parameters=Ranking(concordant=50, discordant=50),
        covered_90=(Share(hits=30, of=32, low=0.79, high=0.99), Share(hits=16, of=32, low=0.32, high=0.68)),
        points=(),
    )


def test_the_committed_page_is_what_its_results_give(tmp_path: Path) -> None:
    """Byte for byte, and the text by hand stays. After a change of words: `make pages`."""
    page = Path(shutil.copy(PAGE, tmp_path))
    write_page(page, read_schema(SUMMARY, Summary, "make profiles-accuracy"))
    assert page.read_text() == PAGE.read_text()


def test_targets_are_judged() -> None:
    """15 % for float, 20 % for int8, a tau of 0.85 are met or not; 16 of 32 in a 90 % interval is beyond chance, 30 is not."""
    good, bad = sentences(host(0.15, 93)), sentences(host(0.151, 92))
    assert [line.split(":")[0] for line in good] == ["Met", "Met", "Met", "Too narrow"]
    assert [line.split(":")[0] for line in bad] == ["Falls short", "Met", "Falls short", "Too narrow"]
    assert "int8" in bad[3]


def test_the_figure_is_the_same_every_time(tmp_path: Path) -> None:
    """Two drawings of the same results are the same bytes, or every run would change the checkout."""
    for name in ("one.svg", "two.svg"):
        draw_accuracy(read_schema(SUMMARY, Summary, "").host, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def published(start: str) -> list[dict[str, str]]:
    """The rows of one of the page's tables that name a shipped profile."""
    lines = PAGE.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(start))
    heads, _, *rows = (
        [cell.strip(" *") for cell in line.split("|")[1:-1]] for line in takewhile(lambda line: line.startswith("|"), lines[first:])
    )
    return [dict(zip(heads, row, strict=True)) for row in rows if row[-1]]  # the last column is the profile


def test_the_inputs_of_the_kept_tables_are_named() -> None:
    """By the digests of the files that they were made from."""
    inputs = re.findall(r"^\| \.\./(\S+\.csv) \| ([0-9a-f]{64}) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(inputs) == 2
    for path, digest in inputs:
        if not (ROOT.parent / path).is_file():
            pytest.skip(f"{path}: not next to this checkout")
        assert hashlib.sha256((ROOT.parent / path).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("row", published(FITS), ids=lambda row: f"{row['in profile']}-{row['precision']}")
def test_profiles_hold_what_was_found(row: dict[str, str]) -> None:
    """The numbers of a profile are those of the page: coefficients, networks, error; its interval is no narrower."""
    profile, dtype = load_profile(row["in profile"]), row["precision"]
    source = next(own for own in published(SOURCE) if all(own[name] == row[name] for name in ("device", "precision")))
    error = source["network out"] if source["family out"] == "-" else source["family out"]
    peak, utilisation, calibration = (field.of(dtype) for field in (profile.peak_gops, profile.utilisation, profile.calibration))
    for shipped, found in (
        (peak * utilisation, row["GFLOP/s"]),
        (profile.memory.bandwidth_effective_gbs, row["GB/s"]),
        (profile.op_overhead_us.of(dtype), row["us per operator"]),
        (profile.base_us.of(dtype), row["us per call"]),
    ):
        assert shipped == (None if found == "-" else pytest.approx(float(found), rel=2e-3))
    assert f"({calibration.networks})" in source["networks (latencies)"]
    assert calibration.leave_one_out_mape == pytest.approx(float(error.split()[0]) / 100, abs=0.005)
    assert profile.interval_factor.of(dtype) >= float(row["interval"].removeprefix("x")) - 0.005
    assert "`make profiles-accuracy` of commit bbfe9c5, input table of sha256 " in profile.sources[f"utilisation.{dtype}"]
