"""Params are read once and checked before anything is done: what is wrong is named, with what was found and what is allowed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from detection.frozen import InputError
from flows.records.store import open_store
from flows.sweep.params import Plan, Teacher, read_plan
from flows.sweep.plan_checks import load_plan
from tests.flows.sweep_factory import tiny_tree, write_params
from tests.places import ROOT
from tests.transformers_factory import NEEDS_TRANSFORMERS, SMALL

COMMITTED = (ROOT / "params.yaml", *sorted((ROOT / "plans").glob("*.yaml")), *sorted((ROOT / "examples").glob("*.yaml")))


def loaded(folder: Path, **changes: Any) -> Plan:
    """The plan of tiny params with changes."""
    return load_plan(write_params(folder, **changes))


def refusal(folder: Path, **changes: Any) -> str:
    """What is said of tiny params with changes that must be refused."""
    path = write_params(folder, **changes)
    with pytest.raises(InputError) as caught:
        load_plan(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: "), "the message starts with the file"
    return message.removeprefix(f"{path}: ")


def loadable(path: Path) -> Any:
    """The plan as a case of a test: some need an extra."""
    needs = NEEDS_TRANSFORMERS if path.stem in SMALL else ()
    return pytest.param(path, id=path.name, marks=needs)


@pytest.mark.parametrize("path", [loadable(path) for path in COMMITTED])
def test_every_committed_plan_loads(path: Path) -> None:
    """params.yaml and each file of plans/ pass all checks, and each names a sweep of its own."""
    plan = load_plan(path)
    assert plan.base == path.parent
    assert [read_plan(other).params.sweep for other in COMMITTED].count(plan.params.sweep) == 1


def test_the_committed_plans_share_one_store() -> None:
    """A plan in plans/ names the store of the checkout, so that clean-up and backups know one place."""
    stores = {open_store(read_plan(path).params.store.url, read_plan(path).base).root for path in COMMITTED}
    assert stores == {ROOT / ".sixfold" / "store"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"teachr": {}}, "teachr: no such setting; did you mean 'teacher'?"),
        ({"grid__recovry": {}}, "grid.recovry: no such setting; did you mean 'recovery'?"),
        ({"teacher__training__epoch": 3}, "teacher.training.epoch: no such setting; did you mean 'epochs'?"),
        ({"store__uri": "here"}, "store.uri: no such setting; did you mean 'url'?"),
        ({"measure__patience_s": 3.0}, "measure.patience_s: no such setting any more; it is 'contention_wait_s' now"),
        (
            {"grid__methods__nas": [{"null_proxies": False}]},
            "grid.methods.nas.0.null_proxies: no such setting any more; it is 'random_baseline' now",
        ),
        (
            {"grid__methods__nas": [{"levels": [2]}]},
            "grid.methods.nas.0.levels: no such setting any more; it is 'space.levels' now",
        ),
        ({"grid__methods__prunning": []}, "grid.methods.prunning: no such setting; did you mean 'pruning'?"),
    ],
)
def test_a_typo_names_the_field_and_the_right_one(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    """A setting that does not exist is named by its dotted path, with the nearest one that does."""
    assert refusal(tmp_path, **changes) == expected


def test_a_name_near_nothing_gets_the_list(tmp_path: Path) -> None:
    """Where no setting is near, all that are allowed are listed."""
    assert refusal(tmp_path, store__zzzz=1) == "store.zzzz: no such setting; allowed: url"


@pytest.mark.parametrize(
    ("changes", "meant"),
    [
        ({"grid__methods__pruning": [{"keep_mac": 0.5}]}, "keep_macs"),
        ({"data__source": {"kind": "generated", "object_size": [16, 32]}}, "object_size_px"),
    ],
)
def test_a_typo_within_a_variant_gets_a_hint_too(changes: dict[str, Any], meant: str, tmp_path: Path) -> None:
    """The most used settings are those of the methods, in a list, and of the data source, in a union."""
    assert f"did you mean '{meant}'?" in refusal(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "field", "found", "allowed"),
    [
        ({"seed": -1}, "seed", "-1", "greater than or equal to 0"),
        ({"device": "tpu"}, "device", "'tpu'", "'auto', 'cpu' or 'cuda'"),
        ({"threads": 0}, "threads", "0", "greater than 0"),
        ({"teacher__training__epochs": "many"}, "teacher.training.epochs", "'many'", "valid integer"),
        ({"teacher__training__learning_rate": float("nan")}, "teacher.training.learning_rate", "nan", "a finite number"),
        ({"grid__runtimes": []}, "grid.runtimes", "[]", "at least 1 item"),
        ({"grid__runtimes": ["tensorrt"]}, "grid.runtimes.0", "'tensorrt'", "'onnxruntime' or 'openvino'"),
        ({"grid__combinations": "some"}, "grid.combinations", "'some'", "'all' or 'alone'"),
        (
            {"grid__references": [{"kind": "narrow", "width_share": 0}]},
            "grid.references.0.narrow.width_share",
            "0",
            "greater than 0",
        ),
        ({"grid__references": [{"kind": "shallow"}]}, "grid.references.0", "{'kind': 'shallow'}", "'narrow', 'smaller_input'"),
        ({"grid__on_failure": "retry"}, "grid.on_failure", "'retry'", "'stop' or 'continue'"),
        ({"grid__methods__pruning": [{"keep_macs": 1.5}]}, "grid.methods.pruning.0.keep_macs", "1.5", "less than or equal to 1"),
        ({"sweep": "My Sweep"}, "sweep", "'My Sweep'", "^[a-z0-9][a-z0-9-]*$"),
    ],
)
def test_an_impossible_value_names_field_found_and_allowed(
    changes: dict[str, Any], field: str, found: str, allowed: str, tmp_path: Path
) -> None:
    """Each refusal says where, what stood there, and what may stand there."""
    message = refusal(tmp_path, **changes)
    assert message.startswith(f"{field}: ")
    assert f"(found {found})" in message
    assert allowed in message


def test_pictures_fit_the_detectors_strides(tmp_path: Path) -> None:
    """Height 100 is no multiple of the coarsest stride, 32; without that level sides are multiples of 16."""
    message = refusal(tmp_path, data__input_size=[100, 128])
    assert message == "data.input_size (100, 128) (height, width): both must be multiples of 32, the coarsest stride."
    short = tiny_tree()["teacher"]["architecture"] | {"levels": [8, 16], "stage_widths": [16, 16, 24], "stage_depths": [1, 1, 1]}
    assert loaded(tmp_path, data__input_size=[48, 112], teacher__architecture=short).detector.input_size == (48, 112)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher__architecture__stem_widht": 8}, "teacher.architecture.stem_widht: no such setting; did you mean 'stem_width'?"),
        ({"teacher__architecture__stem_width": 0}, "teacher.architecture.stem_width: Input should be greater than 0 (found 0)"),
        (
            {"grid__methods__distillation": [{"teacher": {"stem_width": 0}}]},
            "grid.methods.distillation.0.teacher.stem_width: Input should be greater than 0 (found 0)",
        ),
    ],
)
def test_settings_of_the_detector_are_its_familys(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """They are checked as all others are, by their dotted path."""
    assert refusal(tmp_path, **changes).startswith(words)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"levels": [16, 32]}, "grid.methods.nas.space.levels: (16, 32) is no beginning"),
        ({"levels": []}, "grid.methods.nas.space.levels: "),
        ({"stem_stride": 3}, "grid.methods.nas.space.stem_stride: Input should be 2 or 4 (found 3)"),
        ({"stem_step": 4}, "grid.methods.nas.space.stem_step: "),
    ],
)
def test_an_impossible_space_is_refused_when_the_plan_is_read(space: dict[str, Any], words: str, tmp_path: Path) -> None:
    """The family of the detector knows its own options; a search of networks that there are not is told by its field."""
    assert refusal(tmp_path, grid__methods__nas=[{"space": space}]).startswith(words)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """Two mistakes, one message, so that nobody runs the command three times."""
    message = refusal(tmp_path, seed=-1, threads=0)
    assert "seed: " in message
    assert "threads: " in message


def test_a_reduction_names_both_methods(tmp_path: Path) -> None:
    """Pruning twice is no order of pruning and low_rank."""
    assert "reduction must name pruning and low_rank once each" in refusal(tmp_path, grid__reduction=["pruning", "pruning"])


@pytest.mark.parametrize("field", ["measure__profiles", "grid__design_profile"])
def test_an_unknown_profile_gets_the_known_ones(field: str, tmp_path: Path) -> None:
    """The message lists the profiles there are, wherever the name stood."""
    value = ["raspberry-pi-6"] if field == "measure__profiles" else "raspberry-pi-6"
    message = refusal(tmp_path, **{field: value})
    assert "no hardware profile 'raspberry-pi-6'" in message
    assert "raspberry-pi-5" in message


def test_a_search_for_int8_needs_a_device_that_has_it(tmp_path: Path) -> None:
    """The Jetson Nano multiplies in floats only: the message names the field, the profile and what it has."""
    methods = {"nas": [{"latency_in": "int8"}], "quantization": []}
    message = refusal(tmp_path, grid__methods=methods, grid__design_profile="jetson-nano")
    assert message.startswith("grid.methods.nas.latency_in: int8 ")
    assert "'jetson-nano' multiplies in fp32, fp16 only" in message


def test_a_search_does_not_replace_the_blocks_it_is_crossed_with(tmp_path: Path) -> None:
    """`space.block` beside lightweight is refused by the field's name; alone, or without lightweight, it may stand."""
    methods: dict[str, Any] = {"nas": [{}, {"space": {"block": "ghost"}}], "lightweight": [{}]}
    message = refusal(tmp_path, grid__methods=methods)
    assert message.startswith("grid.methods.nas.1.space.block: ghost replaces lightweight's blocks")
    assert loaded(tmp_path, grid__methods=methods, grid__combinations="alone").params.grid.methods.nas[1].space == {
        "block": "ghost"
    }
    assert loaded(tmp_path, grid__methods=methods | {"lightweight": []}).params.grid.methods.nas[1].space == {"block": "ghost"}


