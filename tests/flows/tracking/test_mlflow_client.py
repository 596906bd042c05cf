"""The window on the records, against a real MLflow on SQLite in a folder of its own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from flows.records.schema import ArtifactRecord, BudgetRecord, CellRecord, LatencyRow, Metrics, Source, Status
from flows.tracking import mlflow_client
from flows.tracking.mlflow_client import METHODS, Tracker, TrackingWarning, tracking_uri
from tests.places import ROOT

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"
)  # MLflow's own use of SQLAlchemy 2.1
PARAMS_DIGEST = "p" * 64


def digest(text: str) -> str:
    """A sha256 of some words."""
    return hashlib.sha256(text.encode()).hexdigest()


def made(methods: tuple[str, ...], status: Status = "ok", error: str | None = None) -> CellRecord:
    """A cell for one runtime; nothing was made unless its status is ok."""
    name = "+".join(methods) or "none"
    accuracy = Metrics(map_50_95=0.5, map_50=0.8, map_75=0.6, per_class={}, detections="store://detections")
    artifact = ArtifactRecord(url="store://file", digest=digest(name), size_bytes=1000, val=accuracy,
                              test=accuracy.model_copy(update={"map_50_95": 0.4}))  # fmt: skip
    budget = BudgetRecord(train_epochs=3, train_images=30, search_images=0, teacher_forwards=0, qat_updates=0, train_s=1.5)
    variant: dict[str, dict[str, Any]] = {
        method: {"method": method, "strength": 0.5, **({"importance": "taylor"} if method == "pruning" else {})}
        for method in methods
    }
    done = status == "ok"
    return CellRecord(cell=name, methods=methods, variant=variant, seed=0, status=status, error=error, node=digest(name),
                      params=100 if done else None, macs=200 if done else None, no_effect=(),
                      artifacts={"onnxruntime": artifact} if done else {}, budget=budget if done else None)  # fmt: skip


def timed(cell: str, profile: str, source: Source, p50_s: float) -> LatencyRow:
    """A latency of a cell that is twice as fast as the control."""
    return LatencyRow(cell=cell, profile=profile, source=source, runtime="onnxruntime 1.0", artifact_digest=None, rounds_s=(),
                      control_rounds_s=(), p50_s=p50_s, p90_s=None, speedup=2.0, speedup_ci95=None, interval_s=None,
                      end_to_end_p50_s=None, peak_rss_bytes=None, fits=None, why=None, environment=None)  # fmt: skip


def runs_in(uri: str) -> tuple[list[Any], dict[str, Any]]:
    """Parent runs, and nested runs by name, as MLflow tells them."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("sixfold")
    assert experiment is not None
    every = client.search_runs([experiment.experiment_id])
    parents = [run for run in every if "mlflow.parentRunId" not in run.data.tags]
    nested = [run for run in every if "mlflow.parentRunId" in run.data.tags]
    assert len({run.info.run_name for run in nested}) == len(nested), "a cell has two runs"
    return parents, {run.info.run_name: run for run in nested}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A sweep tracked in two sittings: the second retries what failed, adds latencies and moves the champion."""
    folder = tmp_path_factory.mktemp("tracked")
    uri, best = f"sqlite:///{folder / 'made' / 'mlflow.db'}", folder / "best"
    best.mkdir()
    (best / "model.onnx").write_bytes(b"weights")
    first = Tracker.open(uri, "nightly", PARAMS_DIGEST, "seed: 0\n")
    first.log_cell(made(()))
    first.log_cell(made(("pruning", "quantization")))
    first.log_cell(made(("nas",), "failed", "out of memory; see nas.log"))
    first.log_cell(made(("low_rank",), "failed", "a rank of 0"))
    first.log_cell(made(("distillation",), "skipped", "no teacher"))
    first.log_cell(made(("quantization",)).model_copy(update={"cell": "reference:narrow-0.5+quantization"}))
    first.log_recommended("x86-1t", "none", best)
    first.close()
    second = Tracker.open(uri, "nightly", PARAMS_DIGEST, "seed: 0\n")
    for cell in (made(()), made(("pruning", "quantization")), made(("nas",)).model_copy(update={"labels": {"nas": "evolution"}})):
        second.log_cell(cell)
    second.log_latency(
        timed("none", "x86-1t", "measured", 0.002),
        timed("none", "pi (5)", "estimated", 0.03),
        timed("pruning+quantization", "pi (5)", "estimated", 0.03).model_copy(update={"flags": ("int8_slower_than_float",)}),
        timed("nas", "x86-1t", "measured", 0.002).model_copy(
            update={"verdict": "not significant", "minimum_detectable_effect": 1.021, "flags": ("smaller_not_faster",)}
        ),
        timed("unknown", "x86-1t", "measured", 1),
        timed("reference:narrow-0.5+quantization", "x86-1t", "measured", 0.002),
    )
    second.log_recommended("x86-1t", "pruning+quantization", best)
    second.close()
    return uri, folder


def test_a_resumed_sweep_is_found_again(sweep: tuple[str, Path]) -> None:
    """Two sittings leave one parent, finished, and one run per cell below it."""
    parents, nested = runs_in(sweep[0])
    assert [(run.info.run_name, run.info.status) for run in parents] == [("nightly", "FINISHED")]
    cells = {"none", "pruning+quantization", "nas", "low_rank", "distillation"}
    assert set(nested) == cells | {"reference:narrow-0.5+quantization"}
    assert {run.data.tags["mlflow.parentRunId"] for run in nested.values()} == {parents[0].info.run_id}


def test_every_run_has_the_same_six_params(sweep: tuple[str, Path]) -> None:
    """One word per method, "none" where it is absent; numbers alone are "on"."""
    nested = runs_in(sweep[0])[1]
    assert nested["none"].data.params == dict.fromkeys(METHODS, "none")
    assert nested["pruning+quantization"].data.params == {
        **dict.fromkeys(METHODS, "none"),
        "pruning": "taylor",
        "quantization": "on",
    }


def test_params_stay_as_first_written(sweep: tuple[str, Path]) -> None:
    """The second sitting called nas "evolution", but params are immutable and "on" stays."""
    assert runs_in(sweep[0])[1]["nas"].data.params["nas"] == "on"


def test_verdicts_and_flags_are_tags(sweep: tuple[str, Path]) -> None:
    """No difference stands beside what would have been found, which is a metric too; a cell without flags says none."""
    nested = runs_in(sweep[0])[1]
    tags = nested["nas"].data.tags
    assert tags["verdict_x86-1t"] == "not significant (minimum detectable effect 1.021x)"
    assert tags["flags_x86-1t"] == "smaller_not_faster"
    assert nested["nas"].data.metrics["minimum_detectable_effect_x86-1t"] == 1.021
    assert nested["pruning+quantization"].data.tags["estimated_flags_pi__5_"] == "int8_slower_than_float"
    assert nested["none"].data.tags["flags_x86-1t"] == "none"


def test_numbers_are_metrics(sweep: tuple[str, Path]) -> None:
    """Counts, size, both accuracies and the budget are there under their own names."""
    metrics = runs_in(sweep[0])[1]["pruning+quantization"].data.metrics
    assert {key: value for key, value in metrics.items() if "pi__5_" not in key} == {
        "params": 100, "macs": 200, "size_bytes_onnxruntime": 1000, "map_50_95_val_onnxruntime": 0.5,
        "map_50_95_test_onnxruntime": 0.4, "budget_train_epochs": 3, "budget_train_images": 30, "budget_search_images": 0,
        "budget_teacher_forwards": 0, "budget_teacher_images": 0, "budget_inherited_images": 0,
        "budget_qat_updates": 0, "budget_train_s": 1.5,
    }  # fmt: skip


def test_estimates_have_their_own_metrics(sweep: tuple[str, Path]) -> None:
    """Measured and estimated latencies share no key; signs that MLflow refuses are replaced."""
    metrics = {
        key: value for key, value in runs_in(sweep[0])[1]["none"].data.metrics.items() if "latency" in key or "speedup" in key
    }
    assert metrics == {
        "latency_p50_ms_x86-1t": 2.0, "speedup_x86-1t": 2.0,
        "estimated_latency_p50_ms_pi__5_": 30.0, "estimated_speedup_pi__5_": 2.0,
    }  # fmt: skip


def test_failures_are_runs_that_failed(sweep: tuple[str, Path]) -> None:
    """A failed cell is a FAILED run with its error; a skipped one was killed; both without metrics."""
    nested = runs_in(sweep[0])[1]
    failed, skipped = nested["low_rank"], nested["distillation"]
    assert (failed.info.status, failed.data.tags["status"], failed.data.tags["error"]) == ("FAILED", "failed", "a rank of 0")
    assert (skipped.info.status, skipped.data.metrics) == ("KILLED", {})


def test_a_retry_that_works_clears_the_failure(sweep: tuple[str, Path]) -> None:
    """nas failed in the first sitting and worked in the second, on the same run."""
    run = runs_in(sweep[0])[1]["nas"]
    assert (run.info.status, run.data.tags["status"], run.data.tags["node"]) == ("FINISHED", "ok", digest("nas"))
    assert "error" not in run.data.tags


def test_a_reference_has_a_run_and_is_tagged_as_one(sweep: tuple[str, Path]) -> None:
    """Cells say that they are none, so that either can be searched for."""
    nested = runs_in(sweep[0])[1]
    tags = {name: run.data.tags["reference"] for name, run in nested.items()}
    assert tags.pop("reference:narrow-0.5+quantization") == "true"
    assert set(tags.values()) == {"false"}
    run = nested["reference:narrow-0.5+quantization"]
    assert run.data.params == {**dict.fromkeys(METHODS, "none"), "quantization": "on"}
    assert run.data.metrics["latency_p50_ms_x86-1t"] == 2.0


def test_a_second_sitting_repeats_no_metric(sweep: tuple[str, Path]) -> None:
    """What was there with the same value has one entry in its history."""
    from mlflow import MlflowClient

    run = runs_in(sweep[0])[1]["none"]
    assert len(MlflowClient(sweep[0]).get_metric_history(run.info.run_id, "macs")) == 1


def test_the_page_opens_on_the_cells_with_their_times(sweep: tuple[str, Path]) -> None:
    """The view is a tag of the experiment, named after the sweep, of this sweep's runs; a later sitting without times leaves it."""
    from mlflow import MlflowClient

    uri, _ = sweep
    third = Tracker.open(uri, "nightly", PARAMS_DIGEST, "seed: 0\n")
    third.close()
    experiment = MlflowClient(uri).get_experiment_by_name("sixfold")
    assert experiment is not None
    view = json.loads(experiment.tags["mlflow.sharedViewState.nightly"])
    parents, _ = runs_in(uri)
    assert view["searchFilter"] in [f"tags.`mlflow.parentRunId` = '{run.info.run_id}'" for run in parents]
    drawn = [chart["xaxis"]["key"] for chart in view["compareRunCharts"]]
    assert drawn == ["latency_p50_ms_x86-1t", "estimated_latency_p50_ms_pi__5_"]


