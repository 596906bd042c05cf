"""Pictures are chosen by the control alone and drawn where the boxes are."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detection.boxes import fit_of
from flows.report.drawing import CLASS_COLOURS_RGB
from flows.report.pictures import chosen_rows, draw_pictures
from tests.flows.records_factory import INPUT_SIZE
from tests.flows.store_factory import perfect_detections, pictures


def test_rows_lie_at_equal_steps_of_rank() -> None:
    """Five of nine: every second rank from worst to best."""
    assert chosen_rows([0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.6, 0.4, 0.8], 5) == (1, 3, 2, 4, 0)


@pytest.mark.parametrize(("count", "expected"), [(0, ()), (1, (1,)), (9, (1, 2, 0))])
def test_few_pictures_are_all_shown(count: int, expected: tuple[int, ...]) -> None:
    """Asking for more than there are shows each once."""
    assert chosen_rows([0.9, 0.1, 0.5], count) == expected


def test_control_f1_worked_by_hand() -> None:
    """A missed picture scores 0; a perfect one 1; one right box and one false one beside one label 2/3."""
    images = pictures(count=3)
    results = perfect_detections(images, missed=(1,))
    results.append({"image_id": 3, "category_id": 1, "bbox": [0, 0, 3, 3], "score": 0.5})
    results.append({"image_id": 2, "category_id": 1, "bbox": [0, 0, 3, 3], "score": 0.2})  # below the threshold: not counted
    drawn = {picture.picture_id: picture.control_f1 for picture in draw_pictures(images, [results], 3, 0.35)}
    assert drawn == {1: 0.0, 2: 1.0, 3: pytest.approx(2 * 1 / (2 + 1))}  # picture 3 has one label (1 + 3 % 3)


def test_label_must_agree_and_a_box_is_matched_once() -> None:
    """A duplicate and a box of the other class are both false: 2 x 1 / (3 + 1)."""
    images = pictures(count=3)
    right = next(found for found in perfect_detections(images) if found["image_id"] == 3)
    wrong = right | {"category_id": 3 - right["category_id"]}
    drawn = draw_pictures(images, [[right, right | {"score": 0.8}, wrong]], 3, 0.35)
    assert {picture.picture_id: picture.control_f1 for picture in drawn}[3] == pytest.approx(0.5)


def test_winner_does_not_change_which_pictures_are_shown() -> None:
    """Other detections of the winner, same pictures."""
    images = pictures(count=8)
    control = perfect_detections(images, missed=(2, 5))
    shown = [
        [picture.picture_id for picture in draw_pictures(images, [control, winner], 4, 0.35)]
        for winner in (perfect_detections(images), [], perfect_detections(images, missed=(1, 3, 4)))
    ]
    assert shown[0] == shown[1] == shown[2]
    assert len(shown[0]) == 4


def test_each_picture_has_ground_truth_and_one_panel_per_result() -> None:
    """Panels decode to the letterboxed picture, enlarged by the whole factor 3."""
    picture = draw_pictures(pictures(), [[], []], 2, 0.35)[0]
    assert len(picture.panels) == 3
    assert _decoded(picture.panels[0]).shape == (INPUT_SIZE[0] * 3, INPUT_SIZE[1] * 3, 3)


def test_boxes_are_drawn_where_they_lie() -> None:
    """A box of the original picture lands, in its class colour, on the letterboxed and enlarged one."""
    images = pictures(count=1)  # 200 x 120 pictures in a 128 x 96 input: scale 0.64, 10 px of grey above
    found = {"image_id": 1, "category_id": 2, "bbox": [50, 50, 100, 50], "score": 0.9}
    panel = _decoded(draw_pictures(images, [[found]], 1, 0.35)[0].panels[1]).astype(int)
    bottom_px, middle_px = round((100 * 0.64 + images.fits[0].top_px) * 3), round(100 * 0.64 * 3)
    np.testing.assert_allclose(panel[bottom_px, middle_px], CLASS_COLOURS_RGB[1], atol=40)  # JPEG bleeds


def test_a_stretched_picture_is_shown_in_its_own_shape() -> None:
    """200 x 120 pictures filled an input of 128 x 96 (width, height); the page has them 384 wide and 230 high, boxes with them."""
    images = pictures(count=1)
    fits = tuple(fit_of((120, 200), INPUT_SIZE, "stretch") for _ in images.fits)
    images = dataclasses.replace(images, resize="stretch", fits=fits)
    found = {"image_id": 1, "category_id": 2, "bbox": [50, 50, 100, 50], "score": 0.9}
    panel = _decoded(draw_pictures(images, [[found]], 1, 0.35)[0].panels[1]).astype(int)
    assert panel.shape == (230, 384, 3)
    np.testing.assert_allclose(panel[round(100 * 1.92), round(100 * 1.92)], CLASS_COLOURS_RGB[1], atol=40)


def _decoded(uri: str) -> NDArray[Any]:
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
