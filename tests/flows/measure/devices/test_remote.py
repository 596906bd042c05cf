"""Device profiles: measured where a machine has joined, taken from an import otherwise, and never without saying which."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows.grid.ray_executor import ClusterError, joined_devices
from flows.measure.devices.bundle import import_results
from flows.measure.devices.ray_worker import Answer, Arrival
from flows.measure.devices.remote import Observations, device_rounds, round_plan
from flows.measure.measured_rows import Rounds
from flows.records.schema import CellsFile
from flows.sweep.measure_settings import Measure
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.environment import environment
from hardware_profiles.timing.round import Block, File, Job, RoundResult
from tests.flows.device_factory import NAME, PLAN, device_profile, exported, faked_results, files_of, two_cells
from tests.flows.latency_factory import three_pictures

DEVICE_ENVIRONMENT = {"cpu": "Toy A1", "machine": platform.machine(), "versions": {"onnxruntime": "1.20.0"}}


@dataclass
class FakeNode:
    """A device that answers at once: round k finds k + 1 milliseconds for each file, until it fails as it is told to."""

    obstacle: str | None = None
    dies_in_round: int = -1
    lost_in_round: int = -1
    jobs: list[Job] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    sent: dict[str, bytes] = field(default_factory=dict)

    def send(self, content: Any) -> Any:
        """Kept, to be looked at."""
        self.sent = content
        return content

    def run(self, work: Callable[..., str], *arguments: Any, timeout_s: float) -> str:
        """What the device would say."""
        self.calls.append(work.__name__)
        if work.__name__ == "unpack":
            folder = None if self.obstacle else "/device/folder"
            return Arrival(environment=DEVICE_ENVIRONMENT, obstacle=self.obstacle, folder=folder).model_dump_json()
        if work.__name__ == "clean_up":
            return ""
        job = Job.model_validate_json(arguments[0])
        index = len(self.jobs)
        self.jobs.append(job)
        if index == self.lost_in_round:
            raise ClusterError(f"the device {NAME}: lost")
        if index == self.dies_in_round:
            return Answer(result=None, error="killed").model_dump_json()
        blocks = tuple(Block(digest=file.digest, position=k, p50_s=(index + 1) * 1e-3) for k, file in enumerate(job.files))
        return Answer(result=RoundResult(blocks=blocks, runtime_rss_bytes=None), error=None).model_dump_json()


Run = Callable[..., Rounds]


@pytest.fixture
def said() -> list[str]:
    """The lines that were reported."""
    return []


@pytest.fixture
def store(tmp_path: Path) -> Observations:
    """Empty."""
    return Observations(tmp_path / "observations")


@pytest.fixture
def cells(tmp_path: Path) -> CellsFile:
    """Three cells with two files."""
    return two_cells(tmp_path)


@pytest.fixture
def profile(tmp_path: Path) -> HardwareProfile:
    """Of a device like this machine."""
    return device_profile(tmp_path)


@pytest.fixture
def run(profile: HardwareProfile, cells: CellsFile, store: Observations, said: list[str]) -> Run:
    """device_rounds for the toy device, with the nodes that are said to have joined."""

    def start(nodes: dict[str, FakeNode], cells: CellsFile = cells, files: tuple[File, ...] | None = None) -> Rounds:
        @contextmanager
        def joined() -> Iterator[dict[str, FakeNode]]:
            yield nodes

        own = {profile.id: files_of(cells) if files is None else files}
        found = device_rounds(
            [profile], own, control=cells.cell("none"), plan=PLAN, observations=store, report=said.append, joined=joined
        )
        return found.get(profile.id, Rounds())

    return start


@pytest.fixture
def imported(tmp_path: Path, store: Observations) -> CellsFile:
    """The cells of an export whose results came home."""
    carried = exported(tmp_path / "export", exports=store.exports)
    (tmp_path / "results.json").write_text(json.dumps(faked_results(carried)))
    import_results(tmp_path / "results.json", store)
    (tmp_path / "again").mkdir()
    return two_cells(tmp_path / "again")


def test_a_joined_device_is_measured(run: Run, store: Observations, said: list[str]) -> None:
    """Every round of the plan with its own order, all files in each, and the device's environment on them."""
    node = FakeNode()
    rounds = run({NAME: node})
    assert [job.order_seed for job in node.jobs] == list(PLAN.order_seeds)
    assert node.calls == ["unpack", "time_round", "time_round", "time_round", "clean_up"]
    assert [result.blocks[0].p50_s for result in rounds.results] == [1e-3, 2e-3, 3e-3]
    assert rounds.environment == DEVICE_ENVIRONMENT
    assert [line.split(":")[1] for line in said] == [f" round {k} of 3, {NAME}, over Ray" for k in (1, 2, 3)]


