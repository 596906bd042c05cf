"""A user's code as data: the same for the same statements, another for any change, and nothing of it left behind."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from detection.frozen import InputError
from detection.module import import_names
from detection.module.user_code import UserCode, own_spec, read_code
from tests.detection.module.projects import DETECTOR, REFERENCE, write


def read(base: Path, **changed: str) -> UserCode:
    """The code of a project whose `my_pkg/<name>.py` are these."""
    write(base, DETECTOR | {f"my_pkg/{name}.py": text for name, text in changed.items()})
    return read_code(REFERENCE, base, {})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of libraries with `My.Lib` 1.2, whose modules are `their_lib`, installed in editable mode from `project`."""
    folder = tmp_path / "site"
    about = {"METADATA": "Name: My.Lib\nVersion: 1.2\n", "top_level.txt": "their_lib\n", "RECORD": ""}
    origin = f'{{"url": "file://{tmp_path}/project", "dir_info": {{"editable": true}}}}'
    write(folder, {f"My.Lib-1.2.dist-info/{name}": text for name, text in (about | {"direct_url.json": origin}).items()})
    monkeypatch.syspath_prepend(str(folder))
    for cached in (import_names.distributions, import_names._editable_folder):
        cached.cache_clear()
    yield folder
    for cached in (import_names.distributions, import_names._editable_folder):
        cached.cache_clear()


def test_every_file_that_imports_lead_to_travels(tmp_path: Path) -> None:
    """Relative, absolute, in functions, submodules by `from`, packages on the way, plain folders; and no other file."""
    base = write(
        tmp_path,
        {
            "my_pkg/__init__.py": "from . import at_start",
            "my_pkg/at_start.py": "",
            "my_pkg/deep/__init__.py": "from .listed import *\n__all__ = ['starred', 'Nothing']",
            "my_pkg/deep/listed.py": "__all__ = ['not_a_module_here']",
            "my_pkg/deep/starred.py": "",
            "my_pkg/deep/not_a_module_here.py": "",
            "my_pkg/deep/detector.py": """
                import os.path
                from .. import sibling
                from ..plain.inner import thing
                class family:
                    def build(self):
                        import top_level
                        from my_pkg.deep import by_from, no_module
                        try:
                            import never_installed
                        except ImportError:
                            from my_pkg import fallback
            """,
            "my_pkg/sibling.py": "import my_pkg.chain.first",
            "my_pkg/chain/first.py": "from my_pkg.chain.second import x as y",
            "my_pkg/chain/second.py": "x = 1",
            "my_pkg/plain/inner.py": "thing = 1",
            "my_pkg/deep/by_from.py": "",
            "my_pkg/fallback.py": "",
            "top_level.py": "import my_pkg.deep.detector",
            "my_pkg/unused.py": "",
            "my_pkg/notes.txt": "",
        },
    )
    code = read_code("my_pkg.deep.detector:family", base, {})
    left = {"my_pkg/unused.py", "my_pkg/notes.txt", "my_pkg/deep/not_a_module_here.py"}
    assert list(code.files) == sorted({path.relative_to(base).as_posix() for path in base.rglob("*.*")} - left)
    assert code.libraries == {}


def test_two_machines_agree(tmp_path: Path) -> None:
    """Equal files in other folders, at other times, give the same bytes, in which no folder of the machine stands."""
    first, second = read(tmp_path / "a"), read(tmp_path / "elsewhere" / "b")
    assert first == second
    assert first.model_dump_json() == second.model_dump_json()
    assert str(tmp_path) not in first.model_dump_json()


def test_comments_and_layout_do_not_count(tmp_path: Path) -> None:
    """A comment, blank lines, quotes, brackets, line ends of another system and a byte order mark change nothing."""
    plain = read(tmp_path / "a", numbers_of_mine="WIDTH = 16\nNAMES = {'a': (1, 2)}\n")
    other = read(
        tmp_path / "b", numbers_of_mine='\ufeff# Why.\r\n\r\n\r\nWIDTH = (16)  # px\r\nNAMES = {\r\n    "a": (1, 2,),\r\n}\r\n'
    )
    assert plain == other
    assert plain.digest == other.digest


