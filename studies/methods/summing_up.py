"""From the records of a finished sweep to all that the page shows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
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
from flows.report.reference_to_beat import speed_beside
from flows.stats.map_bootstrap import NO_DIFFERENCE
from flows.sweep import workspace
from studies.methods.differences import Differences
from studies.methods.results import Beside, InRuntime, MethodResult, Role, Shown, Summary, Timing
from studies.methods.rivals import rivals, timed_row
from studies.methods.run import MethodsRun
from studies.methods.searches import search_of
from studies.methods.siblings import Sibling, read_siblings
from studies.methods.subjects import SUBJECTS, Subject, cell_of, label_of


def sum_up(run: MethodsRun, work: Path, command: str) -> Summary:
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


def _differences(run: MethodsRun, work: Path) -> Differences:
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

    def __init__(self, run: MethodsRun, latency: LatencyFile, control: CellRecord, differences: Differences) -> None:
        self.run, self.cells, self.latency, self.control, self.differences = run, run.cells, latency, control, differences
        self.siblings = read_siblings(run).siblings

    def draw(self) -> None:
        """The slow part, with progress: the bootstrap of every result."""
        shown = [record for subject in SUBJECTS for group in (self.variants(subject), self.references(subject)) for record in group]
        artifacts = itertools.chain(
            *(record.artifacts.values() for record in (self.control, *shown)), *(own.artifacts.values() for own in self.siblings)
        )
        self.differences.draw(self.results(artifact) for artifact in artifacts)

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
                *(self.shown_sibling(own) for own in siblings),
            ),
            beside=(*self.beside(subject, variants, references), *self.beside_siblings(variants, siblings)),
            searches=tuple(search for record in variants if (search := search_of(self.run.store, record)) is not None),
            seeds=self.seeds(subject),
            missing=tuple(record.cell for record in wanted if record.cell not in made),
        )

    def alone(self, subject: Subject) -> tuple[CellRecord, ...]:
        """Every cell of this method and no other."""
        return tuple(record for record in self.cells.cells if record.methods == (subject.method,))

    def variants(self, subject: Subject) -> tuple[CellRecord, ...]:
        """Its variants that were made."""
        plain = cell_of(subject.method, subject.plain or "")
        return tuple(record for record in self.alone(subject) if record.status == "ok" and record.cell != plain)

    def references(self, subject: Subject) -> tuple[CellRecord, ...]:
        """The plain variant, then the sweep's references of the subject's kinds."""
        plain = cell_of(subject.method, subject.plain or "")
        own = [record for record in self.alone(subject) if record.cell == plain]
        own += [record for record in self.cells.references if _kind(record) in subject.references]
        return tuple(record for record in own if record.status == "ok")

    def shown(self, record: CellRecord, role: Role) -> Shown:
        """A record with its differences to the control and its measured times."""
        assert record.params is not None, "an ok record is counted"
        assert record.macs is not None, "an ok record is counted"
        return Shown(
            name=record.cell,
            label="control" if role == "control" else label_of(record.cell),
            role=role,
            params=record.params,
            macs=record.macs,
            input_size=record.input_size or self.cells.dataset.input_size,
            no_effect=bool(record.no_effect),
            inherited_images=record.budget.inherited_images if record.budget else 0,
            runtimes=tuple(
                self.in_runtime(runtime, artifact, self.timings(record, runtime)) for runtime, artifact in record.artifacts.items()
            ),
        )

    def shown_sibling(self, sibling: Sibling) -> Shown:
        """A float sibling; its graph is the control's, so it is not timed."""
        assert self.control.params is not None, "an ok record is counted"
        assert self.control.macs is not None, "an ok record is counted"
        return Shown(
            name=_sibling_label(sibling),
            label=_sibling_label(sibling),
            role="reference",
            params=self.control.params,
            macs=self.control.macs,
            input_size=self.control.input_size or self.cells.dataset.input_size,
            runtimes=tuple(self.in_runtime(runtime, artifact) for runtime, artifact in sibling.artifacts.items()),
        )

    def in_runtime(self, runtime: str, artifact: ArtifactRecord, timings: Iterable[Timing] = ()) -> InRuntime:
        """One file beside the control's."""
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

    def beside(self, subject: Subject, variants: tuple[CellRecord, ...], references: tuple[CellRecord, ...]) -> tuple[Beside, ...]:
        """Every variant beside its rival, in every runtime."""
        found = []
        for (name, runtime), rival in rivals(subject, variants, references, self.cells, self.latency).items():
            variant = next(record for record in variants if record.cell == name)
            rows = [timed_row(self.cells, self.latency, record.cell, runtime) for record in (variant, rival)]
            own, other = rows
            speed = None if own is None or other is None else speed_beside(own, other)
            files = [self.results(record.artifacts[runtime]) for record in (rival, variant)]
            found.append(
                Beside(
                    variant=label_of(name),
                    rival=label_of(rival.cell),
                    runtime=runtime,
                    difference=self.differences.between(*files),
                    profile=None if speed is None or own is None else own.profile,
                    speed_ratio=None if speed is None else speed.ratio,
                    speed_ratio_ci95=None if speed is None else speed.interval,
                )
            )
        return tuple(found)

    def beside_siblings(self, variants: tuple[CellRecord, ...], siblings: list[Sibling]) -> tuple[Beside, ...]:
        """What was trained with rounding beside the float network with the same updates."""
        found = []
        for sibling in siblings:
            variant = next(record for record in variants if record.cell == sibling.of)
            for runtime, artifact in sibling.artifacts.items():
                files = [self.results(own) for own in (artifact, variant.artifacts[runtime])]
                difference = self.differences.between(*files)
                rival = _sibling_label(sibling)
                found.append(Beside(variant=label_of(variant.cell), rival=rival, runtime=runtime, difference=difference))
        return tuple(found)

    def seeds(self, subject: Subject) -> SeedsFile | None:
        """The three seeds of its variant; None where they were not made, or of other networks than these."""
        path = self.run.seeds(subject.method)
        if not path.is_file():
            return None
        found = read_seeds(path)
        return found if found.is_of(self.cells) else None

    def results(self, artifact: ArtifactRecord) -> Path:
        """The test detections of a file."""
        return self.run.store.file(artifact.test.detections)


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