@pytest.mark.parametrize("method", ["pruning", "nas"])
def test_a_multiple_wider_than_every_layer_is_refused(method: str, tmp_path: Path) -> None:
    """It would leave every width as it is, after a whole training; the widest layer itself may be the multiple."""
    architecture = {
        "stem_width": 8,
        "stage_widths": [8, 16, 24, 48],
        "stage_depths": [1, 1, 1, 1],
        "neck_width": 16,
        "head_width": 16,
    }
    settings: dict[str, Any] = {"teacher__architecture": architecture}
    message = refusal(tmp_path, **settings, grid__methods={method: [{"round_to": 49}]})
    assert message.startswith(f"grid.methods.{method}.0.round_to: 49 is more than the teacher's widest layer has channels (48)")
    few = {"evaluations": 1} if method == "nas" else {}  # such a space has one network
    assert loaded(tmp_path, **settings, grid__methods={method: [{"round_to": 48, **few}]})


def test_a_profile_of_a_runtime_that_the_grid_does_not_make(tmp_path: Path) -> None:
    """A host profile needs files of its runtime; the message names profile, runtime and what to do."""
    message = refusal(tmp_path, measure__profiles=["x86-openvino-1t"], grid__runtimes=["onnxruntime"])
    assert message == (
        "measure.profiles names x86-openvino-1t, which runs openvino, but grid.runtimes has only onnxruntime. "
        "Add the runtime there or drop the profile."
    )