def test_the_champion_moves_with_its_files(sweep: tuple[str, Path]) -> None:
    """One run carries the tag of a profile, the last winner, and has the files; artifacts lie beside the database."""
    from mlflow import MlflowClient

    nested = runs_in(sweep[0])[1]
    assert [name for name, run in nested.items() if "recommended-x86-1t" in run.data.tags] == ["pruning+quantization"]
    winner = nested["pruning+quantization"]
    files = {item.path for item in MlflowClient(sweep[0]).list_artifacts(winner.info.run_id, "best/x86-1t")}
    assert files == {"best/x86-1t/model.onnx"}
    assert winner.info.artifact_uri.startswith((sweep[1] / "made" / "mlartifacts").as_uri())


def test_the_whole_record_is_an_artifact(sweep: tuple[str, Path]) -> None:
    """cell.json of a run reads back as the record that was logged."""
    from mlflow.artifacts import download_artifacts

    run = runs_in(sweep[0])[1]["pruning+quantization"]
    text = Path(download_artifacts(run_id=run.info.run_id, artifact_path="cell.json", tracking_uri=sweep[0])).read_text()
    assert CellRecord.model_validate_json(text) == made(("pruning", "quantization"))


def test_other_params_are_another_sweep(sweep: tuple[str, Path]) -> None:
    """The same sweep name with other params gets its own parent, with all of its 64 cells."""
    subsets = [chosen for size in range(7) for chosen in combinations(METHODS, size)]
    tracker = Tracker.open(sweep[0], "other", "q" * 64, "seed: 1\n")
    for methods in subsets:
        tracker.log_cell(made(methods))
    tracker.close()
    from mlflow import MlflowClient

    client = MlflowClient(sweep[0])
    experiment = client.get_experiment_by_name("sixfold")
    assert experiment is not None
    mine = client.search_runs([experiment.experiment_id], f"tags.params_digest = '{'q' * 64}'")
    below = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{mine[0].info.run_id}'")
    try:
        assert (len(mine), len(below)) == (1, 64)
    finally:
        for run in [*mine, *below]:
            client.delete_run(run.info.run_id)


