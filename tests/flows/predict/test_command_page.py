"""The page on running a model holds: its code gives the boxes that `sixfold predict` gives."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from detection.boxes import fitted
from detection.checkpoint import Detector
from detection.data.pixels import read_pixels, size_in_header
from detection.export import export_onnx
from flows.predict.model import Model, open_model
from tests.flows.predict_factory import Predicted, write_best, write_pictures
from tests.places import ROOT

README, PAGE = ROOT / "README.md", ROOT / "docs/run-a-model.md"
FOLDER = Path("models/best/x86-onnxruntime-1t")
"""Where the page looks for the model."""
CORNERS = ("x1", "y1", "x2", "y2")
LINE = re.compile(r"(?P<name>.+) (?P<score>\S+): (?P<x1>\S+) (?P<y1>\S+) (?P<x2>\S+) (?P<y2>\S+)")


def write_detector(tiny_detector: Detector, folder: Path) -> Path:
    """The tiny detector as a recommended model; it is untrained, so its threshold is where some boxes pass."""
    write_best(folder, classes=tiny_detector.spec.classes)
    export_onnx(tiny_detector, folder / "model.onnx")
    return folder


def threshold_of(model: Model, picture: Path) -> float:
    """Midway between the 60th and the 61st best score of a picture: no rounding moves a box over it."""
    pixels = fitted(read_pixels(picture, size_in_header(picture, "refuse"), "refuse"), model.session.input_size)
    _, scores = model.reader.boxes_and_scores(model.session(model.reader.tensor(pixels)), model.session.input_size)
    last, first_left_out = np.sort(scores.ravel())[::-1][59:61]
    return float(last + first_left_out) / 2


@pytest.mark.parametrize("size", [(90, 200), (150, 151), (40, 50)], ids=["wide", "nearly square", "smaller than the input"])
def test_the_code_of_the_page_gives_the_boxes_of_predict(
    size: tuple[int, int],
    tiny_detector: Detector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exactly the block of the page, to 0.01 pixels: the same classes, scores and corners, best first."""
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path, "picture.png", size=size)
    write_detector(tiny_detector, FOLDER)
    threshold = threshold_of(open_model(str(FOLDER), None, None, 1), Path("picture.png"))
    card = (FOLDER / "model.json").read_text()
    (FOLDER / "model.json").write_text(card.replace('"score_threshold":0.35', f'"score_threshold":{threshold}'))

    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(code, str(README), "exec"), {})
    printed = [match for line in capsys.readouterr().out.splitlines() if (match := LINE.fullmatch(line))]

    found = Predicted(FOLDER, ["picture.png"], Path("drawn"))
    assert found.content["header"]["score_threshold"] == threshold
    expected = [(name, score, (x, y, x + width, y + height)) for name, score, (x, y, width, height) in found.boxes]
    own = [(match["name"], float(match["score"]), tuple(map(float, match.group(*CORNERS)))) for match in printed]
    assert len(own) == len(expected) > 5
    for (name, score, corners), (own_name, own_score, own_corners) in zip(expected, own, strict=True):
        assert own_name == name
        assert own_score == pytest.approx(score, abs=1e-3)
        assert own_corners == pytest.approx(corners, abs=0.01)


def test_the_answer_on_the_page_is_as_it_is_printed(tmp_path: Path) -> None:
    """The same words; numbers are of one machine."""
    images = write_pictures(tmp_path / "in", *(f"{number}.png" for number in range(12)))
    answer = Predicted(write_best(tmp_path / "x86"), [images], tmp_path / "out").lines[0]
    (shown,) = (line for line in PAGE.read_text().splitlines() if line.startswith("12 pictures, "))
    assert re.sub(r"[\d.]+", "N", answer.rpartition(":")[0]) == re.sub(r"[\d.]+", "N", shown.rpartition(":")[0])