def test_what_a_device_found_is_an_observation(run: Run, store: Observations) -> None:
    """One file per artifact, under the environment of the device, not of this machine."""
    run({NAME: FakeNode()})
    files = list(store.latency.rglob("*.json"))
    assert len(files) == 2
    assert all(json.loads(path.read_text())["environment"] == DEVICE_ENVIRONMENT for path in files)


def test_everything_a_round_names_is_sent(run: Run, cells: CellsFile) -> None:
    """The job's relative paths are those of the bytes that were sent, and its cores are left to the device."""
    node = FakeNode()
    run({NAME: node})
    job = node.jobs[0]
    assert {job.pictures, *(file.path for file in job.files)} == set(node.sent)
    assert job.cores is None
    for file in job.files:
        own = next(cell for cell in cells.cells if cell.artifacts["onnxruntime"].digest == file.digest)
        assert node.sent[file.path] == Path(own.artifacts["onnxruntime"].url).read_bytes()


def test_without_a_device_the_command_is_named_that_joins_one(run: Run, said: list[str]) -> None:
    """And the way by hand; no rounds, no observation."""
    rounds = run({"another-device": FakeNode()})
    assert rounds.results == ()
    assert rounds.why is not None
    assert f"no node with device={NAME}; on the device: " in rounds.why
    assert f"--num-cpus=0 --resources='{{\"bench_slot\": 1}}' --labels=device={NAME}" in rounds.why
    assert rounds.why.endswith(f"; or by hand: sixfold measure --export FOLDER --profile {NAME}")
    assert said == [f"measure: {NAME}: not measured, estimated instead: {rounds.why}"]


@pytest.mark.parametrize(
    ("node", "why", "calls"),
    [
        (FakeNode(obstacle="the device is vax, the profile is for x86_64"), "the device is vax", ["unpack"]),
        (FakeNode(dies_in_round=1), "round 2 on the device: killed", ["unpack", "time_round", "time_round", "clean_up"]),
        (FakeNode(lost_in_round=0), f"the device {NAME}: lost", ["unpack", "time_round", "clean_up"]),
    ],
    ids=["cannot", "round dies", "lost"],
)
def test_a_device_that_fails_is_skipped_with_its_reason(
    node: FakeNode, why: str, calls: list[str], run: Run, store: Observations
) -> None:
    """No half of its rounds is used, and what was sent there is removed."""
    rounds = run({NAME: node})
    assert rounds.results == ()
    assert why in (rounds.why or "")
    assert node.calls == calls
    assert not store.latency.exists()


def test_a_cluster_that_does_not_answer_skips_its_devices(profile: HardwareProfile, cells: CellsFile, store: Observations) -> None:
    """The rounds of this machine are not lost because another one is away."""

    @contextmanager
    def joined() -> Iterator[dict[str, FakeNode]]:
        raise ClusterError("RAY_ADDRESS=far:6379: no Ray cluster answers there")
        yield {}

    files = {profile.id: files_of(cells)}
    found = device_rounds([profile], files, control=None, plan=PLAN, observations=store, report=print, joined=joined)
    assert (found[NAME].why or "").startswith("RAY_ADDRESS=far:6379: no Ray cluster answers there")


def test_a_profile_without_files_asks_nobody(run: Run) -> None:
    """A runtime that no cell has a file for needs no device."""
    node = FakeNode()
    assert run({NAME: node}, files=()) == Rounds()
    assert node.calls == []