@pytest.mark.parametrize(
    "changed",
    [{"detector": "class family:\n    value = 33"}, {"blocks": "def width():\n    return 32"}, {"numbers_of_mine": "WIDTH = 17"}],
    ids=str,
)
def test_any_change_counts(changed: dict[str, str], tmp_path: Path) -> None:
    """In the module named, in what it imports, and a constant two imports away."""
    assert read(tmp_path / "a").digest != read(tmp_path / "b", **changed).digest


def test_it_survives_json_and_pickle(tmp_path: Path) -> None:
    """The copy that arrives is equal and has the same digest."""
    write(tmp_path, {"a.yaml": "1"})
    read(tmp_path)
    code = read_code(REFERENCE, tmp_path, {"anchors": {"file": "a.yaml"}})
    for again in (UserCode.model_validate_json(code.model_dump_json()), pickle.loads(pickle.dumps(code))):
        assert again == code
        assert again.digest == code.digest


def test_libraries_have_their_versions(tmp_path: Path) -> None:
    """By distribution, wherever imported; neither Python's modules nor ours, which have versions of their own."""
    code = read(
        tmp_path, numbers_of_mine="import json\nimport detection.boxes\nimport yaml\nWIDTH = 1", blocks="import numpy.linalg"
    )
    assert code.libraries == {"numpy": version("numpy")}
    code = read(tmp_path, numbers_of_mine="import json\nimport detection.boxes\nimport yaml\nWIDTH = 1")
    assert code.libraries == {"pyyaml": version("PyYAML")}


def test_what_does_not_run_is_not_asked_for(tmp_path: Path) -> None:
    """Imports for type checkers, of the file as a script, and such that the code does without."""
    text = """
        from typing import TYPE_CHECKING
        import typing
        if TYPE_CHECKING:
            import not_there
        if typing.TYPE_CHECKING:
            from my_pkg.not_there import x
        try:
            import not_there
        except (ImportError, OSError):
            import not_there_either
        if __name__ == "__main__":
            import not_there
        WIDTH = 16
    """
    assert read(tmp_path, numbers_of_mine=text).libraries == {}


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("import not_there", "numbers_of_mine.py:2: imports not_there, which is neither a file below .* nor an installed library"),
        ("import my_pgk", "imports my_pgk, .*; have my_pkg. Install it, correct the name"),
        ("from my_pkg.block import width", "numbers_of_mine.py:2: imports my_pkg.block, which is not below .*; have my_pkg.blocks"),
        ("from ... import x", "numbers_of_mine.py:2: a relative import above the packages"),
    ],
)
def test_imports_of_nothing_are_refused(statement: str, message: str, tmp_path: Path) -> None:
    """With file, line, what there is, and what to do."""
    with pytest.raises(InputError, match=message):
        read(tmp_path, numbers_of_mine=f"# comment\n{statement}\nWIDTH = 16\n")


@pytest.mark.parametrize(
    "reference", ["my_pkg.detector", "my_pkg/detector.py:family", ":family", "my_pkg.detector:", "a:b:c", "a..b:c"]
)
def test_a_reference_names_a_module_and_an_attribute(reference: str, tmp_path: Path) -> None:
    """Whatever else it looks like, the message shows the form."""
    with pytest.raises(InputError, match=r"not of the form module:attribute.*my_pkg\.detector:family"):
        read_code(reference, tmp_path, {})


