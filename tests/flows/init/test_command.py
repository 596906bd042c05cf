"""`sixfold init`: from a folder of labelled pictures to a plan that loads, or to one message."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from detection import checkpoint
from detection.checkpoint import Detector
from detection.data.sources import read_source
from flows.init import devices, settings
from flows.inspect.plan_text import Setting, with_settings
from flows.sweep.machine_warnings import processor_mismatch
from flows.sweep.params import read_plan
from flows.sweep.plan_checks import load_plan
from hardware_profiles.schema.library import known_profiles, load_profile
from hardware_profiles.timing.environment import cores_here, cpu_model
from hardware_profiles.timing.round import Block, Job, RoundResult
from tests.flows.cli_runner import Sixfold, refused
from tests.flows.init_factory import CLASSES, Write, write_archive, write_coco, write_roboflow_coco, write_voc, write_yolo
from tests.flows.rounds_factory import ON_X86, replace_lock, replace_process
from tests.flows.sweep_factory import listing

PI = ("--device", "raspberry-pi-5")
"""A device that is known on every machine."""
TINY = "{stem_width: 8, stage_widths: [16, 16, 24, 32], stage_depths: [1, 1, 1, 1], neck_width: 16, head_width: 16, head_depth: 1}"


@pytest.mark.parametrize(
    ("write", "source"),
    [
        (write_yolo, {"kind": "yolo"}),
        (write_archive, {"kind": "yolo", "root": "../mine.zip"}),
        (write_voc, {"kind": "voc"}),
        (write_coco, {"kind": "coco", "annotations": "labels.json", "images": "images"}),
        (
            write_roboflow_coco,
            {
                "kind": "coco",
                "annotations": {
                    own: f"{name}/_annotations.coco.json" for own, name in (("train", "train"), ("val", "valid"), ("test", "test"))
                },
                "images": {"train": "train", "val": "valid", "test": "test"},
            },
        ),
    ],
)  # fmt: skip
def test_a_folder_becomes_a_plan(write: Write, source: dict[str, Any], sixfold: Sixfold, tmp_path: Path) -> None:
    """Its format is found, every setting told and in the plan, and the plan reads the pictures from where it lies."""
    (tmp_path / "plans").mkdir()
    data = write(tmp_path / "mine")
    ended = sixfold(tmp_path, "init", str(data), *PI)
    assert (ended.code, ended.err) == (0, ""), ended
    path = tmp_path / "plans/mine.yaml"
    assert f"{source['kind']} data: 12 pictures" in ended.out
    assert "2 classes, 0 without a box; most boxes: cat " in ended.out
    assert "12 boxes; shorter side 6" in ended.out
    assert ended.out.endswith(
        "Next: `sixfold prepare --params plans/mine.yaml`, and so on with teacher, grid, measure and report.\n"
    )
    plan, tree = load_plan(path), yaml.safe_load(path.read_text())
    assert tree["data"]["source"] == {"root": "../mine"} | source
    params = plan.params
    assert (params.sweep, params.store.url, params.data.input_size) == ("mine", "../.sixfold/store", (96, 128))
    assert params.teacher.threads == cores_here()
    train = len(read_source(params.data.source, plan.base, params.seed).splits["train"])
    assert (params.teacher.training.epochs, params.grid.recovery.epochs, params.teacher.training.batch_size) == (120, 40, 4)
    assert f"# {train} training pictures, so {train * 120:,} are shown in all" in path.read_text()
    assert params.grid.design_profile == "raspberry-pi-5"
    assert params.measure.profiles[-1] == "raspberry-pi-5"
    assert f"({cpu_model() or 'model unknown'})" in path.read_text().partition("sweep:")[0].replace("\n# ", " ")


def test_the_plan_is_named_as_the_folder(sixfold: Sixfold, tmp_path: Path) -> None:
    """In the letters that a sweep's name may have, and whole where it ends like an archive's."""
    ended = sixfold(tmp_path, "init", str(write_voc(tmp_path / "My Guitar")), *PI)
    assert ended.code == 0, ended
    assert load_plan(tmp_path / "my-guitar.yaml").params.sweep == "my-guitar"


@pytest.mark.parametrize(
    ("size", "box", "wanted", "told"),
    [
        ((320, 240), (10, 10, 71, 100), (128, 96), "100% of the boxes are 24 px"),
        ((240, 320), (10, 10, 110, 110), (64, 96), "the smallest"),
        ((240, 320), (10, 10, 20, 110), (256, 320), "the largest that is considered; only 0% of the boxes"),
        ((1200, 1200), (10, 10, 50, 200), (640, 640), "the largest that is considered; only 0% of the boxes"),
    ],
)
def test_the_input_fits_the_boxes(
    size: tuple[int, int], box: tuple[float, float, float, float], wanted: tuple[int, int], told: str, sixfold: Sixfold,
    tmp_path: Path,
) -> None:  # fmt: skip
    """(height, width) in the pictures' shape: no larger than boxes ask for, nor than the pictures, nor than the bounds."""
    ended = sixfold(tmp_path, "init", str(write_yolo(tmp_path / "mine", size=size, box=box)), *PI)
    assert ended.code == 0, ended
    assert load_plan(tmp_path / "mine.yaml").params.data.input_size == wanted
    assert told in ended.out


