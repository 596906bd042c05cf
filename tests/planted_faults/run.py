"""Plants each fault of faults.yaml in a copy of the checkout, and says whether the tests that should catch it do.

    python -m tests.planted_faults.run [--list] [--only NAME ...] [--json FILE]

Exit codes: 0 all are caught, 1 some are not, 2 some could not be planted (the snippet or a test file is gone: update the list).
`--tree DIR --layout before` runs the list on another checkout, of the flat layout of commit bbfe9c5.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.planted_faults.planting import PACKAGES, Fault, StaleError, named_files, planted, read_faults, standing

ROOT = Path(__file__).resolve().parents[2]
LAYOUTS = ("now", "before")
CAUGHT, NOT_CAUGHT, STALE, TIMEOUT = "caught", "not caught", "stale", "timeout"


@dataclass(frozen=True)
class Result:
    """What became of one fault."""

    name: str
    kind: str
    file: str
    status: str
    took_s: float
    cpu_s: float
    """Processor time of the tests; with several jobs also of what ran at the same time."""
    by: str
    """The test that failed first, or why the fault could not be planted."""


def main() -> int:
    """The exit code."""
    wanted = _arguments()
    faults = read_faults(wanted.layout)
    if unknown := set(wanted.only) - {fault.name for fault in faults}:
        sys.exit(f"--only: no fault {', '.join(sorted(unknown))}; --list shows those there are")
    chosen = [fault for fault in faults if not wanted.only or fault.name in wanted.only]
    if wanted.list:
        return show(chosen, wanted.tree)
    started_s = time.perf_counter()
    with copied(wanted.tree) as tree:
        _check_that_the_copy_is_tested(tree)
        results, failing = plant_all(chosen, tree, wanted.jobs, wanted.timeout)
    whole_s, cpu_s = time.perf_counter() - started_s, sum(result.cpu_s for result in results)
    counts = {status: sum(result.status == status for result in results) for status in (CAUGHT, NOT_CAUGHT, TIMEOUT, STALE)}
    shown = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    print(f"{shown} in {whole_s / 60:.1f} minutes, {cpu_s / 60:.1f} of processor time")
    if wanted.json is not None:
        about = about_run(wanted.tree, wanted.layout) | {"whole_s": round(whole_s, 1), "cpu_s": round(cpu_s, 1)}
        about |= {"counts": counts, "failing_without_a_fault": failing, "faults": [asdict(result) for result in results]}
        wanted.json.write_text(json.dumps(about, indent=1) + "\n")
    return 1 if counts[NOT_CAUGHT] or counts[TIMEOUT] else 2 if counts[STALE] else 0


def plant_all(faults: Sequence[Fault], tree: Path, jobs: int, timeout_s: float) -> tuple[list[Result], list[str]]:
    """A result for each fault, and the tests that fail without any: what only those would catch is tried again without them."""
    results: dict[str, Result] = {}
    failing: list[str] = []
    left = list(faults)
    while left:
        with ThreadPoolExecutor(jobs) as pool:
            for done in as_completed([pool.submit(plant_and_test, fault, tree, failing, timeout_s) for fault in left]):
                results[done.result().name] = done.result()
                print(line(done.result()), flush=True)
        caught_by = list(dict.fromkeys(results[fault.name].by for fault in left if results[fault.name].status == CAUGHT))
        found = failing_already(caught_by, tree, timeout_s)
        print("\n  ".join([f"{len(found)} of these tests fail without a fault", *found]), flush=True)
        failing += found
        left = [fault for fault in left if results[fault.name].by in found]
    return [results[fault.name] for fault in faults], failing


def show(faults: Sequence[Fault], tree: Path) -> int:
    """Print where each fault would be planted; 2 where some cannot be."""
    stale = 0
    for fault in faults:
        try:
            own = standing(fault, tree)
            where, tests = planted(own, tree)[0].relative_to(tree).as_posix(), " ".join(named_files(own, tree))
        except StaleError as error:
            where, tests, stale = f"STALE: {error}", "", stale + 1
        print(f"{fault.name}  [{fault.kind}]\n    {fault.claim}\n    {where}  {tests}")
    print(f"{len(faults)} faults, {stale} stale")
    return 2 if stale else 0


def plant_and_test(fault: Fault, tree: Path, failing: Sequence[str], timeout_s: float) -> Result:
    """The result of one fault: planted in a copy of its own, which is thrown away."""
    started_s, used_s = time.perf_counter(), _cpu_s()

    def ended(status: str, by: str) -> Result:
        took_s = round(time.perf_counter() - started_s, 1)
        return Result(fault.name, fault.kind, fault.file, status, took_s, round(_cpu_s() - used_s, 1), by)

    try:
        with copied_again(tree) as copy:
            own = standing(fault, copy)
            place, text = planted(own, copy)
            place.write_text(text)
            left_out = [f"--deselect={name}" for name in failing]
            code, failed, said = run_tests(copy, named_files(own, copy), ["-x", *left_out], timeout_s)
    except StaleError as error:
        return ended(STALE, str(error))
    except subprocess.TimeoutExpired:
        return ended(TIMEOUT, f"no test failed within {timeout_s:g} s")
    if code == 0:
        return ended(NOT_CAUGHT, "")
    return ended(CAUGHT, failed[0]) if failed else ended(STALE, f"pytest ended with {code}: {said}")


def failing_already(tests: Sequence[str], tree: Path, timeout_s: float) -> list[str]:
    """Those of the tests, or test files, that fail without any fault."""
    if not tests:
        return []
    with copied_again(tree) as copy:
        code, failed, said = run_tests(copy, tests, [], timeout_s * len(tests))
    if code not in (0, 1):
        sys.exit(f"the tests that caught something cannot be run without a fault (pytest ended with {code}):\n{said}")
    return failed


def run_tests(tree: Path, tests: Sequence[str], options: Sequence[str], timeout_s: float) -> tuple[int, list[str], str]:
    """Exit code of pytest in a checkout, the tests that failed, and its last words; TimeoutExpired ends it with all it started."""
    report = tree.parent / "junit.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", f"--junit-xml={report}", f"--basetemp={tree.parent / 'pytest'}"]
    with subprocess.Popen(
        [*command, *options, *tests], cwd=tree, env=_environment(tree), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, failures_in(report) if report.is_file() else [], " | ".join(output.strip().splitlines()[-3:])


def failures_in(report: Path) -> list[str]:
    """Names of the tests that failed, in their order, from JUnit's XML; a file that could not be collected stands for its tests."""
    failed = [case for case in ElementTree.parse(report).iter("testcase") if {"failure", "error"} & {part.tag for part in case}]
    return [_test_name(case.get("classname", ""), case.get("name", "")) for case in failed]


