"""No crash ends with an exit code that has a meaning: damaged files, faults of our own, Ctrl-C, a pipe that closes."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detection.frozen import InputError
from flows.check.baseline import accept
from flows.cli import errors
from flows.cli.errors import CODES, exit_code
from flows.records.schema import LatencyFile, write_records
from hardware_profiles.runtimes.table import SessionError
from tests.flows.cli_runner import Sixfold, refused
from tests.flows.records_factory import latency_file, measured_row
from tests.flows.sweep_factory import Sweep, listing
from tests.places import ROOT
from tests.programs import surroundings

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"
)  # MLflow's own use of SQLAlchemy 2.1
PROFILE = "x86-onnxruntime-1t"
NO_UTF8 = b'{"schema": 1, "sweep": "\xff"}'


def latency_of(sweep: Sweep) -> LatencyFile:
    """A measured row for every cell, those that are not the control twice as fast."""
    rows = [measured_row(cell.cell, PROFILE, 0.01 if cell.cell == "none" else 0.005, 0.01) for cell in sweep.cells.cells]
    return latency_file(rows)


@pytest.fixture(scope="module")
def finished(swept: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The tiny sweep with latencies, a recommendation and a baseline of itself. Read it only."""
    own = swept.copied_to(tmp_path_factory.mktemp("finished") / "sweep")
    latency = latency_of(own)
    write_records(own.folder / "results/latency.json", latency)
    accept("main", own.cells, latency, own.store, own.folder / "baselines")
    command = [sys.executable, "-c", "from flows.cli.main import main; main()", "report", "--no-tracking"]
    subprocess.run(command, cwd=own.folder, env=surroundings(ROOT), check=True, capture_output=True)
    return own


@pytest.fixture
def broken(finished: Sweep, tmp_path: Path) -> Sweep:
    """A copy to be broken."""
    return finished.copied_to(tmp_path / "broken")