@pytest.mark.parametrize(
    ("classes", "flip"),
    [
        (("cat", "dog"), 0.5),
        (("bright", "copyright"), 0.5),
        (("0", "1"), 0.0),
        (("A", "cat"), 0.0),
        (("turn left", "x-ray"), 0.0),
        (("right_arrow",), 0.0),
        (("seven",), 0.0),
    ],
)
def test_what_a_mirror_changes_is_not_flipped(classes: tuple[str, ...], flip: float, sixfold: Sixfold, tmp_path: Path) -> None:
    """Digits, letters and directions by the names of the classes, which the plan names; upside down nothing is turned."""
    ended = sixfold(tmp_path, "init", str(write_yolo(tmp_path / "mine", classes)), *PI)
    assert ended.code == 0, ended
    flips = load_plan(tmp_path / "mine.yaml").params.teacher.training.augmentation
    assert (flips.flip_horizontal, flips.flip_vertical) == (flip, 0.0)
    assert (f"a mirror may change {classes[0]}" in (tmp_path / "mine.yaml").read_text()) == (flip == 0)


@pytest.mark.parametrize(("most", "mosaic"), [(6, 1.0), (5, 0.0)])
def test_small_sets_get_mosaics_and_advice(
    most: int, mosaic: float, sixfold: Sixfold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to a number of training pictures, of which there are 6 here; the plan says so where they do."""
    monkeypatch.setattr(settings, "SMALL_SET", most)
    ended = sixfold(tmp_path, "init", str(write_yolo(tmp_path / "mine")), *PI)
    assert ended.code == 0, ended
    assert load_plan(tmp_path / "mine.yaml").params.teacher.training.augmentation.mosaic == mosaic
    for told in (f"four in one up to {most} training pictures", f"for up to {most} training pictures `--detector`"):
        assert (told in ended.out) == bool(mosaic)


@pytest.mark.parametrize(
    ("flags", "precision"), [({"avx2", "avx512_bf16"}, "bfloat16"), ({"avx2"}, "float32"), (set[str](), "float32")]
)
def test_precision_is_what_the_processor_multiplies(
    flags: set[str], precision: str, sixfold: Sixfold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bfloat16 without instructions for it is several times slower."""
    monkeypatch.setattr(settings, "cpu_flags", lambda: frozenset(flags))
    assert sixfold(tmp_path, "init", str(write_voc(tmp_path / "mine")), *PI).code == 0
    assert load_plan(tmp_path / "mine.yaml").params.teacher.training.precision == precision


@ON_X86
def test_without_a_terminal_it_is_for_this_machine(sixfold: Sixfold, tmp_path: Path) -> None:
    """Nothing is asked and nothing timed; the plan says that, and how to have it measured."""
    data = str(write_voc(tmp_path / "my-data"))
    refused(sixfold(tmp_path, "init", data, "--out", "deep/own.yaml"), "deep: no such folder for the plan")
    (tmp_path / "deep").mkdir()
    ended = sixfold(tmp_path, "init", data, "--out", "deep/own.yaml")
    assert ended.code == 0, ended
    plan = load_plan(tmp_path / "deep/own.yaml")
    assert plan.params.sweep == "own"
    assert [load_profile(name).runtime for name in plan.params.measure.profiles] == ["onnxruntime", "openvino"]
    assert plan.params.grid.design_profile == plan.params.measure.profiles[-1]
    assert "nothing was measured on this machine; " in plan.text
    assert "`sixfold init --calibrate`" in plan.text.replace("\n# ", " ")
    assert not (tmp_path / "deep/profiles").exists()


@pytest.mark.parametrize(("here", "prefix"), [("cpu family 25 model 17 stepping 2", "zen4-"), ("cpu family 6 model 167", "x86-")])
@ON_X86
def test_the_profile_of_such_a_processor_is_taken(here: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And of another where there is none, which is said."""
    monkeypatch.setattr(devices, "cpu_model", lambda: here)
    found = devices.devices(None)
    assert found.here == (f"{prefix}onnxruntime-1t", f"{prefix}openvino-1t")
    assert "its profiles are of such a processor" in found.note
    monkeypatch.setattr(devices, "cpu_model", lambda: "cpu family 26 model 2 stepping 1")
    assert "were fitted on another processor" in devices.devices(None).note


def test_any_shipped_device_may_be_the_target(sixfold: Sixfold, tmp_path: Path) -> None:
    """The plan loads, and estimates or measures for it. One that takes int8 alone leaves the search to its processor; one that
    does not multiply in int8 gets float16."""
    data, names = str(write_voc(tmp_path / "mine")), known_profiles()
    for name in names:
        ended = sixfold(tmp_path, "init", data, "--device", name, "--out", f"{name}.yaml")
        assert ended.code == 0, ended
        assert name in load_plan(tmp_path / f"{name}.yaml").params.measure.profiles
    assert load_plan(tmp_path / "coral-edge-tpu.yaml").params.grid.design_profile == load_profile("coral-edge-tpu").host_cpu
    assert [own.precision for own in load_plan(tmp_path / "jetson-nano.yaml").params.grid.methods.quantization] == ["float16"]


def test_a_plan_that_is_there_stays(sixfold: Sixfold, tmp_path: Path) -> None:
    """Unless it may be replaced."""
    data = str(write_voc(tmp_path / "mine"))
    (tmp_path / "mine.yaml").write_text("sweep: other\n")
    before = listing(tmp_path)
    refused(sixfold(tmp_path, "init", data, *PI), "mine.yaml: there already", "--out", "--force")
    assert listing(tmp_path) == before
    assert sixfold(tmp_path, "init", data, *PI, "--force").code == 0
    assert load_plan(tmp_path / "mine.yaml").params.sweep == "mine"


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("absent", (), "absent: no such folder, nor zip or tar"),
        ("empty", (), "no labels found. Looked for: YOLO (data.yaml, data.yml, dataset.yaml, obj.data, classes.txt"),
        ("both", (), "labels of 2 formats: Pascal VOC ("),
        ("cocos", (), "2 COCO files: labels.json, more.json. Leave one"),
        ("voc", ("--device", "toaster"), "no hardware profile 'toaster'; have coral-edge-tpu"),
        ("voc", ("--detector", "absent.onnx"), "absent.onnx: no such file or folder"),
        ("voc", ("--detector", "empty"), "no spec.json here, so no detector"),
        ("voc", ("--detector", "both/data.yaml"), "data.yaml: not a whole ONNX file"),
        ("unlabelled", (), "none of 12 pictures has a box"),
        ("undescribed", (), "One of them names the classes"),
    ],
)
def test_what_cannot_be_is_refused_in_one_message(
    name: str, options: tuple[str, ...], words: str, sixfold: Sixfold, tmp_path: Path
) -> None:
    """Exit 2, and the folder as it was."""
    (tmp_path / "empty").mkdir()
    write_voc(tmp_path / "voc")
    write_yolo(write_voc(tmp_path / "both"))
    (write_coco(tmp_path / "cocos") / "more.json").write_text((tmp_path / "cocos/labels.json").read_text())
    (write_yolo(tmp_path / "undescribed") / "data.yaml").unlink()
    write_yolo(tmp_path / "unlabelled")
    for label in (tmp_path / "unlabelled").rglob("*.txt"):
        label.write_text("")
    before = listing(tmp_path)
    refused(sixfold(tmp_path, "init", name, *options), words, out="" if options == () else "voc data")
    assert listing(tmp_path) == before


def test_an_onnx_file_is_named_with_what_is_known_of_it(sixfold: Sixfold, theirs: Path, tmp_path: Path) -> None:
    """Its own size, the data's classes, and no training; `sixfold inspect` comes next, and nothing is timed for a search."""
    classes = tuple(f"kind {number}" for number in range(10))
    data = str(write_yolo(tmp_path / "mine", classes))
    refused(
        sixfold(tmp_path, "init", data, *PI, "--detector", str(theirs), "--calibrate"),
        "in an ONNX file nothing is searched",
        out="yolo",
    )
    ended = sixfold(tmp_path, "init", data, *PI, "--detector", str(theirs))
    assert ended.code == 0, ended
    assert "Next: `sixfold inspect --params mine.yaml --write`, then" in ended.out
    plan = read_plan(tmp_path / "mine.yaml")
    assert plan.params.data.input_size == (64, 96)
    assert plan.params.detector is not None
    assert (plan.params.detector.classes, plan.params.detector.decode) == (classes, "auto")
    assert (plan.base / plan.params.detector.onnx).samefile(theirs)
    assert "teacher" not in plan.params.model_fields_set
    found = {"data": {"resize": Setting("stretch")}, "detector": {"decode": Setting("boxes_scores")}}
    (tmp_path / "mine.yaml").write_text(with_settings(plan.text, found))
    written = load_plan(tmp_path / "mine.yaml").params
    assert (written.data.resize, written.detector and written.detector.decode) == ("stretch", "boxes_scores"), (
        "inspect can write it"
    )


@pytest.mark.parametrize(("classes", "setting", "size"), [(CLASSES, "checkpoint", (64, 96)), (("cow",), "start_from", (96, 128))])
def test_a_detector_of_ours_is_taken_or_trained_further(
    classes: tuple[str, ...], setting: str, size: tuple[int, int], tiny_detector: Detector, sixfold: Sixfold, tmp_path: Path
) -> None:
    """As it is, at its own size, where the classes are the data's; otherwise training starts from it."""
    own = checkpoint.fresh(tiny_detector.spec.model_copy(update={"classes": classes}), 0)
    checkpoint.save(own, tmp_path / "own")
    ended = sixfold(tmp_path, "init", str(write_yolo(tmp_path / "mine")), *PI, "--detector", "own")
    assert ended.code == 0, ended
    params = load_plan(tmp_path / "mine.yaml").params
    assert getattr(params.teacher, setting) == Path("own")
    assert params.teacher.training.augmentation.mosaic == 0, "mosaics are for random weights"
    assert params.data.input_size == size


def test_a_terminal_is_asked(sixfold: Sixfold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the device, by its number in a list, until it is one; and whether minutes may be spent, which are told."""
    answers: Iterator[int] = iter([0, 99, devices.choices().index("jetson-orin-nano") + 1])
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", lambda *words, **options: next(answers))
    monkeypatch.setattr(typer, "confirm", lambda question, **options: bool(asked.append(question)))
    ended = sixfold(tmp_path, "init", str(write_voc(tmp_path / "mine")))
    assert ended.code == 0, ended
    assert load_plan(tmp_path / "mine.yaml").params.grid.design_profile == "jetson-orin-nano"
    assert f"  1 {devices.choices()[0]}\n" in ended.out
    assert len(asked) == bool(devices.devices("raspberry-pi-5").here)
    assert all(f"About {devices.minutes((96, 128), 2)} minutes" in question for question in asked)


def timed_by_size(job: Job) -> RoundResult:
    """A round that takes no time: a file is as slow as it is large."""
    seconds = ((file.digest, 1e-4 + 1e-9 * Path(file.path).stat().st_size) for file in job.files)
    blocks = (Block(digest=digest, position=place, p50_s=own_s) for place, (digest, own_s) in enumerate(seconds))
    return RoundResult(blocks=tuple(blocks), runtime_rss_bytes=None)


@ON_X86
def test_this_machine_is_timed_where_it_is_asked_for(sixfold: Sixfold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profiles next to the plan, fitted to what it asks about; the plan uses them and says so, and warns on another processor."""
    replace_lock(monkeypatch, tmp_path)
    jobs = replace_process(monkeypatch, timed_by_size)
    monkeypatch.setattr(settings, "ARCHITECTURE", TINY)
    monkeypatch.setattr(devices, "DRAWS", 3)
    data = str(write_voc(tmp_path / "mine"))
    ended = sixfold(tmp_path, "init", data, "--calibrate")
    assert ended.code == 0, ended
    names = ["host-mine-onnxruntime-1t", "host-mine-openvino-1t"]
    assert sorted(listing(tmp_path / "profiles")) == [f"{name}.yaml" for name in names]
    plan = load_plan(tmp_path / "mine.yaml")
    assert list(plan.params.measure.profiles) == names
    assert plan.params.grid.design_profile == names[1]
    fitted = plan.design_profile.calibration.int8
    assert fitted is not None
    assert fitted.cpu == cpu_model()
    assert fitted.networks == len({file.path for file in jobs[-1].files}) // 2
    header = plan.text.partition("sweep:")[0].replace("\n# ", " ")
    assert all(f"{name} was fitted on this machine on " in header for name in names)
    assert f"{fitted.leave_one_out_mape:.1%} of {fitted.networks} in int8" in header
    assert "nothing was measured" not in plan.text
    assert processor_mismatch(plan) is None
    monkeypatch.setattr("flows.sweep.machine_warnings.cpu_model", lambda: "cpu family 26 model 2 stepping 1")
    assert f"{names[1]} was fitted on another processor" in (processor_mismatch(plan) or "")
    (tmp_path / "mine.yaml").unlink()
    timed = len(jobs)
    refused(sixfold(tmp_path, "init", data, "--calibrate"), "host-mine-onnxruntime-1t.yaml: there already", out="voc")
    assert len(jobs) == timed, "refused before it is timed"
