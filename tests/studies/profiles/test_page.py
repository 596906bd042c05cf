"""The page that is written from the study's results."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from studies.profiles.figure import draw_accuracy
from studies.profiles.host_accuracy import HostAccuracy, HostPoint, Ranking, Share, TypeErrors
from studies.profiles.page import BEGIN, END, sentences, write_page
from studies.profiles.results import Coefficients, Errors, PublishedFit
from studies.profiles.summary import Summary, read_summary, write_summary


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
        points=(HostPoint(cell="none", dtype="fp32", left_out="nas", measured_s=2e-3, foretold_s=2.1e-3),),
    )


def published(ours: float) -> PublishedFit:
    errors = Errors(ours=ours, flops=0.3, parameters=0.4)
    return PublishedFit(
        device="A board",
        runtime="ncnn",
        precision="fp32",
        threads="1",
        several_threads=False,
        source="a README",
        measured=8,
        networks=8,
        families=("one",),
        per_operator=True,
        network_out=errors,
        family_out=None,
        covered_90=0.9,
        interval_factor=1.5,
        coefficients=Coefficients(rate_gops=10, bandwidth_gbs=None, op_overhead_us=None, base_us=5),
        profile=None,
    )


def test_targets_are_judged() -> None:
    """15 % for float, 20 % for int8, a tau of 0.85 are met or not; 16 of 32 in a 90 % interval is beyond chance, 30 is not."""
    good, bad = sentences(Summary(command="x", host=(host(0.15, 93),))), sentences(Summary(command="x", host=(host(0.151, 92),)))
    assert [line.split(":")[0] for line in good] == ["Met", "Met", "Met", "Too narrow"]
    assert [line.split(":")[0] for line in bad] == ["Falls short", "Met", "Falls short", "Too narrow"]
    assert "tau 0.84" in bad[2]
    assert "int8: the 90 % interval holds 50 %" in bad[3]


def test_prose_around_the_marks_stays(tmp_path: Path) -> None:
    """Writing twice leaves what is written by hand as it was, and one block."""
    page = tmp_path / "profiles.md"
    page.write_text(f"# Title\n\nBy hand.\n\n{BEGIN}\nstale row\n{END}\n\nAfter.\n")
    for _ in range(2):
        write_page(page, Summary(command="make it", host=(host(0.1, 95),), published=(published(0.05),)), "profiles.svg")
    text = page.read_text()
    assert text.startswith("# Title\n\nBy hand.\n\n")
    assert text.endswith(f"{END}\n\nAfter.\n")
    assert text.count(BEGIN) == 1
    assert "stale row" not in text
    assert "| A board | ncnn | fp32 | 1 | 8 (8) | 5.0 % | - | 30 % | 40 % | 12 % |  |" in text


@pytest.mark.parametrize(("ours", "said"), [(0.05, False), (0.13, True), (0.31, True)])
def test_shortfalls_are_said(tmp_path: Path, ours: float, said: bool) -> None:
    """A row that is worse than the reference of 12 % on one thread is named below the table."""
    page = tmp_path / "profiles.md"
    page.write_text(f"{BEGIN}{END}")
    write_page(page, Summary(command="x", published=(published(ours),)), "profiles.svg")
    assert ("worse than the reference of 12 %" in page.read_text()) is said


def test_results_are_kept_and_read_back(tmp_path: Path) -> None:
    """What is written is what is read; nothing there is None; another file is refused with its name."""
    path, found = tmp_path / "profiles.json", Summary(command="x", host=(host(0.1, 95),), published=(published(0.05),))
    assert read_summary(path) is None
    write_summary(path, found)
    assert read_summary(path) == found
    path.write_text('{"command": "x", "colour": "blue"}')
    with pytest.raises(InputError, match=r"profiles\.json.*colour"):
        read_summary(path)


def test_figure_is_the_same_every_time(tmp_path: Path) -> None:
    """Two drawings of the same results are the same bytes, or every run would change the checkout."""
    for name in ("one.svg", "two.svg"):
        draw_accuracy((host(0.1, 95),), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
