"""A user's code opened: from the copy alone, two versions next to each other, and what fails says where."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from detection.frozen import InputError
from detection.module.code_copy import MissingModuleError
from detection.module.user_code import UserCode, read_code, user_object
from tests.detection.module.projects import DETECTOR, REFERENCE, write
from tests.places import ROOT

LAZY = {
    "my_pkg/detector.py": """
        from my_pkg import eager

        class family:
            @staticmethod
            def build():
                from my_pkg.lazy import NAME
                import my_pkg.lazy as again
                return eager.NAME, NAME, again.NAME
        """,
}


def lazy(base: Path, name: str) -> UserCode:
    """Code whose function imports a module only when it runs."""
    texts = {f"my_pkg/{own}.py": f"NAME = '{name} {own}'" for own in ("eager", "lazy")}
    return read_code(REFERENCE, write(base, LAZY | texts), {})


def opened(base: Path, text: str, more: dict[str, str] | None = None) -> Any:
    """The family of `my_pkg/detector.py` with this text."""
    return user_object(read_code(REFERENCE, write(base, {"my_pkg/detector.py": text, **(more or {})}), {}))


def test_the_copy_is_imported(tmp_path: Path) -> None:
    """Not the file that was read: it may change, and the code opened stays what it was."""
    code = read_code(REFERENCE, write(tmp_path, DETECTOR), {})
    write(tmp_path, {"my_pkg/numbers_of_mine.py": "WIDTH = 1"})
    family = user_object(code)
    assert family.value == 32
    assert user_object(UserCode.model_validate_json(code.model_dump_json())) is family
    assert not Path(sys.modules["my_pkg.blocks"].__file__ or "").is_relative_to(tmp_path)
    assert str(tmp_path) not in sys.path


def test_a_submodule_may_be_the_family(tmp_path: Path) -> None:
    """`package:module`, in a package with and without `__init__.py`, whether imported before or not."""
    for package in ("with_init", "plain"):
        files = {f"{package}/mine.py": "value = 5"} | ({"with_init/__init__.py": ""} if package == "with_init" else {})
        assert user_object(read_code(f"{package}:mine", write(tmp_path, files), {})).value == 5


def test_two_versions_keep_to_themselves(tmp_path: Path) -> None:
    """The same module names twice: each function imports its own version, whichever was opened last."""
    first, second = (user_object(lazy(tmp_path / name, name)) for name in ("first", "second"))
    assert first.build() == ("first eager", "first lazy", "first lazy")
    assert second.build() == ("second eager", "second lazy", "second lazy")
    assert first.build() == ("first eager", "first lazy", "first lazy")
    assert user_object(lazy(tmp_path / "second", "second")) is second
    assert sys.modules["my_pkg.detector"].family is second


def test_a_script_keeps_what_it_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that works with the files themselves may open a copy of them as well; each imports its own, now and later."""
    text = "def family():\n    from scripted.lazy import NAME\n    return NAME"
    base = write(tmp_path, {"scripted/detector.py": text, "scripted/lazy.py": "NAME = 'copied'", "scripted/other.py": ""})
    code = read_code("scripted.detector:family", base, {})
    write(base, {"scripted/lazy.py": "NAME = 'of the script'"})
    monkeypatch.syspath_prepend(str(base))
    script = importlib.import_module("scripted.detector")
    family = user_object(code)
    assert (family(), script.family(), family()) == ("copied", "of the script", "copied")
    assert sys.modules["scripted.detector"] is script
    assert importlib.import_module("scripted.other")


def test_codes_without_common_names_stay_importable(tmp_path: Path) -> None:
    """And neither finds the other's modules in place of what it misses."""
    ours = opened(tmp_path / "a", "import importlib\ndef family():\n    return importlib.import_module('my_pkg.detector').family")
    code = read_code("another:family", write(tmp_path / "b", {"another.py": "import importlib\nfamily = 1"}), {})
    assert user_object(code) == 1
    assert ours() is ours
    assert sys.modules["another"].family == 1
    write(tmp_path / "c", {"third.py": "import importlib\nfamily = importlib.import_module('another')"})
    with pytest.raises(InputError, match=r"third.py:2: module another is missing"):
        user_object(read_code("third:family", tmp_path / "c", {}))
    assert ours() is ours


def test_one_module_is_loaded_once(tmp_path: Path) -> None:
    """What is imported again later is the same module, not a second one with a state of its own."""
    text = """
        from my_pkg import state
        def family():
            from my_pkg import state as again
            return state is again
        """
    assert opened(tmp_path / "a", text, {"my_pkg/state.py": ""})()
    own = sys.modules["my_pkg.detector"].family
    opened(tmp_path / "b", "family = 1")
    assert own()


