"""What all nodes of a sweep share comes from params, data and machine, and every bit of it is in their keys."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from compressors.planning.graph import Graph
from detection.data import sources
from detection.data.dataset import load_prepared
from detection.frozen import InputError
from flows.sweep.context import LIBRARIES, choose_device, chosen_cells, lay_foundation, make_graph
from flows.sweep.params import Plan
from flows.sweep.plan_checks import load_plan
from hardware_profiles.schema.library import FOLDER as PROFILES
from tests.flows.sweep_entries import lend
from tests.flows.sweep_factory import write_params


def plan_of(folder: Path, **changes: Any) -> Plan:
    """The plan of tiny params with changes."""
    return load_plan(write_params(folder, **changes))


def graph_of(folder: Path, prepared: Path, **changes: Any) -> Graph:
    """The whole graph of tiny params with changes, on the same pixels and boxes as if they were prepared for these params."""
    plan = plan_of(folder, **changes)
    return make_graph(plan, lay_foundation(plan, lend(prepared, plan, folder / "prepared")), chosen_cells(plan, None))


def keys(graph: Graph, kind: str) -> set[str]:
    """Keys of the nodes of one kind."""
    return {key for key, node in graph.nodes.items() if node.kind == kind}


def test_options_of_a_search_are_data_like_any_other(tmp_path: Path, sweep_prepared: Path) -> None:
    """`nas.space` is a mapping, which no set holds: cells and graph come all the same, and other options are other nodes."""
    found = []
    for place, space in enumerate(({}, {"head_depth": 1}, {"head_depth": 1, "block": None})):
        folder = tmp_path / str(place)
        folder.mkdir()
        graph = graph_of(folder, sweep_prepared, grid__methods__nas=[{"space": space, "evaluations": 4}])
        found.append(keys(graph, "search"))
    plain, one, same = found
    assert plain
    assert plain != one == same


def test_the_foundation_is_params_data_and_machine(tmp_path: Path, sweep_prepared: Path) -> None:
    """Classes, sizes, counts and digests are the data's; schedules the params'; versions those installed."""
    base, prepared = lay_foundation(plan_of(tmp_path), sweep_prepared), load_prepared(sweep_prepared)
    assert (base.teacher.classes, base.teacher.input_size) == (prepared.classes, (64, 96))
    assert (base.train_digest, base.val_digest) == (prepared.splits["train"].digest, prepared.splits["val"].digest)
    assert (base.train_pictures, base.val_pictures) == (24, 8)
    assert (base.training.epochs, base.recovery.epochs, base.device) == (2, 1, "cpu")
    assert base.libraries == {name: version(name) for name in (*LIBRARIES, "openvino", "nncf")}


def test_nothing_prepared_names_the_command(tmp_path: Path) -> None:
    """The message says where data was looked for and which command makes it."""
    with pytest.raises(InputError, match=r"prepared.json: no prepared data here. Run `sixfold prepare` first."):
        lay_foundation(plan_of(tmp_path), tmp_path / "data")


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"data__input_size": [96, 96]}, {"data__name": "other"}, {"data__source": {"kind": "generated"}}],
    ids=lambda changes: next(iter(changes)),
)
def test_data_prepared_for_other_params_is_refused(changes: dict[str, Any], tmp_path: Path, sweep_prepared: Path) -> None:
    """Whatever `prepare` reads from the params; the message names the folder and the command."""
    with pytest.raises(InputError) as caught:
        lay_foundation(plan_of(tmp_path, **changes), sweep_prepared)
    assert str(caught.value) == (
        f"{sweep_prepared}: prepared as 'tiny', but `data` or `seed` of the params, or the way sixfold reads them, have changed "
        f"since. Run `sixfold prepare` again."
    )


def test_data_that_an_older_reader_prepared_is_refused(
    tmp_path: Path, sweep_prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version of sixfold that reads other pixels or boxes from the same files: the message names the command."""
    lay_foundation(plan_of(tmp_path), sweep_prepared)
    monkeypatch.setattr(sources, "READING_VERSION", sources.READING_VERSION + 1)
    with pytest.raises(InputError, match=r"the way sixfold reads them, have changed since\. Run `sixfold prepare` again\."):
        lay_foundation(plan_of(tmp_path), sweep_prepared)


def test_data_of_an_older_version_is_refused(tmp_path: Path, sweep_prepared: Path) -> None:
    """It does not say what it was made from, so nobody can tell whether it is what the params ask for."""
    shutil.copytree(sweep_prepared, tmp_path / "old")
    old = load_prepared(sweep_prepared).model_dump(mode="json", by_alias=True, exclude={"made_from"})
    (tmp_path / "old" / "prepared.json").write_text(json.dumps(old))
    with pytest.raises(InputError, match=r"it was not noted from what. Run `sixfold prepare` again"):
        lay_foundation(plan_of(tmp_path), tmp_path / "old")


