"""How the commands of every program end: an exit code for each kind of error, and one message on stderr, never a traceback."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from flows.records.formatting import describe_failure

INPUT, INFRASTRUCTURE, INTERNAL, INTERRUPTED, BROKEN_PIPE = 2, 3, 70, 130, 141
"""Exit codes besides 0 ok, 1 regression and 4 no baseline. 70 is EX_SOFTWARE of sysexits.h; 130 and 141 are what a shell reports of
a program that SIGINT or SIGPIPE ended."""
CODES = {
    "detection.frozen.InputError": INPUT,
    "hardware_profiles.schema.profile.ProfileError": INPUT,
    "hardware_profiles.estimate.fit.measurements.MeasurementError": INPUT,
    "hardware_profiles.estimate.graph.graph.GraphError": INPUT,
    "hardware_profiles.runtimes.interface.SessionError": INPUT,
    "detection.frozen.DamagedError": INFRASTRUCTURE,
    "flows.records.store.StoreError": INFRASTRUCTURE,
    "flows.grid.ray_cluster.ClusterError": INFRASTRUCTURE,
    "hardware_profiles.timing.round.RoundError": INFRASTRUCTURE,
    "builtins.OSError": INFRASTRUCTURE,
    "builtins.MemoryError": INFRASTRUCTURE,
}
"""By name, since importing the classes would load torch for a message about a typing error."""
KEPT = {
    "prepare": "What was prepared before stays as it was.",
    "teacher": "Finished epochs are kept.",
    "grid": "Finished cells are kept, and finished epochs of what was training.",
    "retrain": "Finished cells are kept, and finished epochs of what was training.",
    "measure": "results/latency.json stays as it was; the rounds of this run are lost.",
    "report": "The earlier report stays as it was.",
}
"""Verb -> what Ctrl-C leaves."""


def exit_code(command: Callable[[], object], verb: str, program: str = "sixfold") -> int:
    """Run a command of a program; its exit code, once stderr says what went wrong, if anything did."""
    try:
        returned = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        returned = INTERRUPTED
    except (Exception, SystemExit) as error:
        return _explain(error, verb, program)
    if returned == INTERRUPTED:
        kept = KEPT.get(verb, "Nothing half-written is left.")
        _print(program, f"stopped by Ctrl-C. {kept} Run the same command again to resume.")
    return returned if isinstance(returned, int) else 0


def _explain(error: BaseException, verb: str, program: str) -> int:
    cause = error.__cause__ or error.__context__
    if isinstance(error, BrokenPipeError) or (isinstance(error, SystemExit) and isinstance(cause, BrokenPipeError)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python's own flush at the end would fail once more
        return BROKEN_PIPE
    if callable(show := getattr(error, "show", None)):  # the command line's parser: it shows usage and hint itself
        show()
        return INPUT
    if type(error).__name__ == "Abort" and isinstance(cause, EOFError):
        error = cause  # a truncated file, which the command line's parser takes for an end of typed input
    names = [f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__]
    code = next((CODES[name] for name in names if name in CODES), INTERNAL)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        code = INPUT
        _print(program, f"{str(error.filename)[:80]}...: no file or folder can have so long a name. Choose a shorter one.")
    elif code == INTERNAL:
        fault = f"{verb}: {_in_a_line(error)}. This is a fault of sixfold, not of its input; the log is {_write_log(error)}"
        _print(program, fault)
    else:
        _print(program, _message(error))
    return code


def _message(error: BaseException) -> str:
    """The error in one line; the operating system's refusals with the path and what to do."""
    if isinstance(error, OSError) and error.strerror:
        path = f"{error.filename}: " if error.filename is not None else ""
        return f"{path}{error.strerror}. See to space and permissions, then run the same command again: what is stored is kept."
    if isinstance(error, MemoryError):
        return f"out of memory ({_in_a_line(error)}). Free some, then run the same command again: what is stored is kept."
    return str(error)


def _in_a_line(error: BaseException) -> str:
    """Kind, first line of the message, and the line of code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{describe_failure(error)}{where}"


def _write_log(error: BaseException) -> str:
    """The file that holds the traceback now: in results/ of a workspace, else in the temporary folder."""
    text = f"{' '.join(sys.argv)}\nPython {sys.version}\n\n{''.join(traceback.format_exception(error))}"
    name = f"crash-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    workspace = [Path("results")] if Path("results").is_dir() or Path("params.yaml").is_file() else []
    for folder in (*workspace, Path(tempfile.gettempdir())):
        try:
            folder.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return str(folder / name)
    return f"lost, since no folder could be written ({text.splitlines()[-1]})"


def _print(program: str, message: str) -> None:
    print(f"{program}: {message}", file=sys.stderr)
