"""A user's file is quantized from pictures alone: what is written, which pictures serve what, and what cannot be said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest

from compressors.quantization.method import Packed, Quantization, QuantizationRecord
from detection.checkpoint import Detector, fresh
from detection.export import PREDICTIONS, export_onnx
from detection.file_interface.interface import INTERFACE_FILE, read_interface
from detection.frozen import InputError
from detection.spec import Spec
from flows.predict.model import open_model
from flows.records.files import file_digest
from hardware_profiles.runtimes.openvino.runtime import import_openvino
from tests.compressors.quantization.test_fake_quantize import lively
from tests.flows.quantize_factory import CLASSES, Quantized, write_many, write_plan
from tests.flows.sweep_factory import listing

BOTH = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, theirs: Path) -> Path:
    """Says how the file is fed and read."""
    return write_plan(tmp_path_factory.mktemp("plan") / "theirs.yaml", theirs)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures."""
    return write_many(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, theirs: Path, images: Path, plan: Path) -> Quantized:
    """int8 and float16 for both runtimes."""
    return Quantized(theirs, images, tmp_path_factory.mktemp("made") / "out", params=plan, float16=True)


def test_every_file_has_its_numbers(made: Quantized, theirs: Path) -> None:
    """Size and digest are those of the files, and the table says the same as the record."""
    assert [own.file for own in made.record.files] == [
        "onnxruntime-int8/model.onnx",
        "openvino-int8/model.xml",
        "onnxruntime-float16/model.onnx",
        "openvino-float16/model.xml",
    ]
    assert (made.record.size_bytes, made.record.sha256) == (theirs.stat().st_size, file_digest(theirs))
    for own, line in zip(made.record.files, made.table[1:], strict=True):
        parts = [path for path in sorted((made.out / own.file).parent.iterdir(), reverse=True) if path.stem == "model"]
        assert (own.size_bytes, own.sha256) == (sum(path.stat().st_size for path in parts), file_digest(*parts))
        assert own.changed is not None
        assert own.changed.share_of_detections_that_changed is not None
        assert line == (
            f"{own.precision}, {own.runtime}", f"{own.size_bytes:,}", f"{made.record.size_bytes / own.size_bytes:.2f}x smaller",
            str(own.changed.detections), str(own.changed.float_detections), f"{own.changed.share_of_detections_that_changed:.1%}",
        )  # fmt: skip


def test_files_are_fed_and_read_as_the_users_own(made: Quantized, theirs: Path) -> None:
    """Names, shapes and types of inputs and outputs stay in both formats, and the interface lies next to each."""
    wanted = onnx.load(theirs).graph
    shapes = [[side.dim_value for side in value.type.tensor_type.shape.dim] for value in (*wanted.input, *wanted.output)]
    for own in made.record.files:
        file = made.out / own.file
        if file.suffix == ".onnx":
            graph = onnx.load(file).graph
            assert (list(graph.input), list(graph.output)) == (list(wanted.input), list(wanted.output))
        else:
            model = import_openvino().Core().read_model(file)
            ports = [*model.inputs, *model.outputs]
            assert [port.any_name for port in ports] == [value.name for value in (*wanted.input, *wanted.output)]
            assert [list(port.shape) for port in ports] == shapes
            assert {port.element_type.to_string() for port in ports} == {"f32"}
        interface = read_interface(file.parent)
        assert interface is not None
        assert (interface.picture.scale, interface.outputs) == (1.0, ("boxes", "scores"))


def test_what_stays_float_is_named_from_the_last_on(made: Quantized) -> None:
    """Six products that predict and one that decodes; in ONNX Runtime a stem that steps by two as well; nothing in float16."""
    for own in made.record.files:
        predicting = [name for name in own.float_layers if name.startswith(PREDICTIONS)]
        assert len(predicting) == (6 if own.precision == "int8" else 0)
    first, second = (line for line in made.lines if "stay float" in line)
    last = "convolutions and matrix products stay float, from the last on: `/MatMul`, `/predictions.5/MatMul"
    assert first.startswith(f"onnxruntime-int8/model.onnx: 8 {last}")
    assert second.startswith(f"openvino-int8/model.xml: 7 {last}")


def test_the_share_is_named_so_and_explained_once(made: Quantized) -> None:
    """It changes little in float16 and more in int8; only one sentence has the word mAP, to say that this is none."""
    int8, float16 = made.shares[:2], made.shares[2:]
    assert all(own is not None and own < 0.05 for own in float16)
    assert all(own is not None and 0 < own < 0.7 for own in int8)
    assert made.table[0][-1] == "share of detections that changed"
    said = [line for line in made.lines if "mAP" in line]
    assert len(said) == 1
    assert said[0].startswith("The share of detections that changed is far harsher than mAP")
    assert "50 labelled pictures are worth more" in said[0]
    assert not [line for line in (*made.lines, *made.table[0]) if "accuracy" in line]
    assert made.lines[-1].startswith(f"Next: `sixfold predict {made.out}/onnxruntime-int8/model.onnx PICTURES --params ")


def writing(detector: Callable[[Detector], Detector]) -> Callable[..., Packed]:
    """In place of the quantizer: writes a float file of the detector that is made from the given one."""

    def pack(given: Detector, config: Quantization, runtime: str, shown: Sequence[Any], folder: Path) -> Packed:
        export_onnx(detector(given), folder / "model.onnx", planes=True)
        return Packed(folder / "model.onnx", QuantizationRecord())

    return pack


