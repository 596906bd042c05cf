"""From the records of a finished sweep to all that the page shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.frozen import Digest, InputError
from flows.compare.retrain_text import SeedsFile, read_seeds
from flows.compare.two_cells import truths_of
from flows.grid.nodes import read_done
from flows.progress import steps
from flows.records.files import file_digest
from flows.records.schema import (
    CONTROL,
    ArtifactRecord,
    CellRecord,
    LatencyFile,
    LatencyRow,
    artifact_runtime,
    read_records,
)
from flows.records.store import Store, read_detections
from flows.report.recommendation import relative_speed
from flows.stats.map_bootstrap import NO_DIFFERENCE, Difference, drawn_aps, drawn_difference
from flows.sweep import workspace
from studies.finished_run import FinishedRun
from studies.methods.further_training import Sibling, read_siblings, seeds_file
from studies.methods.results import Comparison, Found, InRuntime, MethodResult, Role, Search, Shown, Summary, Timing
from studies.methods.subjects import SUBJECTS, Subject, baselines, cell_of, label_of, timed_row


def summarize(run: FinishedRun, command: str) -> Summary:
    """Everything the page shows. InputError where other data is prepared now than the records were scored on."""
    control = run.cells.cell(CONTROL)
    if control is None or control.status != "ok":
        raise InputError(f"{run.folder}: the control was not made, so there is nothing to compare with. Run `make methods` again.")
    latency = read_records(run.folder / workspace.LATENCY, LatencyFile)
    settings, truths = run.plan.params.report, truths_of(run.cells, run.prepared)
    own = _Study(run, latency, control)
    own.draw(truths["test"])
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


class _Study:
    """The records of one run, looked at method by method."""

    def __init__(self, run: FinishedRun, latency: LatencyFile, control: CellRecord) -> None:
        self.run, self.cells, self.latency, self.control = run, run.cells, latency, control
        self.siblings = read_siblings(run)
        self.drawn: dict[Digest, NDArray[np.float64]] = {}
        """Digest of test detections -> the bootstrap's samples of their AP, the same pictures for every result."""

    def draw(self, truth: dict[str, Any]) -> None:
        """The slow part, with progress: the bootstrap of every result, once each."""
        made: list[CellRecord | Sibling] = [self.control, *self.siblings]
        for subject in SUBJECTS:
            made += [*self.variants(subject), *self.references(subject)]
        results = {self.detections(own): own for each in made for own in each.artifacts.values()}
        settings = self.run.plan.params.report
        for digest, artifact in steps(results.items(), len(results), "bootstrap", "files"):
            path = self.run.store.file(artifact.test.detections)
            self.drawn[digest] = drawn_aps(
                truth, read_detections(path), seed=settings.seed, draws=settings.bootstrap_draws, name=str(path)
            )

    def difference(self, a: ArtifactRecord, b: ArtifactRecord) -> Difference:
        """Of test mAP, b minus a, as `map_difference` of their detections."""
        first, second = self.detections(a), self.detections(b)
        return NO_DIFFERENCE if first == second else drawn_difference(self.drawn[first], self.drawn[second])

    def detections(self, artifact: ArtifactRecord) -> Digest:
        """What the bytes of a file's test detections are known by."""
        return file_digest(self.run.store.file(artifact.test.detections))

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
            comparisons=(*self.compared(subject, variants, references), *self.compared_with_siblings(variants, siblings)),
            searches=tuple(search for record in variants if (search := _search_of(self.run.store, record)) is not None),
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
        return InRuntime(
            runtime=runtime,
            size_bytes=artifact.size_bytes,
            val_map=artifact.val.map_50_95,
            test_map=artifact.test.map_50_95,
            difference=NO_DIFFERENCE if artifact.digest == control.digest else self.difference(control, artifact),
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
            own, other = (timed_row(self.cells, self.latency, cell, runtime) for cell in (name, baseline.cell))
            speed = None if own is None or other is None else relative_speed(own, other)
            yield Comparison(
                variant=label_of(name),
                rival=label_of(baseline.cell),
                runtime=runtime,
                difference=self.difference(baseline.artifacts[runtime], records[name].artifacts[runtime]),
                profile=None if speed is None or own is None else own.profile,
                speed_ratio=None if speed is None else speed.ratio,
                speed_ratio_ci95=None if speed is None else speed.interval,
            )

    def compared_with_siblings(self, variants: Sequence[CellRecord], siblings: Iterable[Sibling]) -> Iterator[Comparison]:
        """A variant of quantization-aware training with the float network that had the same updates."""
        records: Mapping[str, CellRecord] = {record.cell: record for record in variants}
        for sibling in siblings:
            for runtime, artifact in sibling.artifacts.items():
                yield Comparison(
                    variant=label_of(sibling.of),
                    rival=_sibling_label(sibling),
                    runtime=runtime,
                    difference=self.difference(artifact, records[sibling.of].artifacts[runtime]),
                )

    def seeds(self, subject: Subject) -> SeedsFile | None:
        """The three seeds of its variant; None where they were not made, or of other networks than these."""
        path = seeds_file(self.run, subject.method)
        found = read_seeds(path) if path.is_file() else None
        return found if found is not None and found.is_of(self.cells) else None


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


def _search_of(store: Store, record: CellRecord) -> Search | None:
    """What the search on the way to a cell found; None where there was none, or none to compare it with."""
    if record.methods != ("nas",):
        return None
    done = read_done(store, record.node)
    while done.node.kind != "search":
        if done.node.parent is None:
            return None
        done = read_done(store, done.node.parent)
    details = next(change.details for change in done.changes if change.method == "nas")
    proxies = details["random_baseline"]
    if proxies is None:
        return None
    candidates = {"search": details["chosen"]} | {name: proxies[name] for name in ("random_search", "largest_macs")}
    numbers = ("supernet_val_map", "estimated_latency_s", "macs")
    return Search(
        label=label_of(record.cell),
        design_profile=details["design_profile"],
        budget_s=details["budget_s"],
        found=tuple(Found(by=by, **{name: own[name] for name in numbers}) for by, own in candidates.items()),
    )
