"""`sixfold retrain` on the tiny sweep: which nodes it makes, what it writes, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

import flows.grid.nodes
from compressors.planning.graph import Node
from detection.data.dataset import load_prepared
from detection.frozen import InputError
from flows.compare.retrain import INCOMPLETE, in_turns, recommended, retrain
from flows.compare.retrain_text import SeedsFile, read_seeds
from flows.grid.forecast import forecast
from flows.grid.nodes import NODES, Context, make_node
from flows.grid.tasks import Task
from flows.records.schema import Source, write_records
from flows.records.store import Store, StoreError
from flows.report.recommendation import Recommendation, RecommendationFile, Side
from flows.sweep import workspace
from flows.sweep.context import chosen_cells, lay_foundation, make_graph
from flows.sweep.plan_checks import load_plan
from hardware_profiles.schema.library import load_profile
from tests.compressors.fixed_file_factory import DECODE, write_fixed
from tests.flows.sweep_entries import times_in
from tests.flows.sweep_factory import Sweep, run_grid, write_params

CELL = "pruning+quantization"
WEIGHTS = "weights.safetensors"


def run(sweep: Sweep, cell: str | None = CELL, seeds: int = 2) -> tuple[int, list[str]]:
    """The exit code of a retrain in the sweep's folder, and the lines it said."""
    said: list[str] = []
    code = retrain(
        sweep.plan, sweep.prepared, sweep.store, sweep.folder / workspace.REPORT / "recommendation.json",
        sweep.folder / workspace.SEEDS, cell=cell, seeds=seeds, executor="inline", say=said.append,
    )  # fmt: skip
    return code, said


@pytest.fixture(scope="module")
def reseeded(swept: Sweep, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, list[str]]:
    """A copy of the tiny sweep after a retrain with two seeds, and what was said. Read it only."""
    sweep = swept.copied_to(tmp_path_factory.mktemp("reseeded") / "copy")
    code, said = run(sweep)
    assert code == 0
    return sweep, said


def seeds_in(sweep: Sweep) -> SeedsFile:
    """What the retrain wrote."""
    return read_seeds(sweep.folder / workspace.SEEDS)


def test_the_sweeps_own_seed_is_in_the_store_already(reseeded: tuple[Sweep, list[str]]) -> None:
    """Teacher, control, pruned and its file are 4 nodes and 2 scores a seed; only those of the second are made."""
    assert f"`{CELL}` and the control, seeds 0, 1: 8 nodes, 4 stored, 4 to make, 2 to score" in reseeded[1]


def test_the_first_seed_is_the_grids_own_cell(reseeded: tuple[Sweep, list[str]]) -> None:
    """Numbers and nodes of seed 0 are those of cells.json, so the file belongs to these records."""
    sweep, _ = reseeded
    seeds, cells = seeds_in(sweep), sweep.cells
    (own,) = seeds.runtimes
    for made, name in ((own.seeds[0].control, "none"), (own.seeds[0].cell, CELL)):
        record = cells.cell(name)
        assert record is not None
        artifact = record.artifacts["onnxruntime"]
        assert (made.node, made.params, made.macs) == (record.node, record.params, record.macs)
        assert (made.artifact_digest, made.size_bytes) == (artifact.digest, artifact.size_bytes)
        assert (made.val_map_50_95, made.test_map_50_95) == (artifact.val.map_50_95, artifact.test.map_50_95)
    assert seeds.is_of(cells)
    assert (seeds.seeds, seeds.recommended_on, seeds.methods) == ((0, 1), None, ("pruning", "quantization"))


def test_another_seed_makes_another_network(reseeded: tuple[Sweep, list[str]]) -> None:
    """Node and file differ from those of the first, and the data does not."""
    sweep, _ = reseeded
    (own,) = seeds_in(sweep).runtimes
    for first, second in ((own.seeds[0].control, own.seeds[1].control), (own.seeds[0].cell, own.seeds[1].cell)):
        assert first.node != second.node
        assert first.artifact_digest != second.artifact_digest
    assert seeds_in(sweep).dataset == sweep.cells.dataset


def test_the_nodes_are_those_of_a_sweep_with_that_seed(reseeded: tuple[Sweep, list[str]], tmp_path: Path) -> None:
    """The teacher and the pruned detector of seed 1, made by themselves in a store of their own, have the same weights."""
    sweep, _ = reseeded
    base = lay_foundation(sweep.plan, sweep.prepared).model_copy(update={"seed": 1})
    graph = make_graph(sweep.plan, base, tuple(cell for cell in chosen_cells(sweep.plan, None) if cell.name == CELL))
    store = Store(tmp_path / "store")
    context = Context(
        prepared=sweep.prepared.resolve(), store=store.root, design_profile=load_profile("x86-openvino-1t"), foundation=base
    )
    for node in graph.lineage(graph.recovered[CELL]):
        make_node(node, context)
        assert (store.open(NODES, node.key) / WEIGHTS).read_bytes() == (sweep.store.open(NODES, node.key) / WEIGHTS).read_bytes()


