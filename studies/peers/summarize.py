"""From the run's records to what the page shows: differences with intervals, and what would be chosen of every group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.frozen import Digest
from flows.compare.two_cells import SPLITS, truths_of
from flows.progress import steps
from flows.records.schema import CONTROL, ArtifactRecord, CellRecord, LatencyRow, ScoredSplit, read_schema
from flows.records.store import read_detections
from flows.report.findings import Findings
from flows.report.recommendation import relative_speed
from flows.stats.map_bootstrap import NO_DIFFERENCE, Difference, drawn_aps, drawn_difference
from hardware_profiles.schema.library import load_profile
from studies.finished_run import FinishedRun
from studies.peers.records import Failure, Group, Line, PeersFile, ProfilePage, Summary, Versus
from studies.peers.timing import PEERS
from studies.peers.work import tried_of

OURS: Group = "sixfold"
CONTROLS: Group = "control"


def summarize(run: FinishedRun, command: str) -> Summary:
    """Everything the page shows; InputError where nothing was measured yet, or other data is prepared now."""
    found = read_schema(run.folder / PEERS, PeersFile, f"python -m studies.peers measure {run.folder}")
    study = Study.of(run, found)
    study.draw(truths_of(found.cells, run.prepared))
    return Summary(
        command=command,
        sweep=found.cells.sweep,
        dataset=found.dataset,
        machine=str(found.latency.environment.get("cpu", "unknown")),
        max_drop=found.max_drop,
        bootstrap_draws=found.bootstrap_draws,
        bootstrap_seed=found.bootstrap_seed,
        tools=found.tools,
        profiles=tuple(study.profile(name) for name in found.latency.profiles()),
        tried=tried_of(run, found.peers),
        failures=tuple(
            Failure(name=own.name, runtime=own.runtime, error=own.error) for own in found.peers if own.error is not None
        ),
    )


@dataclass
class Study:
    """The records, looked at profile by profile."""

    run: FinishedRun
    found: PeersFile
    groups: dict[str, Group]
    """Of every record by name."""
    records: dict[tuple[str, str], CellRecord]
    """Name and runtime -> record; a peer's files of two runtimes are two records of one name."""
    drawn: dict[tuple[Digest, ScoredSplit], NDArray[np.float64]]

    @classmethod
    def of(cls, run: FinishedRun, found: PeersFile) -> Study:
        """Nothing drawn yet."""
        seed, groups, records = found.cells.cells[0].seed, dict[str, Group](), dict[tuple[str, str], CellRecord]()
        for own in (*found.cells.cells, *found.cells.references):
            groups[own.cell] = CONTROLS if own.cell == CONTROL else OURS
            records |= {(own.cell, runtime): own for runtime in own.artifacts}
        for peer in found.peers:
            if peer.artifact is not None:
                records[peer.name, peer.runtime] = peer.as_cell(seed)
        return cls(run, found, groups, records, {})

    def draw(self, truths: Any) -> None:
        """The slow part, with progress: the bootstrap of every file, once each."""
        artifacts = {own.digest: own for (_, runtime), record in self.records.items() for own in [record.artifacts[runtime]]}
        todo = [(own, split) for own in artifacts.values() for split in SPLITS]
        for own, split in steps(todo, len(todo), "bootstrap", "files"):
            path = self.run.store.file(own.on(split).detections)
            self.drawn[own.digest, split] = drawn_aps(
                truths[split],
                read_detections(path),
                seed=self.found.bootstrap_seed,
                draws=self.found.bootstrap_draws,
                name=str(path),
            )

    def profile(self, name: str) -> ProfilePage:
        """All lines of one profile, and who would be chosen."""
        runtime = load_profile(name, self.run.plan.profiles_folder).runtime
        rows = {own.cell: own for own in self.found.latency.rows if own.profile == name}
        baseline = self.found.cells.baseline(runtime)
        assert baseline is not None, "the control was made"
        own_names = [own.cell for own in (*self.found.cells.cells, *self.found.cells.references) if runtime in own.artifacts]
        lines = {own: self.line(own, runtime, baseline, rows.get(own)) for own in own_names}
        lines |= {own.name: self.line(own.name, runtime, baseline, rows.get(own.name)) for own in self._peers(runtime)}
        groups = dict.fromkeys(own.group for own in self._peers(runtime) if own.group != "float")
        ours = self.chosen(name, runtime, [own.cell for own in self.found.cells.cells])
        wanted = {group: [own.name for own in self._peers(runtime) if own.group == group] for group in groups}
        wanted["any of them"] = [own.name for own in self._peers(runtime)]
        theirs = {group: self.chosen(name, runtime, names) for group, names in wanted.items()}
        return ProfilePage(
            profile=name,
            runtime=rows[CONTROL].runtime,
            rounds=len(rows[CONTROL].rounds_s),
            baseline=baseline.cell,
            control=lines[CONTROL],
            ours=ours,
            versus=tuple(self.versus(group, ours, peer, runtime, rows) for group, peer in theirs.items()),
            lines=tuple(lines.values()),
        )

    def chosen(self, profile: str, runtime: str, names: Iterable[str]) -> str | None:
        """By sixfold's own rule, among these and the control: the fastest within the drop on val; None where nothing is faster."""
        allowed = {CONTROL, *names}
        cells = tuple(record for (name, own), record in self.records.items() if own == runtime and name in allowed)
        rows = tuple(row for row in self.found.latency.rows if row.profile == profile)
        some = self.found.cells.model_copy(update={"cells": cells})
        findings = Findings.of(some, self.found.latency.model_copy(update={"rows": rows}), self.found.max_drop)
        return next((choice.cell for choice in findings.choices if choice.verdict == "recommended"), None)

    def versus(self, group: Group, ours: str | None, theirs: str | None, runtime: str, rows: dict[str, LatencyRow]) -> Versus:
        """What is chosen of ours compared with what is chosen of theirs."""
        if theirs is None or ours is None:
            return Versus(group=group, peer=theirs)
        speed = relative_speed(rows[ours], rows[theirs])
        return Versus(
            group=group,
            peer=theirs,
            test_difference=self.difference(self._artifact(theirs, runtime), self._artifact(ours, runtime), "test"),
            speed_ratio=None if speed is None else speed.ratio,
            speed_ratio_ci95=None if speed is None else speed.interval,
        )

    def line(self, name: str, runtime: str, baseline: CellRecord, row: LatencyRow | None) -> Line:
        """One file on one profile."""
        record, artifact, reference = self.records[name, runtime], self._artifact(name, runtime), baseline.artifacts[runtime]
        control = self.records[CONTROL, runtime]
        assert record.macs is not None, "an ok record is counted"
        assert control.macs is not None, "as is the control's"
        peer = next((own for own in self._peers(runtime) if own.name == name), None)
        timed = row if row is not None and row.p50_s is not None else None
        return Line(
            name=name,
            group=self.groups[name] if peer is None else peer.group,
            macs_share=record.macs / control.macs,
            size_bytes=artifact.size_bytes,
            val_map=artifact.val.map_50_95,
            val_difference=self.difference(reference, artifact, "val"),
            test_map=artifact.test.map_50_95,
            test_difference=self.difference(reference, artifact, "test"),
            p50_s=timed.p50_s if timed else None,
            speedup=timed.speedup if timed else None,
            speedup_ci95=timed.speedup_ci95 if timed else None,
            verdict=timed.verdict if timed else None,
            spent=self.found.own_spent[name][runtime] if peer is None else peer.spent,
        )

    def difference(self, reference: ArtifactRecord, own: ArtifactRecord, split: ScoredSplit) -> Difference:
        """Of mAP on the split, this file minus the reference."""
        if reference.digest == own.digest:
            return NO_DIFFERENCE
        return drawn_difference(self.drawn[reference.digest, split], self.drawn[own.digest, split])

    def _artifact(self, name: str, runtime: str) -> ArtifactRecord:
        return self.records[name, runtime].artifacts[runtime]

    def _peers(self, runtime: str) -> list[Any]:
        return [own for own in self.found.peers if own.artifact is not None and own.runtime == runtime]
