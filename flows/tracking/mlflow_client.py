"""MLflow as a window on the records: one parent run per sweep, one nested run per cell. The only module that imports mlflow.

References have runs of their own, whose tag `reference` is "true"; that of a cell is "false".

The records are the truth. Whatever goes wrong in here is said once and never stops a grid; `Tracker` may be opened again later
on the same records and fills in what is missing, because every run is found again and nothing is written twice.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from compressors.planning.names import METHODS
from flows.records.schema import CellRecord, LatencyRow, is_reference
from flows.tracking.logged_values import cell_metrics, choice, latency_metrics, latency_tags
from flows.tracking.ui_view import VIEW_TAG, shared_view

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "sixfold"
"""Of every sweep. Each method is a param of every run, "none" where it is absent: charts want the same short params everywhere."""
RUN_STATUS = {"ok": "FINISHED", "failed": "FAILED", "skipped": "KILLED"}
SQLITE = "sqlite:///"
MOST_TEXT = 500
"""Characters of an error kept in a tag or a warning; a cell's whole error stands in its record, an artifact of the run."""


class Tracking(Protocol):
    """What the stages need of a tracker."""

    def log_cell(self, cell: CellRecord, labels: Mapping[str, str] | None = None) -> None:
        """Show a cell, done or failed; `labels` gives the choice of each of its methods in a word."""
        ...

    def log_latency(self, *rows: LatencyRow) -> None:
        """Show latencies, each on the run of its cell."""
        ...

    def log_winner(self, profile: str, cell: str, folder: Path) -> None:
        """Mark the champion of a profile and attach its files."""
        ...

    def close(self) -> None:
        """End the sweep's run."""
        ...


class NoTracking:
    """Tracks nothing: for --no-tracking and for tests."""

    def log_cell(self, cell: CellRecord, labels: Mapping[str, str] | None = None) -> None:
        """Nothing."""

    def log_latency(self, *rows: LatencyRow) -> None:
        """Nothing."""

    def log_winner(self, profile: str, cell: str, folder: Path) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class TrackingWarning(UserWarning):
    """MLflow failed; the sweep goes on without it."""