def test_a_datasheet_needs_no_runtime_of_the_grid(tmp_path: Path) -> None:
    """Only profiles that are measured here need files; the Jetson's runtime makes none of ours and is estimated."""
    assert loaded(tmp_path, measure__profiles=["jetson-nano"]).params.measure.profiles == ("jetson-nano",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sweep: [unclosed", "not valid YAML: while parsing a flow sequence"),
        ("just words", "holds str, but a params file is a mapping"),
        ("", "holds NoneType, but a params file is a mapping"),
        ("- a\n- b\n", "holds list, but a params file is a mapping"),
        ("seed: 0\n", "sweep: Field required"),
        ("sweep: \x00", "not valid YAML"),
        ("sweep: 2026-02-30", "not valid YAML: day is out of range"),
        ("seed: 1\nsweep: a\nseed: 2\n", "not valid YAML: seed stands there twice, in lines 1 and 3; leave one of them out"),
        ("sweep: a\ngrid:\n  on_failure: stop\n  on_failure: stop\n", "not valid YAML: on_failure stands there twice, in lines 3"),
    ],
)
def test_what_is_no_params_file_is_refused(text: str, expected: str, tmp_path: Path) -> None:
    """Broken YAML and YAML of another shape are the user's mistakes, told in one line."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_plan(path)
    assert str(caught.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Some picture given as --params is bad input as well."""
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InputError, match=r"params\.yaml: not text in UTF-8 \(invalid start byte at byte 0\)"):
        load_plan(path)


def test_a_missing_file_says_where_params_are(tmp_path: Path) -> None:
    """The message names the file, the option, and the files the project brings; a folder is no file."""
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(InputError) as caught:
            load_plan(path)
        assert str(caught.value).startswith(f"{path}: no such params file. Name one with --params")


