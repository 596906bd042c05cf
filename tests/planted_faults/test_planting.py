"""The planting of faults: where it finds its snippets after a refactoring, and what it refuses to guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted_faults.planting import Fault, StaleError, named_files, pattern_of, planted, read_faults, standing
from tests.planted_faults.run import ROOT, failures_in

FAULT = Fault(
    name="off", kind="off-by-one", claim="", file="flows/a.py", find="last - first + 1", replace="last - first",
    tests=("tests/flows/test_a.py",),
)  # fmt: skip


def tree(folder: Path, **files: str) -> Path:
    """A checkout with these files; a double underscore stands for a slash."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_snippet_is_replaced_where_it_is_named(tmp_path: Path) -> None:
    """Only there, whoever else has it; the rest of the file stays."""
    there = tree(tmp_path, flows__a="def length(first, last):\n    return last - first + 1\n", flows__b="x = last - first + 1\n")
    assert planted(FAULT, there) == (there / "flows/a.py", "def length(first, last):\n    return last - first\n")


def test_a_file_that_moved_is_found_by_its_snippet(tmp_path: Path) -> None:
    """Renamed or split, as long as one file has the snippet."""
    there = tree(tmp_path, flows__deep__b="x = last - first + 1\n", flows__a="nothing = 0\n")
    assert planted(FAULT, there)[0] == there / "flows/deep/b.py"


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"flows__a": "x = 0\n"}, "nor has any other file"),
        ({"flows__a": "x = last - first + 1\ny = last - first + 1\n"}, "has the snippet 2 times"),
        ({"flows__b": "x = last - first + 1\n", "flows__c": "x = last - first + 1\n"}, "2 other files have it"),
    ],
)
def test_what_is_not_in_one_place_is_stale(files: dict[str, str], why: str, tmp_path: Path) -> None:
    """Nobody guesses where the fault belongs."""
    with pytest.raises(StaleError, match=why):
        planted(FAULT, tree(tmp_path, **files))


def test_every_fault_of_the_list_can_be_planted() -> None:
    """A changed line takes its snippet along, or nobody would notice that the fault is not looked for any more."""
    stale = dict[str, str]()
    for fault in read_faults("now"):
        try:
            planted(standing(fault, ROOT), ROOT)
        except StaleError as error:
            stale[fault.name] = str(error)
    assert not stale


def test_a_fault_that_is_no_python_is_stale(tmp_path: Path) -> None:
    """A syntax error would be caught by everything, and say nothing about the tests."""
    fault = Fault(**vars(FAULT) | {"replace": "last - )"})
    with pytest.raises(StaleError, match="would not be Python"):
        planted(fault, tree(tmp_path, flows__a="x = last - first + 1\n"))


@pytest.mark.parametrize(
    ("snippet", "text", "is_there"),
    [
        ("f(a, b)", "f(\n    a,\n    b,\n)", True),
        ("yield a\nb()", "    yield a\n    b()", True),
        ("LIMIT = 25", "LIMIT = 255", False),
        ("size = 1", "oversize = 1", False),
        ("return x", "returnx", False),
        ('{"a": 1}', '{ "a" : 1 }', True),
    ],
)
def test_layout_does_not_count(snippet: str, text: str, is_there: bool) -> None:
    """Spaces, line breaks and trailing commas may change; words and numbers may not."""
    assert bool(pattern_of(snippet).search(text)) == is_there


def test_further_lines_are_indented_like_the_first(tmp_path: Path) -> None:
    """The list has snippets without the indent of where they stand."""
    fault = Fault(**vars(FAULT) | {"replace": "last\nfirst = 0"})
    there = tree(tmp_path, flows__a="def f(last, first):\n    x = last - first + 1\n    return x\n")
    assert planted(fault, there)[1] == "def f(last, first):\n    x = last\n    first = 0\n    return x\n"


def test_a_test_file_that_moved_is_found_by_its_name(tmp_path: Path) -> None:
    """One of that name; where there are two, or none, the others named are left. Without any the fault is stale."""
    assert named_files(FAULT, tree(tmp_path / "one", tests__deep__test_a="")) == ["tests/deep/test_a.py"]
    two = Fault(**vars(FAULT) | {"tests": ("tests/test_gone.py", "tests/test_b.py")})
    assert named_files(two, tree(tmp_path / "left", tests__test_b="")) == ["tests/test_b.py"]
    for name, files in {"none": ["tests__test_b"], "two": ["tests__x__test_a", "tests__y__test_a"]}.items():
        with pytest.raises(StaleError, match=r"tests/flows/test_a\.py"):
            named_files(FAULT, tree(tmp_path / name, **dict.fromkeys(files, "")))


def test_the_form_that_fits_the_tree_is_planted(tmp_path: Path) -> None:
    """While a change is on its way, an entry may hold the fault for the tree before and after it."""
    after = Fault(**vars(FAULT) | {"find": "count(first, last)", "replace": "count(first, last) - 1"})
    both = Fault(**vars(FAULT) | {"others": (after,)})
    assert standing(both, tree(tmp_path / "old", flows__a="x = last - first + 1", tests__flows__test_a="")) == both
    assert standing(both, tree(tmp_path / "new", flows__a="x = count(first, last)", tests__flows__test_a="")) == after
    with pytest.raises(StaleError, match="last - first"):
        standing(both, tree(tmp_path / "none", flows__a="x = 0", tests__flows__test_a=""))


def test_failed_tests_are_named_as_pytest_takes_them(tmp_path: Path) -> None:
    """Failed, broken in a fixture, or a file that could not be collected; what passed or was skipped is not among them."""
    (tmp_path / "junit.xml").write_text(
        '<testsuites><testsuite><testcase classname="tests.a.test_b" name="test_c[1 - 2]"><failure message=""/></testcase>'
        '<testcase classname="tests.a.test_b" name="test_d"><error message=""/></testcase>'
        '<testcase classname="" name="tests.test_e"><error message="collection failure"/></testcase>'
        '<testcase classname="tests.a" name="f"><skipped/></testcase>'
        '<testcase classname="tests.a" name="g"/></testsuite></testsuites>'
    )
    assert failures_in(tmp_path / "junit.xml") == [
        "tests/a/test_b.py::test_c[1 - 2]",
        "tests/a/test_b.py::test_d",
        "tests/test_e.py",
    ]


@pytest.mark.parametrize("layout", ["now", "before"])
def test_the_list_is_sound(layout: str) -> None:
    """Forty faults and more of twenty kinds, in every package; each changes something and names its tests."""
    faults = read_faults(layout)
    assert len(faults) >= 40
    assert len({fault.kind for fault in faults}) >= 20
    assert {fault.file.partition("/")[0] for fault in faults} == {"detection", "hardware_profiles", "compressors", "flows"}