def tracking_uri(folder: Path) -> str:
    """Where runs are tracked: MLFLOW_TRACKING_URI where it is set, otherwise an SQLite file in the folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{folder / 'mlflow.db'}"


@dataclass
class _CellRun:
    """A nested run and what it shows already."""

    run_id: str
    status: str
    params: set[str] = field(default_factory=set)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Tracker:
    """Writes a sweep to MLflow. Only the driver has one: several writers on a fresh SQLite file break it for good."""

    def __init__(self) -> None:
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._parent_id = ""
        self._runs: dict[tuple[str, str], _CellRun] = {}  # (cell, node) -> run
        self._latest: dict[str, _CellRun] = {}  # cell -> run
        self._view_tag = ""
        self._rows: list[LatencyRow] = []
        self._runtimes: tuple[str, ...] = ()

    @classmethod
    def open(cls, uri: str, sweep: str, params_digest: str, params_text: str) -> Tracker:
        """The tracker of a sweep, its runs found again where the same sweep with the same params was here before."""
        tracker = cls()
        tracker._view_tag = VIEW_TAG + sweep
        tracker._try(lambda: tracker._connect(uri, sweep, params_digest, params_text))
        return tracker

    def log_cell(self, cell: CellRecord, labels: Mapping[str, str] | None = None) -> None:
        """Show a cell, done or failed, on its own run; a second time only what changed is written."""
        self._try_connected(lambda client: self._write_cell(client, cell, labels or {}))

    def log_latency(self, *rows: LatencyRow) -> None:
        """Show latencies, each on the run of its cell; rows without a number, or of a cell never logged, show nothing."""
        self._try_connected(lambda client: self._write_latencies(client, rows))

    def log_winner(self, profile: str, cell: str, folder: Path) -> None:
        """Attach a profile's champion to its run and move the tag `champion-<profile>` there; nothing for a cell never logged."""
        self._try_connected(lambda client: self._write_winner(client, profile, cell, folder))

    def close(self) -> None:
        """End the sweep's run, and say how the page of its cells opens; the run reopens with the next `open`."""
        self._try_connected(lambda client: client.set_terminated(self._parent_id, "FINISHED"))
        self._try_connected(self._write_view)
        self._client = None

    def _try_connected(self, action: Callable[[MlflowClient], None]) -> None:
        client = self._client
        if client is not None:
            self._try(lambda: action(client))

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # SQL, HTTP, file system, MLflow's own: none of them is worth hours of training
            self._client = None
            warnings.warn(
                f"MLflow tracking stopped: {type(error).__name__}: {str(error)[:MOST_TEXT]}. "
                "The sweep goes on and its records are whole; another `sixfold grid` fills in what is missing.",
                TrackingWarning,
                stacklevel=4,
            )

    def _connect(self, uri: str, sweep: str, params_digest: str, params_text: str) -> None:
        client = _client(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        self._experiment_id = (
            experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT, _artifacts_beside(uri))
        )
        parents = [
            run
            for run in client.search_runs([self._experiment_id], f"tags.params_digest = '{params_digest}'")
            if run.data.tags.get("sweep") == sweep
        ]
        if parents:
            self._parent_id = parents[-1].info.run_id
            client.update_run(self._parent_id, status="RUNNING")
            self._find_runs(client)
        else:
            parent = client.create_run(self._experiment_id, tags={"sweep": sweep, "params_digest": params_digest}, run_name=sweep)
            self._parent_id = parent.info.run_id
            client.log_text(self._parent_id, params_text, "params.yaml")
        self._client = client

    def _find_runs(self, client: MlflowClient) -> None:
        nested = client.search_runs(
            [self._experiment_id],
            f"tags.`mlflow.parentRunId` = '{self._parent_id}'",
            max_results=50_000,
            order_by=["attributes.start_time ASC"],
        )
        for run in nested:
            self._remember(run)

    def _remember(self, run: Run) -> _CellRun:
        tags = dict(run.data.tags)
        known = _CellRun(run.info.run_id, run.info.status, set(run.data.params), dict(run.data.metrics), tags)
        self._runs[tags["cell"], tags["node"]] = self._latest[tags["cell"]] = known
        return known

    def _write_cell(self, client: MlflowClient, cell: CellRecord, labels: Mapping[str, str]) -> None:
        run = self._runs.get((cell.cell, cell.node))
        if run is None:
            tags = {"mlflow.parentRunId": self._parent_id, "cell": cell.cell, "node": cell.node}
            run = self._remember(client.create_run(self._experiment_id, tags=tags, run_name=cell.cell))
        self._latest[cell.cell] = run
        self._runtimes = tuple(cell.artifacts) or self._runtimes
        tags = {"status": cell.status, "seed": str(cell.seed), "no_effect": ", ".join(cell.no_effect) or "none"}
        tags["reference"] = str(is_reference(cell.cell)).lower()
        if cell.error is not None:
            tags["error"] = cell.error[:MOST_TEXT]
        elif "error" in run.tags:
            client.delete_tag(run.run_id, "error")
            del run.tags["error"]
        params: dict[str, str] = {method: labels.get(method) or choice(method, cell) for method in METHODS}
        written = _write(client, run, cell_metrics(cell), params, tags)
        if written or run.status != RUN_STATUS[cell.status]:
            client.log_dict(run.run_id, cell.model_dump(mode="json"), "cell.json")
            client.set_terminated(run.run_id, RUN_STATUS[cell.status])
            run.status = RUN_STATUS[cell.status]

    def _write_latencies(self, client: MlflowClient, rows: Iterable[LatencyRow]) -> None:
        metrics: dict[str, dict[str, float]] = {}
        tags: dict[str, dict[str, str]] = {}
        for row in rows:
            self._rows.append(row)
            metrics.setdefault(row.cell, {}).update(latency_metrics(row))
            tags.setdefault(row.cell, {}).update(latency_tags(row))
        for cell, numbers in metrics.items():
            if cell in self._latest:
                _write(client, self._latest[cell], numbers, {}, tags[cell])

    def _write_view(self, client: MlflowClient) -> None:
        """A sitting without latencies leaves the view that one with latencies wrote, for it has charts."""
        there = client.get_experiment(self._experiment_id).tags.get(self._view_tag, "")
        has_charts = self._parent_id in there and json.loads(there)["compareRunCharts"]
        if self._rows or not has_charts:
            metrics = {name for run in self._latest.values() for name in run.metrics}
            view = shared_view(self._parent_id, self._runtimes, metrics, self._rows)
            client.set_experiment_tag(self._experiment_id, self._view_tag, json.dumps(view))

    def _write_winner(self, client: MlflowClient, profile: str, cell: str, folder: Path) -> None:
        tag = f"champion-{re.sub(r'[^A-Za-z0-9_-]', '_', profile)}"
        winner = self._latest.get(cell)
        if winner is None:
            return
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no folder of the winner of {profile}")
        client.log_artifacts(winner.run_id, str(folder), f"best/{profile}")
        for run in self._runs.values():
            if run is not winner and tag in run.tags:
                client.delete_tag(run.run_id, tag)
                del run.tags[tag]
        _write(client, winner, {}, {}, {tag: "true"})


def _client(uri: str) -> MlflowClient:
    """A client of the tracking server or file, without telemetry; a dead server is given up on in seconds, not in minutes."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    from mlflow import MlflowClient  # 2 s, and reads the environment above

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # else a page about tables being created
    if uri.startswith(SQLITE):
        Path(uri.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(uri)


def _artifacts_beside(uri: str) -> str | None:
    """The folder beside an SQLite file, where MLflow would take the current directory; a server knows its own."""
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts").as_uri()


def _write(client: MlflowClient, run: _CellRun, metrics: dict[str, float], params: dict[str, str], tags: dict[str, str]) -> bool:
    """True when there was something new to write, which then went out in one batch. Params already there are immutable and left."""
    from mlflow.entities import Metric, Param, RunTag

    now_ms = int(time.time() * 1000)
    new_metrics = {key: value for key, value in metrics.items() if run.metrics.get(key) != value}
    new_params = {key: value for key, value in params.items() if key not in run.params}
    new_tags = {key: value for key, value in tags.items() if run.tags.get(key) != value}
    if not (new_metrics or new_params or new_tags):
        return False
    client.log_batch(
        run.run_id,
        metrics=[Metric(key, value, now_ms, 0) for key, value in new_metrics.items()],
        params=[Param(key, value) for key, value in new_params.items()],
        tags=[RunTag(key, value) for key, value in new_tags.items()],
    )
    run.metrics |= new_metrics
    run.params |= set(new_params)
    run.tags |= new_tags
    return True