def test_no_code_is_made_of_yaml(tmp_path: Path) -> None:
    """A tag that would build an object is refused, not built."""
    path = tmp_path / "params.yaml"
    path.write_text("sweep: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(InputError, match="not valid YAML: could not determine a constructor"):
        load_plan(path)


def test_relative_paths_start_in_the_folder_of_the_params_file(tmp_path: Path) -> None:
    """Also where the file is reached through a link from another folder, as in runs/<plan>/params.yaml."""
    path = write_params(tmp_path / "plans", store__url="../.sixfold/store")
    workspace = tmp_path / "runs" / "tiny"
    workspace.mkdir(parents=True)
    link = workspace / "params.yaml"
    link.symlink_to(path)
    for way in (path, link):
        plan = load_plan(way)
        assert plan.base == tmp_path / "plans"
        assert open_store(plan.params.store.url, plan.base).root == tmp_path / ".sixfold" / "store"


def test_the_digest_ignores_what_makes_no_cell(tmp_path: Path) -> None:
    """Comments, layout, and the sections store, measure, report and check leave it as it was."""
    digest = loaded(tmp_path).digest
    path = tmp_path / "params.yaml"
    path.write_text("# a comment\n" + yaml.safe_dump(tiny_tree(), sort_keys=True, default_flow_style=True))
    assert load_plan(path).digest == digest
    for changes in (
        {"store__url": "elsewhere"},
        {"measure__rounds": 7},
        {"report__pictures": 9},
        {"check": {"map_drop_points": 3.0}},
    ):
        assert loaded(tmp_path, **changes).digest == digest, changes


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"teacher__training__epochs": 3},
        {"data__source__pictures__train": 25},
        {"grid__recovery__epochs": 2},
        {"grid__reduction": ["low_rank", "pruning"]},
        {"grid__methods__pruning": [{"keep_macs": 0.4}]},
    ],
)
def test_the_digest_follows_what_makes_cells(changes: dict[str, Any], tmp_path: Path) -> None:
    """Seed, data, schedules, order and methods each make another digest."""
    assert loaded(tmp_path / "changed", **changes).digest != loaded(tmp_path).digest


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_a_committed_plan_has_every_section_that_dvc_follows(path: Path) -> None:
    """DVC refuses a stage whose params are not in the file, even where our defaults would do."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    followed = {section for stage in stages for section in stage.get("params", [])}
    assert followed <= set(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ({"kind": "narrow", "like": "nas"}, "grid.references.0.like: 'nas' is no cell of this sweep, such as 'pruning'."),
        ({"kind": "narrow", "width_share": 1}, "grid.references.0.width_share: 1 leaves every width as it is."),
        ({"kind": "narrow"}, "grid.references.0.narrow: width_share, like: exactly one must be set, but neither is"),
        ({"kind": "smaller_input"}, "grid.references.0.input_share: no pictures smaller than (64, 96) (height, width) fit"),
        ({"kind": "random_pruning", "like": "l2-0.5"}, "grid.references.0.like: 'l2-0.5' is no variant of pruning that keep_macs"),
    ],
)
def test_an_impossible_reference_is_refused_at_the_door(reference: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Before anything is made, with the field and what there is."""
    assert refusal(tmp_path, grid__references=[reference]).startswith(words)


def test_variants_of_one_name_are_refused_at_the_door(tmp_path: Path) -> None:
    """Two prunings that differ in what no label tells."""
    message = refusal(tmp_path, grid__methods__pruning=[{}, {"most_removed": 0.5}])
    assert message.startswith("grid.methods.pruning.1: named 'taylor-0.5' like number 0")


def test_brought_weights_go_on_where_nothing_is_said(tmp_path: Path) -> None:
    """Light blocks and searches of a checkpoint inherit; those of a detector that the sweep trains, or told otherwise, do not."""
    space = {"space": {"levels": [8, 16]}}
    menu = {"lightweight": [{}, {"block": "ghost", "weights": "fresh"}], "nas": [{}, space]}
    trained = load_plan(write_params(tmp_path / "a", grid__methods=menu))
    assert [config.weights for config in (*trained.menu.lightweight, *trained.menu.nas)] == ["fresh"] * 4
    brought = replace(trained, params=trained.params.model_copy(update={"teacher": Teacher(checkpoint=Path("models/teacher"))}))
    assert [config.weights for config in brought.methods.lightweight] == ["inherited", "fresh"]
    assert [(config.weights, config.supernet_epochs) for config in brought.methods.nas] == [("inherited", 3), ("fresh", 10)]
