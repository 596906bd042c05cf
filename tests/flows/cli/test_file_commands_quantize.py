"""`sixfold quantize` as it is typed, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.cli_runner import Sixfold, refused
from tests.flows.quantize_factory import write_many, write_plan
from tests.flows.sweep_factory import listing


def test_a_file_is_quantized_where_there_is_nothing_but_it_and_pictures(sixfold: Sixfold, theirs: Path, tmp_path: Path) -> None:
    """No prepared data, no labels, no store; stdout has what is said and nothing of the tools."""
    write_many(tmp_path / "photos")
    write_plan(tmp_path / "theirs.yaml", theirs)
    options = ("--params", "theirs.yaml", "--out", "small", "--calibrate", "8", "--score", "0.01", "--float16")
    runtimes = ("--runtime", "openvino", "--runtime", "onnxruntime")
    ended = sixfold(tmp_path, "quantize", str(theirs), "photos/*.png", *runtimes, *options)
    assert ended.code == 0, ended
    lines = ended.out.splitlines()
    assert lines[0] == "fed as theirs.yaml says: rgb, scale 1, mean [0.0, 0.0, 0.0], std [1.0, 1.0, 1.0], letterbox"
    assert [name for name in listing(tmp_path) if name.count("/") == 1 and name.startswith("small")] == [
        "small/.sixfold-quantize",
        "small/onnxruntime-float16",
        "small/onnxruntime-int8",
        "small/openvino-float16",
        "small/openvino-int8",
        "small/quantized.json",
    ]
    assert "numbers: small/quantized.json" in ended.out
    assert lines[-1].startswith("Next: `sixfold predict small/openvino-int8/model.xml PICTURES --params theirs.yaml")
    assert "Statistics" not in ended.out
    assert not [name for name in listing(tmp_path) if name.split("/")[0] not in ("photos", "theirs.yaml", "small")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("absent.onnx", "photos", "--params", "theirs.yaml"), "absent.onnx: no such file. Name an ONNX file."),
        (("theirs.yaml", "photos", "--params", "theirs.yaml"), "theirs.yaml: not a whole ONNX file"),
        (("FILE", "photos"), "no --params says how it is fed. Name a plan with `data: input_size, resize` and `detector: onnx,"),
        (("FILE", "photos", "--params", "ours.yaml"), "ours.yaml has no `detector` section that says how it is fed"),
        (("FILE", "photos", "--params", "absent.yaml"), "absent.yaml: no such params file"),
        (("FILE", "nowhere", "--params", "theirs.yaml"), "nowhere: no such file, and no match"),
        (("FILE", "photos/00.png", "--params", "theirs.yaml"), "need 8 pictures at least, not 1. Name more pictures (now 1)"),
        (("FILE", "photos", "--params", "theirs.yaml", "--calibrate", "3"), "not 3. Name more pictures (now 9), or a larger"),
        (("FILE", "photos", "broken", "--params", "theirs.yaml"), "1 of 10 pictures cannot be used; nothing was written."),
        (("FILE", "photos", "--params", "theirs.yaml", "--runtime", "rknn"), "no runtime 'rknn'; have onnxruntime, openvino"),
        (("FILE", "photos", "--params", "large.yaml"), "in the file it is 1 x 3 x 64 x 96. Choose the size"),
        (("FILE", "photos", "--params", "preset.yaml"), "decode: preset yolov8 does not fit outputs boxes"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    arguments: tuple[str, ...], words: str, sixfold: Sixfold, theirs: Path, tmp_path: Path
) -> None:
    """Exit 2, nothing on stdout, and the folder as it was."""
    write_many(tmp_path / "photos", 9)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").write_text("no picture")
    (tmp_path / "ours.yaml").write_text("sweep: ours\n")
    write_plan(tmp_path / "theirs.yaml", theirs)
    write_plan(tmp_path / "large.yaml", theirs, data={"input_size": [96, 96]})
    write_plan(tmp_path / "preset.yaml", theirs, detector={"decode": "yolov8"})
    before = listing(tmp_path)
    named = [str(theirs) if own == "FILE" else own for own in arguments]
    refused(sixfold(tmp_path, "quantize", *named, "--out", "out"), words)
    assert listing(tmp_path) == before
