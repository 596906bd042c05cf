"""`sixfold check` takes its second look itself: with the files, the settings and the profiles of the sweep it runs in."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import flows.check.confirm as confirm_module
from detection.data.dataset import Images
from flows.check.baseline import accept
from flows.check.verdict import Item, Verdict
from flows.measure.measured_rows import Rounds
from flows.progress import Say
from flows.records.schema import LatencyFile, LatencyRow, write_records
from flows.sweep.settings import Measure
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.environment import digest_of, environment
from hardware_profiles.timing.round import Block, File, RoundResult
from tests.flows.cli_runner import Sixfold, refused
from tests.flows.records_factory import measured_row
from tests.flows.sweep_factory import Sweep, write_params
from tests.hardware_profiles.profile_factory import write

BENCH = "bench"
"""A profile of the user's own, of one thread of this machine."""
CONTROL_S, BEFORE_S, SLOWER_S = 0.010, 0.005, 0.006


class Asked(NamedTuple):
    """What was to be measured again, and how."""

    files: dict[str, set[Path]]
    split: str
    config: Measure


def timed(cell: str, own_s: float) -> LatencyRow:
    """A row that this machine measured."""
    return measured_row(cell, BENCH, own_s, CONTROL_S).model_copy(update={"environment": digest_of(environment())})


def with_baseline(sweep: Sweep, unconfirmed: str) -> None:
    """Make `pruning` twice as fast as the control in an accepted baseline and 20 % slower than that in the sweep."""
    (sweep.folder / "mine").mkdir()
    write(sweep.folder / "mine", BENCH, kind="host", machine=platform.machine(), threads=1)
    write_params(
        sweep.folder, measure__profiles=[BENCH], measure__profiles_folder="mine", measure__seed=4, check__unconfirmed=unconfirmed
    )
    before, now = (LatencyFile(environment={}, rows=(timed("none", CONTROL_S), timed("pruning", s))) for s in (BEFORE_S, SLOWER_S))
    accept("main", sweep.cells, before, sweep.store, sweep.folder / "baselines")
    write_records(sweep.folder / "results/latency.json", now)


def replace_rounds(sweep: Sweep, monkeypatch: pytest.MonkeyPatch, fresh_s: float) -> list[Asked]:
    """Have `pruning` take so long in every fresh round, and the control as ever; what was asked for."""
    asked: list[Asked] = []
    control = sweep.cells.cells[0].artifacts["onnxruntime"].digest

    def rounds(
        profiles: Sequence[HardwareProfile], files: Mapping[str, tuple[File, ...]], images: Images, config: Measure, report: Say
    ) -> dict[str, Rounds]:
        asked.append(Asked({name: {Path(file.path) for file in own} for name, own in files.items()}, images.split, config))
        blocks = [
            Block(digest=file.digest, position=0, p50_s=CONTROL_S if file.digest == control else fresh_s) for file in files[BENCH]
        ]
        result = RoundResult(blocks=tuple(blocks), runtime_rss_bytes=None)
        return {profile.id: Rounds(results=(result,) * config.rounds) for profile in profiles}

    monkeypatch.setattr(confirm_module, "host_rounds", rounds)
    return asked


Gate = Callable[..., tuple[int, str, Item, list[Asked]]]


@pytest.fixture
def gate(sixfold: Sixfold, swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Runs `sixfold check` with options: its exit code, what it printed, the speedup of `pruning`, and what was measured again."""

    def run(*options: str, fresh_s: float = SLOWER_S, unconfirmed: str = "warning") -> tuple[int, str, Item, list[Asked]]:
        with_baseline(swept_copy, unconfirmed)
        asked = replace_rounds(swept_copy, monkeypatch, fresh_s)
        ended = sixfold(swept_copy.folder, "check", *options)
        verdict = Verdict.model_validate_json((swept_copy.folder / "results/check/verdict.json").read_text())
        (item,) = [item for item in verdict.items if (item.cell, item.quantity) == ("pruning", "speedup")]
        assert ended.err == ""
        assert verdict.exit_code == ended.code
        return ended.code, ended.out, item, asked

    return run


def test_a_slowdown_that_fresh_rounds_show_fails_the_gate(gate: Gate) -> None:
    """Exit 1, and the page says that it was confirmed."""
    code, out, item, asked = gate()
    assert (code, item.verdict) == (1, "regressed")
    assert out.startswith("check: 1 cell looks slower or faster; measuring again in 8 rounds\n# Verdict: regression\n")
    assert "| confirmed on 8 fresh rounds; -16.7 % at first |" in out
    assert len(asked) == 1


def test_a_slowdown_that_fresh_rounds_do_not_show_passes(gate: Gate) -> None:
    """As fast as in the baseline on the second look: exit 0."""
    code, out, item, _ = gate(fresh_s=BEFORE_S)
    assert (code, item.verdict, item.why) == (0, "ok", "not confirmed on 8 fresh rounds; -16.7 % at first")
    assert "\n# Verdict: no regression\n" in out


@pytest.mark.parametrize(
    ("unconfirmed", "code", "verdict", "why"),
    [
        ("warning", 0, "unconfirmed", "looks slower, unconfirmed: not measured again (--no-confirm)"),
        ("regression", 1, "regressed", "unconfirmed, counted by check.unconfirmed: not measured again (--no-confirm)"),
    ],
)
def test_without_a_second_look_the_settings_decide(unconfirmed: str, code: int, verdict: str, why: str, gate: Gate) -> None:
    """`--no-confirm` measures nothing and says so; whether that passes is `check.unconfirmed` of the params."""
    ended, out, item, asked = gate("--no-confirm", unconfirmed=unconfirmed)
    assert (ended, item.verdict, item.why) == (code, verdict, why)
    assert f"| {why} |" in out
    assert asked == []


def test_the_second_look_is_taken_as_the_sweep_measures(gate: Gate, swept_copy: Sweep) -> None:
    """Two files of the store, pictures of val, the settings of the params but for rounds and order, on a profile of the user's."""
    _, _, _, (asked,) = gate()
    store = swept_copy.store
    files = [store.file(cell.artifacts["onnxruntime"].url) for cell in swept_copy.cells.cells if cell.cell in ("none", "pruning")]
    assert asked.files == {BENCH: set(files)}
    assert len(files) == 2
    assert asked.split == "val"
    assert (asked.config.rounds, asked.config.seed, asked.config.timed_calls) == (8, 5, 5)
    assert len(list((store.root / "observations" / "latency").rglob("*.json"))) == 2


def test_records_of_other_pictures_than_are_prepared_are_refused(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """Their detections are of other pictures: exit 2, and no verdict is written."""
    with_baseline(swept_copy, "warning")
    dataset = swept_copy.cells.dataset.model_copy(update={"digest": "0" * 64})
    write_records(swept_copy.cells_path, swept_copy.cells.model_copy(update={"dataset": dataset}))
    refused(sixfold(swept_copy.folder, "check"), "holds data 'tiny'", "Run `sixfold prepare` and `sixfold grid` again.")
    assert not (swept_copy.folder / "results/check").exists()