def test_a_broken_mlflow_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    """A file where the database's folder should be: one warning, and every later call passes quietly."""
    (tmp_path / "taken").write_text("a file")
    with pytest.warns(TrackingWarning, match="The sweep goes on"):
        tracker = Tracker.open(f"sqlite:///{tmp_path / 'taken' / 'mlflow.db'}", "nightly", PARAMS_DIGEST, "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracker.log_cell(made(()))
        tracker.log_latency(timed("none", "x86-1t", "measured", 0.002))
        tracker.log_recommended("x86-1t", "none", tmp_path)
        tracker.close()


def test_a_failure_later_is_said_once_too(sweep: tuple[str, Path], tmp_path: Path) -> None:
    """A winner's folder that is not there stops the tracking of what follows, with one warning."""
    tracker = Tracker.open(sweep[0], "nightly", PARAMS_DIGEST, "")
    with pytest.warns(TrackingWarning, match="no folder of the file recommended for x86-1t"):
        tracker.log_recommended("x86-1t", "none", tmp_path / "absent")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracker.log_cell(made(("lightweight",)))
        tracker.close()
    assert "lightweight" not in runs_in(sweep[0])[1]


def test_a_tracker_that_is_not_opened_writes_nothing(tmp_path: Path) -> None:
    """It takes every call."""
    tracker = Tracker()
    tracker.log_cell(made(()))
    tracker.log_latency(timed("none", "x86-1t", "measured", 0.002))
    tracker.log_recommended("x86-1t", "none", tmp_path)
    tracker.close()
    assert list(tmp_path.iterdir()) == []


def test_the_environment_names_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """MLFLOW_TRACKING_URI where it is set, otherwise a database in the folder."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert tracking_uri(tmp_path) == "http://tracking:5000"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_importing_the_module_does_not_import_mlflow() -> None:
    """Every stage imports this module; only a tracked one pays for mlflow."""
    code = "import sys, flows.tracking.mlflow_client; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_an_experiment_deleted_on_the_page_is_restored(tmp_path: Path) -> None:
    """With the runs that were in it; the next tracker adds what is missing, and no warning is raised."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    first = Tracker.open(uri, "nightly", PARAMS_DIGEST, "seed: 0\n")
    first.log_cell(made(()))
    first.close()
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("sixfold")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrackingWarning)
        second = Tracker.open(uri, "nightly", PARAMS_DIGEST, "seed: 0\n")
        for cell in (made(()), made(("pruning",))):
            second.log_cell(cell)
        second.close()
    parents, nested = runs_in(uri)
    assert (len(parents), set(nested)) == (1, {"none", "pruning"})


