"""How an unknown file is fed: a detector that finds coloured squares by exact numbers, trained in every way there is."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detection.boxes import Resize
from detection.data.labelled import Picture
from detection.file_interface.declaration import Decoding
from detection.file_interface.interface import FileInterface, PictureForm
from detection.file_interface.presets import Shapes, fitting
from detection.frozen import InputError
from flows.inspect.choose import Choice, choose
from flows.inspect.feeding import COLOURS, DECLARED, NUMBERS, RESIZES, Feeding, feedings
from flows.inspect.search import ROUNDS, USUAL_RUN_S
from tests.flows.inspect import squares
from tests.flows.inspect.encoding import encoded
from tests.flows.inspect.squares import PURPLE_AND_GREEN, SIZE, SquareFinder, pictures

YOLOV8: Shapes = {"output0": (1, 7, 60)}
DETR: Shapes = {"logits": (1, 60, 3), "boxes": (1, 60, 4)}
FEEDINGS = feedings("float32", 3, PictureForm(), "letterbox")
PLAIN = PictureForm()
Call = Callable[[NDArray[Any]], Sequence[NDArray[Any]]]


def saying(finder: SquareFinder, decoding: Decoding, shapes: Shapes) -> Call:
    """A file that says what is found in this way."""
    classes = len(finder.colours)
    return lambda tensor: list(encoded(decoding, shapes, SIZE, classes, finder(tensor)).values())


def chosen(
    seen: list[Picture], finder: SquareFinder, shapes: Shapes = YOLOV8, call: Call | None = None, declared: PictureForm = PLAIN,
    names: Sequence[str] | None = None, wanted: int = 0, channels: int = 3, **more: Any,
) -> Choice:  # fmt: skip
    """What is chosen for a file whose outputs mean the one of the fitting decodings that is wanted."""
    classes = len(finder.colours)
    candidates = fitting(shapes, SIZE, classes)
    file = FileInterface(
        layout=finder.layout, dtype=finder.dtype, picture=PLAIN, outputs=tuple(shapes), decoding=candidates[0][1], classes=classes,
    )  # fmt: skip
    ways = feedings(finder.dtype, channels, declared, "letterbox")
    call = call or saying(finder, candidates[wanted][1], shapes)
    return choose(file, call, SIZE, ways, candidates, seen, names or tuple(finder.colours), **more)


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
    """Queries that give each object once: suppression finds nothing to do, so the file is read without it."""
    wanted = next(own for own, (name, _) in enumerate(fitting(DETR, SIZE, 3)) if name == "detr")
    found = chosen(pictures(12), SquareFinder(PLAIN), DETR, wanted=wanted)
    assert (found.preset, found.decoding.select, found.rivals) == ("detr", "best", ())
    assert sum(own.tried is not None and own.tried.map_50 == 1.0 for own in found.read) == 2


def test_another_reading_that_does_as_well_is_told() -> None:
    """Logits of a softmax, read as sigmoids: the same order of detections, other scores."""
    shapes = {"logits": (1, 60, 4), "boxes": (1, 60, 4)}
    softmax = next(
        own for own, (_, decoding) in enumerate(fitting(shapes, SIZE, 3))
        if (decoding.scores.form, decoding.scores.background, decoding.scores.outputs) == ("softmax", "last", ("logits",))
    )  # fmt: skip
    found = chosen(pictures(12), SquareFinder(PLAIN), shapes, wanted=softmax)
    assert found.decoding.scores.form == "softmax"
    assert [(own.preset, own.decoding.scores.form, own.difference.mean) for own in found.rivals] == [("detr", "sigmoid", 0.0)]


def noise(tensor: NDArray[Any]) -> list[NDArray[Any]]:
    """What an untrained network says: something else of every picture."""
    generator = np.random.default_rng(int(np.abs(tensor).sum()) % 2**32)
    boxes, scores = generator.uniform(0, 100, (4, 60)), generator.uniform(0, 1, (3, 60))
    return [np.concatenate([boxes, scores])[None].astype(np.float32)]


def test_random_weights_fit_nothing() -> None:
    """After twelve pictures it is said which comes nearest, and what to look at."""
    with pytest.raises(
        InputError, match=r"none of 6 ways of reading .* is the least\)\. Are these pictures of what it was trained"
    ):
        chosen(pictures(12), SquareFinder(PLAIN), call=noise)


def test_classes_in_another_order_fit_nothing_and_are_named_as_the_cause() -> None:
    """Boxes are right, classes never are."""
    with pytest.raises(
        InputError, match=r"Where classes do not count, yolov8 reaches 1\.000: list `detector.classes` in the order"
    ):
        turned = [replace(own, labels=(own.labels + 1) % 3) for own in pictures(12)]
        chosen(turned, SquareFinder(PLAIN))


def test_a_class_that_is_never_found_is_among_the_classes() -> None:
    """Two of three classes exchanged: the third still carries the choice, and the others have no accuracy."""
    turned = [replace(own, labels=np.array([1, 0, 2])[own.labels]) for own in pictures(24)]
    found = chosen(turned, SquareFinder(PLAIN))
    assert [name for name in found.boxes if not found.accuracy.per_class[name]] == ["red", "olive"]
    assert sum(found.boxes.values()) == sum(len(own.labels) for own in turned)


@pytest.mark.parametrize(("run_s", "most"), [(0.01, 356), (USUAL_RUN_S, 356), (10 * USUAL_RUN_S, 110)])
def test_a_slow_network_looks_at_fewer_pictures(run_s: float, most: int) -> None:
    """A network of 2 GFLOP takes 0.1 s a run: 356 runs are 36 s. No outputs are kept from one run to the next."""
    call = saying(SquareFinder(PLAIN), fitting(YOLOV8, SIZE, 3)[0][1], YOLOV8)
    alive: list[weakref.ref[NDArray[Any]]] = []

    def counted(tensor: NDArray[Any]) -> Sequence[NDArray[Any]]:
        assert not [own for own in alive if own() is not None]
        outputs = call(tensor)
        alive.extend(weakref.ref(own) for own in outputs)
        return outputs

    found = chosen(pictures(60, shapes=((2, 1), (1, 2))), SquareFinder(PLAIN), call=counted, run_s=run_s)
    assert len(alive) <= most
    assert found.pictures == (48 if run_s <= USUAL_RUN_S else ROUNDS[-1].least)
    assert found.feeding.form == PLAIN
