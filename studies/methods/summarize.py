"""From the records of a finished sweep to all that the page shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from detection.data.dataset import load_prepared, load_split
from detection.frozen import InputError
from flows.compare.retrain_text import SeedsFile, read_seeds
from flows.records.schema import (
    CONTROL,
    ArtifactRecord,
    CellRecord,
    LatencyFile,
    LatencyRow,
    artifact_runtime,
    read_records,
)
from flows.report.recommendation import relative_speed
from flows.stats.map_bootstrap import NO_DIFFERENCE
from flows.sweep import workspace
from studies.finished_run import FinishedRun
from studies.methods.baselines import baselines, timed_row
from studies.methods.differences import Differences
from studies.methods.results import Comparison, InRuntime, MethodResult, Role, Shown, Summary, Timing
from studies.methods.searches import search_of
from studies.methods.seeds import seeds_file
from studies.methods.siblings import Sibling, read_siblings
from studies.methods.subjects import SUBJECTS, Subject, cell_of, label_of


def summarize(run: FinishedRun, work: Path, command: str) -> Summary:
    """Everything the page shows; draws of the bootstrap are kept in the work folder."""
    control = run.cells.cell(CONTROL)
    if control is None or control.status != "ok":
        raise InputError(f"{run.folder}: the control was not made, so there is nothing to compare with. Run `make methods` again.")
    latency = read_records(run.folder / workspace.LATENCY, LatencyFile)
    settings = run.plan.params.report
    own = _Study(run, latency, control, _differences(run, work))
    own.draw()
    return Summary(
        command=command,
        sweep=run.cells.sweep,
        dataset=run.cells.dataset,
        seed=control.seed,
        machine=str(latency.environment.get("cpu", "unknown")),
        bootstrap_draws=settings.bootstrap_draws,
        bootstrap_seed=settings.seed,
        control=own.shown(control, "control"),
        methods=tuple(own.method(subject) for subject in SUBJECTS),
    )


def _differences(run: FinishedRun, work: Path) -> Differences:
    """InputError where other data is prepared now than the records were scored on."""
    now, settings = load_prepared(run.prepared), run.plan.params.report
    if now.digest != run.cells.dataset.digest:
        raise InputError(
            f"{run.prepared}: holds data {now.name!r} ({now.digest[:12]}...), but {workspace.CELLS} was made on "
            f"{run.cells.dataset.name!r} ({run.cells.dataset.digest[:12]}...). Run `make methods` again."
        )
    truth = load_split(run.prepared, "test").ground_truth
    return Differences(truth, now.splits["test"].digest, work, settings.seed, settings.bootstrap_draws)


class _Study:
    """The records of one run, looked at method by method."""

    def __init__(self, run: FinishedRun, latency: LatencyFile, control: CellRecord, differences: Differences) -> None:
        self.run, self.cells, self.latency, self.control, self.differences = run, run.cells, latency, control, differences
        self.siblings = read_siblings(run).siblings

    def draw(self) -> None:
        """The slow part, with progress: the bootstrap of every result."""
        made: list[CellRecord | Sibling] = [self.control, *self.siblings]
        for subject in SUBJECTS:
            made += [*self.variants(subject), *self.references(subject)]
        self.differences.draw(self.results(artifact) for own in made for artifact in own.artifacts.values())

    def method(self, subject: Subject) -> MethodResult:
        variants, references = self.variants(subject), self.references(subject)
        siblings = [own for own in self.siblings if own.of in {variant.cell for variant in variants}]
        made = {record.cell for record in (*variants, *references)}
        wanted = [*self.alone(subject), *(own for own in self.cells.references if _kind(own) in subject.references)]
        return MethodResult(
            method=subject.method,
            rivalry=subject.rivalry,
            shown=(
                *(self.shown(record, "variant") for record in variants),
                *(self.shown(record, "reference") for record in references),
                *(self.shown(self.control, "reference", sibling) for sibling in siblings),
            ),
            beside=(*self.compared(subject, variants, references), *self.compared_with_siblings(variants, siblings)),
            searches=tuple(search for record in variants if (search := search_of(self.run.store, record)) is not None),
            seeds=self.seeds(subject),
            missing=tuple(record.cell for record in wanted if record.cell not in made),
        )

    def alone(self, subject: Subject) -> tuple[CellRecord, ...]:
        """Every cell of this method and no other."""
        return tuple(record for record in self.cells.cells if record.methods == (subject.method,))

    def variants(self, subject: Subject) -> tuple[CellRecord, ...]:
        """Its variants that were made."""
        return tuple(own for own in self.alone(subject) if own.status == "ok" and not _is_plain(subject, own))

    def references(self, subject: Subject) -> tuple[CellRecord, ...]:
        """The plain variant, then the sweep's references of the subject's kinds."""
        plain = (record for record in self.alone(subject) if _is_plain(subject, record))
        kinds = (record for record in self.cells.references if _kind(record) in subject.references)
        return tuple(own for own in (*plain, *kinds) if own.status == "ok")

    def shown(self, record: CellRecord, role: Role, sibling: Sibling | None = None) -> Shown:
        """A record with its differences to the control and its measured times.

        A float sibling of the control has the control's graph, so it is not timed; only its files are its own.
        """
        assert record.params is not None, "an ok record is counted"
        assert record.macs is not None, "an ok record is counted"
        files = record.artifacts if sibling is None else sibling.artifacts
        timings = {runtime: self.timings(record, runtime) if sibling is None else () for runtime in files}
        return Shown(
            name=record.cell if sibling is None else _sibling_label(sibling),
            label="control" if role == "control" else label_of(record.cell) if sibling is None else _sibling_label(sibling),
            role=role,
            params=record.params,
            macs=record.macs,
            input_size=record.input_size or self.cells.dataset.input_size,
            no_effect=bool(record.no_effect),
            inherited_images=record.budget.inherited_images if record.budget else 0,
            runtimes=tuple(self.in_runtime(runtime, files[runtime], own) for runtime, own in timings.items()),
        )

    def in_runtime(self, runtime: str, artifact: ArtifactRecord, timings: Iterable[Timing]) -> InRuntime:
        """One file compared with the control's."""
        control = self.control.artifacts[runtime]
        same = artifact.digest == control.digest
        return InRuntime(
            runtime=runtime,
            size_bytes=artifact.size_bytes,
            val_map=artifact.val.map_50_95,
            test_map=artifact.test.map_50_95,
            difference=NO_DIFFERENCE if same else self.differences.between(self.results(control), self.results(artifact)),
            timings=tuple(timings),
        )

    def timings(self, record: CellRecord, runtime: str) -> tuple[Timing, ...]:
        """What was measured of its file for this runtime; estimates are left out."""
        rows = [row for row in self.latency.rows if row.cell == record.cell and row.is_measured and row.p50_s is not None]
        return tuple(_timing(row) for row in rows if artifact_runtime(self.cells.runtimes, row) == runtime)

    def compared(self, subject: Subject, variants: Sequence[CellRecord], references: Sequence[CellRecord]) -> Iterator[Comparison]:
        """Every variant with its baseline, in every runtime."""
        records = {record.cell: record for record in variants}
        for (name, runtime), baseline in baselines(subject, variants, references, self.cells, self.latency).items():
            rows = [timed_row(self.cells, self.latency, cell, runtime) for cell in (name, baseline.cell)]
            own, other = rows
            speed = None if own is None or other is None else relative_speed(own, other)
            files = [self.results(record.artifacts[runtime]) for record in (baseline, records[name])]
            yield Comparison(
                variant=label_of(name),
                rival=label_of(baseline.cell),
                runtime=runtime,
                difference=self.differences.between(*files),
                profile=None if speed is None or own is None else own.profile,
                speed_ratio=None if speed is None else speed.ratio,
                speed_ratio_ci95=None if speed is None else speed.interval,
            )

    def compared_with_siblings(self, variants: Sequence[CellRecord], siblings: Iterable[Sibling]) -> Iterator[Comparison]:
        """A variant of quantization-aware training with the float network that had the same updates."""
        records: Mapping[str, CellRecord] = {record.cell: record for record in variants}
        for sibling in siblings:
            for runtime, artifact in sibling.artifacts.items():
                files = [self.results(own) for own in (artifact, records[sibling.of].artifacts[runtime])]
                yield Comparison(
                    variant=label_of(sibling.of),
                    rival=_sibling_label(sibling),
                    runtime=runtime,
                    difference=self.differences.between(*files),
                )

    def seeds(self, subject: Subject) -> SeedsFile | None:
        """The three seeds of its variant; None where they were not made, or of other networks than these."""
        path = seeds_file(self.run, subject.method)
        found = read_seeds(path) if path.is_file() else None
        return found if found is not None and found.is_of(self.cells) else None

    def results(self, artifact: ArtifactRecord) -> Path:
        """The test detections of a file."""
        return self.run.store.file(artifact.test.detections)


def _is_plain(subject: Subject, record: CellRecord) -> bool:
    return subject.plain is not None and record.cell == cell_of(subject.method, subject.plain)


def _kind(reference: CellRecord) -> str:
    """Of `grid.references`: a reference's record names its kind before its methods."""
    return next(iter(reference.variant))


def _sibling_label(sibling: Sibling) -> str:
    return f"control+{sibling.epochs}-float-epochs"


def _timing(row: LatencyRow) -> Timing:
    assert row.p50_s is not None, "rows without a time were left out"
    return Timing(
        profile=row.profile,
        runtime=row.runtime,
        p50_s=row.p50_s,
        range_s=(min(row.rounds_s), max(row.rounds_s)),
        rounds=len(row.rounds_s),
        speedup=row.speedup,
        speedup_ci95=row.speedup_ci95,
        verdict=row.verdict,
        smaller_not_faster="smaller_not_faster" in row.flags,
    )
