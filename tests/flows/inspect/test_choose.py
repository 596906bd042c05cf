"""How an unknown file is fed: a detector that finds coloured squares by exact numbers, trained in every way there is."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detection.boxes import Detections, Resize, fitted
from detection.data.labelled import Picture
from detection.file_interface.declaration import Decoding
from detection.file_interface.interface import FileInterface, PictureForm
from detection.file_interface.presets import Shapes, fitting
from flows.inspect import search
from flows.inspect.choose import Choice, NoFitError, choose
from flows.inspect.feeding import COLOURS, DECLARED, NUMBERS, RESIZES, Feeding, feedings
from flows.inspect.search import ROUNDS, USUAL_LOOK_S
from flows.inspect.trials import NOTHING
from tests.flows.inspect import squares
from tests.flows.inspect.encoding import encoded
from tests.flows.inspect.square_file import OWN_SHAPE
from tests.flows.inspect.squares import PURPLE_AND_GREEN, SIZE, SquareFinder, pictures

YOLOV8: Shapes = {"output0": (1, 7, 60)}
DETR: Shapes = {"logits": (1, 60, 3), "boxes": (1, 60, 4)}
FEEDINGS = feedings("float32", 3, PictureForm(), "letterbox")
PLAIN = PictureForm()
MIDDLE = np.array([[80.0, 60.0, 176.0, 132.0]])
"""In a picture of 192 x 256 pixels."""
Call = Callable[[NDArray[Any]], Sequence[NDArray[Any]]]


def saying(finder: SquareFinder, decoding: Decoding, shapes: Shapes) -> Call:
    """A file that says what is found in this way."""
    classes = len(finder.colours)
    return lambda tensor: list(encoded(decoding, shapes, SIZE, classes, finder(tensor)).values())


def chosen(
    seen: list[Picture], finder: SquareFinder, shapes: Shapes = YOLOV8, call: Call | None = None, declared: PictureForm = PLAIN,
    wanted: int = 0, channels: int = 3, own: Decoding | None = None,
) -> Choice:  # fmt: skip
    """What is chosen for a file whose outputs mean the one of the fitting decodings that is wanted; the plan declares its `own`."""
    classes = len(finder.colours)
    candidates = fitting(shapes, SIZE, classes)
    file = FileInterface(
        layout=finder.layout, dtype=finder.dtype, picture=PLAIN, outputs=tuple(shapes), decoding=candidates[0][1], classes=classes,
    )  # fmt: skip
    ways = feedings(finder.dtype, channels, declared, "letterbox")
    call = call or saying(finder, candidates[wanted][1], shapes)
    read = candidates if own is None else [(DECLARED, own), *(pair for pair in candidates if pair[1] != own)]
    return choose(file, call, SIZE, ways, read, seen, tuple(finder.colours), own)


@pytest.mark.parametrize("true", FEEDINGS, ids=str)
def test_the_true_feeding_is_chosen_and_every_part_of_it_decided(true: Feeding) -> None:
    """Whatever the detector was trained with: its numbers, its order of colours, its way to resize."""
    found = chosen(pictures(12, true.resize), SquareFinder(true.form))
    assert found.feeding == true
    assert [(axis.name, axis.decided) for axis in found.axes] == [("numbers", True), ("colour", True), ("resize", True)]
    assert (found.preset, found.accuracy.map_50, found.rivals) == ("yolov8", 1.0, ())
    assert len(found.fed) == len(NUMBERS) * len(COLOURS) * len(RESIZES)


@pytest.mark.parametrize("resize", RESIZES)
def test_pictures_of_the_inputs_own_shape_do_not_tell_how_to_resize(resize: Resize) -> None:
    """Both ways give the same tensor: it is run once, the plan's own way is kept, and the part is named as undecided."""
    runs: list[int] = []
    finder = SquareFinder(PLAIN)
    call = saying(finder, fitting(YOLOV8, SIZE, 3)[0][1], YOLOV8)
    seen = pictures(12, shapes=((2, 2),))
    ways = feedings("float32", 3, PLAIN, resize)
    candidates = fitting(YOLOV8, SIZE, 3)
    file = FileInterface(
        layout="nchw", dtype="float32", picture=PLAIN, outputs=("output0",), decoding=candidates[0][1], classes=3
    )  # fmt: skip
    found = choose(file, lambda own: runs.append(1) or call(own), SIZE, ways, candidates, seen, tuple(squares.COLOURS))
    assert found.feeding == Feeding("0 to 1", "rgb", resize, PLAIN)
    assert {axis.name: axis.decided for axis in found.axes} == {"numbers": True, "colour": True, "resize": False}
    assert len(runs) < 28 / 2 * 4 + 8 * 8