def cut(path: Path) -> None:
    """Half of a file is lost, as on a disk that was full."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    """All of a file is lost, as after a power failure."""
    path.write_bytes(b"")


def no_text(path: Path) -> None:
    """A byte that is not UTF-8."""
    path.write_bytes(NO_UTF8)


GRID = ("grid", "--executor", "inline", "--no-tracking")
COMMANDS = {
    "plan": ("plan",),
    "teacher": ("teacher",),
    "grid": GRID,
    "measure": ("measure", "--no-tracking"),
    "report": ("report", "--no-tracking"),
    "check": ("check",),
    "accept": ("check", "--accept", "again"),
    "compare": ("compare", "none", "pruning"),
    "retrain": ("retrain", "--executor", "inline", "--seeds", "1"),
}
DAMAGE = [
    ("data/prepared/prepared.json", no_text, "plan teacher grid measure report check compare retrain", "sixfold prepare"),
    ("data/prepared/test.json", cut, "report check compare", "sixfold prepare"),
    ("data/prepared/test.npy", cut, "report check compare", "sixfold prepare"),
    ("data/prepared/test.npy", empty, "report check", "sixfold prepare"),
    ("data/prepared/val.json", no_text, "measure compare", "sixfold prepare"),
    ("data/prepared/val.npy", empty, "measure", "sixfold prepare"),
    ("results/cells.json", no_text, "measure report check accept compare", "Run `sixfold grid` again."),
    ("results/cells.json", empty, "measure report check accept compare", "Run `sixfold grid` again."),
    ("results/latency.json", no_text, "report check accept compare", "Run `sixfold measure` again."),
    ("results/latency.json", cut, "report check accept compare", "Run `sixfold measure` again."),
    ("results/report/recommendation.json", no_text, "retrain", "Run `sixfold report` again."),
    (".sixfold/store/nodes/*/*/model.onnx", cut, "measure", "Run `sixfold grid` again"),
    (".sixfold/store/scores/*/*/manifest.json", no_text, "report accept", "Run `sixfold grid` again"),
    (".sixfold/store/scores/*/*/test.json", cut, "report accept", "Run `sixfold grid` again"),
]


@pytest.mark.parametrize(
    ("pattern", "damage", "command", "mend"),
    [(pattern, damage, command, mend) for pattern, damage, commands, mend in DAMAGE for command in commands.split()],
    ids=lambda own: own.__name__ if callable(own) else str(own).replace("/", "-"),
)
def test_a_damaged_file_of_ours_is_one_message(
    pattern: str, damage: Callable[[Path], None], command: str, mend: str, sixfold: Sixfold, broken: Sweep
) -> None:
    """Exit 3, the damaged file and the command that makes it again; no result changes."""
    for path in broken.folder.glob(pattern):
        damage(path)
    before = listing(broken.folder / "results")
    ended = sixfold(broken.folder, *COMMANDS[command])
    refused(ended, mend, code=3, out=ended.out)
    assert pattern.rsplit("/", maxsplit=1)[-1].split(".", maxsplit=1)[0].strip("*") in ended.err
    assert listing(broken.folder / "results") == before


@pytest.mark.parametrize("name", ["baseline.json", "cells.json", "latency.json"])
def test_a_damaged_baseline_makes_an_incomplete_check(name: str, sixfold: Sixfold, broken: Sweep) -> None:
    """Exit 3 and a verdict that says so: neither a regression nor bad input."""
    no_text(broken.folder / "baselines/main" / name)
    ended = sixfold(broken.folder, "check")
    assert (ended.code, ended.err) == (3, "")
    assert f"{name}: damaged" in ended.out
    assert "Accept it again: `sixfold check --accept main`" in ended.out
    assert json.loads((broken.folder / "results/check/verdict.json").read_text())["exit_code"] == 3


def test_a_verdict_of_before_does_not_outlive_a_failed_check(sixfold: Sixfold, broken: Sweep) -> None:
    """Whoever reads the file afterwards must not take an old answer for this one."""
    assert sixfold(broken.folder, "check", "--no-confirm").code == 0
    empty(broken.folder / "data/prepared/test.json")
    assert sixfold(broken.folder, "check").code == 3
    assert not (broken.folder / "results/check/verdict.json").exists()


@pytest.mark.parametrize("name", ["manifest.json", "done.json", "weights.safetensors", "score.json"])
def test_a_damaged_entry_of_the_store_is_made_again(name: str, sixfold: Sixfold, broken: Sweep) -> None:
    """`plan` counts it as missing, `teacher` and `grid` replace it: there is nothing for the user to do."""
    teacher = next(path.parent for path in broken.store.root.glob("nodes/*/*/done.json") if '"kind": "teacher"' in path.read_text())
    no_text(sorted(broken.store.root.glob("scores/*/*/score.json"))[0] if name == "score.json" else teacher / name)
    assert sixfold(broken.folder, "plan").code == 0
    if name != "score.json":
        assert sixfold(broken.folder, "teacher").code == 0
    assert sixfold(broken.folder, *GRID).code == 0


def test_prepare_replaces_what_is_damaged(sixfold: Sixfold, broken: Sweep) -> None:
    """The command that every message about prepared data names mends it, as does the stage before it."""
    for name in ("prepared.json", "test.json", "test.npy"):
        no_text(broken.prepared / name)
    assert sixfold(broken.folder, "inputs").code == 0
    assert sixfold(broken.folder, "prepare").code == 0
    assert sixfold(broken.folder, "check", "--no-confirm").code == 0


EVERY = [*COMMANDS.values(), ("prepare",), ("inputs",), ("doctor",), ("profiles", "list"), ("profiles", "show", PROFILE)]


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_a_fault_of_ours_is_one_line_and_a_log(
    command: tuple[str, ...], sixfold: Sixfold, finished: Sweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exit 70 whatever the command: what failed, where the traceback lies, and that it is not the user's fault."""

    def fail(*_args: object, **_options: object) -> None:
        raise KeyError("seventeen")

    for name in (
        "flows.sweep.params.read_plan", "hardware_profiles.timing.environment.environment",
        "hardware_profiles.schema.library.profile_files",
    ):  # fmt: skip
        module, _, attribute = name.rpartition(".")
        monkeypatch.setattr(importlib.import_module(module), attribute, fail)
    folder = tmp_path / "workspace"
    (folder / "results").mkdir(parents=True)
    shutil.copy(finished.folder / "params.yaml", folder)
    ended = sixfold(folder, *command)
    refused(ended, f"sixfold: {command[0]}: KeyError: 'seventeen' (test_errors.py:", "a fault of sixfold", code=70)
    (log,) = (folder / "results").glob("crash-*.log")
    assert ended.err.endswith(f"the log is {log.relative_to(folder)}\n")
    assert "raise KeyError" in log.read_text()
    assert " ".join(command) in log.read_text()