def test_imported_rounds_stand_in_for_an_absent_device(run: Run, imported: CellsFile, said: list[str]) -> None:
    """With the environment of the device that made them."""
    rounds = run({}, cells=imported)
    assert [len(result.blocks) for result in rounds.results] == [2, 2, 2]
    assert rounds.environment is not None
    assert rounds.environment["cpu"] == "Toy A1"
    assert said[0].startswith(f"measure: {NAME}: 3 rounds of 2 files, imported on 20")


def test_a_joined_device_goes_before_an_import(run: Run, imported: CellsFile) -> None:
    """Fresh rounds, and none of the imported ones among them."""
    rounds = run({NAME: FakeNode()}, cells=imported)
    assert [result.blocks[0].p50_s for result in rounds.results] == [1e-3, 2e-3, 3e-3]


def test_an_import_of_another_control_is_not_used(run: Run, imported: CellsFile, tmp_path: Path) -> None:
    """The sweep was made anew since: times of files that are gone compare with nothing."""
    del imported
    (tmp_path / "anew").mkdir()
    rounds = run({}, cells=two_cells(tmp_path / "anew", control_seed=99))
    assert rounds.results == ()
    assert f"is of another control, export again: sixfold measure --export FOLDER --profile {NAME}" in (rounds.why or "")


def test_a_plan_is_what_the_params_say() -> None:
    """The same orders as on the host, and pictures as they were taken."""
    plan = round_plan(Measure(rounds=2, seed=3, pictures=2), three_pictures())
    assert plan.order_seeds == (30_000, 30_001)
    assert [picture.shape for picture in plan.pictures] == [(24, 20, 3)] * 2
    assert plan.protocol == Measure().protocol()


@pytest.fixture(scope="module")
def cluster_address() -> Iterator[str]:
    """A head without slots and a second node that joined as a device, both on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        from ray.cluster_utils import Cluster

        small = {"object_store_memory": 80 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **small})
        cluster.add_node(num_cpus=0, resources={"bench_slot": 1}, labels={"device": NAME}, **small)
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster.address
        cluster.shutdown()


@pytest.mark.slow
def test_a_labelled_node_is_measured_over_ray(
    cluster_address: str, profile: HardwareProfile, tmp_path: Path, cells: CellsFile, store: Observations
) -> None:
    """For real: files and code travel, rounds run in fresh processes there, and a profile nobody joined for is skipped."""
    other = device_profile(tmp_path, id="absent-device")
    files = {own.id: files_of(cells) for own in (profile, other)}
    found = device_rounds([profile, other], files, control=cells.cell("none"), plan=PLAN, observations=store, report=print)
    rounds = found[NAME]
    assert rounds.why is None
    assert [len(result.blocks) for result in rounds.results] == [2, 2, 2]
    assert all((block.end_to_end_p50_s or 0.0) > (block.p50_s or 1.0) > 0 for own in rounds.results for block in own.blocks)
    assert rounds.environment == environment()
    assert f" ray start --address={cluster_address} " in (found["absent-device"].why or "")


@pytest.mark.slow
def test_work_that_fails_on_a_device_is_told_in_one_line(cluster_address: str) -> None:
    """What was raised over there and how long was waited, without Ray's account of where; then the slot is free again.

    What runs in it runs at normal priority, as the command that joins a device asks for."""

    def fail() -> str:
        raise ValueError("no room left")

    def sleep_on() -> str:
        import threading

        threading.Event().wait(60)
        return ""

    with joined_devices() as nodes:
        with pytest.raises(ClusterError, match=rf"the device {NAME}: ValueError: no room left"):
            nodes[NAME].run(fail, timeout_s=60)
        with pytest.raises(ClusterError, match=rf"the device {NAME} gave no answer within 1 s"):
            nodes[NAME].run(sleep_on, timeout_s=1)
        assert nodes[NAME].run(lambda: str(os.nice(0)), timeout_s=60) == str(os.nice(0))


def test_without_a_cluster_no_device_has_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """And none is started to find out: a private cluster has no other machines."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with joined_devices() as nodes:
        assert nodes == {}
