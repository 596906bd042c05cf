"""What `sixfold retrain` writes, `results/seeds.json`, and its text: sentences and a table, on the terminal and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from pydantic import Field

from detection.frozen import Digest, Frozen, PositiveInt
from flows.publish.marked_page import render
from flows.records.formatting import megabytes, points, with_interval
from flows.records.schema import CONTROL, CellsFile, DatasetRecord, RecordFile, read_schema
from flows.stats.map_bootstrap import Difference

HEADS = (
    "runtime", "seed", "test mAP, control", "test mAP, cell", "test drop, pt", "val drop, pt", "params, M", "MACs, M", "size, MB",
    "times smaller",
)  # fmt: skip
"""Of the table; a drop is the control's mAP minus the cell's."""
TIMES = {1: "once", 2: "twice", 3: "three times", 4: "four times", 5: "five times"}


class Trained(Frozen):
    """One network of one seed, as its file runs in one runtime."""

    node: Digest
    """Of its float detector, as in `cells.json`."""
    artifact_digest: Digest
    params: int
    macs: int
    size_bytes: int
    val_map_50_95: float
    test_map_50_95: float


class SeedRun(Frozen):
    """The cell and the control made with one seed, in one runtime."""

    seed: int
    control: Trained
    cell: Trained

    @property
    def val_drop(self) -> float:
        """Val mAP of the control minus the cell's, in shares of 1: above 0 the cell is worse."""
        return self.control.val_map_50_95 - self.cell.val_map_50_95

    @property
    def test_drop(self) -> float:
        """The same on test."""
        return self.control.test_map_50_95 - self.cell.test_map_50_95


class RuntimeSeeds(Frozen):
    """All seeds in one runtime. Drops are the control's mAP minus the cell's of the same seed, in shares of 1, above 0 a loss."""

    runtime: str
    seeds: tuple[SeedRun, ...] = Field(min_length=1)
    val_drop: float
    """Mean over the seeds."""
    val_drop_sd: float | None
    """Standard deviation over the seeds, with divisor seeds - 1; None of one seed."""
    test_drop: Difference
    """Mean over the seeds with a 95 % interval of the paired bootstrap, pictures and seeds drawn."""
    test_drop_sd: float | None


class SeedsFile(RecordFile):
    """`results/seeds.json`."""

    sweep: str
    dataset: DatasetRecord
    """Prepared once, with the sweep's own seed: only the seed of the nodes changes."""
    cell: str
    """Or a reference; `cells.json` has its configuration."""
    methods: tuple[str, ...]
    recommended_on: str | None
    """The profile whose recommendation it is; None where somebody named it."""
    bootstrap_draws: PositiveInt
    bootstrap_seed: int
    runtimes: tuple[RuntimeSeeds, ...] = Field(min_length=1)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The sweep's own first."""
        return tuple(run.seed for run in self.runtimes[0].seeds)

    def is_of(self, cells: CellsFile) -> bool:
        """Whether its first seed is the very cell and control of these records, on the same data."""
        nodes, first = {record.cell: record.node for record in (*cells.cells, *cells.references)}, self.runtimes[0].seeds[0]
        made = (cells.dataset.digest, nodes.get(CONTROL), nodes.get(self.cell))
        return made == (self.dataset.digest, first.control.node, first.cell.node)


def read_seeds(path: Path) -> SeedsFile:
    """The seeds in a file; InputError says which command makes it where it is missing or of another schema."""
    return read_schema(path, SeedsFile, "sixfold retrain")


def sentences(seeds: SeedsFile) -> tuple[str, ...]:
    """One sentence per runtime: what the cell loses, how sure that is, and on how many pictures."""
    return tuple(_answer(seeds, own) for own in seeds.runtimes)


def _answer(seeds: SeedsFile, own: RuntimeSeeds) -> str:
    drop, number = own.test_drop, len(own.seeds)
    gains = drop.mean < 0.0
    bounds = (-drop.high, -drop.low) if gains else (drop.low, drop.high)
    change = with_interval(f"{_points(abs(drop.mean))} points of test mAP", bounds, _points)
    of_seeds = "one seed" if number == 1 else f"mean of {number} seeds, standard deviation {_points(own.test_drop_sd or 0.0)}"
    basis = f"{of_seeds}; {seeds.dataset.pictures['test']} test pictures"
    return f"In {own.runtime} `{seeds.cell}` {'gains' if gains else 'loses'} {change} against the control ({basis})."


def rows(seeds: SeedsFile) -> tuple[tuple[str, ...], ...]:
    """The lines of the table under HEADS: each seed of each runtime, then the mean, with intervals where there are some."""
    lines: list[tuple[str, ...]] = []
    for own in seeds.runtimes:
        lines += [_row(own.runtime, str(run.seed), (run,), _points(run.test_drop), run.val_drop) for run in own.seeds]
        if len(own.seeds) > 1:
            drop = with_interval(_points(own.test_drop.mean), (own.test_drop.low, own.test_drop.high), _points)
            lines.append(_row(own.runtime, "mean", own.seeds, drop, own.val_drop))
    return tuple(lines)


def _row(runtime: str, label: str, runs: Sequence[SeedRun], test_drop: str, val_drop: float) -> tuple[str, ...]:
    """Of one seed, or the means of several."""
    controls, made = [run.control for run in runs], [run.cell for run in runs]
    control_bytes, cell_bytes = (fmean(one.size_bytes for one in side) for side in (controls, made))
    return (
        runtime, label, f"{fmean(one.test_map_50_95 for one in controls):.3f}", f"{fmean(one.test_map_50_95 for one in made):.3f}",
        test_drop, _points(val_drop), f"{fmean(one.params for one in made) / 1e6:.2f}",
        f"{fmean(one.macs for one in made) / 1e6:.1f}", megabytes(cell_bytes), f"{control_bytes / cell_bytes:.1f}",
    )  # fmt: skip


def section(seeds: SeedsFile) -> str:
    """The Markdown of a page's section: the sentences, the table, and how small a difference these pictures and seeds can show."""
    often = TIMES.get(len(seeds.seeds), f"{len(seeds.seeds)} times")
    return render(
        Path(__file__).with_name("seeds.md.j2"),
        title=f"The chosen cell, {often}" if seeds.recommended_on else f"`{seeds.cell}`, {often}",
        why=f", recommended on `{seeds.recommended_on}`," if seeds.recommended_on else "",
        **{"seeds": seeds, "sentences": sentences(seeds), "heads": HEADS, "rows": rows(seeds)},
    )


def _points(share: float) -> str:
    """In points; a minus sign where it is below 0, no plus sign above."""
    return points(share, sign="-")