def test_colours_that_are_the_same_in_either_order_leave_the_order_undecided() -> None:
    """Purple and green; what the plan declares is kept."""
    for declared in (PLAIN, PictureForm(colour="bgr")):
        found = chosen(pictures(12, colours=PURPLE_AND_GREEN), SquareFinder(PLAIN, colours=PURPLE_AND_GREEN), declared=declared,
                       shapes={"output0": (1, 6, 60)})  # fmt: skip
        assert found.feeding.form == declared
        assert {axis.name: axis.decided for axis in found.axes} == {"numbers": True, "colour": False, "resize": True}


def test_numbers_that_only_the_plan_knows_are_found() -> None:
    """A mean and deviation of the user's own, in the wrong order of colours."""
    own = PictureForm(scale=1.0, mean=(90.0, 80.0, 70.0), std=(50.0, 40.0, 30.0))
    true = own.model_copy(update={"colour": "bgr"})
    found = chosen(pictures(12), SquareFinder(true), declared=own)
    assert found.feeding == Feeding(DECLARED, "bgr", "letterbox", true)
    assert all(axis.decided for axis in found.axes)


@pytest.mark.parametrize(
    ("dtype", "layout", "parts"),
    [
        ("uint8", "nchw", ["colour", "resize"]),
        ("uint8", "nhwc", ["colour", "resize"]),
        ("float16", "nhwc", ["numbers", "colour", "resize"]),
    ],
)  # fmt: skip
def test_any_type_and_layout_is_fed(dtype: str, layout: str, parts: list[str]) -> None:
    """Bytes have no numbers to choose."""
    form = PictureForm(colour="bgr")
    found = chosen(pictures(12), SquareFinder(form, dtype, layout))
    assert found.feeding.form == form
    assert [axis.name for axis in found.axes if axis.decided] == parts


def test_a_grey_input_is_fed_grey() -> None:
    """Three classes by three greys, of numbers from -1 to 1."""
    greys = {"dark": (20, 20, 20), "light": (200, 200, 200), "white": (250, 250, 250)}
    form = PictureForm(colour="grey", scale=127.5, mean=(1.0,))
    found = chosen(pictures(12, colours=greys), SquareFinder(form, colours=greys), channels=1)
    assert (found.feeding.form, found.accuracy.map_50) == (form, 1.0)
    assert [(axis.name, axis.decided) for axis in found.axes] == [("numbers", True), ("resize", True)]


def test_equal_detections_count_as_one_and_the_simpler_reading_is_taken() -> None:
    """Queries that give each object once: suppression finds nothing to do; the file is read without it, unless that is declared."""
    wanted = next(own for own, (name, _) in enumerate(fitting(DETR, SIZE, 3)) if name == "detr")
    found = chosen(pictures(12), SquareFinder(PLAIN), DETR, wanted=wanted)
    assert (found.preset, found.decoding.select, found.rivals) == ("detr", "best", ())
    assert sum(own.tried is not None and own.tried.map_50 == 1.0 for own in found.read) == 2
    suppressed = next(own.decoding for own in found.read if own.tried and own.decoding != found.decoding)
    found = chosen(pictures(12), SquareFinder(PLAIN), DETR, wanted=wanted, own=suppressed)
    assert (found.decoding, found.decoding.select, found.as_declared) == (suppressed, "nms", True)


def test_detections_of_classes_that_no_picture_has_do_not_matter(capfd: pytest.CaptureFixture[str]) -> None:
    """The evaluation would warn of each."""
    seen = [replace(own, boxes_xyxy_px=own.boxes_xyxy_px[own.labels < 2], labels=own.labels[own.labels < 2],
                    crowd=own.crowd[own.labels < 2]) for own in pictures(12)]  # fmt: skip
    assert chosen(seen, SquareFinder(PLAIN)).accuracy.map_50 == 1.0
    assert "hotcoco" not in capfd.readouterr().err


