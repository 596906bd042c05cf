"""The shape of the project: which package may import which, who owns the heavy libraries, and how large a file may be."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from detection.families import FAMILIES

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "detection": {"detection"},
    "hardware_profiles": {"hardware_profiles"},
    "compressors": {"compressors", "detection", "hardware_profiles"},
    "flows": {"flows", "compressors", "detection", "hardware_profiles"},
    "studies": {"studies", "flows", "compressors", "detection", "hardware_profiles"},
    "examples": {"examples", "detection"},
    "sixfold": {"sixfold", "detection"},
}
SOURCES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
OWNERS = {
    "ray": "flows/grid/",
    "mlflow": "flows/tracking/mlflow_client.py",
    "transformers": "detection/transformers/",
    "huggingface_hub": "detection/transformers/",
}
UNSAFE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
UNSAFE_CALLS = {"torch.load", "torch.save", "torch.jit.load", "yaml.load", "yaml.unsafe_load"}
MOST_LINES = 350
"""About 300 is the habit; beyond this a file is two files."""
HEAVY = ("torch", "ray", "mlflow", "onnxruntime", "openvino", "nncf", "plotly", "optuna", "cv2", "hotcoco", "transformers")


def name(path: Path) -> str:
    """Relative to the checkout, for test ids and messages."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """The file's syntax."""
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    """Every module a file imports anywhere: at the top, inside functions, for types only, or by name through importlib."""
    package = name(path).removesuffix(".py").split("/")[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("import_module", "importlib.import_module", "__import__"):
            yield from (
                argument.value for argument in node.args if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            )


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in a fresh interpreter after a statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_there_are_sources_to_look_at() -> None:
    """Each package has files, or every other test here would be empty."""
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(MAY_IMPORT)
    assert len(SOURCES) > 40


def test_imports_go_one_way() -> None:
    """detection and hardware_profiles import none of ours but themselves, compressors those two, flows all; none imports tests."""
    wrong: list[str] = []
    for path in SOURCES:
        package = path.relative_to(ROOT).parts[0]
        refused = {*MAY_IMPORT, "tests"} - MAY_IMPORT[package]
        found = sorted({module for module in imported(path) if module.partition(".")[0] in refused})
        wrong += [f"{name(path)} imports {found}; {package} may import only {sorted(MAY_IMPORT[package])}"] if found else []
    assert not wrong, "\n".join([*wrong, "Move what they need down."])


@pytest.mark.parametrize("family", FAMILIES)
def test_nobody_knows_the_inside_of_a_family(family: str) -> None:
    """Only the table of families names its module; who needs something of a detector asks `detection.family` for it."""
    package = FAMILIES[family].rpartition(".")[0]
    inside = re.compile(rf"{re.escape(package)}(\.\w+)*")
    wrong: list[str] = []
    for path in SOURCES:
        if path.is_relative_to(ROOT / package.replace(".", "/")):
            continue
        named = {node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        found = sorted(module for module in {*imported(path), *named} if inside.fullmatch(module))
        wrong += [f"{name(path)} names {found}"] if found else []
    assert wrong == [f"detection/families.py names {[FAMILIES[family]]}"], "\n".join(wrong)


@pytest.mark.parametrize(("library", "owner"), OWNERS.items())
def test_one_place_knows_the_library(library: str, owner: str) -> None:
    """Ray, MLflow and transformers stay at the rim: replacing one touches one file, or one folder."""
    users = {name(path) for path in SOURCES if any(module.partition(".")[0] == library for module in imported(path))}
    assert users
    assert all(user.startswith(owner) for user in users), f"only {owner} imports {library}, not {sorted(users)}"


def test_nothing_is_pickled() -> None:
    """A file from a store or a colleague must not be able to run code: no pickle, no torch.load of more than tensors."""
    wrong = [f"{name(path)}: {found}" for path in SOURCES if (found := sorted(unsafe(path)))]
    assert not wrong, "\n".join(wrong)


def unsafe(path: Path) -> Iterator[str]:
    """What in a file could run code that it reads."""
    for module in imported(path):
        if module.partition(".")[0] in UNSAFE or module in UNSAFE_CALLS:
            yield module
    tensors_alone = {node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and _loads_tensors_alone(node)}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and node not in tensors_alone and (call := ast.unparse(node)) in UNSAFE_CALLS:
            yield call
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            yield ast.unparse(node)


def _loads_tensors_alone(call: ast.Call) -> bool:
    """Whether torch reads nothing but tensors and plain containers, by an unpickler of its own."""
    return any(keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True" for keyword in call.keywords)


def test_files_are_short_and_say_what_they_are() -> None:
    """Every source file has a docstring, fits in a few screens, and postpones annotations as all the others do."""
    wrong: list[str] = []
    for path in SOURCES:
        lines = len(path.read_text().splitlines())
        wrong += [] if ast.get_docstring(tree(path)) else [f"{name(path)} has no docstring"]
        wrong += [f"{name(path)} has {lines} lines; split it where the picture gets clearer"] if lines > MOST_LINES else []
        late = len(tree(path).body) == 1 or "__future__.annotations" in set(imported(path))
        wrong += [] if late else [f"{name(path)} does not postpone annotations"]
    assert not wrong, "\n".join(wrong)


def test_no_vague_modules() -> None:
    """Files are named by what they hold."""
    assert not {path.stem for path in SOURCES} & {"utils", "util", "common", "helpers", "misc", "manager"}


def test_the_command_line_starts_light() -> None:
    """`sixfold --help` and a mistyped verb must not wait for torch, Ray or MLflow."""
    heavy = loaded_by("import flows.cli.main") & set(HEAVY)
    assert not heavy, f"importing flows.cli.main loads {sorted(heavy)}; import them where they are used"


def test_scripts_of_users_start_light() -> None:
    """`import sixfold` in a script that may never call it loads nothing heavy."""
    assert not loaded_by("import sixfold") & {*HEAVY, "numpy", "pydantic"}


@pytest.mark.parametrize(
    "module", ["detection.boxes", "detection.evaluation", "flows.measure.worker", "hardware_profiles.timing.round"]
)
def test_rounds_of_measure_run_without_torch(module: str) -> None:
    """Torch in the measured process would count as the detector's memory."""
    loaded = loaded_by(f"import {module}")
    assert "numpy" in loaded
    assert not loaded & {"torch", "ray", "mlflow", "hotcoco"}


@pytest.mark.parametrize("module", ["flows.grid.stage", "flows.measure.stage", "flows.report.stage"])
def test_stages_load_neither_ray_nor_mlflow_by_themselves(module: str) -> None:
    """Both take seconds; they are loaded when a task or a run needs them."""
    assert not loaded_by(f"import {module}") & {"ray", "mlflow"}


def test_a_stage_has_one_word() -> None:
    """DVC stage, folder of flows and verb of the command line are the same word; its section of params.yaml as well."""
    import yaml
    from typer.main import get_command

    from flows.cli.main import app
    from flows.sweep.params import Params

    verbs = set(get_command(app).commands)  # type: ignore[attr-defined]
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    environment = stages.pop("environment")  # not a stage of the work: what `doctor` sees
    assert environment["cmd"].startswith("sixfold doctor ")
    assert stages.pop("inputs")["cmd"].split()[:2] == ["sixfold", "inputs"]  # nor this: what else DVC cannot see
    assert list(stages) == ["prepare", "teacher", "grid", "measure", "report"]
    for stage, about in stages.items():
        assert about["cmd"].split()[:2] == ["sixfold", stage]
        assert stage in verbs
        assert (ROOT / "flows" / stage / "stage.py").is_file()
        assert (stage if stage != "prepare" else "data") in Params.model_fields


def test_stages_depend_on_what_dvc_cannot_see() -> None:
    """Params, data, code or profiles: each stage on the file that tells of what it reads."""
    import yaml

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    written = {path for output in stages["inputs"]["outs"] for path in output}
    told = {stage: [path for path in about.get("deps", ()) if path in written] for stage, about in stages.items()}
    assert {stage: paths for stage, paths in told.items() if paths} == {
        stage: [f"results/inputs/{stage}.json"] for stage in ("prepare", "teacher", "grid", "measure", "report")
    }


def test_tests_mirror_the_packages() -> None:
    """A test file lies where its module does and is named after it, or after its folder: test_<module>[_<theme>].py."""
    tests = [path for package in MAY_IMPORT for path in (ROOT / "tests" / package).rglob("test_*.py")]
    modules = {name(path) for path in SOURCES} | {"compressors/versions.py"}  # of the table of versions in planning/graph.py
    stems = {
        module.removesuffix(".py").replace("__init__", Path(module).parent.name).replace("__main__", "main") for module in modules
    }
    wanted = {path: path.with_name(path.stem.removeprefix("test_")).relative_to(ROOT / "tests").as_posix() for path in tests}
    lost = [name(path) for path, own in wanted.items() if not any(own == stem or own.startswith(f"{stem}_") for stem in stems)]
    assert tests
    assert not lost, f"{lost}: no module of that name"