def test_the_log_goes_where_it_can(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Outside a workspace, and where results/ cannot be written, into the temporary folder."""
    monkeypatch.setattr(errors.tempfile, "gettempdir", lambda: str(tmp_path / "temp"))
    (tmp_path / "workspace").mkdir()
    monkeypatch.chdir(tmp_path / "workspace")
    (tmp_path / "workspace/results").write_text("a file")
    (tmp_path / "workspace/params.yaml").touch()

    def fail() -> None:
        raise ZeroDivisionError("by\nnought")

    assert exit_code(fail, "grid") == 70
    (log,) = (tmp_path / "temp").glob("crash-*.log")
    assert str(log) in capsys.readouterr().err
    (tmp_path / "temp").rename(tmp_path / "gone")
    (tmp_path / "temp").write_text("a file")
    assert exit_code(fail, "grid") == 70
    assert "ZeroDivisionError: by" in capsys.readouterr().err


def test_other_programs_end_alike(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`publish` and the studies name themselves: a wrong input is exit 2, a fault of ours exit 70 and a log."""
    monkeypatch.setattr(errors.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def refuse() -> None:
        raise SessionError("opens nothing")

    def fail() -> None:
        raise KeyError("seventeen")

    assert exit_code(refuse, "noise", "measurement study") == 2
    assert capsys.readouterr().err == "measurement study: opens nothing\n"
    assert exit_code(fail, "page", "publish") == 70
    assert capsys.readouterr().err.startswith("publish: page: KeyError: 'seventeen' (test_errors.py:")
    assert len(list(tmp_path.glob("crash-*.log"))) == 1


@pytest.mark.parametrize("code", [0, 1, "words"])
def test_a_library_that_ends_the_process_is_a_fault(code: int | str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`sys.exit` from anywhere but the command line's own end means nothing, least of all a regression."""

    def leave() -> None:
        sys.exit(code)

    assert exit_code(leave, "check") == 70
    assert "SystemExit" in capsys.readouterr().err


def test_an_end_of_file_is_no_abort(sixfold: Sixfold, finished: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """EOFError of a truncated file is what the parser of the command line takes for Ctrl-D: exit 1 would be a regression."""

    def fail(*_args: object, **_options: object) -> None:
        raise EOFError("no data left in file")

    monkeypatch.setattr(np, "load", fail)
    refused(sixfold(finished.folder, "check"), "split val is damaged (no data left in file)", code=3)


def test_every_error_with_a_code_is_there() -> None:
    """The table names classes by their modules; a class that moves takes its code along."""
    for name in CODES:
        module, _, kind = name.rpartition(".")
        assert issubclass(getattr(importlib.import_module(module), kind), Exception)


def test_a_message_needs_no_torch(tmp_path: Path) -> None:
    """A typing error in the params is told without a library that takes seconds to load."""
    code = "import sys; from flows.cli.errors import exit_code; from detection.frozen import InputError\n" \
        "def fail(): raise InputError('wrong')\n" \
        "print(exit_code(fail, 'plan'), 'torch' in sys.modules)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("2 False\n", "sixfold: wrong\n")
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize(("arguments", "words"), [(("gird",), "No such command"), (("grid", "--cels", "x"), "No such option")])
def test_a_typing_error_shows_the_usage(arguments: tuple[str, ...], words: str, sixfold: Sixfold, tmp_path: Path) -> None:
    """Exit 2, what was found and how it is used."""
    ended = sixfold(tmp_path, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
    assert "Usage: " in ended.err


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The program in a process of its own, as from a terminal: what runs in a shell's background ignores Ctrl-C."""
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" \
        "import sys; sys.argv[0] = 'sixfold'; from flows.cli.main import main; main()"  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=folder, env=surroundings(ROOT), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_ctrl_c_says_what_is_kept(finished: Sweep) -> None:
    """Exit 130, what is kept and how to resume; no traceback. The first line comes before any library is loaded."""
    with start(finished.folder, "measure", "--no-tracking") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "measure: reading params.yaml\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == (
        "sixfold: stopped by Ctrl-C. results/latency.json stays as it was; the rounds of this run are lost. "
        "Run the same command again to resume."
    )
    assert "Traceback" not in err


def test_a_closed_pipe_is_no_regression(tmp_path: Path) -> None:
    """`sixfold ... | head -0`: silent, and not exit 1."""
    with start(tmp_path, "profiles", "list") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.wait(timeout=60), process.stderr.read()) == (141, "")


def test_a_real_crash_leaves_no_traceback(tmp_path: Path) -> None:
    """In a process of its own too, where a thread or the end of Python could add one."""
    (tmp_path / "params.yaml").symlink_to(ROOT / "params.yaml")
    code = (
        "import sys; sys.argv = ['sixfold', 'plan']; import flows.sweep.params as p\n"
        "p.read_plan = lambda path: 1 // 0\nfrom flows.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=surroundings(ROOT), text=True, capture_output=True, check=False
    )  # fmt: skip
    assert done.returncode == 70
    assert done.stderr.splitlines()[1].startswith("sixfold: plan: ZeroDivisionError: ")
    assert len(done.stderr.splitlines()) == 2
    assert len(list((tmp_path / "results").glob("crash-*.log"))) == 1