def test_the_plans_own_way_of_feeding_is_compared_to_the_end() -> None:
    """All 28 do equally well, but for one picture in which the plan's own finds nothing: five go into the last round."""
    seen, reading = pictures(12, shapes=OWN_SHAPE), fitting(YOLOV8, SIZE, 3)[0][1]
    said = {}
    for form, (number, own) in product({own.form: None for own in FEEDINGS}, enumerate(seen)):
        file = FileInterface(layout="nchw", dtype="float32", picture=form, outputs=("output0",), decoding=reading, classes=3)
        scores = np.full(len(own.labels), 0.9, np.float32)
        found = Detections((own.boxes_xyxy_px / 2).astype(np.float32), scores, own.labels)
        said[file.tensor(fitted(own.pixels(), SIZE)).tobytes()] = NOTHING if form == PLAIN and number == 0 else found

    def call(tensor: NDArray[Any]) -> list[NDArray[Any]]:
        return list(encoded(reading, YOLOV8, SIZE, 3, said[tensor.tobytes()]).values())

    choice = chosen(seen, SquareFinder(PLAIN), call=call)
    assert choice.feeding == FEEDINGS[0]
    assert not any(own.decided for own in choice.axes)


SOFTMAX: Shapes = {"logits": (1, 60, 4), "boxes": (1, 60, 4)}
SOFTMAX_FITS = [
    own
    for own in fitting(SOFTMAX, SIZE, 3)
    if own[1].scores.outputs == ("logits",) and own[1].scores.background == "last" and own[1].scores.form != "as_is"
]
"""Softmax and sigmoid with the background last."""


@pytest.mark.parametrize("declared", [None, "softmax", "sigmoid"])
def test_another_reading_that_does_as_well_is_told_and_the_declared_one_stays(declared: str | None) -> None:
    """Logits of a softmax, read as sigmoids: the same order of detections, other scores. Without a declaration it stays open."""
    forms = {own.scores.form: own for _, own in SOFTMAX_FITS}
    wanted = [own for _, own in fitting(SOFTMAX, SIZE, 3)].index(forms["softmax"])
    found = chosen(pictures(12), SquareFinder(PLAIN), SOFTMAX, wanted=wanted, own=forms[declared] if declared else None)
    taken = declared or "softmax"
    assert (found.decoding.scores.form, found.as_declared) == (taken, declared is not None)
    assert [(own.preset, own.decoding.scores.form, own.difference.mean) for own in found.rivals] == [
        ("detr", "sigmoid" if taken == "softmax" else "softmax", 0.0)
    ]
    assert found.beaten is None


def test_a_preset_that_finds_more_than_what_is_declared_is_taken_and_told() -> None:
    """The plan says shares of the input, the file gives pixels; and a reading that the values contradict is beaten too."""
    fits = [own for _, own in fitting(YOLOV8, SIZE, 3)]
    shares = next(own for own in fits if own.boxes.unit == "share")
    logits = shares.model_copy(update={"scores": shares.scores.model_copy(update={"form": "sigmoid"})})
    for declared in (shares, logits):
        found = chosen(pictures(12), SquareFinder(PLAIN), own=declared)
        assert (found.decoding, found.as_declared) == (fits[0], False)
        assert found.beaten is not None
        assert found.beaten.decoding == declared
        assert found.beaten.difference.high < -0.9
        read = next(own for own in found.read if own.decoding == declared)
        assert (read.tried.pictures if read.tried else None) == (found.pictures if declared == shares else None)


def noise(tensor: NDArray[Any]) -> list[NDArray[Any]]:
    """What an untrained network says: something else of every picture."""
    generator = np.random.default_rng(int(np.abs(tensor).sum()) % 2**32)
    boxes, scores = generator.uniform(0, 100, (4, 60)), generator.uniform(0, 1, (3, 60))
    return [np.concatenate([boxes, scores])[None].astype(np.float32)]


def test_random_weights_fit_nothing() -> None:
    """After twelve pictures it is said which comes nearest, and what to look at."""
    with pytest.raises(
        NoFitError, match=r"none fits: none of 6 ways of reading .* is the least\)\. Are these pictures of what it was"
    ):
        chosen(pictures(12), SquareFinder(PLAIN), call=noise)


def test_what_does_not_depend_on_the_picture_fits_nothing() -> None:
    """An untrained network that says the same of every picture is right about an object that is always in the middle."""
    colours = {"red": (230, 30, 40)}
    seen = [replace(own, boxes_xyxy_px=MIDDLE * own.size[0] / 192, labels=np.zeros(1, np.int64), crowd=np.zeros(1, np.bool_))
            for own in pictures(12, shapes=((2, 2),))]  # fmt: skip
    said = Detections(MIDDLE.astype(np.float32) / 2, np.array([0.9], np.float32), np.zeros(1, np.int64))
    shapes: Shapes = {"output0": (1, 5, 60)}
    outputs = list(encoded(fitting(shapes, SIZE, 1)[0][1], shapes, SIZE, 1, said).values())
    with pytest.raises(NoFitError, match=r"mAP50 1\.000; detections of another picture find as much\)\. Is the file trained\?"):
        chosen(seen, SquareFinder(PLAIN, colours=colours), shapes, lambda _: outputs)


