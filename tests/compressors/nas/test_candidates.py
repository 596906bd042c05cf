"""A candidate is judged by the first pictures of the val split, with their own truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressors.nas.candidates import Candidate, Judge, val_map_of
from compressors.nas.supernet import Supernet
from detection.boxes import Array
from detection.checkpoint import Detector
from detection.costs import count_macs
from detection.data.dataset import Images
from detection.evaluation import Pixels, accuracy, as_planes, detect
from detection.family import family_named
from detection.spec import Spec
from tests.detection.variants import lively

RECALIBRATED, JUDGED = 6, 3


class Oracle(nn.Module):
    """A supernet and its only network, which knows the objects of some pictures, and so much of their width; it sees no others."""

    device = torch.device("cpu")
    family = replace(
        family_named("compact"), raw=lambda network, images: network(images), decode=lambda network, row: network.decode(row)
    )

    def __init__(self, images: Images, known: Iterable[int], width_share: float = 1.0) -> None:
        super().__init__()
        self.images, self.known, self.width_share, self.place = images, set(known), width_share, nn.Parameter(torch.zeros(1))
        self.extracted: list[tuple[Spec, Tensor]] = []

    def extract(self, spec: Spec, recalibration: Tensor) -> Oracle:
        self.extracted.append((spec, recalibration))
        return self

    def forward(self, planes: Tensor) -> list[int]:
        """The rows of the pictures."""
        stored = {as_planes(pixels).tobytes(): row for row, pixels in enumerate(self.images.pixels)}
        return [stored[own.numpy().tobytes()] for own in planes]

    def decode(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """As many boxes for each picture as the fullest has objects; what is not one has no score."""
        most = max(map(len, self.images.labels))
        boxes, scores = torch.zeros(len(rows), most, 4), torch.zeros(len(rows), most, len(self.images.classes))
        for place, row in enumerate(rows):
            labels = self.images.labels[row]
            own = torch.from_numpy(self.images.boxes_xyxy_px[row]).clone()
            own[:, 2] = own[:, 0] + self.width_share * (own[:, 2] - own[:, 0])
            boxes[place, : len(own)] = own
            scores[place, range(len(own)), labels] = float(row in self.known)
        return boxes, scores


def judge(supernet: Any, train: Images, val: Images, judged: int = JUDGED, seed: int = 0) -> Judge:
    return Judge(cast(Supernet, supernet), train, val, (RECALIBRATED, judged), seed)


@pytest.fixture
def spec(tiny_detector: Detector) -> Spec:
    return tiny_detector.spec


def test_only_the_first_pictures_judge_and_with_their_own_truth(tiny_train: Images, tiny_val: Images) -> None:
    """Three of eight: their pixels, boxes and places, and neither pictures nor annotations of the five that were cut."""
    own = judge(Oracle(tiny_val, ()), tiny_train, tiny_val).val
    assert len(own) == len(own.pixels) == len(own.labels) == len(own.fits) == JUDGED < len(tiny_val)
    np.testing.assert_array_equal(own.pixels, tiny_val.pixels[:JUDGED])
    np.testing.assert_array_equal(np.concatenate(own.labels), np.concatenate(tiny_val.labels[:JUDGED]))
    np.testing.assert_array_equal(np.concatenate(own.boxes_xyxy_px), np.concatenate(tiny_val.boxes_xyxy_px[:JUDGED]))
    ids = tiny_val.picture_ids[:JUDGED]
    truth, whole = own.ground_truth, tiny_val.ground_truth
    assert own.picture_ids == tuple(picture["id"] for picture in truth["images"]) == ids
    assert truth["annotations"] == [one for one in whole["annotations"] if one["image_id"] in ids] != whole["annotations"]
    assert truth["categories"] == whole["categories"]
    assert sum(len(boxes) for boxes in own.boxes_xyxy_px) == len(truth["annotations"])


@pytest.mark.parametrize("pictures", [8, 9])
def test_a_short_split_judges_as_a_whole(pictures: int, tiny_train: Images, tiny_val: Images) -> None:
    """Where as many are asked for as there are, or more, all eight judge."""
    assert judge(Oracle(tiny_val, ()), tiny_train, tiny_val, pictures).val is tiny_val


@pytest.mark.parametrize("pictures", [JUDGED, 8])
def test_perfect_detections_score_one(pictures: int, spec: Spec, tiny_train: Images, tiny_val: Images) -> None:
    """Who finds all objects of the pictures that judge is given 1; who overlooks those of one is given less; who sees none, 0."""
    known = range(pictures)
    reached = [judge(Oracle(tiny_val, rows), tiny_train, tiny_val, pictures)(spec) for rows in (known, known[1:], ())]
    assert reached[0] == pytest.approx(1.0)
    assert 0.0 < reached[1] < 0.95
    assert reached[2] == 0.0


def test_narrow_boxes_score_less(spec: Spec, tiny_train: Images, tiny_val: Images) -> None:
    """By hand: boxes of .82 of the width overlap by .82: enough at seven of the ten thresholds of COCO, from .5 to .8."""
    narrow = Oracle(tiny_val, range(JUDGED), width_share=0.82)
    assert judge(narrow, tiny_train, tiny_val)(spec) == pytest.approx(0.7)


def test_normalisations_are_recalibrated_on_training_pictures(spec: Spec, tiny_train: Images, tiny_val: Images) -> None:
    """Six different ones, as they are stored, the same for every candidate; another seed takes others."""
    oracle = Oracle(tiny_val, ())
    own = judge(oracle, tiny_train, tiny_val)
    own(spec)
    own(spec)
    (asked, first), (_, again) = oracle.extracted
    assert asked == spec
    assert first is again is own.recalibration
    seen = np.rint(first.numpy() * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    rows = [[row for row, pixels in enumerate(tiny_train.pixels) if np.array_equal(pixels, picture)] for picture in seen]
    assert [len(own) for own in rows] == [1] * RECALIBRATED
    assert len({row for (row,) in rows}) == RECALIBRATED
    assert not torch.equal(judge(oracle, tiny_train, tiny_val, seed=1).recalibration, first)
    assert own.pictures_each == RECALIBRATED + JUDGED


@pytest.mark.parametrize("at_once", [1, 3, 8, 16])
def test_pictures_together_are_judged_as_one_by_one(
    at_once: int, tiny_val: Images, tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight pictures, so many at a time: the mAP of a runtime that sees one picture at a time, each with its own truth."""
    network, seen = lively(tiny_detector.spec).network(), list[int]()
    family = replace(tiny_detector.family, raw=lambda network, planes: seen.append(len(planes)) or network(planes))

    def infer(picture: Pixels) -> tuple[Array, Array]:
        with torch.no_grad():
            boxes, scores = tiny_detector.family.decode(network, network(torch.from_numpy(as_planes(picture[0]))))
        return boxes.numpy(), scores.numpy()

    monkeypatch.setattr("compressors.nas.candidates.JUDGED_AT_ONCE", at_once)
    monkeypatch.setattr("compressors.nas.candidates.family_of", lambda _spec: family)
    expected = accuracy(tiny_val.ground_truth, detect(infer, tiny_val)).map_50_95
    assert val_map_of(tiny_detector.spec, network, tiny_val) == pytest.approx(expected, rel=1e-3)
    assert expected > 0
    assert seen == [at_once] * (8 // at_once) + ([8 % at_once] if 8 % at_once else [])


def test_a_record_says_what_was_found(tiny_detector: Detector) -> None:
    """Architecture, accuracy and latency as they are, and the multiply-adds of that very network."""
    spec = tiny_detector.spec
    narrow = spec.having(spec.settings.model_copy(update={"neck_width": 8}))
    record = Candidate(narrow, 0.25, 0.5).as_record()
    assert record.pop("architecture") == narrow.settings.model_dump()
    assert record.pop("macs") == count_macs(narrow) < count_macs(spec)
    assert record == {"supernet_val_map": 0.25, "estimated_latency_s": 0.5}