def test_the_float_file_against_itself_has_not_changed(
    theirs: Path, images: Path, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_detector: Detector
) -> None:
    """0 in both runtimes; a detector with other weights finds other things."""
    monkeypatch.setattr("flows.quantize.command.pack", writing(lambda given: given))
    same = Quantized(theirs, images, tmp_path / "same", params=plan)
    assert same.shares == [0, 0]
    assert all(own.changed and own.changed.detections == own.changed.float_detections > 100 for own in same.record.files)
    spec = Spec(classes=tuple(CLASSES), input_size=(64, 96), settings=tiny_detector.spec.settings)
    monkeypatch.setattr("flows.quantize.command.pack", writing(lambda _: lively(fresh(spec, 1), 2)))
    other = Quantized(theirs, images, tmp_path / "other", params=plan)
    assert all(own is not None and own > 0.5 for own in other.shares)


def test_pictures_that_gave_ranges_are_not_compared_where_others_are_left(made: Quantized, images: Path) -> None:
    """8 of 20 by the seed, and the other 12."""
    shown, compared = made.record.calibrated_on, made.record.compared_on
    assert (len(shown), len(compared)) == (8, 12)
    assert {*shown, *compared} == {str(path) for path in images.iterdir()}
    assert made.lines[1] == "int8 ranges by minmax from 8 pictures; compared on the other 12"


def test_all_pictures_are_compared_where_too_few_are_left(
    theirs: Path, images: Path, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20, 13 leave 7; the plan's own number counts where none is asked for, and its seed draws."""
    monkeypatch.setattr("flows.quantize.command.pack", writing(lambda given: given))
    found = Quantized(theirs, images, tmp_path / "out", params=plan, calibrate=13, runtimes=["onnxruntime"])
    said = "int8 ranges by minmax from 13 pictures; compared on all 20, 13 of which gave the ranges, as too few would be left"
    assert (found.lines[1], len(found.record.compared_on)) == (said, 20)
    shown = set()
    for seed in (0, 1):
        grid = {"methods": {"quantization": [{"precision": "float16"}, {"pictures": 9}]}}
        own = write_plan(tmp_path / f"{seed}.yaml", theirs, seed=seed, grid=grid)
        found = Quantized(theirs, images, tmp_path / "out", params=own, calibrate=None, runtimes=["onnxruntime"])
        assert len(found.record.calibrated_on) == 9
        shown.add(found.record.calibrated_on)
    assert len(shown) == 2


def test_the_same_pictures_give_the_same_bytes(made: Quantized, theirs: Path, images: Path, plan: Path, tmp_path: Path) -> None:
    """In another run, of one runtime alone."""
    again = Quantized(theirs, images, tmp_path / "out", params=plan, runtimes=["openvino"])
    assert [own.sha256 for own in again.record.files] == [made.record.files[1].sha256]


def test_without_a_decoding_files_are_made_and_no_share_is_told(
    made: Quantized, theirs: Path, images: Path, tmp_path: Path
) -> None:
    """The bytes are the same; there is no interface, which would say how outputs are read."""
    own = write_plan(tmp_path / "unread.yaml", theirs, detector={"decode": None})
    found = Quantized(theirs, images, tmp_path / "out", params=own, runtimes=["onnxruntime"])
    assert found.shares == [None]
    assert found.record.files[0].sha256 == made.record.files[0].sha256
    assert (found.record.compared_on, found.table[1][3:]) == ((), ("-", "-", "-"))
    assert not (found.out / "onnxruntime-int8" / INTERFACE_FILE).exists()
    assert found.lines[-1].startswith(f"No share of detections that changed: {own} does not say how outputs become boxes.")
    assert "detector.decode" in found.lines[-1]


def test_what_was_written_is_opened_with_the_plan(made: Quantized, plan: Path) -> None:
    """As the last line says, in both formats, with the names of the classes."""
    for own in made.record.files:
        assert open_model(str(made.out / own.file), plan, None, 1).classes == tuple(CLASSES)


def test_an_earlier_run_is_replaced_and_nothing_else(
    theirs: Path, images: Path, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the user in one of the folders is found; a run that fails leaves all as it was."""
    monkeypatch.setattr("flows.quantize.command.pack", writing(lambda given: given))
    out = Quantized(theirs, images, tmp_path / "out", params=plan).out
    Quantized(theirs, images, out, params=plan, runtimes=["openvino"])
    assert sorted(path.name for path in out.iterdir()) == [".sixfold-quantize", "openvino-int8", "quantized.json"]
    before = listing(tmp_path)
    wrong = {"boxes": {"outputs": ["scores"], "form": "xyxy"}, "scores": {"outputs": ["scores"]}}
    with pytest.raises(InputError):
        Quantized(theirs, images, out, params=write_plan(tmp_path / "plans/wrong.yaml", theirs, detector={"decode": wrong}))
    assert {name: content for name, content in listing(tmp_path).items() if not name.startswith("plans")} == before
    (out / "openvino-int8/notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'openvino-int8/notes\.txt', which `sixfold quantize` did not write"):
        Quantized(theirs, images, out, params=plan)


@pytest.mark.parametrize("runtime", BOTH)
def test_a_runtime_is_asked_for_by_name(
    runtime: str, theirs: Path, images: Path, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One alone, once, however often it is named; else those of the plan."""
    monkeypatch.setattr("flows.quantize.command.pack", writing(lambda given: given))
    found = Quantized(theirs, images, tmp_path / "out", params=plan, runtimes=[runtime, runtime])
    assert [own.runtime.split()[0] for own in found.record.files] == [runtime]
    own = write_plan(tmp_path / "one.yaml", theirs, grid={"runtimes": [runtime]})
    assert [own.runtime.split()[0] for own in Quantized(theirs, images, tmp_path / "out", params=own).record.files] == [runtime]
