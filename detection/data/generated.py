"""The default data: real handwritten digits over real photographs, composed into scenes, without any download.

Handwriting is scikit-learn's `load_digits` (UCI optical digits, 1,797 glyphs of 8x8), photographs are its two sample images.
Every glyph and every pixel of a photograph belongs to one split, so that nothing seen in training is met again in the test.
Glyphs are cut in the order of the collection, which goes writer by writer: most hands of the test never wrote for training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from detection.data.dataset import SPLITS, Split
from detection.data.labelled import Labelled, Picture
from detection.frozen import Frozen, PositiveInt, Share

CLASSES = tuple("0123456789")
GLYPH_SHARES: dict[Split, tuple[float, float]] = {"train": (0.0, 0.6), "val": (0.6, 0.8), "test": (0.8, 1.0)}
"""From where to where in the collection each split takes its glyphs."""
STRIPS: dict[Split, tuple[int, ...]] = {"train": (0, 2, 4), "val": (1,), "test": (3,)}
"""Which of five upright strips of each photograph belong to each split; interleaved, so that all see much the same scenery."""
INK = 0.3
"""Coverage above which a pixel counts as ink: of the object's extent, and of what hides others."""
ROOM = 0.8
"""Share of its contrast that ink must keep: on black it is never darker, on white never lighter."""
TRIES = 12
"""Places tried for an object before the scene goes without it."""

Floats = NDArray[np.float32]


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"{limits}: the first of (least, most) is the greater one")
    return limits


Range = Annotated[tuple[Annotated[float, Field(ge=0.0)], Annotated[float, Field(ge=0.0)]], AfterValidator(_ascending)]
"""(least, most), both included; drawn evenly unless said otherwise."""


class PictureCounts(Frozen):
    """Pictures per split; more of them leave the first ones as they were."""

    train: PositiveInt = 2000
    val: PositiveInt = 200
    test: PositiveInt = 400


class GeneratedSource(Frozen):
    """Composed scenes of handwritten digits; the defaults are hard enough that a small detector has something to lose."""

    kind: Literal["generated"] = "generated"
    pictures: PictureCounts = PictureCounts()
    picture_size: tuple[Annotated[int, Field(ge=32)], Annotated[int, Field(ge=32)]] = (96, 128)
    """(height, width) in pixels."""
    objects: Annotated[tuple[PositiveInt, PositiveInt], AfterValidator(_ascending)] = (1, 5)
    """(least, most) digits wanted in a picture; a crowded scene may end with fewer."""
    object_size_px: Range = (18.0, 44.0)
    """Longer side of a digit before it is turned; drawn evenly in its logarithm, so small ones are as common as large ones."""
    turn_deg: Annotated[float, Field(ge=0.0, le=30.0)] = 25.0
    """Most that a digit is turned to either side; bounded, or a 6 would become a 9."""
    contrast: Range = (70.0, 170.0)
    """How far the ink is from the mean of what it covers, in grey levels of 255."""
    opacity: Range = (0.85, 1.0)
    most_hidden: Share = 0.25
    """Share of a digit's ink that later ones may cover."""
    blur_px: Range = (0.0, 0.8)
    """Standard deviation of the Gaussian blur of a whole picture."""
    noise: Range = (0.0, 8.0)
    """Standard deviation of the noise on every pixel and channel, in grey levels of 255."""

    @model_validator(mode="after")
    def _fits(self) -> GeneratedSource:
        if not 8.0 <= self.object_size_px[0] <= self.object_size_px[1] <= min(self.picture_size) / 2:
            raise ValueError(
                f"object_size_px {self.object_size_px}: (least, most) must lie between 8, the size of a glyph, "
                f"and half the shorter side of picture_size {self.picture_size}"
            )
        if self.opacity[1] > 1.0:
            raise ValueError(f"opacity {self.opacity}: (least, most) must lie between 0 and 1")
        return self


def read_generated(source: GeneratedSource, seed: int) -> Labelled:
    """The scenes of every split, composed while they are iterated over."""
    return Labelled(CLASSES, {split: Scenes(source, seed, split) for split in SPLITS})


@dataclass(frozen=True)
class Scenes:
    """The pictures of one split; scene i depends on seed, split, i and the source's settings, not on how many there are."""

    source: GeneratedSource
    seed: int
    split: Split

    def __len__(self) -> int:
        return int(getattr(self.source.pictures, self.split))

    def __iter__(self) -> Iterator[Picture]:
        return (self.picture(index) for index in range(len(self)))

    def picture(self, index: int) -> Picture:
        """Scene number index, composed again."""
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index])
        pixels, boxes, labels = compose(self.source, material(self.split), rng)
        return Picture(
            file_name=f"{self.split}-{index:06d}.png",
            size=self.source.picture_size,
            boxes_xyxy_px=boxes,
            labels=labels,
            crowd=np.zeros(len(labels), dtype=np.bool_),
            pixels=lambda: pixels,
        )


class Material(NamedTuple):
    """What the scenes of one split are made of."""

    glyphs: tuple[Floats, ...]  # per class (n, 8, 8), coverage in [0, 1]
    photographs: tuple[NDArray[np.uint8], ...]  # strips of them, each (height, width, 3), RGB


@cache
def material(split: Split) -> Material:
    """The glyphs and photographs that belong to one split alone."""
    from sklearn.datasets import load_digits, load_sample_images  # slow, only needed here

    start, end = GLYPH_SHARES[split]
    digits = load_digits()
    own = slice(round(start * len(digits.images)), round(end * len(digits.images)))
    images, targets = (digits.images[own] / 16.0).astype(np.float32), digits.target[own]  # 16 ink levels
    pieces = sum(map(len, STRIPS.values()))
    strips = [np.array_split(photo, pieces, axis=1) for photo in load_sample_images().images]  # width is axis 1
    return Material(
        tuple(images[targets == label] for label in range(len(CLASSES))),
        tuple(photo[number] for photo in strips for number in STRIPS[split]),
    )