@pytest.mark.parametrize(
    ("reference", "have"),
    [("my_pkg.detektor:family", "have my_pkg.detector"), ("mypkg.detector:family", "have my_pkg"), ("zzz:f", "have my_pkg")],
)
def test_a_missing_module_is_told_with_the_nearest(reference: str, have: str, tmp_path: Path) -> None:
    """A slip in any part of the name."""
    write(tmp_path, DETECTOR)
    with pytest.raises(InputError, match=f"no module .* below {tmp_path}, the params file's folder; {have}"):
        read_code(reference, tmp_path, {})
    with pytest.raises(InputError, match="no module"):
        read_code(reference, tmp_path / "nowhere", {})


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        *((f"{name}/__init__.py", "a package of sixfold") for name in sorted(import_names.OURS)),
        ("random.py", "a module of Python"),
        ("yaml/__init__.py", "in the installed distribution PyYAML"),
    ],
)
def test_a_name_that_is_taken_is_refused(path: str, owner: str, tmp_path: Path) -> None:
    """Whether the reference names it or a helper imports it, the message says whose it is and to rename the user's."""
    top = path.partition("/")[0].removesuffix(".py")
    write(tmp_path, {path: "family = 1"})
    message = f"{tmp_path / path.partition('/')[0]}: {top} is also {owner}.*Rename yours"
    with pytest.raises(InputError, match=message):
        read_code(f"{top}:family", tmp_path, {})
    with pytest.raises(InputError, match=message):
        read(tmp_path, numbers_of_mine=f"import {top}\nWIDTH = 1")


def test_a_plain_folder_takes_no_librarys_place(tmp_path: Path) -> None:
    """`yaml/` with files of the user's next to the params file: `import yaml` is the library, as it is for Python."""
    write(tmp_path, {"yaml/mine.py": ""})
    assert "pyyaml" in read(tmp_path, numbers_of_mine="import yaml\nWIDTH = 1").libraries


def test_the_checkout_may_hold_the_params_file() -> None:
    """Our own packages next to it are not the user's."""
    assert import_names.is_ours("detection", import_names.CHECKOUT / "detection" / "__init__.py")
    with pytest.raises(InputError, match="is also a package of sixfold"):
        read_code("detection.frozen:Frozen", import_names.CHECKOUT, {})


def test_an_editable_library_is_refused(installed: Path, tmp_path: Path) -> None:
    """Its version stays while its files change."""
    with pytest.raises(InputError, match=r"numbers_of_mine.py:1: their_lib is installed in editable mode from .*project.*Link"):
        read(tmp_path / "base", numbers_of_mine="import their_lib\nWIDTH = 1")
    (installed / "My.Lib-1.2.dist-info" / "direct_url.json").unlink()
    import_names._editable_folder.cache_clear()
    assert read(tmp_path / "base", numbers_of_mine="import their_lib\nWIDTH = 1").libraries == {"my-lib": "1.2"}


def test_ones_own_project_may_be_installed(installed: Path, tmp_path: Path) -> None:
    """In editable mode from the params file's folder, or linked into it: its files travel."""
    write(tmp_path / "project", {"their_lib/__init__.py": "family = 1"})
    assert list(read_code("their_lib:family", tmp_path / "project", {}).files) == ["their_lib/__init__.py"]
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "their_lib").symlink_to(tmp_path / "project" / "their_lib")
    assert list(read_code("their_lib:family", tmp_path / "base", {}).files) == ["their_lib/__init__.py"]
    write(tmp_path / "other", {"their_lib.py": "family = 1"})
    with pytest.raises(InputError, match=r"their_lib is also in the installed distribution My\.Lib"):
        read_code("their_lib:family", tmp_path / "other", {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# comment\nWIDTH = = 1\n", r"numbers_of_mine.py:2: no Python 3\.\d+: invalid syntax"),
        (b"WIDTH = 1\nreturn WIDTH\n", "numbers_of_mine.py:2: no Python .*'return' outside function"),
        (b"WIDTH = 1\0\n", "numbers_of_mine.py:.*null bytes"),
        ("NAME = 'größe'\n".encode("latin-1"), "numbers_of_mine.py: byte 10 is not UTF-8"),
        (b"WIDTH = 1\n" + b"#" * 1_000_000, r"numbers_of_mine.py: 1\.0 MB of Python; 1 MB is allowed"),
    ],
    ids=["grammar", "return", "zero", "latin-1", "large"],
)
def test_what_is_no_python_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    """With the file, the line where there is one, and what is wrong."""
    write(tmp_path, DETECTOR)
    (tmp_path / "my_pkg" / "numbers_of_mine.py").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_code(REFERENCE, tmp_path, {})


