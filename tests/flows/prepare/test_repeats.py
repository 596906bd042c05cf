"""The same picture in two splits is found by its pixels, and another picture is not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detection.boxes import fit_of, fitted
from detection.data.dataset import SPLITS
from flows.prepare.repeats import CANDIDATES, Repeat, Seen, difference_hash, near_hashes

SIZE, INPUT = (120, 200), (96, 128)
Pixels = NDArray[np.uint8]


def scene(seed: int) -> Pixels:
    """Smooth random blobs, as different as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def saved_again(picture: Pixels, quality: int = 30) -> Pixels:
    """What a JPEG of poor quality makes of it."""
    return np.asarray(
        cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR), np.uint8
    )


def repeats(train: list[Pixels], val: list[Pixels], test: list[Pixels]) -> list[Repeat]:
    """What is found in these splits of letterboxed pictures, named train0, train1 and so on."""
    seen, every = Seen(), {}
    for split, pictures in zip(SPLITS, (train, val, test), strict=True):
        packed = [fitted(own, INPUT) for own in pictures]
        for number, (picture, pixels) in enumerate(zip(pictures, packed, strict=True)):
            seen.add(split, f"{split}{number}", pixels, fit_of((picture.shape[0], picture.shape[1]), INPUT))
        every[split] = np.stack(packed)
    return list(seen.repeats(every))


def test_equal_and_alike_pictures_are_found_across_splits() -> None:
    """A copy, a picture saved again, one at half the size and one of other brightness; one in two earlier splits is told once."""
    same, poor, small, dark = map(scene, range(4))
    half = np.asarray(cv2.resize(small, (100, 60), interpolation=cv2.INTER_AREA), np.uint8)
    found = repeats(
        [scene(10), same, poor, small, dark],
        [saved_again(poor), scene(11)],
        [same.copy(), half, (dark * 0.95).astype(np.uint8), saved_again(poor, 80)],
    )
    assert found == [
        ("val0", "train2", False),
        ("test0", "train1", True),
        ("test1", "train3", False),
        ("test2", "train4", False),
        ("test3", "train2", False),
    ]


def test_other_pictures_are_not() -> None:
    """Forty scenes, a repeat within a split, and a scene in which an object moved: none is in two splits."""
    before, after = scene(50), scene(50)
    before[40:60, 40:60], after[40:60, 120:140] = 255, 255
    train, val, test = [scene(n) for n in range(20)], [scene(n) for n in range(20, 30)], [scene(n) for n in range(30, 40)]
    assert repeats([*train, train[0], before], [*val, after], test) == []


def test_plain_pictures_are_not_all_alike() -> None:
    """Noise on plain grey has one hash whatever its seed, and only equal brightness makes two of them alike."""
    plain = [np.full((*SIZE, 3), grey, np.uint8) for grey in (40, 120, 200)]
    noisy = [
        np.asarray(np.clip(own + np.random.default_rng(n).normal(0, 4, own.shape), 0, 255), np.uint8) for n, own in enumerate(plain)
    ]
    assert {difference_hash(np.asarray(cv2.cvtColor(own, cv2.COLOR_RGB2GRAY), np.uint8)) for own in noisy} == {0}
    assert repeats([noisy[0]], [noisy[1]], [noisy[2]]) == []
    assert repeats([noisy[0]], [noisy[1]], [plain[0]]) == [("test0", "train0", False)]


@pytest.mark.parametrize(("bits", "near"), [(0, True), (1, True), (2, True), (3, False)])
def test_hashes_are_near_up_to_two_bits(bits: int, near: bool) -> None:
    """Compared with counting the bits of every pair."""
    rng = np.random.default_rng(bits)
    others = rng.integers(0, 2**64, 50, dtype=np.uint64)
    flipped = sum(1 << int(bit) for bit in rng.choice(64, bits, replace=False))
    own = np.array([int(others[7]) ^ flipped], dtype=np.uint64)
    assert near_hashes(own, others) == ({0: [7]} if near else {})


def test_the_nearest_hashes_come_first_and_are_few() -> None:
    """Of a thousand equal hashes a few are looked at, and an equal one before one of another bit."""
    assert len(near_hashes(np.zeros(1, np.uint64), np.zeros(1000, np.uint64))[0]) == CANDIDATES
    assert near_hashes(np.array([5], np.uint64), np.array([4, 5, 9, 2**63], np.uint64)) == {0: [1, 0, 2]}


def test_the_hash_is_the_rise_of_grey_cells() -> None:
    """Lighter to the right in the upper half alone: the first 32 bits."""
    ramp = np.tile(np.arange(0, 252, 28, dtype=np.uint8).repeat(10), (80, 1))
    ramp[40:] = ramp[40:, ::-1]
    assert difference_hash(ramp) == 0xFFFFFFFF00000000