def compose(
    source: GeneratedSource, parts: Material, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64]]:
    """One scene: pixels (height, width, 3), tight boxes (n, 4) of the ink that can be seen, and labels (n,)."""
    canvas = _background(source, parts, rng)
    owner = np.full(source.picture_size, -1, dtype=np.int16)  # which object's ink is on top at each pixel
    labels: list[int] = []
    inks_px: list[int] = []
    for _ in range(rng.integers(source.objects[0], source.objects[1] + 1)):
        label = int(rng.integers(len(CLASSES)))
        coverage = _glyph(source, parts.glyphs[label], rng)
        window = _free_window(source, owner, inks_px, coverage > INK, rng)
        if window is None:
            continue
        _paint(source, canvas[window], coverage, rng)
        owner[window][coverage > INK] = len(labels)
        labels.append(label)
        inks_px.append(int((coverage > INK).sum()))
    boxes = [_extent(owner == number) for number in range(len(labels))]
    return _taken(source, canvas, rng), np.array(boxes, dtype=np.float64).reshape(-1, 4), np.array(labels, dtype=np.int64)


def _background(source: GeneratedSource, parts: Material, rng: np.random.Generator) -> Floats:
    """A random crop (height, width, 3) of a photograph, between half of and all that fits, mirrored or not, in a random light."""
    photo = parts.photographs[rng.integers(len(parts.photographs))]
    height_px, width_px = source.picture_size
    share = min(1.0, photo.shape[0] / height_px, photo.shape[1] / width_px) * rng.uniform(0.5, 1.0)
    rows, columns = max(1, int(height_px * share)), max(1, int(width_px * share))
    top, left = rng.integers(photo.shape[0] - rows + 1), rng.integers(photo.shape[1] - columns + 1)
    crop = photo[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    canvas = cv2.resize(np.ascontiguousarray(crop), (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    light = rng.uniform(0.6, 1.1) * rng.uniform(0.9, 1.1, 3)
    return np.asarray(np.clip(canvas * light, 0.0, 255.0), dtype=np.float32)


def _glyph(source: GeneratedSource, glyphs: Floats, rng: np.random.Generator) -> Floats:
    """Coverage in [0, 1] of one digit, scaled and turned, cut to its ink."""
    glyph = glyphs[rng.integers(len(glyphs))]
    left, top, right, bottom = _extent(glyph > INK)
    size_px = float(np.exp(rng.uniform(*np.log(source.object_size_px))))
    scale = size_px / max(right - left, bottom - top)
    turn = np.deg2rad(rng.uniform(-source.turn_deg, source.turn_deg))
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    side_px = int(1.5 * size_px) + 8  # room for the diagonal and for the soft edge
    centre = np.array([left + right - 1, top + bottom - 1]) / 2  # of the ink, where pixel centres are whole numbers
    shift = (side_px - 1) / 2 - linear @ centre
    drawn = cv2.warpAffine(glyph, np.column_stack([linear, shift]), (side_px, side_px), flags=cv2.INTER_CUBIC)
    edge = np.clip((drawn - 0.2) / 0.5, 0.0, 1.0)
    coverage = edge * edge * (3 - 2 * edge)  # smoothstep: 8x8 blobs become strokes
    left, top, right, bottom = _extent(coverage > INK)
    return np.asarray(coverage[top:bottom, left:right], dtype=np.float32)


def _free_window(
    source: GeneratedSource, owner: NDArray[np.int16], inks_px: list[int], ink: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[slice, slice] | None:
    """Rows and columns where the ink fits and hides too much of no object; None where none was found."""
    rows, columns = ink.shape
    for _ in range(TRIES):
        top, left = rng.integers(owner.shape[0] - rows + 1), rng.integers(owner.shape[1] - columns + 1)
        window = (slice(top, top + rows), slice(left, left + columns))
        after = owner.copy()
        after[window][ink] = -1
        seen_px = np.bincount(after[after >= 0], minlength=len(inks_px))
        if all(seen >= (1 - source.most_hidden) * whole for seen, whole in zip(seen_px, inks_px, strict=True)):
            return window
    return None


def _paint(source: GeneratedSource, canvas: Floats, coverage: Floats, rng: np.random.Generator) -> None:
    """Lay ink over this part of the canvas, in place, lighter or darker than what it covers."""
    below = canvas[coverage > INK].mean(0)  # (3,)
    step = rng.uniform(*source.contrast) * rng.uniform(0.5, 1.5, 3)  # a tint
    lighter, darker = np.clip(below + step, 0, 255), np.clip(below - step, 0, 255)
    room = np.array([(lighter - below).sum(), (below - darker).sum()]) / step.sum()  # what black and white leave of the contrast
    ink = lighter if room[0] > ROOM and (room[1] < ROOM or rng.random() < 0.5) else darker
    weight = (coverage * rng.uniform(*source.opacity))[..., None]
    canvas += weight * (ink - canvas)


def _taken(source: GeneratedSource, canvas: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The scene as a poor camera takes it: blurred and noisy, whole grey levels."""
    blur_px = rng.uniform(*source.blur_px)
    if blur_px > 0.05:  # below, the kernel is a single pixel anyway
        canvas = cv2.GaussianBlur(canvas, (0, 0), blur_px).astype(np.float32)
    noise = rng.standard_normal(canvas.shape, dtype=np.float32) * rng.uniform(*source.noise)
    return np.clip(np.rint(canvas + noise), 0, 255).astype(np.uint8)


def _extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Tight box xyxy of the set pixels, edges in pixels; the mask has at least one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