@pytest.mark.parametrize("module", ["my_pkg.heads", "plugins"])
@pytest.mark.parametrize("on_path", [False, True])
def test_a_computed_import_fails_at_once(module: str, on_path: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the params file's folder is on sys.path, as it is on no worker; the message names the statement to write."""
    if on_path:
        monkeypatch.syspath_prepend(str(tmp_path))
    text = f"import importlib\n\nfamily = importlib.import_module('.'.join({module.split('.')}))"
    message = rf"my_pkg/detector\.py:3: module {module} is missing from the copy.*was not found by reading.*`import {module}`"
    with pytest.raises(InputError, match=message):
        opened(tmp_path, text, {"my_pkg/heads.py": "", "plugins.py": ""})
    assert opened(tmp_path, f"import {module}\n{text}").__name__ == module


def test_a_computed_import_that_comes_later_fails_with_the_same_words(tmp_path: Path) -> None:
    """As an ImportError that is an InputError, for code that does without and for the command line."""
    text = "import importlib\ndef family():\n    return importlib.import_module('my_pkg.' + 'heads')"
    with pytest.raises(MissingModuleError, match=r"module my_pkg\.heads is missing from the copy") as caught:
        opened(tmp_path, text, {"my_pkg/heads.py": ""})()
    assert isinstance(caught.value, ImportError)
    assert caught.value.name == "my_pkg.heads"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_code_may_do_without_a_module(tmp_path: Path) -> None:
    """An import that is caught is not an error, of a library or of the user's."""
    text = "try:\n    import my_pkg.no, never_installed\nexcept ImportError:\n    family = 'without'"
    assert opened(tmp_path, text) == "without"


def test_a_missing_attribute_is_told_with_the_nearest(tmp_path: Path) -> None:
    """After the module was imported, for it may be made in any way."""
    code = read_code("my_pkg.detector:famly", write(tmp_path, DETECTOR), {})
    with pytest.raises(InputError, match=r"my_pkg\.detector:famly: module my_pkg.detector has no attribute 'famly'; have family"):
        user_object(code)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("1 / 0", "ZeroDivisionError while your code is imported: division by zero"),
        ("raise SystemExit(2)", "SystemExit while your code is imported: 2"),
        ("from my_pkg import no_such", "ImportError while your code is imported: cannot import name 'no_such'"),
        ("@print\n@(1 / 0)\ndef f(): pass", "ZeroDivisionError"),
    ],
)
def test_an_exception_while_importing_is_told(statement: str, told: str, tmp_path: Path) -> None:
    """With type, message, and the line of the user's own file, whose comments the copy lacks; of the copy where that is gone."""
    text = f"# A comment.\n\n\nx = (\n    1,\n    2,\n)\n{statement}\n"
    path = tmp_path / "my_pkg" / "helper.py"
    code = read_code(
        REFERENCE, write(tmp_path, {"my_pkg/detector.py": "import my_pkg.helper\nfamily = 1", "my_pkg/helper.py": text}), {}
    )
    with pytest.raises(InputError, match=f"^{path}:8: {told}"):
        user_object(code)
    path.unlink()
    with pytest.raises(InputError, match=r"^my_pkg/helper\.py, `.*(raise|import|1 / 0)"):
        user_object(code)


def test_a_failed_import_leaves_nothing(tmp_path: Path) -> None:
    """The version before has its names again."""
    first = user_object(lazy(tmp_path / "first", "first"))
    with pytest.raises(InputError, match="ValueError"):
        opened(tmp_path / "second", "import my_pkg.eager\nraise ValueError('no')", {"my_pkg/eager.py": ""})
    assert sys.modules["my_pkg.detector"].family is first
    assert first.build() == ("first eager", "first lazy", "first lazy")


def test_a_missing_dependency_of_a_library_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that imports the library, and the name of what it lacks."""
    write(tmp_path / "site", {"odd_lib.py": "import lacking", "odd_lib-1.dist-info/METADATA": "Name: odd_lib\nVersion: 1\n"})
    monkeypatch.setattr("detection.module.import_names.distributions", lambda: {"odd_lib": ["odd_lib"]})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(InputError, match=r"detector\.py:1: .*lacking.*If it is a library, install it"):
        opened(tmp_path / "base", "import odd_lib\nfamily = 1")


def test_source_lines_of_the_copy_can_be_shown(tmp_path: Path) -> None:
    """Tracebacks and `inspect.getsource`, which torch.jit asks, find the statements."""
    family = opened(tmp_path, "def family():\n    # comment\n    raise KeyError('x')")
    with pytest.raises(KeyError) as caught:
        family()
    assert traceback.extract_tb(caught.tb)[-1].line == "raise KeyError('x')"


def test_it_opens_where_the_files_are_not(tmp_path: Path) -> None:
    """In another process, after the folder is gone: from JSON, with lazy imports and named files; and leaves no folder there."""
    text = """
        def family(spec):
            import my_pkg.late
            return spec["anchors"].read_text() + my_pkg.late.NAME
        """
    base = write(tmp_path / "base", {"my_pkg/detector.py": text, "my_pkg/late.py": "NAME = '!'", "anchors.txt": "10 13"})
    code = read_code(REFERENCE, base, {"anchors": {"file": "anchors.txt"}})
    base.rename(tmp_path / "moved")
    (tmp_path / "code.json").write_text(code.model_dump_json())
    (tmp_path / "temporary").mkdir()
    script = """
        import sys
        from pathlib import Path
        from detection.module.user_code import UserCode, only_named_files, own_spec, user_object
        code = UserCode.model_validate_json(Path("code.json").read_text())
        with only_named_files(code):
            print(user_object(code)(own_spec(code, {"anchors": {"file": "anchors.txt"}})))
        """
    done = subprocess.run(
        [sys.executable, "-c", dedent(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "temporary"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("10 13!\n", "")
    assert not list((tmp_path / "temporary").iterdir())