def test_other_files_are_refused_where_they_can_be_seen(tmp_path: Path, sweep_prepared: Path) -> None:
    """A data set that has changed since; on a machine without its folder the prepared data is taken at its word."""
    changes = {"data__source": {"kind": "voc", "root": "pictures"}}
    plan = plan_of(tmp_path, **changes)
    annotation = tmp_path / "pictures" / "Annotations" / "one.xml"
    annotation.parent.mkdir(parents=True)
    annotation.write_text("<annotation/>")
    prepared = lend(sweep_prepared, plan, tmp_path / "prepared")
    lay_foundation(plan, prepared)
    annotation.write_text("<annotation></annotation>")
    with pytest.raises(InputError, match=r"the files of the data set have changed since. Run `sixfold prepare` again"):
        lay_foundation(plan, prepared)
    shutil.rmtree(tmp_path / "pictures")
    lay_foundation(plan, prepared)


def test_a_calibrator_without_pictures_is_refused_before_anything_is_made(tmp_path: Path, sweep_prepared: Path) -> None:
    """Five training pictures are no ground for the ranges of int8; without quantization they are enough for a sweep."""
    few = tmp_path / "few"
    shutil.copytree(sweep_prepared, few)
    told = json.loads((few / "prepared.json").read_text())
    told["splits"]["train"]["pictures"] = 5
    (few / "prepared.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=r"quantization.pictures: ranges need 8 training pictures at least; train has 5"):
        lay_foundation(plan_of(tmp_path), few)
    plain = plan_of(tmp_path, grid__methods__quantization=[])
    assert lay_foundation(plain, few).train_pictures == 5


def test_the_test_split_is_in_no_node(tmp_path: Path, sweep_prepared: Path) -> None:
    """Other test pictures change no key: nothing is searched, trained or calibrated on them."""
    other = tmp_path / "prepared"
    shutil.copytree(sweep_prepared, other)
    tree = json.loads((other / "prepared.json").read_text())
    tree["splits"]["test"]["digest"] = "0" * 64
    (other / "prepared.json").write_text(json.dumps(tree))
    assert graph_of(tmp_path / "b", other).nodes.keys() == graph_of(tmp_path / "a", sweep_prepared).nodes.keys()


@pytest.mark.parametrize(
    ("changes", "remade"),
    [
        ({"seed": 1}, {"teacher", "recovered", "quantized"}),
        ({"teacher__training__epochs": 3}, {"teacher", "recovered", "quantized"}),
        ({"teacher__architecture__head_width": 24}, {"teacher", "recovered", "quantized"}),
        ({"teacher__threads": 2}, {"teacher", "recovered", "quantized"}),
        ({"threads": 2}, {"recovered", "quantized"}),
        ({"grid__recovery__epochs": 2}, {"recovered", "quantized"}),
        ({"grid__methods__quantization": [{"pictures": 9}]}, {"quantized"}),
        ({"grid__on_failure": "continue"}, set()),
        ({"sweep": "another"}, set()),
        ({"measure__rounds": 4}, set()),
    ],
)
def test_a_setting_makes_again_what_it_decides(
    changes: dict[str, Any], remade: set[str], tmp_path: Path, sweep_prepared: Path
) -> None:
    """Kinds of nodes whose keys all change with the setting; the others keep theirs, so nothing is made for nothing."""
    before, after = graph_of(tmp_path / "a", sweep_prepared), graph_of(tmp_path / "b", sweep_prepared, **changes)
    for kind in ("teacher", "recovered", "quantized"):
        if kind in remade:
            assert not keys(before, kind) & keys(after, kind), kind
        else:
            assert keys(before, kind) == keys(after, kind), kind


def test_the_design_profile_decides_widths_that_nobody_set(tmp_path: Path, sweep_prepared: Path) -> None:
    """Pruned networks are made again, since their widths follow its alignment; with `round_to` set, nothing is."""
    other: dict[str, Any] = {"grid__design_profile": "raspberry-pi-5"}
    free = {"grid__methods__pruning": [{"keep_macs": 0.97}]}
    before, after = graph_of(tmp_path / "a", sweep_prepared, **free), graph_of(tmp_path / "b", sweep_prepared, **free, **other)
    remade = {before.nodes[key].name for key in before.nodes.keys() - after.nodes.keys()}
    assert {"pruning" in name for name in remade} == {True}
    assert {name for name in (node.name for node in before.nodes.values()) if "pruning" in name} == remade
    own = {"grid__methods__pruning": [{"round_to": 8}]}
    fixed, elsewhere = graph_of(tmp_path / "c", sweep_prepared, **own), graph_of(tmp_path / "d", sweep_prepared, **own, **other)
    assert fixed.nodes.keys() == elsewhere.nodes.keys()


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({"pruning": [{"round_to": 4}, {"keep_macs": 0.01, "round_to": 4}]}, r"^grid\.methods\.pruning\.1\.keep_macs: 0\.01 is"),
        ({"pruning": [{"keep_latency": 0.01}]}, r"^grid\.methods\.pruning\.0\.keep_latency: 0\.01 is out of reach"),
        ({"low_rank": [{"keep_macs": 0.01}]}, r"^grid\.methods\.low_rank\.0\.keep_macs: 0\.01 is out of reach"),
        ({"pruning": []}, ""),
    ],
)
def test_a_target_that_the_teacher_cannot_reach_is_refused(
    methods: dict[str, Any], words: str, tmp_path: Path, sweep_prepared: Path
) -> None:
    """Before anything is made, by its field and its place in the list."""
    rest: dict[str, Any] = {name: [] for name in ("lightweight", "nas", "pruning", "low_rank", "distillation", "quantization")}
    plan = load_plan(write_params(tmp_path, grid__methods=rest | methods))
    if not words:
        assert lay_foundation(plan, sweep_prepared).seed == plan.params.seed
        return
    with pytest.raises(InputError, match=words):
        lay_foundation(plan, sweep_prepared)