def test_the_mean_and_its_interval_are_of_the_recorded_drops(reseeded: tuple[Sweep, list[str]]) -> None:
    """The bootstrap's observed mean is that of the seeds' test drops, inside its interval; deviations have divisor 1 for two."""
    (own,) = seeds_in(reseeded[0]).runtimes
    first, second = (one.test_drop for one in own.seeds)
    assert own.test_drop.mean == pytest.approx((first + second) / 2, abs=1e-9)
    assert own.test_drop.low <= own.test_drop.mean <= own.test_drop.high
    assert own.test_drop_sd == pytest.approx(abs(first - second) / 2**0.5)
    assert own.val_drop == pytest.approx(sum(one.val_drop for one in own.seeds) / 2)


def test_a_second_run_makes_nothing(reseeded: tuple[Sweep, list[str]]) -> None:
    """Everything is stored, and the same file is written."""
    sweep, _ = reseeded
    before, text = times_in(sweep), (sweep.folder / workspace.SEEDS).read_bytes()
    code, said = run(sweep)
    assert code == 0
    assert "8 nodes, 8 stored, 0 to make, 0 to score" in said[0]
    assert (times_in(sweep), (sweep.folder / workspace.SEEDS).read_bytes()) == (before, text)


def test_one_seed_trains_nothing_and_has_no_deviation(swept_copy: Sweep) -> None:
    """`--seeds 1` is a second look at the grid's own networks."""
    before = times_in(swept_copy)
    assert run(swept_copy, seeds=1)[0] == 0
    (own,) = seeds_in(swept_copy).runtimes
    assert (own.val_drop_sd, own.test_drop_sd, len(own.seeds)) == (None, None, 1)
    assert times_in(swept_copy) == before


def test_a_reference_is_made_again_like_a_cell(swept_copy: Sweep) -> None:
    """What the cells must beat may be given several seeds as well; its first is the one that the grid records."""
    plan = load_plan(write_params(swept_copy.folder, grid__references=[{"kind": "random_pruning"}]))
    sweep = replace(swept_copy, plan=plan)
    (reference,) = plan.references
    assert run(sweep, reference.name, seeds=1)[0] == 0
    assert run_grid(sweep)[0] == 0
    assert seeds_in(sweep).methods == ("pruning",)
    assert seeds_in(sweep).runtimes[0].seeds[0].cell.node == sweep.cells.references[0].node
    assert seeds_in(sweep).is_of(sweep.cells)


def test_a_failure_writes_nothing_and_says_what_failed(swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training breaks, so the second seed's teacher fails and what needs it is skipped: exit 3, no file, try again."""

    def broken(*_args: object, **_settings: object) -> None:
        raise RuntimeError("a rank of 0")

    monkeypatch.setattr(flows.grid.nodes, "fit", broken)
    code, said = run(swept_copy)
    assert code == INCOMPLETE
    assert said[1].startswith("1 failed, 5 skipped that need them: ")
    assert "a rank of 0" in said[2]
    assert said[-1].startswith("Run the same command again")
    assert not (swept_copy.folder / workspace.SEEDS).exists()


def test_a_sweep_that_is_being_made_is_left_alone(swept_copy: Sweep) -> None:
    """A grid and a retrain of one sweep take turns."""
    lock = FileLock(swept_copy.store.root / "locks" / "tiny.lock")
    with lock, pytest.raises(StoreError, match="a grid or a retrain of sweep 'tiny'"):
        run(swept_copy)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("pruning+quantisation", "--cell 'pruning\\+quantisation': none of the 8 cells.* such as 'pruning\\+quantization'"),
        ("none", "--cell none: the control is re-run with every cell"),
        (None, "no recommendation yet. Run `sixfold report` first"),
    ],
)
def test_what_cannot_be_made_is_refused(cell: str | None, words: str, swept: Sweep) -> None:
    """Unknown, the control itself, nothing recommended: before any work."""
    with pytest.raises(InputError, match=words):
        run(swept, cell, 2)


def recommendation(*profiles: tuple[str, Source, str | None], digest: str) -> RecommendationFile:
    """(profile, source, shipped cell; None: keep the control)."""

    def side(name: str) -> Side:
        return Side(
            cell=name, methods=(), p50_s=0.001, interval_s=None, size_bytes=1, val_map=0.5, test_map=0.5, artifact_digest="0" * 64
        )

    return RecommendationFile(
        sweep="tiny", dataset="tiny", dataset_digest=digest, max_drop=0.02,
        profiles=tuple(
            Recommendation(
                profile=profile, source=source, runtime="onnxruntime 1.0", artifacts_of="onnxruntime",
                verdict="recommended" if cell else "keep_uncompressed", chosen=side(cell or "none"), control=side("none"),
                speedup=2.0, speedup_ci95=None, test_difference=None, front=(), indistinguishable=(), tiers=(), exported_to=None,
                answer="",
                notes=(),
            )
            for profile, source, cell in profiles
        ),
    )  # fmt: skip