def test_a_model_zoo_is_refused(tmp_path: Path) -> None:
    """200 files travel, 201 do not."""
    write(tmp_path, {f"m{i}.py": f"import m{i + 1}" for i in range(199)} | {"m199.py": "family = 1"})
    assert len(read_code("m0:family", tmp_path, {}).files) == 200
    write(tmp_path, {"m199.py": "import m200", "m200.py": ""})
    with pytest.raises(InputError, match=r"m199.py:1: the imports lead to more than 200 files.*model zoo"):
        read_code("m0:family", tmp_path, {})


def test_a_link_out_of_the_folder_is_read(tmp_path: Path) -> None:
    """It travels under its own name."""
    write(tmp_path / "elsewhere", {"shared.py": "family = 1"})
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "mine.py").symlink_to(tmp_path / "elsewhere" / "shared.py")
    assert read_code("mine:family", tmp_path / "base", {}).files == {"mine.py": "family = 1"}


def test_files_that_the_spec_names_travel(tmp_path: Path) -> None:
    """At any depth; `build` gets paths to copies that lie to each other as the files did; their content counts."""
    write(tmp_path, {"a.yaml": "1", "plans/tables/b.yaml": "2", "plans/detector.py": "family = 1"})
    spec = {"width": 3, "a": {"file": "../a.yaml"}, "rest": [{"file": "./tables/b.yaml"}, {"deep": {"file": "tables/b.yaml"}}]}
    code = read_code("detector:family", tmp_path / "plans", spec)
    assert code.data == {"../a.yaml": base64.b64encode(b"1").decode(), "tables/b.yaml": base64.b64encode(b"2").decode()}
    own = own_spec(code, spec)
    first, second = own["a"], own["rest"][0]
    assert own == {"width": 3, "a": first, "rest": [second, {"deep": second}]}
    assert (first.read_text(), second.read_text()) == ("1", "2")
    assert first.parent == second.parents[2]
    assert not first.is_relative_to(tmp_path / "plans")
    write(tmp_path, {"a.yaml": "changed"})
    assert read_code("detector:family", tmp_path / "plans", spec).digest != code.digest
    with pytest.raises(InputError, match=r"'c\.yaml' did not travel with the code; have \.\./a\.yaml, tables/b\.yaml"):
        own_spec(code, {"a": {"file": "c.yaml"}})


@pytest.mark.parametrize(
    "spec", [{"file": "a.yaml"}, {"x": {"file": "a.yaml", "more": 1}}, {"x": {"file": 3}}, {"x": "a.yaml"}], ids=str
)
def test_only_a_file_alone_is_a_file(spec: dict[str, str], tmp_path: Path) -> None:
    """The spec itself may have a setting of that name; what has other keys is the user's own."""
    write(tmp_path, {"a.yaml": "1", "detector.py": "family = 1"})
    code = read_code("detector:family", tmp_path, spec)
    assert code.data == {}
    assert own_spec(code, spec) == spec


def test_files_that_cannot_travel_are_refused(tmp_path: Path) -> None:
    """Missing, a folder, outside by an absolute path, or too large."""
    write(tmp_path, {"detector.py": "family = 1", "folder/a": "", "large": "x" * 10_000_001})
    for path, message in {
        "missing": "no such file",
        "folder": "a folder",
        f"{tmp_path}/detector.py": "write its path relative to the params file",
        "large": r"10\.0 MB; 10 MB are allowed.*detector\.weights",
    }.items():
        with pytest.raises(InputError, match=rf"detector\.spec: file '{path}'.*{message}"):
            read_code("detector:family", tmp_path, {"x": {"file": path}})


def test_reading_executes_nothing(tmp_path: Path) -> None:
    """Not even the module that the reference names."""
    text = f"from pathlib import Path\nPath({str(tmp_path / 'trace')!r}).touch()\nfamily = 1\n"
    read(tmp_path, detector=text)
    assert not (tmp_path / "trace").exists()