def test_the_design_profile_decides_a_search(tmp_path: Path, sweep_prepared: Path) -> None:
    """With nas in the menu another design profile makes search and what follows from it again, and the teacher not."""
    menu: dict[str, Any] = {
        "grid__methods": {name: [] for name in ("lightweight", "pruning", "low_rank", "distillation", "quantization")}
    }
    before = graph_of(tmp_path / "a", sweep_prepared, **menu)
    after = graph_of(tmp_path / "b", sweep_prepared, **menu, grid__design_profile="raspberry-pi-5")
    assert [len(keys(before, kind)) for kind in ("teacher", "search", "architecture", "recovered")] == [1, 1, 1, 2]
    assert keys(before, "teacher") == keys(after, "teacher")
    assert not keys(before, "search") & keys(after, "search")
    assert len(keys(before, "recovered") & keys(after, "recovered")) == 1, "the control's"


def test_a_profiles_words_decide_nothing(tmp_path: Path, sweep_prepared: Path) -> None:
    """A corrected source, name or origin makes no node again; a number does."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    text = (PROFILES / "zen4-openvino-1t.yaml").read_text().replace("zen4-openvino-1t", "mine")
    menu = {"grid__methods": {name: [] for name in ("lightweight", "pruning", "low_rank", "distillation", "quantization")}}

    def searches(name: str, before: str, after: str) -> set[str]:
        assert before in text
        (folder / "mine.yaml").write_text(text.replace(before, after))
        changes = {"grid__design_profile": "mine", "measure__profiles_folder": str(folder)}
        return keys(graph_of(tmp_path / name, sweep_prepared, **menu, **changes), "search")

    known = searches("a", "id: mine", "id: mine")
    assert known
    for place, word in enumerate(("chosen: one core", "name: 'Zen 4", "origin: 'what", "stepping 1")):
        assert searches(f"b{place}", word, word[:-1] + "s") == known
    assert not searches("c", "bandwidth_effective_gbs: 80.0", "bandwidth_effective_gbs: 70.0") & known


def test_a_runtime_more_adds_quantizations_only(tmp_path: Path, sweep_prepared: Path) -> None:
    """Everything of the first runtime keeps its key."""
    one = graph_of(tmp_path / "a", sweep_prepared)
    two = graph_of(tmp_path / "b", sweep_prepared, grid__runtimes=["onnxruntime", "openvino"])
    added = [two.nodes[key] for key in two.nodes.keys() - one.nodes.keys()]
    assert one.nodes.keys() < two.nodes.keys()
    assert {(node.kind, node.runtime) for node in added} == {("quantized", "openvino")}


def test_the_device_is_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """auto takes CUDA where torch finds it; asking for what is not there is refused with the choices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [choose_device(wanted).type for wanted in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(InputError, match=r"device: cuda is wanted, but torch finds none here. Allowed: auto, cpu, cuda."):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [choose_device(wanted).type for wanted in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


def test_patterns_are_as_in_a_shell(tmp_path: Path) -> None:
    """The control is always among them; matching is of the whole name and minds the case."""
    plan = plan_of(tmp_path)

    def names(pattern: str | None) -> list[str]:
        return [cell.name for cell in chosen_cells(plan, pattern)]

    assert len(names(None)) == len(names("*")) == 8
    assert names("quantization") == ["none", "quantization"]
    assert names("*+quantization") == ["none", "pruning+quantization", "distillation+quantization",
                                       "pruning+distillation+quantization"]  # fmt: skip
    for nothing in ("Pruning", "prun", ""):
        with pytest.raises(InputError, match="matches none of the 8 cells, such as 'pruning\\+distillation\\+quantization'"):
            names(nothing)
