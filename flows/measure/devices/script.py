"""Times exported detectors on this device and writes results.json: `python measure.py`. Needs Python 3.10, numpy and the runtime.

Each round is a fresh process that times every model once, in random order, so the control is in each. Raw times of single calls
go into results.json; what they amount to is worked out where it is read: `sixfold measure --import results.json`.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hardware_profiles.runtimes.table import Pixels, Session, SessionError, open_session, runtime_version, write_empty_model
from hardware_profiles.timing.calls import calls_one_by_one_ns, difference, times_of, warm_up
from hardware_profiles.timing.environment import digest_of, environment, peak_resident_bytes, reset_peak, resident_bytes, steal_s

RESULTS_SCHEMA = 1
MANIFEST_NAME, RESULTS_NAME, PIXELS_NAME = "manifest.json", "results.json", "inputs.npz"
REFUSED, BROKEN = 2, 3
"""Exit codes: something here is not as it was exported, or is missing; a round ended badly."""


class RefusedError(Exception):
    """Nothing was measured; the message says why and what to do."""


class BrokenRoundError(Exception):
    """A round's process ended badly; the message has its last words."""


def main(folder: Path, arguments: Sequence[str]) -> int:
    """Exit code of the whole measurement, or of one round where the arguments are `--round SEED RESULT`."""
    try:
        if arguments and arguments[0] == "--round":
            manifest = json.loads((folder / MANIFEST_NAME).read_text())
            Path(arguments[2]).write_text(json.dumps(time_round(folder, manifest, int(arguments[1]))))
        elif arguments:
            raise RefusedError(f"{' '.join(arguments)}: no arguments are needed; see the first lines of {Path(__file__).name}.")
        else:
            measure(folder)
    except (RefusedError, SessionError, BrokenRoundError) as error:
        print(f"measure: {error}", file=sys.stderr)
        return BROKEN if isinstance(error, BrokenRoundError) else REFUSED
    return 0


def measure(folder: Path, say: Callable[[str], None] = print) -> Path:
    """results.json, written whole after the last round; RefusedError where a file is not as exported or the device not meant."""
    manifest = _read_manifest(folder)
    cores = _check(folder, manifest)
    found = environment()
    say(f"{manifest['profile']}: {len(manifest['models'])} models, {len(manifest['order_seeds'])} rounds, {found['cpu']}")
    if cores is None:
        say("this system cannot pin a process to cores: expect more spread")
    rounds: list[dict[str, Any]] = []
    started_s = time.time()
    for seed in manifest["order_seeds"]:
        rounds.append(_in_fresh_process(folder, manifest, seed))
        spent_s = time.time() - started_s
        left_s = spent_s / len(rounds) * (len(manifest["order_seeds"]) - len(rounds))
        done = f"round {len(rounds)} of {len(manifest['order_seeds'])} done after {spent_s:.0f} s"
        say(f"{done}{_remarks(rounds[-1])}; about {left_s:.0f} s to go")
    content: dict[str, Any] = {
        "schema": RESULTS_SCHEMA,
        "profile": manifest["profile"],
        "manifest": digest_of(manifest),
        "environment": found,
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started_s)),
        "files": {name: _sha256(folder / name) for name in sorted(manifest["files"])},
        "rounds": rounds,
    }
    target = folder / RESULTS_NAME
    partial = target.with_suffix(".partial")
    partial.write_text(json.dumps(content | {"digest": digest_of(content)}) + "\n")
    partial.replace(target)
    say(f"{target}\nNext, on the other machine: `sixfold measure --import {RESULTS_NAME}`.")
    return target


def _remarks(found: Mapping[str, Any]) -> str:
    """What to know about a round while the others run; empty where all went well."""
    blocks = found["blocks"]
    failed = sum(block["times"] is None for block in blocks)
    repeated = sum(block["times"] is not None and block["times"]["repeats"] > 0 for block in blocks)
    contended = f"; something else ran: {repeated} of {len(blocks)} models timed again" if repeated else ""
    return f"{contended}; FAILED: {failed} of {len(blocks)} models" if failed else contended