def _test_name(module: str, name: str) -> str:
    return f"{module.replace('.', '/')}.py::{name}" if module else f"{name.replace('.', '/')}.py"


@contextmanager
def copied(tree: Path) -> Iterator[Path]:
    """A compiled copy of a checkout's files, tracked and new, that is removed afterwards; `shared` stands beside it as before.

    Compiled once, its copies start seconds faster; Python compiles again what is changed in them.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory(prefix="planted-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "checkout"
        for name in filter(None, listed.stdout.split("\0")):
            source, target = tree / name, copy / name
            if source.is_file() or source.is_symlink():  # a file may be deleted and still be tracked
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        if (tree.parent / "shared").is_dir():
            (copy.parent / "shared").symlink_to((tree.parent / "shared").resolve())
        compiled = [*(name for name in PACKAGES if (copy / name).is_dir()), "tests"]
        subprocess.run([sys.executable, "-m", "compileall", "-q", *compiled], cwd=copy, check=True)
        yield copy


@contextmanager
def copied_again(copy: Path) -> Iterator[Path]:
    """A copy of a copy, for one fault."""
    with tempfile.TemporaryDirectory(prefix="planted-", ignore_cleanup_errors=True) as folder:
        yield Path(shutil.copytree(copy.parent, Path(folder) / "all", symlinks=True)) / copy.name


def _cpu_s() -> float:
    """Of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _environment(tree: Path) -> dict[str, str]:
    quiet = {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | quiet | {"PYTHONPATH": str(tree)}


def _check_that_the_copy_is_tested(tree: Path) -> None:
    """An editable install elsewhere must not be imported instead of the copy."""
    code = f"import {', '.join(PACKAGES)}; print({', '.join(f'{name}.__file__' for name in PACKAGES)})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tree, env=_environment(tree), capture_output=True, text=True, check=False)
    strangers = [path for path in done.stdout.split() if not Path(path).is_relative_to(tree)]
    if done.returncode or strangers:
        sys.exit(f"{tree}: its packages are not what Python imports there: {' '.join(strangers) or done.stderr}")


def line(result: Result) -> str:
    """One row of the table."""
    return f"{result.status:<10} {result.took_s:6.1f} s {result.cpu_s:6.1f} s cpu  {result.name:<48} {result.by}"


def about_run(tree: Path, layout: str) -> dict[str, Any]:
    """Which code was tested, and by what."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=tree, capture_output=True, text=True, check=True).stdout.strip()

    return {
        "commit": git("rev-parse", "HEAD"),
        "has_local_changes": bool(git("status", "--porcelain", "--", *PACKAGES, "tests")),
        "layout": layout,
        "python": platform.python_version(),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--list", action="store_true", help="only show where each fault would be planted, and which are stale")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these faults")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout to plant them in")
    parser.add_argument("--layout", choices=LAYOUTS, default="now", help="of the tree: now, or before the folders of flows/")
    parser.add_argument("--jobs", type=int, default=1, help="faults that are tested at a time")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="for the tests of one fault")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    given = parser.parse_args()
    given.tree = given.tree.resolve()
    return given


if __name__ == "__main__":
    sys.exit(main())