def test_classes_in_another_order_fit_nothing_and_are_named_as_the_cause() -> None:
    """Boxes are right, classes never are: it is said which is found as which, and the ways of reading come with the message."""
    turned = [replace(own, labels=(own.labels + 1) % 3) for own in pictures(12)]
    with pytest.raises(
        NoFitError, match=r"classes do not count, yolov8 reaches 1\.000; red is found as sky; olive .* order"
    ) as told:
        chosen(turned, SquareFinder(PLAIN))
    assert [own.preset for own in told.value.read][:2] == ["yolov8", "yolov8"]


def test_exchanged_classes_are_named() -> None:
    """Two of three: the third still carries the choice."""
    turned = [replace(own, labels=np.array([1, 0, 2])[own.labels]) for own in pictures(24)]
    assert chosen(turned, SquareFinder(PLAIN)).mistaken == {"red": "olive", "olive": "red"}
    assert chosen(pictures(24), SquareFinder(PLAIN)).mistaken == {}


def test_a_class_that_is_taken_for_another_that_is_found_is_no_wrong_order() -> None:
    """A weak detector that calls everything red."""
    call = saying(SquareFinder(PLAIN), fitting(YOLOV8, SIZE, 3)[0][1], YOLOV8)

    def red(tensor: NDArray[Any]) -> list[NDArray[Any]]:
        output = np.array(call(tensor)[0])
        output[:, 4:] = np.stack([output[:, 4:].max(1), *np.zeros_like(output[:, 5:]).transpose(1, 0, 2)], 1)
        return [output]

    found = chosen(pictures(24), SquareFinder(PLAIN), call=red)
    assert found.accuracy.per_class["sky"] == 0.0
    assert found.mistaken == {}


@pytest.mark.parametrize("declared", [PLAIN, PictureForm(colour="bgr")])
def test_a_part_that_val_does_not_decide_stays_as_in_the_plan(declared: PictureForm) -> None:
    """The detector finds squares in either order of colours, but those of one picture only in the other than the plan's."""
    eyes = {own: SquareFinder(PictureForm(colour=own)) for own in COLOURS}
    other = "bgr" if declared.colour == "rgb" else "rgb"
    seen, reading = pictures(12), fitting(YOLOV8, SIZE, 3)[0][1]
    file = FileInterface(layout="nchw", dtype="float32", picture=declared, outputs=("output0",), decoding=reading, classes=3)
    missed = file.tensor(fitted(seen[0].pixels(), SIZE))

    def call(tensor: NDArray[Any]) -> list[NDArray[Any]]:
        found = max((eyes[declared.colour](tensor), eyes[other](tensor)), key=lambda own: len(own.labels))
        found = NOTHING if np.array_equal(tensor, missed) else found
        return list(encoded(reading, YOLOV8, SIZE, 3, found).values())

    found = chosen(seen, SquareFinder(PLAIN), call=call, declared=declared)
    assert found.feeding.form == declared
    colour = next(own for own in found.axes if own.name == "colour")
    assert (colour.value, colour.other, colour.planned, colour.decided) == (declared.colour, other, declared.colour, False)
    assert colour.difference.mean > 0


@pytest.mark.parametrize(("look_s", "most"), [(0.01, 356), (USUAL_LOOK_S, 356), (10 * USUAL_LOOK_S, 110)])
def test_a_slow_network_looks_at_fewer_pictures(look_s: float, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of 2 GFLOP takes 0.1 s a look: 356 looks are 36 s. No outputs are kept from one look to the next."""
    monkeypatch.setattr(search, "process_time", lambda: look_s * len(alive))
    call = saying(SquareFinder(PLAIN), fitting(YOLOV8, SIZE, 3)[0][1], YOLOV8)
    alive: list[weakref.ref[NDArray[Any]]] = []

    def counted(tensor: NDArray[Any]) -> Sequence[NDArray[Any]]:
        assert not [own for own in alive if own() is not None]
        outputs = call(tensor)
        alive.extend(weakref.ref(own) for own in outputs)
        return outputs

    found = chosen(pictures(60, shapes=((2, 1), (1, 2))), SquareFinder(PLAIN), call=counted)
    assert len(alive) <= most
    assert found.pictures == (48 if look_s <= USUAL_LOOK_S else ROUNDS[-1].least)
    assert found.feeding.form == PLAIN