def time_round(folder: Path, manifest: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Raw times of every model, in this process, in the random order of the seed; a model that fails has its error instead."""
    cores = _cores(manifest["threads"])
    if cores is not None:
        os.sched_setaffinity(0, cores)
    order = list(manifest["models"])
    random.Random(seed).shuffle(order)
    with tempfile.TemporaryDirectory() as name:  # load the runtime's libraries before the first model, whoever that is
        empty = open_session(manifest["runtime"], write_empty_model(manifest["runtime"], Path(name)), manifest["threads"])
        empty(empty.blank())
    del empty
    gc.collect()
    reset_peak()
    runtime_bytes = resident_bytes()
    gc.freeze()  # what was imported so far is not searched again after every model
    gc.disable()
    try:
        blocks = [_block(folder, manifest, digest, position) for position, digest in enumerate(order)]
    finally:
        gc.enable()
        gc.unfreeze()
    return {"order_seed": seed, "runtime_rss_bytes": runtime_bytes, "blocks": blocks}


def _block(folder: Path, manifest: Mapping[str, Any], digest: str, position: int) -> dict[str, Any]:
    about: dict[str, Any] = {"digest": digest, "position": position, "error": None, "times": None}
    print(f"timing {digest}", file=sys.stderr, flush=True)  # the last words of a process that a model kills
    try:
        about["times"] = _times(folder, manifest, manifest["models"][digest])
    except Exception as error:  # one bad model must not end the round; its failure becomes its record
        about["error"] = f"{type(error).__name__}: {error}"
    finally:
        gc.collect()
    return about


def _times(folder: Path, manifest: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    protocol, cores = manifest["protocol"], _cores(manifest["threads"])
    reset_peak()
    held_bytes = resident_bytes()
    started_ns = time.perf_counter_ns()
    session = open_session(manifest["runtime"], folder / model["path"], manifest["threads"])
    load_ns = time.perf_counter_ns() - started_ns
    inputs = _inputs(folder, model["inputs"])
    first_ns = calls_one_by_one_ns(session, inputs, 1)[0]
    warm_up(session, inputs, protocol["warmup_calls"], protocol["warmup_s"])
    calls, repeats = _take(session, inputs, protocol["timed_calls"], cores), 0
    while times_of(*calls).contended and repeats < protocol["most_repeats"]:
        calls, repeats = _take(session, inputs, protocol["timed_calls"], cores), repeats + 1
    calls_ns, used_ns, stolen_s, timed_s = calls
    return {
        "load_ns": load_ns,
        "first_ns": first_ns,
        "calls_ns": calls_ns,
        "used_ns": used_ns,
        "steal_s": stolen_s,
        "timed_s": timed_s,
        "repeats": repeats,
        "held_bytes": held_bytes,
        "peak_bytes": peak_resident_bytes(),
    }


def _take(
    session: Session, inputs: Sequence[Pixels], count: int, cores: tuple[int, ...] | None
) -> tuple[list[int], int, float | None, float]:
    """Nanoseconds of each call, processor time of all in nanoseconds, seconds stolen meanwhile, seconds that all took."""
    stolen_before_s, used_before_ns, started_ns = steal_s(cores), time.process_time_ns(), time.perf_counter_ns()
    calls_ns = calls_one_by_one_ns(session, inputs, count)
    timed_s, used_ns = (time.perf_counter_ns() - started_ns) * 1e-9, time.process_time_ns() - used_before_ns
    return calls_ns, used_ns, difference(steal_s(cores), stolen_before_s), timed_s


def _inputs(folder: Path, name: str) -> list[Pixels]:
    """Pictures that were prepared at home, (N, ...) in the file's own layout and type, each with its batch of one."""
    with np.load(folder / PIXELS_NAME, allow_pickle=False) as packed:
        return [np.ascontiguousarray(picture[None]) for picture in packed[name]]


def _in_fresh_process(folder: Path, manifest: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What one round found. It may take as long as it takes: whoever started this sees it, and a slow device is no failure."""
    surroundings = os.environ | {"OMP_NUM_THREADS": str(manifest["threads"])}
    with tempfile.TemporaryDirectory() as name:
        result = Path(name) / "round.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--round", str(seed), str(result)]
        done = subprocess.run(command, env=surroundings, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not result.is_file():
            words = " | ".join(done.stderr.strip().splitlines()[-3:]) or "no output"
            raise BrokenRoundError(f"a round ended with exit code {done.returncode}: {words}; nothing was written.")
        found: dict[str, Any] = json.loads(result.read_text())
        return found


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_NAME
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path}: cannot be read ({error}). Copy the whole exported folder to this device.") from error
    if manifest.get("schema") != RESULTS_SCHEMA:
        raise RefusedError(f"{path}: schema {manifest.get('schema')}, but this script knows {RESULTS_SCHEMA}. Export again.")
    return manifest


def _check(folder: Path, manifest: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The cores to run on, after all that would make the results useless was ruled out."""
    if platform.machine() != manifest["machine"]:
        raise RefusedError(
            f"this machine is {platform.machine()}, the profile {manifest['profile']} is for {manifest['machine']}. "
            f"Run it on the device, or export another profile."
        )
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file():
            raise RefusedError(f"{folder / name}: missing. Copy the whole exported folder to this device.")
        if _sha256(folder / name) != expected:
            raise RefusedError(f"{folder / name}: not as it was exported. Copy the folder again, or export it again.")
    runtime_version(manifest["runtime"])  # SessionError with what to install
    return _cores(manifest["threads"])


def _cores(threads: int) -> tuple[int, ...] | None:
    """The last cores this process may use, one a thread (the first serve interrupts); None where the system cannot pin."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise RefusedError(f"the profile has {threads} threads, but this process may use {len(cores)} cores only.")
    return tuple(cores[-threads:])


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent, sys.argv[1:]))