def track(uri: str) -> None:
    """Two cells and a latency, as `sixfold report` shows them."""
    tracker = Tracker.open(uri, "nightly", PARAMS_DIGEST, "seed: 0\n", "sixfold report")
    for cell in (made(()), made(("pruning",))):
        tracker.log_cell(cell)
    tracker.log_latency(timed("none", "x86-1t", "measured", 0.002))
    tracker.close()


class Stumbling:
    """An MLflow client one of whose calls fails once."""

    def __init__(self, client: Any, call: str) -> None:
        self.client, self.call = client, call

    def __getattr__(self, name: str) -> Any:
        if name == self.call:
            self.call = ""
            return self._fail
        return getattr(self.client, name)

    def _fail(self, *_args: Any, **_options: Any) -> None:
        raise ConnectionError("the server is away")


@pytest.mark.parametrize("call", ["log_text", "create_run", "log_dict", "log_batch", "set_terminated", "set_experiment_tag"])
def test_what_failed_is_filled_in_by_the_command_that_is_named(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever call fails: the warning names a command, and the same records logged once more leave nothing out."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    open_client = mlflow_client._client
    monkeypatch.setattr(mlflow_client, "_client", lambda uri: Stumbling(open_client(uri), call))
    with pytest.warns(TrackingWarning, match="another `sixfold report` fills in what is missing"):
        track(uri)
    monkeypatch.setattr(mlflow_client, "_client", open_client)
    track(uri)
    parents, nested = runs_in(uri)
    client = MlflowClient(uri)
    assert len(parents) == 1
    assert [item.path for item in client.list_artifacts(parents[0].info.run_id)] == ["params.yaml"]
    assert set(nested) == {"none", "pruning"}
    for run in nested.values():
        assert run.info.status == "FINISHED"
        assert run.data.metrics["params"] == 100
        assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["cell.json"]
    assert nested["none"].data.metrics["latency_p50_ms_x86-1t"] == 2.0