def chosen(tmp_path: Path, prepared: Path, *profiles: tuple[str, Source, str | None]) -> tuple[tuple[str, str], list[str]]:
    """What is taken from a recommendation, and what is said about the others."""
    data, said = load_prepared(prepared), list[str]()
    write_records(tmp_path / "recommendation.json", recommendation(*profiles, digest=data.digest))
    return recommended(tmp_path / "recommendation.json", data, said.append), said


def test_the_first_measured_recommendation_is_taken(sweep_prepared: Path, tmp_path: Path) -> None:
    """A measured one before an estimated one, in the order of the file; other measured ones are named with their command."""
    measured: list[tuple[str, Source, str | None]] = [("p1", "measured", None), ("p2", "measured", "b"), ("p3", "measured", "c")]
    wanted, said = chosen(tmp_path, sweep_prepared, ("pi", "estimated", "a"), *measured)
    assert wanted == ("b", "p2")
    assert len(said) == 1
    assert "`--cell c`" in said[0]


def test_an_estimated_recommendation_is_taken_where_nothing_is_measured(sweep_prepared: Path, tmp_path: Path) -> None:
    """Better than nothing, and its profile is named."""
    wanted, said = chosen(tmp_path, sweep_prepared, ("pi", "estimated", "a"))
    assert (wanted, said) == (("a", "pi"), [])


def test_the_control_everywhere_is_nothing_to_make_again(sweep_prepared: Path, tmp_path: Path) -> None:
    """A cell has to be named."""
    with pytest.raises(InputError, match="recommends no cell but the control"):
        chosen(tmp_path, sweep_prepared, ("x86", "measured", None))


def test_what_came_first_by_speed_alone_is_nothing_to_make_again(sweep_prepared: Path, tmp_path: Path) -> None:
    """Three seeds of a network that detects nothing would cost hours."""
    data, path = load_prepared(sweep_prepared), tmp_path / "recommendation.json"
    found = recommendation(("x86", "measured", "a"), digest=data.digest)
    blind = [own.model_copy(update={"control_below_threshold": True}) for own in found.profiles]
    write_records(path, found.model_copy(update={"profiles": tuple(blind)}))
    with pytest.raises(InputError, match="or by speed alone"):
        recommended(path, data, lambda _: None)


def test_a_recommendation_of_other_data_is_refused(sweep_prepared: Path, tmp_path: Path) -> None:
    """What val of other pictures chose is not this sweep's choice."""
    write_records(tmp_path / "recommendation.json", recommendation(("x86", "measured", "a"), digest="0" * 64))
    with pytest.raises(InputError, match="made on data 'tiny' \\(000000000000\\.\\.\\.\\)"):
        recommended(tmp_path / "recommendation.json", load_prepared(sweep_prepared), print)


def test_a_recommended_cell_that_the_menu_lost_is_named(swept_copy: Sweep) -> None:
    """The params have changed since the report."""
    digest = load_prepared(swept_copy.prepared).digest
    path = swept_copy.folder / workspace.REPORT / "recommendation.json"
    write_records(path, recommendation(("x86", "measured", "nas"), digest=digest))
    with pytest.raises(InputError, match="the recommended cell 'nas': none of the 8 cells"):
        run(swept_copy, None)


def tasks(names: Sequence[str], seed: int) -> list[Task]:
    """Tasks of one seed."""
    node = Node(key="0" * 64, name="n", kind="teacher", parent=None)
    return [Task(name=name, node=node, seed=seed) for name in names]


def test_seeds_take_turns() -> None:
    """Each seed's order is kept, and no seed waits for the end of another."""
    rows = [tasks("abc", 0), tasks("AB", 1)]
    assert [task.name for task in in_turns(rows)] == ["a", "A", "b", "B", "c"]


def test_a_task_works_with_its_own_seed(swept: Sweep) -> None:
    """Everything else is shared; without a seed of its own it has the sweep's."""
    base = lay_foundation(swept.plan, swept.prepared)
    shared = Context(
        prepared=swept.prepared, store=swept.store.root, design_profile=load_profile("x86-openvino-1t"), foundation=base
    )
    (own,) = tasks("a", 7)
    assert own.context_of(shared).foundation == base.model_copy(update={"seed": 7})
    assert own.model_copy(update={"seed": None}).context_of(shared) == shared


def test_a_brought_teacher_is_taken_in_again(tmp_path: Path, sweep_prepared: Path) -> None:
    """In a store that no grid has filled."""
    write_fixed(tmp_path / "theirs.onnx", [((2, 4, 18, 20), (0.9,))])
    variant = {"teacher": {"onnx": "theirs.onnx", "classes": ["3"], "decode": DECODE}}
    plan = load_plan(write_params(tmp_path, grid__methods__distillation=[variant]))
    store = Store(tmp_path / "store")
    bare = Sweep(tmp_path, plan, sweep_prepared, store, forecast(plan, sweep_prepared, store, None), -1, ())
    code, said = run(bare, "distillation", seeds=1)
    assert code == 0, said
