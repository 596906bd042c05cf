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
from typing import TYPE_CHECKING

from compressors.planning.names import METHODS
from flows.records.schema import CellRecord, LatencyRow, is_reference
from flows.tracking.logged_values import VIEW_TAG, cell_metrics, choice, latency_metrics, latency_tags, shared_view

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT, PARAMS_FILE = "sixfold", "params.yaml"
"""Of every sweep. Each method is a param of every run, "none" where it is absent: charts want the same short params everywhere."""
RUN_STATUS = {"ok": "FINISHED", "failed": "FAILED", "skipped": "KILLED"}
SQLITE = "sqlite:///"
MOST_TEXT = 500
"""Characters of an error kept in a tag or a warning; a cell's whole error stands in its record, an artifact of the run."""


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
    """Writes a sweep to MLflow; one that is not opened writes nothing, for --no-tracking and for tests.

    Only the driver opens one: several writers on a fresh SQLite file break it for good.
    """

    def __init__(self) -> None:
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._parent_id = ""
        self._runs: dict[tuple[str, str], _CellRun] = {}  # (cell, node) -> run
        self._latest: dict[str, _CellRun] = {}  # cell -> run
        self._view_tag = self._again = ""
        self._rows: list[LatencyRow] = []
        self._runtimes: tuple[str, ...] = ()

    @classmethod
    def open(cls, uri: str, sweep: str, params_digest: str, params_text: str, again: str = "sixfold grid") -> Tracker:
        """The tracker of a sweep, its runs found again where the same sweep with the same params was here before.

        `again` is the command that shows what is missing, should MLflow fail.
        """
        tracker = cls()
        tracker._again = again
        tracker._view_tag = VIEW_TAG + sweep
        tracker._try(lambda: tracker._connect(uri, sweep, params_digest, params_text))
        return tracker

    def log_cell(self, cell: CellRecord) -> None:
        """Show a cell, done or failed, on its own run; a second time only what changed is written."""
        self._try_connected(lambda client: self._write_cell(client, cell))

    def log_not_applicable(self, reasons: Mapping[str, str]) -> None:
        """Show on the sweep's run which methods the detector cannot take, and why: a tag `not_applicable.<method>` each."""

        def tag(client: MlflowClient) -> None:
            for method, reason in reasons.items():
                client.set_tag(self._parent_id, f"not_applicable.{method}", reason)

        self._try_connected(tag)

    def log_latency(self, *rows: LatencyRow) -> None:
        """Show latencies, each on the run of its cell; rows without a number, or of a cell never logged, show nothing."""
        self._try_connected(lambda client: self._write_latencies(client, rows))

    def log_recommended(self, profile: str, cell: str, folder: Path) -> None:
        """Attach a profile's recommended model to the run of its cell and move the tag `recommended-<profile>` there."""
        self._try_connected(lambda client: self._write_recommended(client, profile, cell, folder))

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
                f"The sweep goes on and its records are whole; another `{self._again}` fills in what is missing.",
                TrackingWarning,
                stacklevel=4,
            )

    def _connect(self, uri: str, sweep: str, params_digest: str, params_text: str) -> None:
        client = _client(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None and experiment.lifecycle_stage == "deleted":  # on MLflow's page; its name stays taken
            client.restore_experiment(experiment.experiment_id)
        self._experiment_id = (
            experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT, _artifact_folder(uri))
        )
        parents = [
            run
            for run in client.search_runs([self._experiment_id], f"tags.params_digest = '{params_digest}'")
            if run.data.tags.get("sweep") == sweep
        ]
        if parents:
            self._parent_id = parents[-1].info.run_id
            client.update_run(self._parent_id, status="RUNNING")
            for run in client.search_runs(
                [self._experiment_id],
                f"tags.`mlflow.parentRunId` = '{self._parent_id}'",
                max_results=50_000,
                order_by=["attributes.start_time ASC"],
            ):
                self._remember(run)
        else:
            parent = client.create_run(self._experiment_id, tags={"sweep": sweep, "params_digest": params_digest}, run_name=sweep)
            self._parent_id = parent.info.run_id
        if not any(item.path == PARAMS_FILE for item in client.list_artifacts(self._parent_id)):
            client.log_text(self._parent_id, params_text, PARAMS_FILE)
        self._client = client

    def _remember(self, run: Run) -> _CellRun:
        tags = dict(run.data.tags)
        known = _CellRun(run.info.run_id, run.info.status, set(run.data.params), dict(run.data.metrics), tags)
        self._runs[tags["cell"], tags["node"]] = self._latest[tags["cell"]] = known
        return known

    def _write_cell(self, client: MlflowClient, cell: CellRecord) -> None:
        run = self._runs.get((cell.cell, cell.node))
        if run is None:
            tags = {"mlflow.parentRunId": self._parent_id, "cell": cell.cell, "node": cell.node}
            run = self._remember(client.create_run(self._experiment_id, tags=tags, run_name=cell.cell))
        self._latest[cell.cell] = run
        self._runtimes = tuple(cell.artifacts) or self._runtimes
        tags = {"status": cell.status, "seed": str(cell.seed), "no_effect": ", ".join(cell.no_effect) or "none"}
        tags |= {"reference": str(is_reference(cell.cell)).lower(), "from_scratch": str(cell.from_scratch).lower()}
        if cell.error is not None:
            tags["error"] = cell.error[:MOST_TEXT]
        elif "error" in run.tags:
            client.delete_tag(run.run_id, "error")
            del run.tags["error"]
        new = _news(run, cell_metrics(cell), {method: choice(method, cell) for method in METHODS}, tags)
        if any(new) or run.status != RUN_STATUS[cell.status]:
            client.log_dict(run.run_id, cell.model_dump(mode="json"), "cell.json")  # first: what fails here is new the next time
            _write(client, run, new)
            client.set_terminated(run.run_id, RUN_STATUS[cell.status])
            run.status = RUN_STATUS[cell.status]

    def _write_latencies(self, client: MlflowClient, rows: Iterable[LatencyRow]) -> None:
        shown: dict[str, tuple[dict[str, float], dict[str, str]]] = {}
        for row in rows:
            self._rows.append(row)
            metrics, tags = shown.setdefault(row.cell, ({}, {}))
            metrics |= latency_metrics(row)
            tags |= latency_tags(row)
        for cell, (metrics, tags) in shown.items():
            if cell in self._latest:
                _write(client, self._latest[cell], _news(self._latest[cell], metrics, {}, tags))

    def _write_view(self, client: MlflowClient) -> None:
        """A command without latencies leaves the view that one with latencies wrote, for it has charts."""
        there = client.get_experiment(self._experiment_id).tags.get(self._view_tag, "")
        has_charts = self._parent_id in there and json.loads(there)["compareRunCharts"]
        if self._rows or not has_charts:
            metrics = {name for run in self._latest.values() for name in run.metrics}
            view = shared_view(self._parent_id, self._runtimes, metrics, self._rows)
            client.set_experiment_tag(self._experiment_id, self._view_tag, json.dumps(view))

    def _write_recommended(self, client: MlflowClient, profile: str, cell: str, folder: Path) -> None:
        tag = f"recommended-{re.sub(r'[^A-Za-z0-9_-]', '_', profile)}"
        recommended = self._latest.get(cell)
        if recommended is None:
            return
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no folder of the file recommended for {profile}")
        client.log_artifacts(recommended.run_id, str(folder), f"best/{profile}")
        for run in self._runs.values():
            if run is not recommended and tag in run.tags:
                client.delete_tag(run.run_id, tag)
                del run.tags[tag]
        _write(client, recommended, _news(recommended, {}, {}, {tag: "true"}))


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


def _artifact_folder(uri: str) -> str | None:
    """The folder next to an SQLite file, where MLflow would take the current directory; a server knows its own."""
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts").as_uri()


_News = tuple[dict[str, float], dict[str, str], dict[str, str]]
"""Metrics, params and tags that a run does not show yet."""


def _news(run: _CellRun, metrics: dict[str, float], params: dict[str, str], tags: dict[str, str]) -> _News:
    """Of these, what differs from what the run shows. Params already there are immutable and left."""
    return (
        {key: value for key, value in metrics.items() if run.metrics.get(key) != value},
        {key: value for key, value in params.items() if key not in run.params},
        {key: value for key, value in tags.items() if run.tags.get(key) != value},
    )


def _write(client: MlflowClient, run: _CellRun, new: _News) -> None:
    """Write it in one batch."""
    from mlflow.entities import Metric, Param, RunTag

    if not any(new):
        return
    (metrics, params, tags), now_ms = new, int(time.time() * 1000)
    client.log_batch(
        run.run_id,
        metrics=[Metric(key, value, now_ms, 0) for key, value in metrics.items()],
        params=[Param(key, value) for key, value in params.items()],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    run.metrics |= metrics
    run.params |= set(params)
    run.tags |= tags
